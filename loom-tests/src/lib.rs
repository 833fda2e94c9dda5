//! What the models share: how they are run, and the state that they publish.
//!
//! Models live in `tests/`, one file per protocol, one model per invariant of the engine. `cargo loom` runs them.
#![cfg(loom)]

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Wake, Waker},
};

use configstream_engine::{Engine, Event, State, Subscription, Transition, TryNextError, WaitSet};
use loom::{cell::Cell, sync::Notify};

/// Explores every interleaving of `model` with at most three preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
pub fn check(model: impl Fn() + Sync + Send + 'static) {
    check_with(3, model);
}

/// As [`check`], with another bound by default.
pub fn check_with(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Wakes whoever waits on a `Notify`.
#[derive(Debug)]
pub struct Bell(pub Notify);

impl Bell {
    /// One that nobody waits at, and a waker that rings it.
    pub fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self(Notify::new()));
        (bell.clone(), Waker::from(bell))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Waits at `set`, and calls `read`, which looks into all of its subscriptions, until that says that it is done.
pub fn wait_at(set: &WaitSet, mut read: impl FnMut() -> bool) {
    let (bell, waker) = Bell::new();
    loop {
        set.arm(&waker);
        if read() {
            return;
        }
        bell.0.wait();
    }
}

/// A count that grows by steps. An update is the count after its step, so that a reader can check what it follows.
///
/// The count is in a cell that `loom` tracks: reading a head whose contents were not handed over
/// with the pointer fails. The mutex only makes the cell `Sync`; `loom` does not see it, so it
/// orders nothing.
pub struct Count(Mutex<Cell<u64>>);

/// What to do to a [`Count`].
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Add one, by an update.
    Up,
    /// Add one, in a way that no update can say.
    Jump,
    /// Change nothing that anybody could see.
    Still,
}

impl Count {
    /// This count.
    pub fn new(count: u64) -> Self {
        Self(Mutex::new(Cell::new(count)))
    }

    /// The count, by a read that has to be ordered after the write in [`new`](Self::new).
    pub fn get(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get()
    }
}

impl Clone for Count {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Count").field(&self.get()).finish()
    }
}

impl State for Count {
    type Change = Step;
    type Update = u64;
    type Rejection = ();

    fn apply(&self, step: &Step) -> Result<Transition<Self>, ()> {
        let count = self.get() + 1;
        let next = Count::new(count);
        Ok(match step {
            Step::Up => Transition::new(next, vec![count]),
            Step::Jump => Transition::snapshot(next),
            Step::Still => Transition::unobservable(self.clone()),
        })
    }
}

/// An engine that counts from 0, whose subscriptions have rings for so many updates.
pub fn engine(capacity: usize) -> Engine<Count> {
    let builder = Engine::builder(Count::new(0)).ring_capacity(capacity);
    builder.build().expect("a ring with room")
}

/// Follows a subscription to a [`Count`] and checks all that a single reader can check.
#[derive(Debug)]
pub struct Follower {
    /// The subscription followed.
    pub subscription: Subscription<Count>,
    /// The count and the sequence that the events add up to; `None` before the first.
    pub seen: Option<(u64, u64)>,
    /// Updates received.
    pub updates: u64,
    /// Snapshots received.
    pub snapshots: u64,
    /// Updates that snapshots stood in for.
    pub missed: u64,
    /// The end has been reported.
    pub ended: bool,
}

impl Follower {
    /// Nothing received so far.
    pub fn new(subscription: Subscription<Count>) -> Self {
        Self {
            subscription,
            seen: None,
            updates: 0,
            snapshots: 0,
            missed: 0,
            ended: false,
        }
    }

    /// Takes one event if there is one. `false`: there was none.
    pub fn step(&mut self) -> bool {
        match self.subscription.try_next() {
            Ok(event) => {
                self.take(&event);
                true
            }
            Err(TryNextError::Closed) => {
                self.ended = true;
                false
            }
            Err(_) => false,
        }
    }

    /// Takes all there is now.
    pub fn drain(&mut self) {
        while self.step() {}
    }

    /// Waits for the end, taking all that comes.
    pub fn run(&mut self) {
        while let Some(event) = self.subscription.next() {
            self.take(&event);
        }
        self.ended = true;
    }

    /// Waits until the count is `count`, taking all that comes.
    pub fn run_until(&mut self, count: u64) {
        while self.seen.is_none_or(|(seen, _)| seen < count) {
            let event = self.subscription.next().expect("the engine is open");
            self.take(&event);
        }
    }

    fn take(&mut self, event: &Event<Count>) {
        assert!(!self.ended, "an event after the end");
        let sequence = event.sequence().get();
        match event {
            Event::Snapshot(snapshot) => {
                let count = snapshot.state().get();
                if let Some((_, before)) = self.seen {
                    assert!(sequence > before, "a snapshot that brings nothing new");
                }
                self.seen = Some((count, sequence));
                self.snapshots += 1;
                self.missed += snapshot.missed();
            }
            Event::Update(update) => {
                let (count, before) = self.seen.expect("the first event is a snapshot");
                assert_eq!(**update, count + 1, "a gap or a repetition");
                assert_eq!(sequence, before + 1, "sequences go by one");
                self.seen = Some((**update, sequence));
                self.updates += 1;
            }
            _ => unreachable!("events are snapshots and updates"),
        }
    }

    /// Nothing is running any more: takes all there is, and demands the head, and an account that balances.
    pub fn converge(&mut self) {
        self.drain();
        let head = self.subscription.head();
        assert_eq!(
            self.seen,
            Some((head.state().get(), head.sequence().get())),
            "the subscription reaches the head without another publish"
        );
        let stats = self.subscription.stats();
        assert_eq!(stats.lag, 0);
        assert_eq!(stats.delivered, self.updates);
        assert_eq!(stats.dropped, self.missed);
        assert_eq!(stats.snapshots, self.snapshots);
    }
}
