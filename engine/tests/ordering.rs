//! What comes, comes in order: a snapshot, then every update after it, each once.

use std::sync::Barrier;

use configstream_engine::{
    BuildError, Engine, Epoch, Event, PublishError, Sequence, SnapshotReason,
};

mod ledger;
use ledger::{Change, Ledger, Refused, Replay, put, snapshot, take, update};

#[test]
fn the_first_event_is_a_snapshot_of_all_that_was_published() {
    let engine = ledger::engine(8);
    put(&engine, [1, 2, 3]);
    let mut subscription = engine.subscribe();
    assert_eq!(
        take(&mut subscription),
        [snapshot(3, Ledger::of([1, 2, 3]), SnapshotReason::First, 0)]
    );
}

#[test]
fn a_subscription_that_reads_late_starts_at_the_head_of_then() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    put(&engine, [1, 2, 3]);
    assert_eq!(
        take(&mut subscription),
        [snapshot(3, Ledger::of([1, 2, 3]), SnapshotReason::First, 0)]
    );
}

#[test]
fn updates_follow_the_snapshot_without_a_gap() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    put(&engine, [7]);
    assert_eq!(take(&mut subscription).len(), 1);
    put(&engine, [8, 9]);
    assert_eq!(take(&mut subscription), [update(2, 8), update(3, 9)]);
    put(&engine, [10]);
    assert_eq!(take(&mut subscription), [update(4, 10)]);
    assert_eq!(take(&mut subscription), []);
}

#[test]
fn the_ring_goes_round_many_times() {
    let engine = ledger::engine(3);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    for lap in 0..1000 {
        let values = [lap, lap + 1, lap + 2];
        put(&engine, values);
        let sequence = lap * 3;
        assert_eq!(
            take(&mut subscription),
            [1, 2, 3].map(|nth| update(sequence + nth, lap + nth - 1))
        );
    }
}

#[test]
fn labels_start_where_the_builder_says() {
    let engine = Engine::builder(Ledger::default())
        .start_at(Epoch::new(4), Sequence::new(70))
        .build()
        .unwrap();
    let mut subscription = engine.subscribe();
    let first = subscription.try_next().unwrap();
    assert_eq!((first.epoch().get(), first.sequence().get()), (4, 70));
    let committed = engine.publish(&Change::Put(1)).unwrap();
    assert_eq!((committed.epoch.get(), committed.sequence.get()), (4, 71));
    let second = subscription.try_next().unwrap();
    assert_eq!((second.epoch().get(), second.sequence().get()), (4, 71));
    assert_eq!(engine.stats().published, 1);
}

#[test]
fn an_unobservable_change_is_in_the_head_and_spends_no_sequence() {
    let engine = ledger::engine(1);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    for touched in 1..=1000 {
        let committed = engine.publish(&Change::Touch).unwrap();
        assert_eq!((committed.sequence.get(), committed.updates), (0, 0));
        assert!(!committed.needs_snapshot);
        assert_eq!(engine.head().state().touched, touched);
    }
    assert_eq!(take(&mut subscription), []);
    put(&engine, [5]);
    assert_eq!(take(&mut subscription), [update(1, 5)]);
}

#[test]
fn a_rejected_change_changes_nothing() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    put(&engine, [1]);
    take(&mut subscription);
    assert_eq!(
        engine.publish(&Change::Refuse),
        Err(PublishError::Rejected(Refused))
    );
    assert_eq!(take(&mut subscription), []);
    assert_eq!(engine.head().sequence(), Sequence::new(1));
    assert_eq!(*engine.head().state(), Ledger::of([1]));
    put(&engine, [2]);
    assert_eq!(take(&mut subscription), [update(2, 2)]);
}

#[test]
fn publishing_tells_what_it_did() {
    let engine = ledger::engine(8);
    let one = engine.publish(&Change::Put(1)).unwrap();
    assert_eq!(
        (one.sequence.get(), one.updates, one.needs_snapshot),
        (1, 1, false)
    );
    let three = engine.publish(&Change::PutAll(vec![1, 2, 3])).unwrap();
    assert_eq!(
        (three.sequence.get(), three.updates, three.needs_snapshot),
        (4, 3, false)
    );
    let forced = engine.publish(&Change::Replace(1)).unwrap();
    assert_eq!(
        (forced.sequence.get(), forced.updates, forced.needs_snapshot),
        (5, 0, true)
    );
}

#[test]
fn a_publish_that_has_returned_is_in_the_head() {
    let engine = ledger::engine(8);
    let subscription = engine.subscribe();
    for nth in 1..=100 {
        let committed = engine.publish(&Change::Put(nth)).unwrap();
        assert_eq!(engine.head().sequence(), committed.sequence);
        assert_eq!(subscription.head().sequence(), committed.sequence);
        assert_eq!(engine.read_head(|head| head.state().sum), (1..=nth).sum());
    }
}

#[test]
fn a_head_that_is_held_stays_what_it_was() {
    let engine = ledger::engine(8);
    put(&engine, [1]);
    let held = engine.head();
    put(&engine, 2..200);
    assert_eq!(held.sequence(), Sequence::new(1));
    assert_eq!(*held.state(), Ledger::of([1]));
}

#[test]
fn publishers_on_several_threads_share_out_the_sequences() {
    const EACH: u64 = 500;
    let engine = ledger::engine(8);
    let start = Barrier::new(4);
    let mut sequences: Vec<u64> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..4)
            .map(|publisher| {
                let (engine, start) = (&engine, &start);
                scope.spawn(move || {
                    start.wait();
                    let spent: Vec<u64> = (0..EACH)
                        .map(|nth| {
                            engine
                                .publish(&Change::Put(publisher * EACH + nth))
                                .unwrap()
                        })
                        .map(|committed| committed.sequence.get())
                        .collect();
                    assert!(
                        spent.is_sorted(),
                        "one publisher's changes keep their order"
                    );
                    spent
                })
            })
            .collect();
        publishers
            .into_iter()
            .flat_map(|publisher| publisher.join().unwrap())
            .collect()
    });
    sequences.sort_unstable();
    assert!(sequences.into_iter().eq(1..=4 * EACH));
    assert_eq!(engine.head().state().sum, (0..4 * EACH).sum());
}

#[test]
fn all_subscriptions_see_one_order() {
    const EACH: u64 = 200;
    let engine = ledger::engine(1024);
    let mut subscriptions: Vec<_> = (0..5).map(|_| engine.subscribe()).collect();
    for subscription in &mut subscriptions {
        take(subscription);
    }
    std::thread::scope(|scope| {
        for publisher in 0..3 {
            let engine = &engine;
            scope.spawn(move || put(engine, publisher * EACH..(publisher + 1) * EACH));
        }
    });
    let first = take(&mut subscriptions[0]);
    assert_eq!(first.len() as u64, 3 * EACH);
    for subscription in &mut subscriptions[1..] {
        assert_eq!(take(subscription), first);
    }
}

#[test]
fn what_was_published_is_distributed_once_all_publishers_have_returned() {
    // Nobody reads meanwhile, so whatever is missing afterwards was left behind by the last publisher to return.
    for _ in 0..200 {
        let engine = ledger::engine(64);
        let mut subscription = engine.subscribe();
        let mut replay = Replay::default();
        replay.take(&subscription.try_next().unwrap());
        let start = Barrier::new(3);
        std::thread::scope(|scope| {
            for publisher in 0..3 {
                let (engine, start) = (&engine, &start);
                scope.spawn(move || {
                    start.wait();
                    put(engine, publisher..publisher + 4);
                });
            }
        });
        while let Ok(event) = subscription.try_next() {
            replay.take(&event);
        }
        assert_eq!((replay.updates, replay.snapshots), (12, 1));
        replay.check_end(&subscription);
    }
}

#[test]
fn an_update_is_shared_by_all_who_receive_it() {
    let engine = ledger::engine(8);
    let (mut one, mut other) = (engine.subscribe(), engine.subscribe());
    take(&mut one);
    take(&mut other);
    put(&engine, [1]);
    let (Ok(Event::Update(here)), Ok(Event::Update(there))) = (one.try_next(), other.try_next())
    else {
        panic!("both have an update");
    };
    assert!(std::ptr::eq(&*here, &*there));
    assert_eq!(
        here.memo().get_or_init(|| String::from("encoded")),
        "encoded"
    );
    assert_eq!(there.memo().get::<String>().unwrap(), "encoded");
    assert!(std::ptr::eq(&*here.clone(), &*here));
}

#[test]
fn the_sequence_limit_refuses_what_would_pass_it_and_nothing_else() {
    let engine = Engine::builder(Ledger::default())
        .sequence_limit(Sequence::new(3))
        .build()
        .unwrap();
    put(&engine, [1, 2]);
    let needed = Sequence::new(4);
    let two = Change::PutAll(vec![3, 4]);
    assert_eq!(
        engine.publish(&two),
        Err(PublishError::SequenceLimit { needed })
    );
    assert_eq!(engine.head().sequence(), Sequence::new(2));
    put(&engine, [3]);
    engine.publish(&Change::Touch).unwrap();
    assert_eq!(
        engine.publish(&Change::Replace(9)),
        Err(PublishError::SequenceLimit { needed })
    );
    assert_eq!(
        engine.publish(&Change::Refuse),
        Err(PublishError::Rejected(Refused))
    );
    engine.set_sequence_limit(needed);
    put(&engine, [4]);
    assert_eq!(*engine.head().state(), Ledger::of([1, 2, 3, 4]).touched(1));
}

#[test]
fn sequences_end_at_the_greatest() {
    let engine = Engine::builder(Ledger::default())
        .start_at(Epoch::default(), Sequence::new(u64::MAX - 1))
        .build()
        .unwrap();
    put(&engine, [1]);
    assert_eq!(engine.head().sequence(), Sequence::MAX);
    assert_eq!(
        engine.publish(&Change::Put(2)),
        Err(PublishError::Exhausted)
    );
    assert_eq!(*engine.head().state(), Ledger::of([1]));
}

#[test]
fn a_reader_of_the_head_may_publish_and_goes_on_seeing_the_one_before() {
    let engine = ledger::engine(4);
    engine.read_head(|head| {
        put(&engine, [1]);
        assert_eq!(head.sequence().get(), 0);
        engine.read_head(|head| assert_eq!(head.sequence().get(), 1));
    });
}

#[test]
fn a_subscription_without_bound_gets_the_largest_ring_there_is() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscription().capacity(usize::MAX).subscribe();
    let largest = Engine::<Ledger>::MAX_RING_CAPACITY;
    assert_eq!(subscription.stats().capacity, largest);
    take(&mut subscription);
    put(&engine, [1, 2]);
    assert_eq!(take(&mut subscription), [update(1, 1), update(2, 2)]);
}

#[test]
fn an_engine_that_could_never_work_is_not_built() {
    let builder = || Engine::builder(Ledger::default());
    let past = builder()
        .start_at(Epoch::default(), Sequence::new(2))
        .sequence_limit(Sequence::new(1))
        .build();
    assert_eq!(past.err(), Some(BuildError::StartPastLimit));
}

/// An engine's default, and what a subscription asks for, go by one rule.
#[test]
fn a_capacity_of_nothing_is_one_and_none_is_above_the_greatest() {
    const MAX: usize = Engine::<Ledger>::MAX_RING_CAPACITY;
    let engine_with = |capacity| {
        let builder = Engine::builder(Ledger::default()).ring_capacity(capacity);
        builder.build().unwrap()
    };
    for (asked, given) in [(0, 1), (1, 1), (MAX, MAX), (usize::MAX, MAX)] {
        let default = engine_with(asked);
        let default = format!("{:?}", default.subscription());
        assert!(
            default.contains(&format!("capacity: {given},")),
            "{default}"
        );
        let own = engine_with(7);
        let own = format!("{:?}", own.subscription().capacity(asked));
        assert!(own.contains(&format!("capacity: {given},")), "{own}");
    }
    let engine = engine_with(0);
    assert_eq!(engine.subscribe().stats().capacity, 1);
    let asked = engine.subscription().capacity(0).subscribe();
    assert_eq!(asked.stats().capacity, 1);
}
