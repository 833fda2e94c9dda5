//! I17: a reader that has stopped, at any instruction, delays no publisher.
//!
//! Each model explores where the reader can be, and fails when a publisher takes a lock, parks, or
//! tries again in a loop, whether or not the reader is in its way just then: `model::never_waits`.
//! What is left of a publish is steps of its own, so it ends wherever the reader has stopped.
#![cfg(loom)]

use std::ops::ControlFlow::Continue;

use configstream_engine::{WaitSet, model::never_waits};
use configstream_loom_tests::{
    Follower,
    Step::{Jump, Up},
    check, engine, wait_at,
};
use loom::thread;

/// The reader polls, stores its waker, parks and is woken, by updates and by being set lagging.
///
/// Weakened: a lock around the look for a wake and the park; the slot's lock waited for: each
/// fails.
#[test]
fn a_reader_that_blocks_delays_no_publisher() {
    check(|| {
        let engine = engine(1);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publishing = thread::spawn(move || {
            never_waits(|| engine.publish(&Up)).unwrap();
            never_waits(|| engine.publish(&Jump)).unwrap();
            engine
        });
        follower.run_until(2);
        let _engine = publishing.join().unwrap();
    });
}

/// The reader blocks with a deadline, which in a model has always passed, and leaves.
#[test]
fn a_reader_that_gives_up_and_leaves_delays_no_publisher() {
    check(|| {
        let engine = engine(1);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publishing = thread::spawn(move || {
            never_waits(|| engine.publish(&Up)).unwrap();
            engine
        });
        let _ = follower
            .subscription
            .next_timeout(std::time::Duration::MAX / 2);
        let _ = follower
            .subscription
            .next_timeout(std::time::Duration::ZERO);
        drop(follower);
        let _engine = publishing.join().unwrap();
    });
}

/// The publishers of two engines meet the reader, and each other, at the slot of one set.
#[test]
fn a_reader_at_a_set_delays_no_publisher_of_any_engine() {
    check(|| {
        let engines = [engine(1), engine(1)];
        let set = WaitSet::new();
        let mut followers = engines.each_ref().map(|engine| {
            let mut follower = Follower::new(engine.subscription().wait_set(&set).subscribe());
            follower.step();
            follower
        });
        let publishing = engines.map(|engine| {
            thread::spawn(move || {
                never_waits(|| engine.publish(&Up)).unwrap();
                engine
            })
        });
        wait_at(&set, || {
            followers.iter_mut().for_each(Follower::drain);
            followers.iter().all(|follower| follower.updates == 1)
        });
        set.disarm();
        let _engines = publishing.map(|thread| thread.join().unwrap());
    });
}

/// The readers of one subscription take its lock; a publisher has nothing to do with it.
#[test]
fn a_reader_with_the_lock_of_a_shared_subscription_delays_no_publisher() {
    check(|| {
        let engine = engine(1);
        let shared = engine.subscription().share();
        let mut readers = ["one", "two"].map(|name| shared.reader(name));
        let publishing = thread::spawn(move || {
            never_waits(|| engine.publish(&Up)).unwrap();
            engine
        });
        for reader in &mut readers {
            let _ = reader.read(|_| Continue::<()>(()));
        }
        drop(readers);
        let _engine = publishing.join().unwrap();
    });
}
