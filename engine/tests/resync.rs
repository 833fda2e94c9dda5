//! Falling behind is ordinary: the ring first, then a snapshot of the head, without another publish.

use configstream_engine::{Event, Sequence, SnapshotReason};

mod ledger;
use ledger::{Change, Ledger, Replay, put, snapshot, take, update};

#[test]
fn an_overflow_leads_to_a_snapshot_without_another_publish() {
    let engine = ledger::engine(2);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, 1..=5);
    assert_eq!(
        take(&mut subscription),
        [
            update(1, 1),
            update(2, 2),
            snapshot(5, Ledger::of(1..=5), SnapshotReason::Lagged, 3),
        ]
    );
    assert_eq!(take(&mut subscription), []);
}

#[test]
fn a_snapshot_shows_the_head_of_when_it_is_taken() {
    let engine = ledger::engine(1);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, [1, 2]);
    subscription.try_next().unwrap();
    put(&engine, [3, 4]);
    assert_eq!(
        take(&mut subscription),
        [snapshot(4, Ledger::of(1..=4), SnapshotReason::Lagged, 3)]
    );
}

#[test]
fn whoever_caught_up_receives_updates_again() {
    let engine = ledger::engine(2);
    let mut subscription = engine.subscribe();
    let mut replay = Replay::default();
    for round in 0..100 {
        // Alternately too much and just enough.
        put(&engine, 0..1 + round % 4);
        while let Ok(event) = subscription.try_next() {
            replay.take(&event);
        }
    }
    replay.check_end(&subscription);
    // The first round came before the first snapshot; 25 rounds of 3 and 25 of 4 did not fit.
    assert_eq!(replay.snapshots, 1 + 50);
    assert_eq!(replay.missed, 25 + 25 * 2);
}

#[test]
fn a_lagging_subscription_takes_no_more_updates_into_its_ring() {
    let engine = ledger::engine(3);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, 1..=4);
    // There is room again, but what comes now would follow a gap.
    assert_eq!(
        ledger::Seen::from(subscription.try_next().unwrap()),
        update(1, 1)
    );
    put(&engine, [5]);
    assert_eq!(
        take(&mut subscription),
        [
            update(2, 2),
            update(3, 3),
            snapshot(5, Ledger::of(1..=5), SnapshotReason::Lagged, 2),
        ]
    );
}

#[test]
fn one_that_lags_does_not_hold_up_another() {
    let engine = ledger::engine(4);
    let mut stalled = engine.subscribe();
    take(&mut stalled);
    let mut reader = engine.subscribe();
    take(&mut reader);
    for value in 1..=1000 {
        put(&engine, [value]);
        assert_eq!(take(&mut reader), [update(value, value)]);
    }
    assert_eq!(
        take(&mut stalled)[4..],
        [snapshot(
            1000,
            Ledger::of(1..=1000),
            SnapshotReason::Lagged,
            996
        )]
    );
}

#[test]
fn each_ring_holds_exactly_what_was_asked_for() {
    let engine = ledger::engine(128);
    for capacity in [1, 2, 3, 5, 7, 100] {
        let mut subscription = engine.subscription().capacity(capacity).subscribe();
        take(&mut subscription);
        put(&engine, 0..capacity as u64);
        assert_eq!(take(&mut subscription).len(), capacity);
        put(&engine, 0..=capacity as u64);
        let events = take(&mut subscription);
        assert_eq!(events.len(), capacity + 1);
        assert!(matches!(
            events.last(),
            Some(ledger::Seen::Snapshot { missed: 1, .. })
        ));
    }
}

#[test]
fn a_ring_for_nothing_holds_one() {
    let engine = ledger::engine(128);
    let mut subscription = engine.subscription().capacity(0).subscribe();
    take(&mut subscription);
    put(&engine, [1]);
    assert_eq!(take(&mut subscription), [update(1, 1)]);
}

#[test]
fn a_change_that_updates_cannot_say_forces_a_snapshot() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, [1]);
    engine.publish(&Change::Replace(40)).unwrap();
    assert_eq!(
        take(&mut subscription),
        [
            update(1, 1),
            snapshot(2, Ledger::replaced(40), SnapshotReason::Forced, 0),
        ]
    );
    put(&engine, [2]);
    assert_eq!(take(&mut subscription), [update(3, 2)]);
}

#[test]
fn updates_after_a_forced_snapshot_that_is_still_to_come_are_missed() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    engine.publish(&Change::Replace(40)).unwrap();
    put(&engine, [2]);
    assert_eq!(
        take(&mut subscription),
        [snapshot(
            2,
            Ledger::replaced(40).put(2),
            SnapshotReason::Lagged,
            1
        )]
    );
}

#[test]
fn a_snapshot_is_never_repeated() {
    let engine = ledger::engine(1);
    let mut subscription = engine.subscribe();
    // Lagging from birth, and then caught up at the very head that the overflow made.
    put(&engine, 1..=10);
    assert_eq!(take(&mut subscription).len(), 1);
    assert_eq!(take(&mut subscription), []);
    engine.publish(&Change::Touch).unwrap();
    assert_eq!(take(&mut subscription), []);
}

#[test]
fn snapshots_of_one_version_are_one_allocation() {
    let engine = ledger::engine(8);
    put(&engine, [1]);
    let versions: Vec<_> = (0..3)
        .map(|_| match engine.subscribe().try_next() {
            Ok(Event::Snapshot(snapshot)) => snapshot.version().clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(
        versions
            .iter()
            .all(|version| std::ptr::eq(&**version, &*engine.head()))
    );
    versions[0].memo().get_or_init(|| 17_u8);
    assert_eq!(engine.head().memo().get::<u8>(), Some(&17));
    // Nothing that subscribers can see has changed, so the encoding is still good.
    engine.publish(&Change::Touch).unwrap();
    assert_eq!(engine.head().memo().get::<u8>(), Some(&17));
    put(&engine, [2]);
    assert_eq!(engine.head().memo().get::<u8>(), None);
    assert_eq!(engine.head().sequence(), Sequence::new(2));
}
