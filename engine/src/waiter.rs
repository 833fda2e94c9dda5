//! Waiting without losing a wake-up: one consumer, one distributor, or one of each engine.
//!
//! Contract (invariant I8): if the distributor makes something available, passes a fence, and wakes what
//! [`Waiter::take`] gives, and the consumer calls [`Waiter::arm`] and then finds nothing available, then the consumer's
//! waker is woken.
//!
//! # The argument
//! The consumer stores its waker, stores `waiting`, passes `fence(SeqCst)` P, looks. The distributor makes available,
//! passes `fence(SeqCst)` F3, reads `waiting`. Fences have one order:
//! 1. P before F3: the distributor reads `waiting` set (or set again later). It takes the waker and wakes it. Its
//!    `try_lock` cannot fail on the lock of this `arm`, which was released before P. If it fails on the lock of a later
//!    `arm`, that one's fence P' comes after F3, and its look finds what was made available: case 2.
//! 2. F3 before P: the consumer's look finds what was made available, and it does not park.
//!
//! A waker taken is an old one only if a later `arm` has yet to store its own; that `arm` looks afterwards.
//!
//! # Several subscriptions, one waiter
//! A [`WaitSet`](crate::WaitSet) is armed **before** its consumer looks, and stays so until a distributor takes the waker. Let
//! L be the consumer's last look into one subscription, which found nothing, P the fence of the last `arm` before it, and let
//! a distributor make something available there that L did not see. It did so after P's look could begin, so F3 before P is
//! out (case 2: L, after P, would have seen it), and P comes before F3: the distributor reads `waiting` as that `arm` left it
//! and takes the waker, or finds that somebody took it since. Whoever took it wakes the consumer, which arms again and looks
//! again, after L: the same holds for that look. With several distributors, of several engines, one takes the waker and
//! the others find it taken; each has made its own available before.
//!
//! A distributor then looks at the subscriptions' own waiters only if one of the set has ever been armed: said before P, of
//! that `arm`, and read after F3, so it is seen wherever `waiting` is.
//!
//! Models: `loom-tests/tests/wake.rs`.

use std::{task::Waker, time::Instant};

use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Parker, fence};

/// Where one consumer leaves its waker for the distributor.
pub(crate) struct Waiter {
    /// Set by the consumer before it parks; cleared by whoever wakes it, or by itself.
    waiting: AtomicBool,
    /// Locked by the consumer to store; the distributor only tries.
    slot: Mutex<Option<Waker>>,
}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self {
            waiting: AtomicBool::new(false),
            slot: Mutex::new(None),
        }
    }

    /// Asks to be woken. The caller must look once more afterwards, and may park only if there is nothing.
    pub(crate) fn arm(&self, waker: &Waker) {
        // Cloning and dropping a waker is somebody else's code, so not under the lock.
        let waker = waker.clone();
        let replaced = self.slot.lock().replace(waker);
        drop(replaced);
        // Relaxed: ordered by the fence below.
        self.waiting.store(true, Ordering::Relaxed);
        // P, partner of F3 in a round: see the argument above.
        fence(Ordering::SeqCst);
    }

    /// Takes the request back: the consumer has found something. A wake already under way is merely early.
    pub(crate) fn disarm(&self) {
        // Relaxed: a wake too many is harmless, and only this consumer sets the flag.
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Takes the waker back: the consumer goes, and what its waker holds shall not wait for the next round.
    pub(crate) fn clear(&self) -> Option<Waker> {
        self.disarm();
        self.slot.lock().take()
    }

    /// Takes the consumer's waker, if it waits. The caller has passed fence F3 since it made something available.
    pub(crate) fn take(&self) -> Option<Waker> {
        // Relaxed: ordered by F3.
        if !self.waiting.load(Ordering::Relaxed) {
            return None;
        }
        let mut slot = self.slot.try_lock()?;
        // Relaxed: ordered by the lock. Cleared before the lock were held, this store could overtake the `true` of the
        // very `arm` that holds it, and the next wake would be lost.
        self.waiting.store(false, Ordering::Relaxed);
        slot.take()
    }
}

/// A thread's own waker, for blocking calls.
pub(crate) struct Blocking {
    parker: Arc<Parker>,
    waker: Waker,
}

impl Blocking {
    pub(crate) fn new() -> Self {
        let parker = Arc::new(Parker::default());
        Self {
            waker: Waker::from(parker.clone()),
            parker,
        }
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Waits for a wake; `false` when the deadline passed first.
    pub(crate) fn park(&self, deadline: Deadline) -> bool {
        match deadline {
            Deadline::Never => {
                self.parker.park();
                true
            }
            Deadline::At(instant) => self.parker.park_until(instant),
        }
    }
}

/// Until when a blocking call waits. The engine's only clock.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    Never,
    At(Instant),
}

impl Deadline {
    /// `timeout` from now; a time past the clock's end is never.
    #[allow(clippy::disallowed_methods)] // the one place, see clippy.toml
    pub(crate) fn after(timeout: std::time::Duration) -> Self {
        Instant::now()
            .checked_add(timeout)
            .map_or(Self::Never, Self::At)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_did_not_ask_is_not_woken() {
        let waiter = Waiter::new();
        assert!(waiter.take().is_none());
        waiter.arm(Waker::noop());
        waiter.disarm();
        assert!(waiter.take().is_none());
    }

    #[test]
    fn one_request_is_one_wake() {
        let waiter = Waiter::new();
        waiter.arm(Waker::noop());
        assert!(waiter.take().is_some());
        assert!(waiter.take().is_none());
        waiter.arm(Waker::noop());
        assert!(waiter.take().is_some());
    }

    #[test]
    fn a_waker_that_was_taken_back_is_not_woken() {
        let waiter = Waiter::new();
        waiter.arm(Waker::noop());
        assert!(waiter.clear().is_some());
        assert!(waiter.take().is_none() && waiter.clear().is_none());
    }

    #[test]
    fn the_last_waker_asked_with_is_the_one() {
        let waiter = Waiter::new();
        let blocking = Blocking::new();
        waiter.arm(Waker::noop());
        waiter.arm(blocking.waker());
        assert!(waiter.take().unwrap().will_wake(blocking.waker()));
    }

    #[test]
    fn a_wake_before_the_park_is_kept_once() {
        let blocking = Blocking::new();
        blocking.waker().wake_by_ref();
        blocking.waker().wake_by_ref();
        assert!(blocking.park(Deadline::Never));
        assert!(!blocking.park(Deadline::after(Duration::ZERO)));
    }

    #[test]
    fn a_deadline_past_the_clock_is_never() {
        assert!(matches!(Deadline::after(Duration::MAX), Deadline::Never));
    }
}
