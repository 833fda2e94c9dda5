//! Random programs against a reference that anybody can read: one list of versions, one queue per subscription, no
//! atomics. In one thread the reference predicts every event, every label and every figure exactly.

use std::collections::VecDeque;

use configstream_engine::{
    Engine, Epoch, FollowError, PublishError, Sequence, SnapshotReason, State, Subscription,
    TryNextError,
};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::FileFailurePersistence};

mod ledger;
use ledger::{Change, Ledger, Refused, Seen};

#[derive(Clone, Debug)]
enum Step {
    Publish(Change),
    Batch(Vec<Change>),
    /// Updates by a foreign numbering: the right one, or one that is off by so many.
    Follow(Vec<u64>, u64),
    /// A foreign state, in the next epoch, at so low a sequence.
    Adopt(u64, u64),
    Limit(u64),
    Subscribe(usize),
    TryNext(Index),
    /// So many events, or all there are.
    Take(Index, usize),
    Drop(Index),
    /// One more handle, or one less.
    Clone,
    DropHandle,
    Close,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => (0..100_u64).prop_map(Change::Put),
        3 => vec(0..100_u64, 0..5).prop_map(Change::PutAll),
        1 => (0..100_u64).prop_map(Change::Replace),
        1 => (vec(0..100_u64, 0..3), 0..100_u64).prop_map(|(values, value)| Change::PutAndReplace(values, value)),
        2 => Just(Change::Touch),
        1 => Just(Change::Refuse),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => change().prop_map(Step::Publish),
        6 => vec(change(), 0..4).prop_map(Step::Batch),
        4 => (vec(0..100_u64, 0..4), prop_oneof![4 => Just(0), 1 => 1..3_u64])
            .prop_map(|(values, off)| Step::Follow(values, off)),
        2 => (0..100_u64, 0..5_u64).prop_map(|(value, sequence)| Step::Adopt(value, sequence)),
        1 => (0..40_u64).prop_map(Step::Limit),
        8 => (1..=4_usize).prop_map(Step::Subscribe),
        16 => any::<Index>().prop_map(Step::TryNext),
        8 => (any::<Index>(), prop_oneof![1..4_usize, Just(usize::MAX)])
            .prop_map(|(who, count)| Step::Take(who, count)),
        3 => any::<Index>().prop_map(Step::Drop),
        1 => Just(Step::Clone),
        1 => Just(Step::DropHandle),
        1 => Just(Step::Close),
    ]
}

/// The engine, as one would explain it.
struct Reference {
    state: Ledger,
    epoch: u64,
    sequence: u64,
    limit: u64,
    /// Updates, and versions that needed a snapshot.
    published: u64,
    forced: u64,
    overflows: u64,
    closed: bool,
    subscribers: Vec<Subscriber>,
}

struct Subscriber {
    capacity: usize,
    ring: VecDeque<Seen>,
    lagging: bool,
    ended: bool,
    /// Of the last event: how much had been published, and how much of that needed a snapshot. `None` before the first.
    cursor: Option<(u64, u64)>,
    first: u64,
    sequence: Option<u64>,
    delivered: u64,
    dropped: u64,
    forced: u64,
    snapshots: u64,
}

impl Reference {
    fn new() -> Self {
        Self {
            state: Ledger::default(),
            epoch: 0,
            sequence: 0,
            limit: u64::MAX,
            published: 0,
            forced: 0,
            overflows: 0,
            closed: false,
            subscribers: Vec::new(),
        }
    }

    fn publish(&mut self, changes: &[Change]) -> Result<(u64, u64, bool), PublishError<Refused>> {
        if self.closed {
            return Err(PublishError::Closed);
        }
        let (mut state, mut values, mut needs_snapshot) = (self.state, Vec::new(), false);
        for change in changes {
            let step = state.apply(change).map_err(PublishError::Rejected)?;
            state = step.state;
            values.extend(step.updates);
            needs_snapshot |= step.needs_snapshot;
        }
        let spent = values.len() as u64 + u64::from(needs_snapshot);
        if spent > 0 && self.sequence + spent > self.limit {
            return Err(PublishError::SequenceLimit {
                needed: Sequence::new(self.sequence + spent),
            });
        }
        self.commit(state, &values, needs_snapshot);
        let updates = if needs_snapshot { 0 } else { spent };
        Ok((self.sequence, updates, needs_snapshot))
    }

    fn follow(&mut self, values: &[u64], first: u64) -> Result<(), FollowError> {
        if self.closed {
            return Err(FollowError::Closed);
        }
        if first != self.sequence + 1 {
            return Err(FollowError::Discontinuity {
                expected: Sequence::new(self.sequence + 1),
                found: Sequence::new(first),
            });
        }
        let spent = values.len() as u64;
        if spent > 0 && self.sequence + spent > self.limit {
            return Err(FollowError::SequenceLimit {
                needed: Sequence::new(self.sequence + spent),
            });
        }
        let state = values.iter().copied().fold(self.state, Ledger::put);
        self.commit(state, values, false);
        Ok(())
    }

    fn adopt(&mut self, state: Ledger, epoch: u64, sequence: u64) {
        if !self.closed {
            self.commit(state, &[], true);
            (self.epoch, self.sequence) = (epoch, sequence);
        }
    }

    fn commit(&mut self, state: Ledger, values: &[u64], needs_snapshot: bool) {
        let spent = values.len() as u64 + u64::from(needs_snapshot);
        let round: Vec<Seen> = (0..values.len())
            .map(|nth| Seen::Update {
                epoch: self.epoch,
                sequence: self.sequence + 1 + nth as u64,
                value: values[nth],
                batch_remaining: u32::try_from(values.len() - 1 - nth).unwrap(),
            })
            .collect();
        self.state = state;
        self.sequence += spent;
        self.published += spent;
        self.forced += if needs_snapshot { spent } else { 0 };
        if spent == 0 {
            return;
        }
        for subscriber in self.subscribers.iter_mut().filter(|one| !one.lagging) {
            if needs_snapshot {
                subscriber.lagging = true;
            } else if subscriber.ring.len() + round.len() > subscriber.capacity {
                subscriber.lagging = true;
                self.overflows += 1;
            } else {
                subscriber.ring.extend(round.iter().cloned());
            }
        }
    }

    fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            for subscriber in &mut self.subscribers {
                subscriber.lagging = true;
            }
        }
    }

    fn subscribe(&mut self, capacity: usize) {
        self.subscribers.push(Subscriber {
            capacity,
            ring: VecDeque::new(),
            lagging: true,
            ended: false,
            cursor: None,
            first: 0,
            sequence: None,
            delivered: 0,
            dropped: 0,
            forced: 0,
            snapshots: 0,
        });
    }

    fn try_next(&mut self, who: usize) -> Result<Seen, TryNextError> {
        let one = &mut self.subscribers[who];
        if one.ended {
            return Err(TryNextError::Closed);
        }
        if let Some(update) = one.ring.pop_front() {
            let Seen::Update { sequence, .. } = update else {
                unreachable!("rings hold updates")
            };
            let (cursor, _) = one.cursor.as_mut().expect("a snapshot came first");
            *cursor += 1;
            one.delivered += 1;
            one.sequence = Some(sequence);
            return Ok(update);
        }
        if !one.lagging {
            return Err(TryNextError::Empty);
        }
        one.lagging = false;
        if one.cursor.is_some_and(|(at, _)| at == self.published) {
            one.ended = self.closed;
            return Err(if self.closed {
                TryNextError::Closed
            } else {
                TryNextError::Empty
            });
        }
        let (reason, missed) = match one.cursor {
            None => {
                one.first = self.published;
                (SnapshotReason::First, 0)
            }
            Some((at, forced)) => {
                let forced = self.forced - forced;
                let missed = self.published - at - forced;
                one.forced += forced;
                one.dropped += missed;
                let reason = match missed {
                    0 => SnapshotReason::Forced,
                    _ => SnapshotReason::Lagged,
                };
                (reason, missed)
            }
        };
        one.cursor = Some((self.published, self.forced));
        one.sequence = Some(self.sequence);
        one.snapshots += 1;
        one.ended = self.closed;
        Ok(Seen::Snapshot {
            epoch: self.epoch,
            sequence: self.sequence,
            state: self.state,
            reason,
            missed,
        })
    }
}

/// The engine, its reference, and the handles of both.
struct Pair {
    /// Empty once the last has been dropped; `spare` then shows nothing but a closed engine.
    handles: Vec<Engine<Ledger>>,
    subscriptions: Vec<Subscription<Ledger>>,
    reference: Reference,
}

impl Pair {
    fn new() -> Self {
        Self {
            handles: vec![ledger::engine(4)],
            subscriptions: Vec::new(),
            reference: Reference::new(),
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let Some(engine) = self.handles.first() else {
            return self.read(step);
        };
        match step {
            Step::Publish(change) => {
                let committed = engine.publish(change);
                let expected = self.reference.publish(std::slice::from_ref(change));
                let committed =
                    committed.map(|it| (it.sequence.get(), it.updates, it.needs_snapshot));
                prop_assert_eq!(committed, expected);
            }
            Step::Batch(changes) => {
                let committed = engine.publish_batch(changes);
                let expected = self.reference.publish(changes);
                let committed =
                    committed.map(|it| (it.sequence.get(), it.updates, it.needs_snapshot));
                prop_assert_eq!(committed, expected);
            }
            Step::Follow(values, off) => {
                let first = self.reference.sequence + 1 + off;
                let committed = engine.follow(values.clone(), Sequence::new(first));
                prop_assert_eq!(committed.map(|_| ()), self.reference.follow(values, first));
            }
            Step::Adopt(value, sequence) => {
                let state = Ledger::replaced(*value);
                let epoch = self.reference.epoch + 1;
                let adopted = engine.adopt(state, Epoch::new(epoch), Sequence::new(*sequence));
                prop_assert_eq!(adopted.is_err(), self.reference.closed);
                self.reference.adopt(state, epoch, *sequence);
            }
            Step::Limit(limit) => {
                engine.set_sequence_limit(Sequence::new(*limit));
                self.reference.limit = *limit;
            }
            Step::Subscribe(capacity) => {
                let subscription = engine.subscription().capacity(*capacity).subscribe();
                self.subscriptions.push(subscription);
                self.reference.subscribe(*capacity);
            }
            Step::Clone => self.handles.push(engine.clone()),
            Step::DropHandle => {
                self.handles.pop();
                if self.handles.is_empty() {
                    self.reference.close();
                }
            }
            Step::Close => {
                engine.close();
                self.reference.close();
            }
            Step::TryNext(_) | Step::Take(..) | Step::Drop(_) => return self.read(step),
        }
        Ok(())
    }

    /// A step that needs no engine.
    fn read(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (Step::TryNext(who) | Step::Take(who, _) | Step::Drop(who)) = step else {
            return Ok(());
        };
        if self.subscriptions.is_empty() {
            return Ok(());
        }
        let who = who.index(self.subscriptions.len());
        let count = match step {
            Step::Take(_, count) => *count,
            Step::Drop(_) => {
                drop(self.subscriptions.remove(who));
                self.reference.subscribers.remove(who);
                return Ok(());
            }
            _ => 1,
        };
        for _ in 0..count {
            let event = self.subscriptions[who].try_next().map(Seen::from);
            let expected = self.reference.try_next(who);
            prop_assert_eq!(&event, &expected);
            if event.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// All that can be asked without changing anything.
    fn compare(&self) -> Result<(), TestCaseError> {
        let reference = &self.reference;
        if let Some(engine) = self.handles.first() {
            let stats = engine.stats();
            prop_assert_eq!(stats.epoch.get(), reference.epoch);
            prop_assert_eq!(stats.sequence.get(), reference.sequence);
            prop_assert_eq!(stats.published, reference.published);
            prop_assert_eq!(stats.overflows, reference.overflows);
            prop_assert_eq!(stats.subscriptions, reference.subscribers.len() as u64);
            prop_assert_eq!(*engine.head().state(), reference.state);
            prop_assert_eq!(engine.is_closed(), reference.closed);
            prop_assert_eq!(engine.subscriptions().len(), reference.subscribers.len());
        }
        for (subscription, expected) in self.subscriptions.iter().zip(&reference.subscribers) {
            let stats = subscription.stats();
            let (pending, pending_forced) = match expected.cursor {
                Some((at, forced)) => (reference.published - at, reference.forced - forced),
                None => (0, 0),
            };
            let queued = expected.ring.len() as u64;
            prop_assert_eq!(stats.capacity, expected.capacity);
            prop_assert_eq!(stats.sequence.map(Sequence::get), expected.sequence);
            prop_assert_eq!(stats.delivered, expected.delivered);
            prop_assert_eq!(stats.snapshots, expected.snapshots);
            prop_assert_eq!(stats.queued, queued);
            prop_assert_eq!(stats.lag, pending);
            // At the end the flag says nothing any more: a sweep of the table may set it again.
            if !expected.ended {
                prop_assert_eq!(stats.lagging, expected.lagging);
            }
            prop_assert_eq!(stats.forced, expected.forced + pending_forced);
            prop_assert_eq!(
                stats.dropped,
                expected.dropped + (pending - queued - pending_forced)
            );
            // The equation, by the figures of the engine alone.
            if expected.cursor.is_some() {
                let published = reference.published - expected.first;
                prop_assert_eq!(published, ledger::accounted(&stats));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_program_does_what_the_reference_does(steps in vec(step(), 1..120)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.run(step)?;
            pair.compare()?;
        }
        // Whatever the program was: everybody can be brought to the head, and to the end.
        pair.run(&Step::Close)?;
        for who in 0..pair.subscriptions.len() {
            loop {
                let event = pair.subscriptions[who].try_next().map(Seen::from);
                let expected = pair.reference.try_next(who);
                prop_assert_eq!(&event, &expected);
                if event.is_err() {
                    break;
                }
            }
            prop_assert_eq!(pair.subscriptions[who].stats().lag, 0);
        }
        pair.compare()?;
    }
}
