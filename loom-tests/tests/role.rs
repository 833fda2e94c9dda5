//! I5, and the bound of the chain: the role is given back, and nothing stays undistributed.
#![cfg(loom)]

use configstream_loom_tests::{Follower, Step::Up, check, check_with, engine};
use loom::thread;

/// I5. Two publishers meet; when both have returned, the ring has both updates.
///
/// Weakened: the role given back by a plain store; step 9 left out: both fail.
#[test]
fn nothing_committed_stays_undistributed() {
    check(|| {
        let engine = engine(4);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publisher = engine.clone();
        let publishing = thread::spawn(move || {
            publisher.publish(&Up).unwrap();
        });
        engine.publish(&Up).unwrap();
        publishing.join().unwrap();
        follower.converge();
        assert_eq!(follower.updates, 2, "both came as updates");
    });
}

/// I5 with three publishers: one holds the role, two leave. Two preemptions: a third takes minutes.
#[test]
fn nothing_committed_by_those_who_left_stays_undistributed() {
    check_with(2, || {
        let engine = engine(4);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publishing = [(); 2].map(|()| {
            let publisher = engine.clone();
            thread::spawn(move || publisher.publish(&Up).unwrap())
        });
        engine.publish(&Up).unwrap();
        for publishing in publishing {
            publishing.join().unwrap();
        }
        follower.converge();
        assert_eq!(follower.updates, 3);
    });
}

/// A chain longer than four rings is cut by a commit, and everybody gets a snapshot instead.
#[test]
fn a_chain_that_was_cut_means_a_snapshot_for_everyone() {
    check(|| {
        let engine = engine(1);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publisher = engine.clone();
        let publishing = thread::spawn(move || {
            publisher.publish(&Up).unwrap();
        });
        engine.publish_batch(&[Up; 6]).unwrap();
        engine.publish(&Up).unwrap();
        publishing.join().unwrap();
        follower.converge();
        assert!(follower.missed >= 6);
    });
}
