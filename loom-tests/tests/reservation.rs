//! A publisher that has lost an attempt worth the bound reserves the head: it needs no third one,
//! and leaves no other asleep.
#![cfg(loom)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use configstream_engine::{Engine, State, Transition};
use configstream_loom_tests::check_with;
use loom::thread;

/// A count whose batches say how often they were applied.
#[derive(Clone)]
struct Counted(u64);

#[derive(Clone)]
enum Step {
    Up,
    /// Adds one to the attempts, and nothing to the count; refused from this attempt on.
    Attempt(Arc<AtomicUsize>, usize),
}

impl State for Counted {
    type Change = Step;
    type Update = u64;
    type Rejection = ();

    fn apply(&self, step: &Step) -> Result<Transition<Self>, ()> {
        match step {
            Step::Up => Ok(Transition::new(Self(self.0 + 1), vec![self.0 + 1])),
            Step::Attempt(attempts, last) if attempts.fetch_add(1, Relaxed) + 1 >= *last => Err(()),
            Step::Attempt(..) => Ok(Transition::unobservable(self.clone())),
        }
    }
}

/// A batch large enough to reserve after one loss, against single changes. How often it was
/// attempted, and what came of it.
fn batch_against_singles(refused_from: usize) {
    check_with(2, move || {
        let engine = Engine::builder(Counted(0))
            .ring_capacity(16)
            .build()
            .unwrap();
        let publisher = engine.clone();
        let publishing = thread::spawn(move || {
            publisher.publish(&Step::Up).map(drop).unwrap();
            publisher.publish(&Step::Up).map(drop).unwrap();
        });
        let attempts = Arc::new(AtomicUsize::new(0));
        let mut batch = vec![Step::Attempt(attempts.clone(), refused_from)];
        batch.extend(vec![Step::Up; 8]);
        let committed = engine.publish_batch(&batch).is_ok();
        publishing.join().unwrap();
        assert!(
            attempts.load(Relaxed) <= 2,
            "others wait for the second attempt"
        );
        assert_eq!(committed, attempts.load(Relaxed) < refused_from);
        let count = if committed { 10 } else { 2 };
        assert_eq!(engine.head().sequence().get(), count);
        assert_eq!(engine.head().state().0, count);
        assert_eq!(engine.stats().distributed, count);
    });
}

/// Weakened: the end wakes no publisher; `over` read before the waker is there, or stored after the
/// take: each deadlocks. Others do not wait: fails, the batch is attempted again.
#[test]
fn a_batch_that_lost_once_commits_and_wakes_those_that_wait() {
    batch_against_singles(usize::MAX);
}

/// Weakened: one that is refused does not end its reservation: deadlocks.
#[test]
fn a_batch_that_is_refused_at_its_second_attempt_wakes_those_that_wait() {
    batch_against_singles(2);
}
