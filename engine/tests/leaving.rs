//! Leaving: what was in the ring goes, and no more than that, however fast others publish
//! meanwhile.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    ops::ControlFlow::Continue,
};

use configstream_engine::{Engine, State, Transition, TryNextError};

/// Publishes numbers that publish the next number as they go, while an [`Echo`] is on.
#[derive(Clone)]
struct Numbers(u64);

struct Number;

impl State for Numbers {
    type Change = ();
    type Update = Number;
    type Rejection = Infallible;

    fn apply(&self, (): &()) -> Result<Transition<Self>, Infallible> {
        Ok(Transition::new(Self(self.0 + 1), vec![Number]))
    }
}

thread_local! {
    static ECHO: RefCell<Option<Engine<Numbers>>> = const { RefCell::new(None) };
    static DROPPED: Cell<u64> = const { Cell::new(0) };
}

impl Drop for Number {
    /// As if a publisher that is exactly as fast as the drop ran beside it.
    fn drop(&mut self) {
        // Out of its place, so that what goes in the publish does not echo.
        let Some(engine) = ECHO.take() else {
            return;
        };
        DROPPED.set(DROPPED.get() + 1);
        if DROPPED.get() < MANY {
            engine.publish(&()).unwrap();
        }
        ECHO.set(Some(engine));
    }
}

/// How many numbers `leave` drops, each of which publishes another as it goes.
fn dropped_by(engine: &Engine<Numbers>, leave: impl FnOnce()) -> u64 {
    DROPPED.set(0);
    ECHO.set(Some(engine.clone()));
    leave();
    ECHO.take();
    DROPPED.get()
}

fn engine() -> Engine<Numbers> {
    let engine = Engine::builder(Numbers(0)).ring_capacity(4).build();
    engine.unwrap()
}

fn publish_three(engine: &Engine<Numbers>) {
    for _ in 0..3 {
        engine.publish(&()).unwrap();
    }
}

#[test]
fn leaving_drops_what_was_in_the_ring_and_nothing_that_came_after() {
    let engine = engine();
    // Stays, so that those that leave do not outnumber those that stay.
    let _others = [(); 2].map(|()| engine.subscribe());
    let mut leaver = engine.subscribe();
    assert!(leaver.try_next().is_ok());
    publish_three(&engine);
    assert_eq!(dropped_by(&engine, || drop(leaver)), 3);
    assert_eq!(engine.stats().subscriptions, 2);
}

#[test]
fn the_last_reader_that_leaves_drops_what_was_in_the_ring_and_nothing_that_came_after() {
    let engine = engine();
    let _others = [(); 2].map(|()| engine.subscribe());
    let mut reader = engine.subscription().share().reader("leaver");
    let read = reader.read(|_| Continue::<()>(()));
    assert_eq!(read, Err(TryNextError::Empty));
    publish_three(&engine);
    assert_eq!(dropped_by(&engine, || drop(reader)), 3);
    assert_eq!(engine.stats().subscriptions, 2);
}

/// More than any ring of these tests holds: a drop that goes on for so long has no end.
const MANY: u64 = 1_000;
