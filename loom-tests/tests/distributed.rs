//! I18: waiting for a commit ends when it is in every ring or left to a snapshot, and it does end.
#![cfg(loom)]

use std::time::Duration;

use configstream_engine::Engine;
use configstream_loom_tests::{Count, Follower, Step::Up, check, engine};
use loom::thread;

/// Publishes so many updates as one version, and waits for them. The sequence of the last.
fn publish_and_wait(engine: &Engine<Count>, updates: usize) -> u64 {
    let committed = engine.publish_batch(&vec![Up; updates]).unwrap();
    // For ever: a model has no clock.
    engine.wait_distributed(&committed, Duration::MAX).unwrap();
    committed.sequence.get()
}

/// Two publish so many updates each, and one of them waits for its own, which the other may
/// distribute.
fn wait_while_another_publishes(capacity: usize, updates: usize) {
    check(move || {
        let engine = engine(capacity);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publisher = engine.clone();
        let publishing = thread::spawn(move || {
            publisher.publish_batch(&vec![Up; updates]).unwrap();
        });
        let sequence = publish_and_wait(&engine, updates);
        let stats = engine.stats();
        assert!(sequence <= stats.distributed && stats.distributed <= stats.published);
        follower.drain();
        assert!(follower.seen.is_some_and(|(_, seen)| sequence <= seen));
        publishing.join().unwrap();
        follower.converge();
    });
}

/// Weakened: V stored or loaded Relaxed: fails, the update is not there. Stored before the rings
/// are served: fails.
#[test]
fn what_was_waited_for_is_in_every_ring() {
    wait_while_another_publishes(4, 1);
}

#[test]
fn what_was_waited_for_and_does_not_fit_is_in_the_snapshot() {
    wait_while_another_publishes(1, 2);
}

/// Weakened: the holder of the role wakes no thread; the role is not marked, or marked before the
/// waker is there: each deadlocks.
#[test]
fn two_that_wait_are_woken() {
    check(|| {
        let engine = engine(4);
        let publisher = engine.clone();
        let waiting = thread::spawn(move || publish_and_wait(&publisher, 1));
        let mut sequences = [publish_and_wait(&engine, 1), waiting.join().unwrap()];
        sequences.sort_unstable();
        assert_eq!(sequences, [1, 2]);
    });
}
