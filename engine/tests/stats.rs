//! Figures for people: exact at rest, and growing only.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use configstream_engine::{Engine, Epoch, Sequence, SubscriptionStats};

mod ledger;
use ledger::{Change, Ledger, accounted, put, take};

#[test]
fn every_update_is_delivered_dropped_or_still_queued() {
    let engine = ledger::engine(2);
    let mut subscription = engine.subscribe();
    put(&engine, [1, 2, 3]);
    take(&mut subscription);
    let first = engine.stats().published;
    for round in 0..50 {
        match round % 7 {
            0 => drop(engine.publish(&Change::Replace(round))),
            1 => drop(engine.publish(&Change::PutAll(vec![1; 5]))),
            2 => drop(engine.publish(&Change::PutAndReplace(vec![1, 2], 3))),
            _ => put(&engine, 0..round % 3),
        }
        if round % 4 == 0 {
            let _ = subscription.try_next();
        }
        let stats = subscription.stats();
        assert_eq!(
            engine.stats().published - first,
            accounted(&stats),
            "{stats:?}"
        );
    }
    take(&mut subscription);
    let stats = subscription.stats();
    assert_eq!((stats.queued, stats.lag), (0, 0));
    assert_eq!(engine.stats().published - first, accounted(&stats));
}

#[test]
fn what_a_stuck_reader_will_miss_is_counted_while_it_is_stuck() {
    let engine = ledger::engine(2);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, 1..=10);
    let stats = subscription.stats();
    assert!(stats.lagging);
    assert_eq!((stats.queued, stats.dropped, stats.lag), (2, 8, 10));
    put(&engine, [11]);
    assert_eq!(subscription.stats().dropped, 9);
    take(&mut subscription);
    let stats = subscription.stats();
    assert!(!stats.lagging);
    assert_eq!((stats.queued, stats.dropped, stats.lag), (0, 9, 0));
    assert_eq!((stats.delivered, stats.snapshots), (2, 2));
}

#[test]
fn dropped_never_counts_down() {
    let engine = ledger::engine(2);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    let mut before = subscription.stats();
    let mut check = |now: SubscriptionStats| {
        assert!(now.dropped >= before.dropped, "{before:?}, then {now:?}");
        assert!(now.forced >= before.forced, "{before:?}, then {now:?}");
        before = now;
    };
    for value in 0..20 {
        engine.publish(&Change::Replace(value)).unwrap();
        check(subscription.stats());
        put(&engine, 0..value % 4);
        check(subscription.stats());
        take(&mut subscription);
        check(subscription.stats());
    }
    assert_eq!(before.forced, 20);
}

#[test]
fn no_counter_falls_while_another_thread_reads_it() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    let observer = subscription.observer();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for round in 0..20_000 {
                put(&engine, [1]);
                engine.publish(&Change::PutAll(vec![1; 3])).unwrap();
                engine.publish(&Change::PutAll(vec![1; 3])).unwrap();
                if round % 5 == 0 {
                    engine.publish(&Change::Replace(round)).unwrap();
                }
                take(&mut subscription);
            }
            over.store(true, Ordering::Relaxed);
        });
        let mut before = observer.stats();
        while !over.load(Ordering::Relaxed) {
            let now = observer.stats();
            let counters = |stats: &SubscriptionStats| {
                [
                    stats.delivered,
                    stats.dropped,
                    stats.forced,
                    stats.snapshots,
                ]
            };
            let grown = std::iter::zip(counters(&before), counters(&now));
            assert!(
                { grown }.all(|(before, now)| before <= now),
                "{before:?}, then {now:?}"
            );
            before = now;
        }
        reader.join().unwrap();
    });
    assert_eq!(engine.stats().published, accounted(&observer.stats()));
}

#[test]
fn a_subscription_that_has_not_begun_lags_behind_nothing() {
    let engine = ledger::engine(2);
    let subscription = engine.subscribe();
    put(&engine, 1..=10);
    let stats = subscription.stats();
    assert_eq!(stats.sequence, None);
    assert_eq!(
        (stats.delivered, stats.dropped, stats.snapshots, stats.lag),
        (0, 0, 0, 0)
    );
}

#[test]
fn the_engine_counts_what_it_did() {
    let engine = Engine::builder(Ledger::default())
        .ring_capacity(2)
        .start_at(Epoch::new(3), Sequence::new(100))
        .build()
        .unwrap();
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    put(&engine, 1..=2);
    engine.publish(&Change::Touch).unwrap();
    put(&engine, 3..=5);
    let stats = engine.stats();
    assert_eq!(
        (stats.epoch.get(), stats.sequence.get(), stats.published),
        (3, 105, 5)
    );
    // Two more rounds found it lagging already, and an unobservable change is no round.
    assert_eq!(
        (stats.subscriptions, stats.overflows, stats.rounds),
        (1, 1, 5)
    );
    engine.publish(&Change::Replace(1)).unwrap();
    let stats = engine.stats();
    assert_eq!((stats.published, stats.overflows), (6, 1));
}

#[test]
fn subscriptions_are_listed_in_the_order_of_subscribing() {
    let engine = ledger::engine(8);
    let first = engine.subscription().name("first").capacity(3).subscribe();
    let second = engine.subscribe();
    let third = engine.subscription().name("third").subscribe();
    let listing = |engine: &Engine<Ledger>| -> Vec<(Option<String>, usize)> {
        let stats = engine.subscriptions();
        assert!(stats.iter().map(|one| one.id).is_sorted_by(|a, b| a < b));
        stats
            .iter()
            .map(|one| (one.name.as_deref().map(String::from), one.capacity))
            .collect()
    };
    let named = |name: &str, capacity| (Some(String::from(name)), capacity);
    assert_eq!(
        listing(&engine),
        [named("first", 3), (None, 8), named("third", 8)]
    );
    assert_eq!(engine.stats().subscriptions, 3);
    drop(second);
    assert_eq!(listing(&engine), [named("first", 3), named("third", 8)]);
    let fourth = engine.subscribe();
    assert_eq!(
        listing(&engine),
        [named("first", 3), named("third", 8), (None, 8)]
    );
    assert_eq!(engine.subscriptions()[0], first.stats());
    drop((first, third, fourth));
    assert_eq!(listing(&engine), []);
    assert_eq!(engine.stats().subscriptions, 0);
}

#[test]
fn an_observer_outlives_the_subscription_and_does_not_keep_it() {
    let engine = ledger::engine(8);
    let mut subscription = engine.subscribe();
    let observer = subscription.observer();
    take(&mut subscription);
    put(&engine, [1]);
    take(&mut subscription);
    assert_eq!(observer.stats(), subscription.stats());
    drop(subscription);
    assert_eq!(engine.stats().subscriptions, 0);
    assert_eq!(engine.subscriptions(), []);
    assert_eq!(observer.clone().stats().delivered, 1);
    assert_eq!(observer.stats().sequence, Some(Sequence::new(1)));
}
