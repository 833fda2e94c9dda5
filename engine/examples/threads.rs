//! A program without any runtime: threads that publish, threads that read, and one reader that is too slow.
//!
//! ```text
//! cargo run -p configstream-engine --example threads
//! ```

use std::{convert::Infallible, thread};

use configstream_engine::{Engine, Event, State, Subscription, Transition};

/// What is published: how much each of three counters has counted. `Clone` is cheap, as it has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters([u64; 3]);

/// Which counter goes up, and by how much. What a publisher asks for is, here, also what subscribers are told.
#[derive(Clone, Copy)]
struct Count {
    counter: usize,
    by: u64,
}

impl Counters {
    fn count(mut self, count: Count) -> Self {
        self.0[count.counter] += count.by;
        self
    }
}

impl State for Counters {
    type Change = Count;
    type Update = Count;
    type Rejection = Infallible;

    fn apply(&self, count: &Count) -> Result<Transition<Self>, Infallible> {
        Ok(Transition::new(self.count(*count), vec![*count]))
    }
}

/// Keeps a copy of the state: whatever it missed, a snapshot makes good.
fn follow(subscription: Subscription<Counters>) -> Counters {
    let mut counters = Counters::default();
    // Blocks until there is something; ends when the engine has closed and everything has been handed out.
    for event in subscription {
        match event {
            Event::Snapshot(snapshot) => counters = *snapshot.state(),
            Event::Update(update) => counters = counters.count(*update),
            // Events may come to be of more kinds.
            _ => {}
        }
    }
    counters
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder(Counters::default())
        .ring_capacity(64)
        .build()?;

    // One that does not read while others publish. Nobody waits for it.
    let slow = engine.subscription().name("slow").capacity(4).subscribe();

    let copies = thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| engine.subscribe())
            .map(|subscription| scope.spawn(|| follow(subscription)))
            .collect();
        let publishers: Vec<_> = (0..3)
            .map(|counter| {
                let engine = &engine;
                scope.spawn(move || {
                    for _ in 0..1000 {
                        // Commits, and hands it out, or leaves that to whoever is at it.
                        let Ok(_) = engine.publish(&Count { counter, by: 1 }) else {
                            return;
                        };
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.join().expect("a publisher does not panic");
        }
        // The readers' loops end once they have seen everything.
        engine.close();
        readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader does not panic"))
            .collect::<Vec<_>>()
    });

    let head = engine.head();
    println!(
        "the engine ends with {:?} at {}",
        head.state(),
        head.sequence()
    );
    for copy in copies {
        println!("a reader ends with   {copy:?}");
        assert_eq!(copy, *head.state());
    }
    // It begins now, with a snapshot of the end: being slow costs the reader its history, and nobody anything else.
    let copy = follow(slow);
    println!("the slow one, too:   {copy:?}");
    assert_eq!(copy, Counters([1000; 3]));
    Ok(())
}
