//! Waiting without losing a wake-up: one consumer, one distributor, or one of each engine.
//!
//! Contract (invariant I8): if the distributor makes something available, passes a fence, and wakes what
//! [`Waiter::take`] gives, and the consumer calls [`Waiter::arm`] and then finds nothing available, then the consumer's
//! waker is woken.
//!
//! # The argument
//! The consumer stores its waker, stores `waiting`, passes `fence(SeqCst)` P, looks. The distributor makes available,
//! passes `fence(SeqCst)` F3, reads `waiting`. Fences have one order:
//! 1. P before F3: the distributor reads `waiting` set (or set again later). It takes the waker and
//!    wakes it. Its `try_lock` cannot fail on the lock of this `arm`, which was released before P.
//!    If it fails on the lock of a later `arm`, that one's fence P' comes after F3, and its look
//!    finds what was made available: case 2. If it fails on the lock of another distributor (of
//!    another engine, at a set), that one wakes the waker, and the same holds for the `arm` that
//!    follows: its lock comes after the other distributor's in the order of the lock's word, and so
//!    P' after F3.
//! 2. F3 before P: the consumer's look finds what was made available, and it does not park.
//!
//! A waker taken is an old one only if a later `arm` has yet to store its own; that `arm` looks afterwards.
//!
//! # Neither waits for the other (I17)
//! The lock of the slot is only tried. A distributor that finds it taken goes on, by case 1. A
//! consumer that finds it taken has met a distributor that moves the waker out: it wakes itself, so
//! that it asks again, and parks only after an `arm` that has stored its waker. So a consumer that
//! has stopped at any instruction, also with the slot locked, delays no distributor; one
//! distributor that has stopped between its `try_lock` and the unlock makes the consumer ask again
//! until it goes on.
//!
//! A blocking call parks by the thread's own token. To wake it is to set `woken` and to unpark the
//! thread, which waits for nothing either. The consumer looks at `woken`, parks, and looks again. A
//! wake before the look is found by it; one after the look leaves a token that ends the park, and
//! hands `woken` over. `woken` itself orders nothing: what the consumer finds after a wake is a
//! matter of P and F3. If the look reads what a wake has stored, then the F3 before that store
//! precedes the P of the next `arm`.
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
//! Models: `loom-tests/tests/wake.rs`, `stopped.rs`.

use std::{
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use crate::sync::{Arc, AtomicBool, Ordering, Parker, TryMutex, fence, pause};

/// Where one consumer leaves its waker for the distributor.
pub(crate) struct Waiter {
    /// Set by the consumer before it parks; cleared by whoever wakes it, or by itself.
    waiting: AtomicBool,
    /// Locked for as long as it takes to move a waker in or out.
    slot: TryMutex<Option<Waker>>,
}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self {
            waiting: AtomicBool::new(false),
            slot: TryMutex::new(None),
        }
    }

    /// Asks to be woken. The caller must look once more afterwards, and may park only if there is nothing.
    ///
    /// Wakes `waker` at once when it meets a distributor at the slot.
    pub(crate) fn arm(&self, waker: &Waker) {
        // Cloning, dropping and waking a waker is foreign code, so not under the lock.
        let waker = waker.clone();
        let Some(mut slot) = self.slot.try_lock() else {
            // The distributor may have been preempted. In most cases it is done by now.
            pause();
            waker.wake();
            return;
        };
        let replaced = slot.replace(waker);
        drop(slot);
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

    /// Takes the waker back: the consumer goes, and what its waker holds shall not wait for the
    /// next round. A distributor that holds the slot takes the waker itself.
    pub(crate) fn clear(&self) -> Option<Waker> {
        self.disarm();
        self.slot.try_lock()?.take()
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
    parked: Arc<Parked>,
    waker: Waker,
}

/// What a blocking call shares with its waker.
struct Parked {
    /// Set by a wake, taken by the thread.
    woken: AtomicBool,
    thread: Parker,
}

impl Blocking {
    /// For the calling thread.
    pub(crate) fn new() -> Self {
        let parked = Arc::new(Parked {
            woken: AtomicBool::new(false),
            thread: Parker::of_this_thread(),
        });
        Self {
            waker: Waker::from(parked.clone()),
            parked,
        }
    }

    /// Whether it is for the calling thread.
    pub(crate) fn is_of_this_thread(&self) -> bool {
        self.parked.thread.is_of_this_thread()
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Waits for a wake; `false` when the deadline passed first. Of the thread that made it only.
    pub(crate) fn park(&self, deadline: Deadline) -> bool {
        // Relaxed: a wake hands over nothing by it, see the module's documentation; what the token
        // hands over is in time.
        while !self.parked.woken.swap(false, Ordering::Relaxed) {
            #[cfg(all(test, not(loom)))]
            tests::about_to_park();
            match deadline.left() {
                None => self.parked.thread.park(),
                Some(left) => {
                    if left.is_zero() || !self.parked.thread.park_for(left) {
                        return self.parked.woken.swap(false, Ordering::Relaxed);
                    }
                }
            }
        }
        true
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Relaxed: as in `Blocking::park`. Before the token, which hands it over. An exchange, as
        // there: what one thread sets is not overwritten by an older `false`.
        self.woken.swap(true, Ordering::Relaxed);
        self.thread.unpark();
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
    pub(crate) fn after(timeout: Duration) -> Self {
        now().checked_add(timeout).map_or(Self::Never, Self::At)
    }

    /// How long it is until then; `None` for ever.
    fn left(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::At(instant) => Some(instant.saturating_duration_since(now())),
        }
    }
}

#[allow(clippy::disallowed_methods)] // the one place, see clippy.toml
fn now() -> Instant {
    Instant::now()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{cell::RefCell, convert::Infallible, thread};

    use super::*;
    use crate::{Engine, Event, State, Transition};

    /// Generous: a test that meets it has failed.
    const DEADLINE: Duration = Duration::from_secs(20);

    type Stop = Box<dyn FnOnce()>;

    thread_local! {
        /// What this thread does once when it has found no wake, just before it parks.
        static BEFORE_PARK: RefCell<Option<Stop>> = const { RefCell::new(None) };
    }

    pub(super) fn about_to_park() {
        if let Some(stop) = BEFORE_PARK.take() {
            stop();
        }
    }

    #[derive(Clone)]
    struct Count(u64);

    impl State for Count {
        type Change = u64;
        type Update = u64;
        type Rejection = Infallible;

        fn apply(&self, change: &u64) -> Result<Transition<Self>, Infallible> {
            Ok(Transition::new(Self(self.0 + change), vec![*change]))
        }
    }

    /// Whether `flag` is set before the deadline.
    fn comes(flag: &AtomicBool) -> bool {
        let end = now() + DEADLINE;
        while !flag.load(Ordering::SeqCst) {
            if now() > end {
                return false;
            }
            pause();
        }
        true
    }

    /// I17 where it once failed, in `next` and `next_timeout`: the reader has looked for a wake,
    /// found none, and is stopped before it parks.
    #[test]
    fn a_reader_stopped_before_it_parks_delays_no_publisher() {
        for timeout in [None, Some(DEADLINE)] {
            let engine = Engine::builder(Count(0)).build().unwrap();
            let flags = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
            let [stopped, published, released] = &flags;
            thread::scope(|scope| {
                let mut subscription = engine.subscribe();
                let stop = [stopped.clone(), released.clone()];
                let reader = scope.spawn(move || {
                    subscription.try_next().unwrap();
                    BEFORE_PARK.set(Some(Box::new(move || {
                        stop[0].store(true, Ordering::SeqCst);
                        comes(&stop[1]);
                    })));
                    match timeout {
                        None => subscription.next(),
                        Some(timeout) => subscription.next_timeout(timeout).ok(),
                    }
                });
                assert!(comes(stopped), "the reader is about to park");
                scope.spawn(|| {
                    engine.publish(&1).unwrap();
                    published.store(true, Ordering::SeqCst);
                });
                let in_time = comes(published);
                released.store(true, Ordering::SeqCst);
                assert!(in_time, "the publisher waits for the reader");
                let event = reader.join().unwrap();
                assert!(matches!(event, Some(Event::Update(update)) if *update == 1));
            });
        }
    }

    /// I17 at the slot: the reader is stopped while it stores its waker.
    #[test]
    fn a_reader_stopped_at_the_slot_delays_no_publisher() {
        let waiter = Waiter::new();
        waiter.arm(Waker::noop());
        let _stopped = waiter.slot.try_lock().unwrap();
        assert!(waiter.take().is_none());
    }

    /// The other way round: no reader waits on a lock that a publisher then would have to give back
    /// to it.
    #[test]
    fn a_reader_that_meets_a_publisher_at_the_slot_is_woken_at_once() {
        let waiter = Waiter::new();
        let _stopped = waiter.slot.try_lock().unwrap();
        let blocking = Blocking::new();
        waiter.arm(blocking.waker());
        assert!(blocking.park(Deadline::after(Duration::ZERO)));
        assert!(waiter.clear().is_none());
    }

    #[test]
    fn a_token_of_the_thread_that_no_wake_left_is_no_wake() {
        let blocking = Blocking::new();
        thread::current().unpark();
        assert!(!blocking.park(Deadline::after(Duration::from_millis(1))));
    }

    #[test]
    fn a_subscription_blocks_in_whatever_thread_it_is_used() {
        let engine = Engine::builder(Count(0)).build().unwrap();
        let mut subscription = engine.subscribe();
        for round in 0..3 {
            subscription = thread::scope(|scope| {
                let parks = Arc::new(AtomicBool::new(false));
                let reached = parks.clone();
                let reader = scope.spawn(move || {
                    if round == 0 {
                        subscription.try_next().unwrap();
                    }
                    let stop = move || reached.store(true, Ordering::SeqCst);
                    BEFORE_PARK.set(Some(Box::new(stop)));
                    let event = subscription.next_timeout(DEADLINE).unwrap();
                    assert!(matches!(event, Event::Update(_)));
                    subscription
                });
                assert!(comes(&parks), "the reader is about to park");
                engine.publish(&1).unwrap();
                reader.join().unwrap()
            });
        }
    }

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
