//! A batch is one version: all or nothing, whole in every snapshot, whole in every ring.

use std::sync::atomic::{AtomicBool, Ordering};

use configstream_engine::{Event, PublishError, SnapshotReason};

mod ledger;
use ledger::{Change, Ledger, Refused, Seen, put, snapshot, take, update};

fn puts(values: impl IntoIterator<Item = u64>) -> Vec<Change> {
    values.into_iter().map(Change::Put).collect()
}

#[test]
fn a_batch_has_consecutive_sequences_and_says_how_many_follow() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, [9]);
    let committed = engine.publish_batch(&puts([1, 2, 3])).unwrap();
    assert_eq!((committed.sequence.get(), committed.updates), (4, 3));
    let batch = [(2, 1, 2), (3, 2, 1), (4, 3, 0)];
    let expected = batch.map(|(sequence, value, batch_remaining)| Seen::Update {
        epoch: 0,
        sequence,
        value,
        batch_remaining,
    });
    let events = take(&mut subscription);
    assert_eq!(events[0], update(1, 9));
    assert_eq!(events[1..], expected);
}

#[test]
fn one_change_with_several_updates_is_a_batch() {
    let engine = ledger::engine(8);
    let (mut one, mut other) = (engine.subscribe(), engine.subscribe());
    take(&mut one);
    engine.publish(&Change::PutAll(vec![1, 2])).unwrap();
    let by_change = take(&mut one);
    assert_eq!(take(&mut other).len(), 1);
    assert!(matches!(
        by_change[0],
        Seen::Update {
            batch_remaining: 1,
            ..
        }
    ));
    assert!(matches!(
        by_change[1],
        Seen::Update {
            batch_remaining: 0,
            ..
        }
    ));
}

#[test]
fn a_rejection_rejects_the_whole_batch() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    let batch = [Change::Put(1), Change::Refuse, Change::Put(2)];
    assert_eq!(
        engine.publish_batch(&batch),
        Err(PublishError::Rejected(Refused))
    );
    assert_eq!(take(&mut subscription), []);
    assert_eq!(*engine.head().state(), Ledger::default());
}

#[test]
fn an_empty_batch_is_not_observable() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    let committed = engine.publish_batch(&[]).unwrap();
    assert_eq!((committed.sequence.get(), committed.updates), (0, 0));
    assert_eq!(take(&mut subscription), []);
}

#[test]
fn a_batch_that_does_not_fit_enters_no_part_of_it() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, [1, 2]);
    engine.publish_batch(&puts([3, 4, 5])).unwrap();
    assert_eq!(
        take(&mut subscription),
        [
            update(1, 1),
            update(2, 2),
            snapshot(5, Ledger::of(1..=5), SnapshotReason::Lagged, 3),
        ]
    );
}

#[test]
fn a_batch_that_fits_exactly_enters() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, [1]);
    engine.publish_batch(&puts([2, 3, 4])).unwrap();
    assert_eq!(take(&mut subscription).len(), 4);
    assert_eq!(subscription.stats().dropped, 0);
}

#[test]
fn a_batch_larger_than_any_ring_is_a_snapshot_for_everyone() {
    let engine = ledger::engine(4);
    let mut subscriptions: Vec<_> = (0..3).map(|_| engine.subscribe()).collect();
    for subscription in &mut subscriptions {
        take(subscription);
    }
    engine.publish_batch(&puts(0..1000)).unwrap();
    for subscription in &mut subscriptions {
        assert_eq!(
            take(subscription),
            [snapshot(
                1000,
                Ledger::of(0..1000),
                SnapshotReason::Lagged,
                1000
            )]
        );
    }
}

#[test]
fn one_change_that_updates_cannot_say_makes_the_whole_batch_a_snapshot() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    let batch = [Change::Put(1), Change::Replace(50), Change::Put(2)];
    let committed = engine.publish_batch(&batch).unwrap();
    // Two updates, which nobody receives, and the snapshot's own sequence.
    assert_eq!((committed.sequence.get(), committed.updates), (3, 0));
    assert!(committed.needs_snapshot);
    let events = take(&mut subscription);
    assert_eq!(events.len(), 1);
    assert!(matches!(
        events[0],
        Seen::Snapshot { sequence: 3, state, missed: 0, reason: SnapshotReason::Forced, .. } if state == Ledger::replaced(50).put(2)
    ));
    let stats = subscription.stats();
    assert_eq!((stats.dropped, stats.forced), (0, 3));
}

#[test]
fn no_reader_ever_sees_half_a_batch() {
    // A batch of two complements: whole, it leaves the sum where it was.
    let engine = ledger::engine(3);
    let over = AtomicBool::new(false);
    let check = |sum: u64| assert_eq!(sum, 0, "half a batch");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut subscription = engine.subscribe();
                let (mut snapshots, mut sum) = (0, 0_u64);
                while let Some(event) = subscription.next() {
                    match event {
                        Event::Snapshot(snapshot) => {
                            sum = snapshot.state().sum;
                            snapshots += 1;
                            check(sum);
                        }
                        Event::Update(update) => {
                            sum = sum.wrapping_add(*update);
                            if update.batch_remaining() == 0 {
                                check(sum);
                            }
                        }
                        other => panic!("{other:?}"),
                    }
                }
                assert!(snapshots > 0);
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                check(engine.read_head(|head| head.state().sum));
            }
        });
        for nth in 1..=5_000_u64 {
            engine
                .publish_batch(&puts([nth, nth.wrapping_neg()]))
                .unwrap();
        }
        engine.close();
        over.store(true, Ordering::Relaxed);
    });
}
