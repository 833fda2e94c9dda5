//! The state that these tests publish, with a change for everything that a change can do, and the reader that checks
//! what a subscription may rely on.

#![allow(dead_code)] // each test file uses a part of it

use std::{env, time::Duration};

use configstream_engine::{
    Engine, Epoch, Event, Replica, SnapshotReason, State, Subscription, SubscriptionStats,
    Transition, TryNextError, Version,
};

/// How long a test waits for what must happen before it fails: a deadline, not a pause.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// `rounds`, or the percentage of them that the environment asks for. `.ci/sanitize short` does: a
/// sanitizer makes a round several times as long, and finds what it finds within the first
/// hundreds.
///
/// # Panics
/// When CONFIGSTREAM_TEST_PERCENT is not a whole number from 1 to 100.
pub(crate) fn scaled(rounds: u64) -> u64 {
    let percent = env::var("CONFIGSTREAM_TEST_PERCENT").map_or(100, |text| {
        text.parse()
            .ok()
            .filter(|percent| (1..=100).contains(percent))
            .unwrap_or_else(|| panic!("CONFIGSTREAM_TEST_PERCENT: from 1 to 100, not {text:?}"))
    });
    (rounds * percent).div_ceil(100)
}

/// Remembers the order of what was put into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Of all that was put, in order: two orders give two digests.
    pub(crate) digest: u64,
    /// What was put, added up.
    pub(crate) sum: u64,
    /// Changes that subscribers are not told of.
    pub(crate) touched: u64,
}

/// What a publisher asks of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// One update.
    Put(u64),
    /// As many updates, by one change.
    PutAll(Vec<u64>),
    /// A state that no update leads to.
    Replace(u64),
    /// Updates, and then a state that no update leads to.
    PutAndReplace(Vec<u64>, u64),
    /// A state that subscribers cannot tell from the one before.
    Touch,
    /// What the state rejects.
    Refuse,
}

/// Why a ledger rejects [`Change::Refuse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

impl Ledger {
    pub(crate) fn of(values: impl IntoIterator<Item = u64>) -> Self {
        values.into_iter().fold(Self::default(), Self::put)
    }

    pub(crate) fn put(self, value: u64) -> Self {
        Self {
            digest: self
                .digest
                .wrapping_mul(31)
                .wrapping_add(value)
                .wrapping_add(1),
            sum: self.sum.wrapping_add(value),
            touched: self.touched,
        }
    }

    pub(crate) fn replaced(value: u64) -> Self {
        Self {
            digest: value,
            sum: value,
            touched: 0,
        }
    }

    pub(crate) fn touched(self, times: u64) -> Self {
        Self {
            touched: times,
            ..self
        }
    }

    /// Without what subscribers are not told of.
    pub(crate) fn visible(self) -> (u64, u64) {
        (self.digest, self.sum)
    }
}

impl State for Ledger {
    type Change = Change;
    type Update = u64;
    type Rejection = Refused;

    fn apply(&self, change: &Change) -> Result<Transition<Self>, Refused> {
        let after = |values: &[u64]| values.iter().copied().fold(*self, Self::put);
        Ok(match change {
            Change::Put(value) => Transition::new(self.put(*value), vec![*value]),
            Change::PutAll(values) => Transition::new(after(values), values.clone()),
            Change::Replace(value) => Transition::snapshot(Self::replaced(*value)),
            Change::PutAndReplace(values, value) => Transition {
                needs_snapshot: true,
                ..Transition::new(Self::replaced(*value), values.clone())
            },
            Change::Touch => Transition::unobservable(Self {
                touched: self.touched + 1,
                ..*self
            }),
            Change::Refuse => return Err(Refused),
        })
    }
}

impl Replica for Ledger {
    fn absorb(&self, update: &u64) -> Self {
        self.put(*update)
    }
}

/// An engine on an empty ledger.
pub(crate) fn engine(ring_capacity: usize) -> Engine<Ledger> {
    Engine::builder(Ledger::default())
        .ring_capacity(ring_capacity)
        .build()
        .unwrap()
}

/// Publishes each value by itself.
pub(crate) fn put(engine: &Engine<Ledger>, values: impl IntoIterator<Item = u64>) {
    for value in values {
        engine.publish(&Change::Put(value)).unwrap();
    }
}

/// An event, without its handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Snapshot {
        epoch: u64,
        sequence: u64,
        state: Ledger,
        reason: SnapshotReason,
        missed: u64,
    },
    Update {
        epoch: u64,
        sequence: u64,
        value: u64,
        batch_remaining: u32,
    },
}

impl From<Event<Ledger>> for Seen {
    fn from(event: Event<Ledger>) -> Self {
        match event {
            Event::Snapshot(snapshot) => Self::Snapshot {
                epoch: snapshot.epoch().get(),
                sequence: snapshot.sequence().get(),
                state: *snapshot.state(),
                reason: snapshot.reason(),
                missed: snapshot.missed(),
            },
            Event::Update(update) => Self::Update {
                epoch: update.epoch().get(),
                sequence: update.sequence().get(),
                value: *update,
                batch_remaining: update.batch_remaining(),
            },
            other => panic!("an event of an unknown kind: {other:?}"),
        }
    }
}

/// A snapshot in epoch 0.
pub(crate) fn snapshot(sequence: u64, state: Ledger, reason: SnapshotReason, missed: u64) -> Seen {
    Seen::Snapshot {
        epoch: 0,
        sequence,
        state,
        reason,
        missed,
    }
}

/// An update in epoch 0 that is alone in its version.
pub(crate) fn update(sequence: u64, value: u64) -> Seen {
    Seen::Update {
        epoch: 0,
        sequence,
        value,
        batch_remaining: 0,
    }
}

/// All that can be taken now, and what ended it.
pub(crate) fn drain(subscription: &mut Subscription<Ledger>) -> (Vec<Seen>, TryNextError) {
    let mut seen = Vec::new();
    loop {
        match subscription.try_next() {
            Ok(event) => seen.push(event.into()),
            Err(end) => return (seen, end),
        }
    }
}

/// All that can be taken now from a subscription whose engine is open.
pub(crate) fn take(subscription: &mut Subscription<Ledger>) -> Vec<Seen> {
    let (seen, end) = drain(subscription);
    assert_eq!(end, TryNextError::Empty);
    seen
}

/// A consumer that trusts nothing: it rebuilds the state from events, and fails on a gap, a repetition, a step back, a
/// torn batch, or a first event that is no snapshot.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    at: Option<(Epoch, u64)>,
    state: Ledger,
    /// Updates of a batch that are still to come, if the last event was an update.
    remaining: u32,
    /// Epochs may begin anew at any sequence.
    epochs_change: bool,
    /// A snapshot may come within a batch, and then contains it.
    batches_break_off: bool,
    /// The sequence of the first snapshot.
    pub(crate) first: u64,
    pub(crate) updates: u64,
    pub(crate) snapshots: u64,
    pub(crate) missed: u64,
}

impl Replay {
    /// For engines whose states are adopted from elsewhere.
    pub(crate) fn across_epochs() -> Self {
        Self {
            epochs_change: true,
            ..Self::default()
        }
    }

    /// For readers of a shared subscription.
    pub(crate) fn of_reader() -> Self {
        Self {
            batches_break_off: true,
            ..Self::default()
        }
    }

    pub(crate) fn take(&mut self, event: &Event<Ledger>) {
        match event {
            Event::Snapshot(snapshot) => {
                let sequence = snapshot.sequence().get();
                assert_eq!(
                    snapshot.reason() == SnapshotReason::First,
                    self.at.is_none(),
                    "the first snapshot, and no other, is the first"
                );
                if std::mem::take(&mut self.remaining) > 0 {
                    assert!(self.batches_break_off, "a snapshot within a batch");
                }
                match self.at {
                    None => {
                        assert_eq!(snapshot.missed(), 0);
                        self.first = sequence;
                    }
                    Some((epoch, before)) if !self.epochs_change => {
                        assert_eq!(snapshot.epoch(), epoch);
                        assert!(sequence > before, "{before}, then snapshot {sequence}");
                        assert!(snapshot.missed() <= sequence - before);
                    }
                    Some((epoch, _)) => assert!(snapshot.epoch() >= epoch),
                }
                self.at = Some((snapshot.epoch(), sequence));
                self.state = *snapshot.state();
                self.snapshots += 1;
                self.missed += snapshot.missed();
            }
            Event::Update(update) => {
                let (epoch, before) = self.at.expect("a snapshot before the first update");
                assert_eq!(update.epoch(), epoch);
                assert_eq!(update.sequence().get(), before + 1);
                if self.remaining > 0 {
                    assert_eq!(update.batch_remaining(), self.remaining - 1);
                }
                self.remaining = update.batch_remaining();
                self.at = Some((epoch, before + 1));
                self.state = self.state.put(**update);
                self.updates += 1;
            }
            other => panic!("an event of an unknown kind: {other:?}"),
        }
    }

    pub(crate) fn sequence(&self) -> Option<u64> {
        self.at.map(|(_, sequence)| sequence)
    }

    /// To be called at the end of a subscription: it has reached the head, and its own count of everything is the
    /// engine's.
    pub(crate) fn check_end(&self, subscription: &Subscription<Ledger>) {
        self.check_at(&subscription.head(), &subscription.stats());
    }

    pub(crate) fn check_at(&self, head: &Version<Ledger>, stats: &SubscriptionStats) {
        assert_eq!(self.at, Some((head.epoch(), head.sequence().get())));
        assert_eq!(self.state.visible(), head.state().visible());
        assert_eq!(self.remaining, 0);
        assert_eq!(stats.delivered, self.updates);
        assert_eq!(stats.dropped, self.missed);
        assert_eq!(stats.snapshots, self.snapshots);
        assert_eq!((stats.lag, stats.queued), (0, 0));
        if !self.epochs_change {
            let published = head.sequence().get() - self.first;
            assert_eq!(published, accounted(stats));
        }
    }
}

/// Numbers that are as good as random and the same in each run (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// The side of the accounting equation that a subscription knows; the other one is what was published since its first
/// snapshot.
pub(crate) fn accounted(stats: &SubscriptionStats) -> u64 {
    stats.delivered + stats.dropped + stats.forced + stats.queued
}
