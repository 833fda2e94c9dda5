//! A head that one publisher has reserved, after others have been faster too often.
//!
//! A publisher whose attempts take long (a large batch) loses every race against one whose attempts
//! are short. So, once what it has lost is worth [`MAX_LOST`] updates, it makes a version that
//! differs from the head in nothing but a reservation, and computes its change on top of that.
//! Others that load such a head wait until the reservation has ended, or their patience has. Then
//! they go on as ever: a publisher that is stopped while it holds a reservation delays the others,
//! and blocks none for ever.
//!
//! # The bound
//! An attempt counts as one update, and one more for each that it would have published. A publisher
//! whose attempt counts n computes its change at most `MAX_LOST / n` times, rounded up, before it
//! reserves, and once with a reservation; and once more for each time that an attempt outlasts the
//! patience of others, which doubles from [`PATIENCE`] to [`MAX_PATIENCE`]. Placing a reservation
//! costs what a publish costs that changes nothing, however large the change is, and is lock-free,
//! as that is.
//!
//! # Sync points
//! * E: `over` and `waiting`. A publisher that waits pushes its waker (a read-modify-write of the
//!   stack), then reads `over`. The holder stores `over`, then takes the stack (another one). If
//!   the push comes first, the holder finds the waker. If the take comes first, the push reads from
//!   it, and so the publisher reads `over` as stored.
//!
//! Model: `loom-tests/tests/reservation.rs`.

use std::{task::Waker, time::Duration};

use crate::{
    stack::Stack,
    sync::{Arc, AtomicBool, Ordering},
    waiter::{Blocking, Deadline},
};

pub(crate) struct Reservation {
    over: AtomicBool,
    /// Wakers of publishers that wait for the end.
    waiting: Stack<Waker>,
    patience: Duration,
}

/// Held by the publisher that has reserved the head. Dropping it ends the reservation.
pub(crate) struct Reserved(Arc<Reservation>);

/// What a publisher knows of its own attempts to commit.
#[derive(Default)]
pub(crate) struct Attempts {
    /// What attempts that others were faster than would have published, and one each.
    lost: u64,
    /// How many reservations others did not wait for the end of.
    broken: u32,
    reserved: Option<Reserved>,
    /// Whose end this publisher has waited for already.
    waited_for: Option<Arc<Reservation>>,
}

impl Reservation {
    /// Waits until it has ended, or for as long as patience lasts.
    fn wait(&self) {
        // Relaxed: once over, it stays so. The holder takes no wakers after that: a head that stays
        // reserved, since every change on top of it is refused, must not gather them.
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        let blocking = Blocking::new();
        self.waiting.push(blocking.waker().clone());
        // Relaxed: E, ordered by the push.
        if !self.over.load(Ordering::Relaxed) {
            blocking.park(Deadline::after(self.patience));
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Relaxed: E, handed over by the take.
        self.0.over.store(true, Ordering::Relaxed);
        // These are wakers of our own, of parked threads: they do not panic.
        self.0.waiting.take(Waker::wake);
    }
}

impl Attempts {
    /// Others were faster than an attempt that would have published so many updates.
    pub(crate) fn lose(&mut self, updates: u64) {
        self.lost = self.lost.saturating_add(updates).saturating_add(1);
        if self.end().is_some() {
            self.broken += 1;
        }
    }

    /// Whether the next attempt needs a reservation.
    pub(crate) fn must_reserve(&self) -> bool {
        self.lost >= MAX_LOST
    }

    /// The reservation for the next attempt, to be put beside a head. It is this publisher's once
    /// it is there.
    pub(crate) fn reservation(&self) -> Arc<Reservation> {
        let patience = PATIENCE.saturating_mul(1 << self.broken.min(16));
        Arc::new(Reservation {
            over: AtomicBool::new(false),
            waiting: Stack::new(),
            patience: patience.min(MAX_PATIENCE),
        })
    }

    /// The reservation is there.
    pub(crate) fn begin(&mut self, reservation: Arc<Reservation>) {
        self.reserved = Some(Reserved(reservation));
    }

    /// Takes this publisher's reservation, if it has one: it ends when that is dropped.
    pub(crate) fn end(&mut self) -> Option<Reserved> {
        self.reserved.take()
    }

    /// Waits for the end of another publisher's reservation; once. Returns whether this was the
    /// first time.
    pub(crate) fn wait_for(&mut self, theirs: &Arc<Reservation>) -> bool {
        let waited = self.waited_for.as_ref();
        if waited.is_some_and(|waited| Arc::ptr_eq(waited, theirs)) {
            return false;
        }
        theirs.wait();
        self.waited_for = Some(theirs.clone());
        true
    }
}

/// A publisher that has lost this many updates reserves: one lost attempt of a large batch, or 128
/// of single changes, which publishers of single changes do not lose in a row.
#[cfg(not(loom))]
pub(crate) const MAX_LOST: u64 = 256;
/// So few that a model comes to it.
#[cfg(loom)]
pub(crate) const MAX_LOST: u64 = 8;

/// For how long others wait for the end of a publisher's first reservation.
#[cfg(not(loom))]
const PATIENCE: Duration = Duration::from_millis(250);
/// For ever: in a model without a clock all others would go on at once.
#[cfg(loom)]
const PATIENCE: Duration = Duration::MAX;

/// For how long others wait at most, after reservations that did not suffice.
#[cfg(not(loom))]
const MAX_PATIENCE: Duration = Duration::from_secs(4);
/// As above.
#[cfg(loom)]
const MAX_PATIENCE: Duration = Duration::MAX;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_that_is_over_gathers_no_wakers() {
        let reservation = Attempts::default().reservation();
        drop(Reserved(reservation.clone()));
        for _ in 0..3 {
            // Each publish whose change is refused leaves the head as it is, and the next one meets
            // it.
            assert!(Attempts::default().wait_for(&reservation));
        }
        assert!(reservation.waiting.is_empty());
    }
}
