//! One publisher, n subscribers, bursts: the same functions for every implementation.
//!
//! What travels is a counted pointer everywhere, since an update is more than a word. Each peer is used as its own
//! documentation advises for this: a channel or ring per subscriber, or the one shared ring where it has that.

use std::{
    fmt,
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use configstream_engine::{Engine, Subscription};

use crate::{
    floor::Floor,
    tick::{Tick, engine},
};

/// Updates that a subscriber's ring or channel holds.
pub const CAPACITY: usize = 128;

/// Updates in a burst where nothing else is said.
pub const BURST: usize = 64;

/// Numbers of subscribers that fan-out is measured at.
pub const SUBSCRIBERS: [usize; 6] = [0, 1, 8, 64, 512, 4_096];

/// Something that hands bursts of updates to a number of subscribers.
pub trait FanOut: 'static {
    /// As it stands in identifiers.
    const NAME: &'static str;
    /// Publishing is O(1): one ring for all, whose fate they share.
    const SHARED: bool = false;
    /// A receiver gets the newest of a burst, and nothing else.
    const NEWEST_ONLY: bool = false;
    /// The publishing end.
    type Publisher: Publisher;
    /// The end of one subscriber.
    type Receiver: Receiver;

    /// With so many subscribers, each of which has received what was there.
    fn open(subscribers: usize) -> (Self::Publisher, Vec<Self::Receiver>);

    /// One more subscriber comes, takes what it is given at first, and leaves.
    fn come_and_go(publisher: &mut Self::Publisher);
}

/// The end that publishes.
pub trait Publisher: Send + 'static {
    /// Publishes `burst` updates to all, which have room for them.
    fn publish(&mut self, burst: usize);
}

/// The end of one subscriber.
pub trait Receiver: Send + 'static {
    /// Takes all there is; how many it took.
    fn drain(&mut self) -> u64;
}

/// An implementation, whatever its types.
#[derive(Clone, Copy, Debug)]
pub struct Implementation {
    /// As it stands in identifiers.
    pub name: &'static str,
    /// See [`FanOut::SHARED`].
    pub shared: bool,
    /// See [`FanOut::NEWEST_ONLY`].
    pub newest_only: bool,
    /// All in one thread, with so many subscribers.
    pub open: fn(usize) -> Box<dyn Rig>,
    /// How long so many bursts take from one thread to one subscriber in another, which spins.
    pub two_threads: fn(u64) -> Duration,
}

/// One publisher and its subscribers, in one thread.
pub trait Rig: fmt::Debug {
    /// Publishes `burst` updates.
    fn publish(&mut self, burst: usize);

    /// Every subscriber takes all it has.
    ///
    /// # Panics
    /// When they do not get what was published in the last burst.
    fn drain(&mut self, burst: usize);

    /// One more subscriber comes, takes what it is given at first, and leaves.
    fn come_and_go(&mut self);
}

/// This engine, the floor, and the peers if they are built in.
#[must_use]
pub fn implementations() -> Vec<Implementation> {
    vec![
        Implementation::of::<Ours>(),
        Implementation::of::<Floor>(),
        #[cfg(feature = "peers")]
        Implementation::of::<peers::Rtrb>(),
        #[cfg(feature = "peers")]
        Implementation::of::<peers::CrossbeamChannel>(),
        #[cfg(feature = "peers")]
        Implementation::of::<peers::Flume>(),
        #[cfg(feature = "peers")]
        Implementation::of::<peers::TokioBroadcast>(),
        #[cfg(feature = "peers")]
        Implementation::of::<peers::TokioWatch>(),
        #[cfg(feature = "peers")]
        Implementation::of::<peers::AsyncBroadcast>(),
        #[cfg(feature = "peers")]
        Implementation::of::<peers::Bus>(),
    ]
}

impl Implementation {
    fn of<F: FanOut>() -> Self {
        Self {
            name: F::NAME,
            shared: F::SHARED,
            newest_only: F::NEWEST_ONLY,
            open: |subscribers| {
                let (publisher, receivers) = F::open(subscribers);
                Box::new(Ends::<F> {
                    publisher,
                    receivers,
                })
            },
            two_threads: two_threads::<F>,
        }
    }
}

struct Ends<F: FanOut> {
    publisher: F::Publisher,
    receivers: Vec<F::Receiver>,
}

impl<F: FanOut> Rig for Ends<F> {
    fn publish(&mut self, burst: usize) {
        self.publisher.publish(burst);
    }

    fn drain(&mut self, burst: usize) {
        let taken: u64 = self.receivers.iter_mut().map(Receiver::drain).sum();
        let each = if F::NEWEST_ONLY { burst.min(1) } else { burst };
        assert_eq!(taken, (self.receivers.len() * each) as u64, "{}", F::NAME);
    }

    fn come_and_go(&mut self) {
        F::come_and_go(&mut self.publisher);
    }
}

impl<F: FanOut> fmt::Debug for Ends<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} receivers", F::NAME, self.receivers.len())
    }
}

/// The publisher waits while the ring has no room for a burst.
fn two_threads<F: FanOut>(bursts: u64) -> Duration {
    let (mut publisher, mut receivers) = F::open(1);
    let mut receiver = receivers.pop().expect("one subscriber");
    let each = if F::NEWEST_ONLY { 1 } else { BURST as u64 };
    let received = Arc::new(AtomicU64::new(0));
    let receiving = {
        let received = received.clone();
        thread::spawn(move || {
            let mut taken = 0;
            while taken < bursts * each {
                match receiver.drain() {
                    0 => spin_loop(),
                    some => {
                        taken += some;
                        // Release, to the Acquire below: what was taken makes room.
                        received.store(taken, Ordering::Release);
                    }
                }
            }
        })
    };
    let start = Instant::now();
    let room = CAPACITY as u64 / BURST as u64;
    for burst in 0..bursts {
        // What only keeps the newest is given time to show each.
        let ahead = if F::NEWEST_ONLY { 0 } else { room - 1 };
        while received.load(Ordering::Acquire) < burst.saturating_sub(ahead) * each {
            spin_loop();
        }
        publisher.publish(BURST);
    }
    receiving.join().expect("the receiver does not panic");
    start.elapsed()
}

/// This engine, one batch per burst.
#[derive(Debug)]
pub struct Ours;

/// An engine, and the changes of the largest burst.
#[derive(Debug)]
pub struct OurPublisher {
    engine: Engine<Tick>,
    changes: Vec<u64>,
}

impl FanOut for Ours {
    const NAME: &'static str = "engine";
    type Publisher = OurPublisher;
    type Receiver = Subscription<Tick>;

    fn open(subscribers: usize) -> (OurPublisher, Vec<Subscription<Tick>>) {
        let engine = engine(CAPACITY);
        let mut subscriptions: Vec<_> = (0..subscribers).map(|_| engine.subscribe()).collect();
        let mut publisher = OurPublisher {
            engine,
            changes: vec![1; CAPACITY],
        };
        // The first event is a snapshot, and the table takes the joiners in a round.
        for _ in 0..2 {
            subscriptions.iter_mut().for_each(|subscription| {
                subscription.drain();
            });
            publisher.publish(1);
        }
        subscriptions.iter_mut().for_each(|subscription| {
            subscription.drain();
        });
        (publisher, subscriptions)
    }

    fn come_and_go(publisher: &mut OurPublisher) {
        let mut subscription = publisher.engine.subscribe();
        assert!(subscription.try_next().is_ok(), "the first snapshot");
    }
}

impl Publisher for OurPublisher {
    fn publish(&mut self, burst: usize) {
        let committed = match burst {
            1 => self.engine.publish(&1),
            _ => self.engine.publish_batch(&self.changes[..burst]),
        };
        assert!(committed.is_ok());
    }
}

impl Receiver for Subscription<Tick> {
    fn drain(&mut self) -> u64 {
        let mut taken = 0;
        while self.try_next().is_ok() {
            taken += 1;
        }
        taken
    }
}

#[cfg(feature = "peers")]
mod peers;
