//! Replicas: following another engine's updates, and adopting its whole state.

use configstream_engine::{Engine, Epoch, Event, FollowError, Sequence, SnapshotReason};

mod ledger;
use ledger::{Change, Ledger, Replay, Seen, put, take, update};

fn follow(engine: &Engine<Ledger>, values: &[u64], first: u64) -> Result<u64, FollowError> {
    engine
        .follow(values.to_vec(), Sequence::new(first))
        .map(|committed| committed.sequence.get())
}

fn adopt(engine: &Engine<Ledger>, value: u64, epoch: u64, sequence: u64) {
    let committed = engine
        .adopt(
            Ledger::replaced(value),
            Epoch::new(epoch),
            Sequence::new(sequence),
        )
        .unwrap();
    assert_eq!(
        (committed.epoch.get(), committed.sequence.get()),
        (epoch, sequence)
    );
    assert!(committed.needs_snapshot);
}

#[test]
fn followed_updates_keep_their_sequences() {
    let replica = ledger::engine(8);
    let mut subscription = replica.subscribe();
    take(&mut subscription);
    assert_eq!(follow(&replica, &[5], 1), Ok(1));
    assert_eq!(follow(&replica, &[6, 7], 2), Ok(3));
    let events = take(&mut subscription);
    assert_eq!(events[0], update(1, 5));
    assert!(matches!(
        events[1],
        Seen::Update {
            sequence: 2,
            value: 6,
            batch_remaining: 1,
            ..
        }
    ));
    assert!(matches!(
        events[2],
        Seen::Update {
            sequence: 3,
            value: 7,
            batch_remaining: 0,
            ..
        }
    ));
    assert_eq!(*replica.head().state(), Ledger::of([5, 6, 7]));
}

#[test]
fn what_does_not_continue_the_head_is_refused() {
    let replica = ledger::engine(8);
    follow(&replica, &[5], 1).unwrap();
    for found in [0, 1, 3, u64::MAX] {
        let error = FollowError::Discontinuity {
            expected: Sequence::new(2),
            found: Sequence::new(found),
        };
        assert_eq!(follow(&replica, &[6], found), Err(error));
    }
    assert_eq!(*replica.head().state(), Ledger::of([5]));
    assert_eq!(follow(&replica, &[6], 2), Ok(2));
}

#[test]
fn following_nothing_changes_nothing() {
    let replica = ledger::engine(8);
    assert_eq!(follow(&replica, &[], 1), Ok(0));
    assert_eq!(follow(&replica, &[1], 1), Ok(1));
}

#[test]
fn an_adopted_state_is_a_snapshot_for_everyone_whatever_its_labels() {
    let replica = ledger::engine(8);
    let mut subscriptions = [replica.subscribe(), replica.subscribe()];
    for subscription in &mut subscriptions {
        take(subscription);
    }
    put(&replica, 1..=5);
    adopt(&replica, 70, 1, 2);
    for subscription in &mut subscriptions {
        let events = take(subscription);
        assert_eq!(events.len(), 6);
        assert_eq!(
            events[5],
            Seen::Snapshot {
                epoch: 1,
                sequence: 2,
                state: Ledger::replaced(70),
                reason: SnapshotReason::Forced,
                missed: 0,
            }
        );
    }
    follow(&replica, &[9], 3).unwrap();
    for subscription in &mut subscriptions {
        let Ok(Event::Update(update)) = subscription.try_next() else {
            panic!("the numbers go on from the adopted ones");
        };
        assert_eq!((update.epoch().get(), update.sequence().get()), (1, 3));
    }
}

#[test]
fn adopting_the_same_labels_again_is_still_a_snapshot() {
    let replica = ledger::engine(8);
    let mut subscription = replica.subscribe();
    take(&mut subscription);
    for value in [1, 2, 3] {
        adopt(&replica, value, 0, 0);
        let events = take(&mut subscription);
        assert!(
            matches!(events[..], [Seen::Snapshot { sequence: 0, state, .. }] if state.sum == value)
        );
    }
    assert_eq!(subscription.stats().forced, 3);
}

#[test]
fn several_adoptions_at_once_are_one_snapshot() {
    let replica = ledger::engine(8);
    let mut subscription = replica.subscribe();
    take(&mut subscription);
    for epoch in 1..=10 {
        adopt(&replica, epoch, epoch, 100 - epoch);
    }
    let events = take(&mut subscription);
    assert!(matches!(
        events[..],
        [Seen::Snapshot {
            epoch: 10,
            sequence: 90,
            reason: SnapshotReason::Forced,
            missed: 0,
            ..
        }]
    ));
    let stats = subscription.stats();
    assert_eq!((stats.forced, stats.dropped, stats.snapshots), (10, 0, 2));
}

#[test]
fn adopting_is_not_bound_by_the_sequence_limit() {
    let replica = ledger::engine(8);
    replica.set_sequence_limit(Sequence::new(5));
    adopt(&replica, 1, 0, 9);
    assert_eq!(replica.head().sequence(), Sequence::new(9));
}

#[test]
fn a_replica_at_the_greatest_sequence_can_only_adopt() {
    let replica = ledger::engine(8);
    adopt(&replica, 1, 0, u64::MAX - 1);
    assert_eq!(
        follow(&replica, &[1, 2], u64::MAX),
        Err(FollowError::Exhausted)
    );
    assert_eq!(follow(&replica, &[1], u64::MAX), Ok(u64::MAX));
    assert_eq!(
        follow(&replica, &[1], u64::MAX),
        Err(FollowError::Exhausted)
    );
    adopt(&replica, 1, 1, 0);
    assert_eq!(follow(&replica, &[1], 1), Ok(1));
}

/// An engine, a subscription, and a second engine that is fed by it: over any number of overflows, the readers of both
/// end with one state.
#[test]
fn a_replica_converges_with_what_it_follows() {
    let original = ledger::engine(4);
    let replica = ledger::engine(4);
    std::thread::scope(|scope| {
        let feed = original.subscribe();
        let mut reader = replica.subscribe();
        scope.spawn(|| {
            // Moved here, so that the replica closes when its feed ends.
            let replica = replica;
            for event in feed {
                match event {
                    Event::Snapshot(snapshot) => replica
                        .adopt(*snapshot.state(), snapshot.epoch(), snapshot.sequence())
                        .map(drop)
                        .unwrap(),
                    Event::Update(update) => replica
                        .follow(vec![*update], update.sequence())
                        .map(drop)
                        .unwrap(),
                    other => panic!("{other:?}"),
                }
            }
        });
        let reader = scope.spawn(move || {
            let mut replay = Replay::across_epochs();
            while let Some(event) = reader.next() {
                replay.take(&event);
            }
            replay.check_end(&reader);
            reader.head()
        });
        for value in 0..5_000 {
            let change = match value % 97 {
                0 => Change::Replace(value),
                1 => Change::PutAll(vec![value; 5]),
                _ => Change::Put(value),
            };
            original.publish(&change).unwrap();
        }
        original.close();
        let head = reader.join().unwrap();
        assert_eq!(head.state().visible(), original.head().state().visible());
        assert_eq!(head.sequence(), original.head().sequence());
    });
}
