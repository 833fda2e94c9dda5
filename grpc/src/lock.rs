//! Locks under which nothing is logged.
//!
//! The subscriber of the log is the host's, and may wait: then a log call under a lock makes all
//! others wait for that lock. These locks are `parking_lot`'s, but in debug builds they count how
//! many of them a thread holds. [`assert_none_held`], which tests and the agent call from their
//! logs, panics where that is not zero. A test demands that no other locks are used.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// A mutex that counts.
#[derive(Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

/// A lock for readers and writers that counts.
#[derive(Default)]
pub struct RwLock<T>(parking_lot::RwLock<T>);

/// One of `parking_lot`'s guards, counted.
#[derive(Debug)]
#[must_use = "dropping a guard releases its lock"]
pub struct Guard<G> {
    guard: G,
    _held: Held,
}

/// A lock held, of whatever kind, as long as this lives.
#[derive(Debug)]
#[must_use = "it counts as long as it lives"]
pub struct Held(());

impl<T> Mutex<T> {
    /// A mutex around `value`.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<parking_lot::MutexGuard<'_, T>> {
        Guard::new(self.0.lock())
    }
}

impl<T> RwLock<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::RwLock::new(value))
    }

    /// Waits for the writer.
    pub fn read(&self) -> Guard<parking_lot::RwLockReadGuard<'_, T>> {
        Guard::new(self.0.read())
    }

    /// Waits for readers and the writer.
    pub fn write(&self) -> Guard<parking_lot::RwLockWriteGuard<'_, T>> {
        Guard::new(self.0.write())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<G> Guard<G> {
    fn new(guard: G) -> Self {
        Self {
            guard,
            _held: Held::begin(),
        }
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

impl Held {
    /// Counts a lock that this module does not know, such as one that a callback runs under.
    pub fn begin() -> Self {
        count(1);
        Self(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        count(-1);
    }
}

/// Panics in debug builds where this thread holds a lock. The message of a panic is let through.
pub fn assert_none_held() {
    debug_assert!(
        HELD.get() == 0 || std::thread::panicking(),
        "something is logged under a lock"
    );
}

fn count(more: isize) {
    if cfg!(debug_assertions) {
        HELD.set(HELD.get() + more);
    }
}

thread_local! {
    static HELD: std::cell::Cell<isize> = const { std::cell::Cell::new(0) };
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::panic::catch_unwind;
    use std::thread;

    use super::*;

    /// Whether a log line would be let through now.
    fn may_log() -> bool {
        catch_unwind(assert_none_held).is_ok()
    }

    #[test]
    fn a_log_call_under_a_lock_of_any_kind_panics_and_one_after_it_does_not() {
        let (mutex, lock) = (Mutex::new(1), RwLock::new(1));
        assert!(may_log());
        let one = mutex.lock();
        assert!(!may_log());
        let two = lock.read();
        drop(one);
        assert!(!may_log());
        drop(two);
        assert!(may_log());
        let three = lock.write();
        assert!(!may_log());
        drop(three);
        let four = Held::begin();
        assert!(!may_log());
        drop(four);
        assert!(may_log());
    }

    #[test]
    fn a_lock_that_another_thread_holds_does_not_count() {
        let mutex = Mutex::new(1);
        let _held = mutex.lock();
        thread::scope(|scope| scope.spawn(|| assert!(may_log())).join().unwrap());
    }
}
