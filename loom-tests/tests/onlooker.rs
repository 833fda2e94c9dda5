//! I4 as others see it: the figures of a subscription that moves never fall, and never run ahead of what will be.
#![cfg(loom)]

use configstream_engine::model::never_waits;
use configstream_loom_tests::{
    Follower,
    Step::{Jump, Up},
    check, engine,
};
use loom::thread;

/// Somebody reads the figures twice while a round overflows and the subscription takes its snapshot.
///
/// The figures are read without waiting, wherever the subscription has stopped.
///
/// Weakened: fence O removed; `filled` not stored; what was told before left out; an account that
/// has begun waited for: each fails.
#[test]
fn dropped_never_falls_and_never_says_too_much() {
    check(|| {
        let engine = engine(1);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        engine.publish_batch(&[Up, Up]).unwrap();
        let observer = follower.subscription.observer();
        let looking = thread::spawn(move || {
            let before = never_waits(|| observer.stats());
            let after = never_waits(|| observer.stats());
            assert!(
                before.dropped <= after.dropped,
                "{before:?}, then {after:?}"
            );
            assert!(before.forced <= after.forced, "{before:?}, then {after:?}");
            after
        });
        let publishing = thread::spawn(move || {
            engine.publish(&Up).unwrap();
            engine
        });
        follower.step();
        let _engine = publishing.join().unwrap();
        let looked = looking.join().unwrap();
        follower.converge();
        assert!(looked.dropped <= follower.missed, "{looked:?}");
        assert!(looked.delivered <= follower.updates, "{looked:?}");
    });
}

/// The same with a version that no update leads to, and a missed update beside it: the account of one snapshot is seen
/// whole.
#[test]
fn the_account_of_a_snapshot_is_seen_whole() {
    check(|| {
        let engine = engine(1);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        engine.publish_batch(&[Up, Up]).unwrap();
        engine.publish(&Jump).unwrap();
        let observer = follower.subscription.observer();
        let looking = thread::spawn(move || {
            let stats = observer.stats();
            // Nothing, between the clearing of lagging and the account, to one who is told for the first time.
            let seen = (stats.dropped, stats.forced);
            assert!(seen == (2, 1) || seen == (0, 0), "{stats:?}");
        });
        follower.step();
        looking.join().unwrap();
        follower.converge();
    });
}

/// Two snapshots while the figures are read once: the second writes the book that was the newest
/// before the first.
///
/// Weakened: S's fence of the onlooker removed; read only once: each fails. That of the consumer
/// cannot be shown: the fence F2 before each snapshot does its work, too.
#[test]
fn two_snapshots_accounts_are_not_mixed() {
    check(|| {
        let engine = engine(1);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        engine.publish(&Jump).unwrap();
        engine.publish_batch(&[Up, Up]).unwrap();
        let observer = follower.subscription.observer();
        let looking = thread::spawn(move || {
            let stats = never_waits(|| observer.stats());
            assert!(stats.forced > 0 || stats.dropped == 0, "{stats:?}");
            (stats.dropped, stats.forced)
        });
        follower.step();
        engine.publish(&Jump).unwrap();
        engine.publish_batch(&[Up, Up]).unwrap();
        follower.step();
        let (dropped, forced) = looking.join().unwrap();
        assert!(dropped <= 4 && forced <= 2);
        follower.converge();
    });
}
