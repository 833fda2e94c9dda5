//! Closing is a commit: all that preceded is delivered, then the end, and nothing is accepted any more.

use std::{sync::mpsc, thread};

use configstream_engine::{
    Closed, Epoch, Event, FollowError, PublishError, Sequence, SnapshotReason, TryNextError,
};

mod ledger;
use ledger::{Change, Ledger, Replay, drain, put, snapshot, take, update};

#[test]
fn all_that_preceded_comes_and_then_the_end() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, [1, 2]);
    engine.close();
    assert_eq!(
        drain(&mut subscription),
        (vec![update(1, 1), update(2, 2)], TryNextError::Closed)
    );
    assert_eq!(subscription.try_next().err(), Some(TryNextError::Closed));
    assert!(subscription.next().is_none());
}

#[test]
fn one_that_lags_gets_its_snapshot_before_the_end() {
    let engine = ledger::engine(1);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, [1, 2, 3]);
    engine.close();
    let events = vec![
        update(1, 1),
        snapshot(3, Ledger::of([1, 2, 3]), SnapshotReason::Lagged, 2),
    ];
    assert_eq!(drain(&mut subscription), (events, TryNextError::Closed));
}

#[test]
fn whoever_comes_late_gets_the_last_state() {
    let engine = ledger::engine(8);
    put(&engine, [1]);
    engine.close();
    let mut subscription = engine.subscribe();
    let events = vec![snapshot(1, Ledger::of([1]), SnapshotReason::First, 0)];
    assert_eq!(drain(&mut subscription), (events, TryNextError::Closed));
}

#[test]
fn one_that_never_read_gets_the_last_state() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    put(&engine, [1]);
    drop(engine);
    let events = vec![snapshot(1, Ledger::of([1]), SnapshotReason::First, 0)];
    assert_eq!(drain(&mut subscription), (events, TryNextError::Closed));
}

#[test]
fn a_closed_engine_accepts_nothing() {
    let engine = ledger::engine(8);
    put(&engine, [1]);
    engine.close();
    assert!(engine.is_closed());
    assert_eq!(engine.publish(&Change::Put(2)), Err(PublishError::Closed));
    assert_eq!(engine.publish(&Change::Refuse), Err(PublishError::Closed));
    assert_eq!(engine.publish_batch(&[]), Err(PublishError::Closed));
    assert_eq!(
        engine.follow(vec![2], Sequence::new(2)),
        Err(FollowError::Closed)
    );
    assert_eq!(
        engine.adopt(Ledger::default(), Epoch::new(1), Sequence::new(0)),
        Err(Closed)
    );
    assert_eq!(*engine.head().state(), Ledger::of([1]));
    assert_eq!(engine.head().sequence(), Sequence::new(1));
}

#[test]
fn closing_again_does_nothing() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    engine.close();
    let head = engine.head();
    engine.close();
    assert!(std::ptr::eq(&*head, &*engine.head()));
    assert_eq!(drain(&mut subscription).0.len(), 1);
    engine.close();
    assert_eq!(drain(&mut subscription), (vec![], TryNextError::Closed));
}

#[test]
fn the_last_handle_closes_and_no_other() {
    let engine = ledger::engine(8);
    let other = engine.clone();
    let mut subscription = engine.subscribe();
    let observer = subscription.observer();
    drop(engine);
    assert_eq!(take(&mut subscription).len(), 1);
    put(&other, [1]);
    drop(other);
    assert_eq!(
        drain(&mut subscription),
        (vec![update(1, 1)], TryNextError::Closed)
    );
    // Neither a subscription nor an observer keeps an engine open; both can still look.
    assert!(subscription.head().is_closed());
    assert_eq!(observer.stats().delivered, 1);
}

#[test]
fn closing_ends_all_who_wait() {
    let engine = ledger::engine(8);
    thread::scope(|scope| {
        let (ready, started) = mpsc::channel();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut subscription = engine.subscribe();
                let ready = ready.clone();
                scope.spawn(move || {
                    assert!(subscription.next().is_some());
                    ready.send(()).unwrap();
                    subscription.next().is_none()
                })
            })
            .collect();
        for _ in &readers {
            started.recv_timeout(ledger::DEADLINE).unwrap();
        }
        engine.close();
        for reader in readers {
            assert!(reader.join().unwrap());
        }
    });
}

#[test]
fn dropping_the_last_handle_ends_all_who_wait() {
    let engine = ledger::engine(8);
    thread::scope(|scope| {
        let subscription = engine.subscribe();
        let reader = scope.spawn(move || subscription.count());
        drop(engine);
        assert_eq!(reader.join().unwrap(), 1);
    });
}

#[test]
fn what_was_accepted_before_a_close_elsewhere_is_delivered() {
    for _ in 0..100 {
        let engine = ledger::engine(4);
        thread::scope(|scope| {
            let reader = {
                let mut subscription = engine.subscribe();
                scope.spawn(move || {
                    let mut replay = Replay::default();
                    while let Some(event) = subscription.next() {
                        replay.take(&event);
                    }
                    replay.check_end(&subscription);
                    replay.sequence().unwrap()
                })
            };
            let publishers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let accepted = |&nth: &u64| engine.publish(&Change::Put(nth)).is_ok();
                        (0..).take_while(accepted).count() as u64
                    })
                })
                .collect();
            scope.spawn(|| {
                while engine.head().sequence() < Sequence::new(20) {
                    thread::yield_now();
                }
                engine.close();
            });
            let accepted: u64 = publishers.into_iter().map(|it| it.join().unwrap()).sum();
            assert_eq!(reader.join().unwrap(), accepted);
            assert_eq!(engine.head().sequence().get(), accepted);
        });
    }
}

#[test]
fn a_subscription_outlives_its_engine() {
    let mut subscription = {
        let engine = ledger::engine(2);
        let mut subscription = engine.subscribe();
        take(&mut subscription);
        put(&engine, 1..=3);
        subscription
    };
    assert!(matches!(subscription.next(), Some(Event::Update(_))));
    assert_eq!(*subscription.head().state(), Ledger::of(1..=3));
    assert_eq!(subscription.count(), 2);
}
