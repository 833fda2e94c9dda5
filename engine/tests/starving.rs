//! A publisher whose attempts take long gets through beside one whose attempts do not.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use configstream_engine::{Engine, State, Transition};

/// Counts what was applied.
#[derive(Clone)]
struct Count(u64);

/// One more; what is to happen as it is applied comes first.
type Step = Option<Arc<dyn Fn() + Send + Sync>>;

impl State for Count {
    type Change = Step;
    type Update = ();
    type Rejection = Infallible;

    fn apply(&self, step: &Step) -> Result<Transition<Self>, Infallible> {
        if let Some(happens) = step {
            happens();
        }
        Ok(Transition::new(Self(self.0 + 1), vec![()]))
    }
}

/// The publisher of single changes.
#[derive(Default)]
struct Busy {
    begun: AtomicU64,
    done: AtomicU64,
    over: AtomicBool,
}

impl Busy {
    fn publish(&self, engine: &Engine<Count>) {
        while !self.over.load(Relaxed) {
            self.begun.fetch_add(1, Relaxed);
            engine.publish(&None).unwrap();
            self.done.fetch_add(1, Relaxed);
        }
    }

    /// Waits until it has committed, or is in a publish for so many looks and has not.
    #[allow(clippy::disallowed_methods)] // a deadline
    fn goes_on(&self, looks: u64) {
        let done = self.done.load(Relaxed);
        let deadline = Instant::now() + DEADLINE;
        let mut looked = 0;
        // Two: the first may have been committed before the attempt began.
        while self.done.load(Relaxed) < done + 2 && looked < looks {
            assert!(
                Instant::now() < deadline,
                "the publisher of single changes is stuck"
            );
            looked += u64::from(self.begun.load(Relaxed) > self.done.load(Relaxed));
            thread::yield_now();
        }
    }
}

/// Publishes a batch beside [`Busy`], whose attempts each do what `attempt` does with their number.
/// How many there were.
fn attempts_of_a_batch(size: usize, attempt: impl Fn(u64, &Busy) + Send + Sync + 'static) -> u64 {
    let engine = Engine::builder(Count(0)).build().unwrap();
    let busy = Arc::new(Busy::default());
    let attempts = Arc::new(AtomicU64::new(0));
    let first: Step = {
        let (busy, attempts) = (busy.clone(), attempts.clone());
        Some(Arc::new(move || {
            let nth = attempts.fetch_add(1, Relaxed) + 1;
            if nth > MANY {
                // Without the publisher the batch commits, and the test fails by the count.
                busy.over.store(true, Relaxed);
            } else {
                attempt(nth, &busy);
            }
        }))
    };
    let mut batch = vec![first];
    batch.resize(size, None);
    thread::scope(|scope| {
        scope.spawn(|| busy.publish(&engine));
        let committed = engine.publish_batch(&batch);
        busy.over.store(true, Relaxed);
        assert_eq!(committed.unwrap().updates, size as u64);
    });
    let done = busy.done.load(Relaxed);
    assert_eq!(engine.head().state().0, done + size as u64);
    attempts.load(Relaxed)
}

/// An attempt that goes on for long enough to lose: without a reservation until the other has
/// committed, and with one until that shows that it waits.
fn loses(nth: u64, without_reservation: u64, busy: &Busy) {
    busy.goes_on(if nth <= without_reservation {
        u64::MAX
    } else {
        200
    });
}

#[test]
fn a_large_batch_commits_within_its_bound_of_attempts_beside_a_busy_publisher() {
    // 256 / 257, one with a reservation, and four for machines on which an attempt of these takes
    // longer than 250 ms.
    let attempts = attempts_of_a_batch(256, |nth, busy| loses(nth, 1, busy));
    assert!((2..=6).contains(&attempts), "{attempts} attempts");
}

/// 256 / 5, one with a reservation, and four as above.
#[test]
fn a_small_batch_has_a_bound_too() {
    let attempts = attempts_of_a_batch(4, |nth, busy| loses(nth, 52, busy));
    assert!((53..=57).contains(&attempts), "{attempts} attempts");
}

#[test]
fn a_publisher_that_stops_while_it_holds_a_reservation_blocks_the_others_for_a_while_only() {
    // The first loses; the second holds the reservation until the other has gone on all the same.
    let attempts = attempts_of_a_batch(256, |nth, busy| {
        if nth <= 2 {
            busy.goes_on(u64::MAX);
        }
    });
    assert!((3..=7).contains(&attempts), "{attempts} attempts");
}

/// More attempts than any of these bounds.
const MANY: u64 = 100;

/// How long a test waits for what must happen before it fails.
const DEADLINE: Duration = Duration::from_secs(60);
