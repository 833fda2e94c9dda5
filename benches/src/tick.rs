//! The trivial state: what is left when the state costs nothing.

use std::convert::Infallible;

use configstream_engine::{Engine, State, Transition};

/// The last number published.
#[derive(Clone, Copy, Debug)]
pub struct Tick(pub u64);

impl State for Tick {
    type Change = u64;
    type Update = u64;
    type Rejection = Infallible;

    fn apply(&self, change: &u64) -> Result<Transition<Self>, Infallible> {
        Ok(Transition::new(Tick(*change), vec![*change]))
    }
}

/// An engine that publishes ticks.
///
/// # Panics
/// When `capacity` is zero.
#[must_use]
pub fn engine(capacity: usize) -> Engine<Tick> {
    Engine::builder(Tick(0))
        .ring_capacity(capacity)
        .build()
        .expect("a ring with room")
}
