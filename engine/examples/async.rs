//! The same engine in async code, as a `Stream`. It needs no runtime of its own and no particular one of yours: here, a
//! dozen lines of executor, so that nothing is hidden.
//!
//! ```text
//! cargo run -p configstream-engine --features stream --example async
//! ```

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
};

use configstream_engine::{Engine, Event, State, Subscription, Transition};
use futures_util::{StreamExt, future};

/// The temperature of an oven, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Oven(i32);

impl State for Oven {
    /// Warmer, or colder, by so much.
    type Change = i32;
    /// The new temperature.
    type Update = i32;
    type Rejection = Infallible;

    fn apply(&self, by: &i32) -> Result<Transition<Self>, Infallible> {
        let next = self.0 + by;
        Ok(match by {
            // Nobody could tell, so nobody is told.
            0 => Transition::unobservable(Oven(next)),
            _ => Transition::new(Oven(next), vec![next]),
        })
    }
}

/// The last temperature that was seen.
async fn watch(mut subscription: Subscription<Oven>) -> i32 {
    let mut last = 0;
    // `StreamExt::next`, by name: a subscription has a `next` of its own, which blocks.
    while let Some(event) = StreamExt::next(&mut subscription).await {
        last = match event {
            Event::Snapshot(snapshot) => snapshot.state().0,
            Event::Update(update) => *update,
            _ => continue,
        };
    }
    last
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder(Oven(20)).build()?;
    let (one, other) = (engine.subscribe(), engine.subscribe());

    // Publishing is an ordinary call, from async code or any other thread; it never waits.
    let (one, other) = thread::scope(|scope| {
        let heater = scope.spawn(move || {
            for by in [40, 90, 0, 50, -20] {
                let Ok(_) = engine.publish(&by) else { return };
            }
            // The last handle goes, so the streams end.
            drop(engine);
        });
        let seen = block_on(future::join(watch(one), watch(other)));
        heater.join().expect("the heater does not panic");
        seen
    });

    println!("both watchers end at {one} and {other} degrees");
    assert_eq!((one, other), (180, 180));
    Ok(())
}

/// Polls one future to its end, and sleeps in between until it is woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
