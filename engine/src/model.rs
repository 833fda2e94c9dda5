//! Internals as the models see them: the same code, under public names, only with `--cfg loom`.

use std::task::Waker;

use crate::{ring, shared, waiter};

pub use ends::{Consumer, Producer};

/// [`ring::ring`] with nothing beside it.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let (producer, consumer) = ring::ring(capacity, ());
    (ends::Producer(producer), ends::Consumer(consumer))
}

/// [`shared::Shared`].
#[derive(Debug, Clone)]
pub struct Shared<T>(shared::Shared<T>);

impl<T> Shared<T> {
    /// One handle to a new value.
    pub fn new(value: T) -> Self {
        Self(shared::Shared::new(value))
    }

    /// Two more handles, paid for at once, out of a batch for three receivers.
    pub fn two_more(&self) -> (Self, Self) {
        let mut batch = shared::Batch::new([&self.0], 1, 3);
        let first = batch.hand_out().next().expect("there is one item");
        let mut one = batch.into_single().ok().expect("there is one item");
        (Self(first), Self(one.hand_out()))
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Runs `f`, and fails the model if this thread waits for another in it: if it takes a lock, parks,
/// or tries again in a loop.
pub fn never_waits<R>(f: impl FnOnce() -> R) -> R {
    crate::sync::never_waits(f)
}

/// [`waiter::Waiter`].
#[allow(missing_debug_implementations)]
pub struct Waiter(waiter::Waiter);

impl Waiter {
    /// Nobody waits.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(waiter::Waiter::new())
    }

    /// As the consumer does.
    pub fn arm(&self, waker: &Waker) {
        self.0.arm(waker);
    }

    /// As a round does: what was made available, then F3, then the look.
    pub fn wake(&self) {
        crate::sync::fence(crate::sync::Ordering::SeqCst);
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

mod ends {
    use crate::{ring, shared};

    /// [`ring::Producer`].
    #[allow(missing_debug_implementations)]
    pub struct Producer<T>(pub(super) ring::Producer<T, ()>);

    /// [`ring::Consumer`].
    #[allow(missing_debug_implementations)]
    pub struct Consumer<T>(pub(super) ring::Consumer<T, ()>);

    impl<T> Producer<T> {
        /// Pushes all of `items` if they fit; otherwise gives them back.
        pub fn push<const N: usize>(&mut self, items: [T; N]) -> Result<(), [T; N]> {
            match self.0.room(N) {
                Some(room) => room.fill(items.into_iter().map(shared::Shared::new)),
                None => return Err(items),
            }
            Ok(())
        }
    }

    impl<T> Consumer<T> {
        /// The next item, if there is one now.
        pub fn pop(&mut self) -> Option<super::Shared<T>> {
            self.0.pop().map(super::Shared)
        }
    }
}
