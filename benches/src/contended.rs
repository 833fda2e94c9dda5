//! Publishers that meet: how much gets done, and whether each gets on.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Contest {
    /// From the common start until the first had published its quota.
    pub elapsed: Duration,
    /// How much each had published by then.
    pub published: Vec<u64>,
}

/// So many threads publish at once, until the first has done its quota.
///
/// # Panics
/// When a thread does.
pub fn contend(publishers: usize, quota: u64, publish: impl Fn() + Sync) -> Contest {
    let start = Barrier::new(publishers);
    let over = AtomicBool::new(false);
    let run = || {
        start.wait();
        let started = Instant::now();
        let mut published = 0;
        // Relaxed: a hint to stop.
        while published < quota && !over.load(Ordering::Relaxed) {
            publish();
            published += 1;
        }
        over.store(true, Ordering::Relaxed);
        (started.elapsed(), published)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..publishers).map(|_| scope.spawn(run)).collect();
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().expect("it does not panic"));
        let (elapsed, published): (Vec<_>, _) = ended.unzip();
        Contest {
            elapsed: elapsed.into_iter().max().unwrap_or_default(),
            published,
        }
    })
}

impl Contest {
    /// By all together.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.total() as f64 / self.elapsed.as_secs_f64()
    }

    /// How long so many would have taken.
    #[must_use]
    pub fn time_for(&self, publishes: u64) -> Duration {
        self.elapsed.mul_f64(publishes as f64 / self.total() as f64)
    }

    /// What the slowest did, of what would have been its fair share. 0: it starved.
    #[must_use]
    pub fn least_share(&self) -> f64 {
        let least = self.published.iter().min().copied().unwrap_or(0);
        (least * self.published.len() as u64) as f64 / self.total() as f64
    }

    fn total(&self) -> u64 {
        self.published.iter().sum()
    }
}
