//! Publishers that meet: how much gets done, and whether each gets on.

use std::{
    fmt,
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{broadcast, watch};

use crate::{fan_out::CAPACITY, tick};

/// What publishers that meet share.
pub struct Shared {
    /// As it stands in identifiers.
    pub name: &'static str,
    /// Publishes one update.
    pub publish: Box<dyn Fn() + Sync>,
}

/// This engine with nobody subscribed, and the peers if they are built in, of those that take many publishers and let them
/// go on whether or not anybody receives: a channel that is full refuses, and rtrb and bus have one publisher by their types.
///
/// A broadcast has one receiver, which falls behind, since without any a send returns at once.
#[must_use]
pub fn implementations() -> Vec<Shared> {
    let engine = tick::engine(CAPACITY);
    let ours = Shared::of("engine", move || assert!(engine.publish(&1).is_ok()));
    if cfg!(not(feature = "peers")) {
        return vec![ours];
    }
    let (sender, receiver) = broadcast::channel(CAPACITY);
    let broadcast = Shared::of("tokio_broadcast", move || {
        black_box(&receiver);
        assert!(sender.send(Arc::new(1_u64)).is_ok());
    });
    let (sender, receiver) = watch::channel(Arc::new(0));
    let watch = Shared::of("tokio_watch", move || {
        black_box(&receiver);
        sender.send_replace(Arc::new(1_u64));
    });
    vec![
        ours,
        broadcast,
        watch,
        #[cfg(feature = "peers")]
        async_broadcast(),
    ]
}

#[cfg(feature = "peers")]
fn async_broadcast() -> Shared {
    let (mut sender, receiver) = async_broadcast::broadcast(CAPACITY);
    sender.set_overflow(true);
    Shared::of("async_broadcast", move || {
        black_box(&receiver);
        assert!(sender.try_broadcast(Arc::new(1_u64)).is_ok());
    })
}

impl Shared {
    fn of(name: &'static str, publish: impl Fn() + Sync + 'static) -> Self {
        let publish = Box::new(publish);
        Self { name, publish }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

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
