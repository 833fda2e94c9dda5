//! One publisher, n subscribers, bursts: the same two functions for every implementation.

use std::sync::Arc;

use configstream_engine::{Engine, Subscription};

use crate::tick::{Tick, engine};

/// Updates that a subscriber's ring or channel holds.
pub const CAPACITY: usize = 128;

/// Something that hands bursts of updates to a number of subscribers.
pub trait FanOut: Sized {
    /// As it stands in identifiers.
    const NAME: &'static str;

    /// With so many subscribers, each of which has received what was there.
    fn new(subscribers: usize) -> Self;

    /// Publishes `burst` updates to all.
    fn publish(&mut self, burst: usize);

    /// Every subscriber takes all it has; the number of updates taken.
    fn drain(&mut self) -> u64;
}

/// This engine, one batch per burst.
#[derive(Debug)]
pub struct Ours {
    engine: Engine<Tick>,
    subscriptions: Vec<Subscription<Tick>>,
    changes: Vec<u64>,
}

impl FanOut for Ours {
    const NAME: &'static str = "engine";

    fn new(subscribers: usize) -> Self {
        let engine = engine(CAPACITY);
        let subscriptions = (0..subscribers).map(|_| engine.subscribe()).collect();
        let mut ours = Self {
            engine,
            subscriptions,
            changes: vec![1; CAPACITY],
        };
        ours.drain();
        // The table takes the joiners in a round.
        ours.publish(1);
        ours.drain();
        ours
    }

    fn publish(&mut self, burst: usize) {
        let committed = self.engine.publish_batch(&self.changes[..burst]);
        assert!(committed.is_ok());
    }

    fn drain(&mut self) -> u64 {
        let mut taken = 0;
        for subscription in &mut self.subscriptions {
            while subscription.try_next().is_ok() {
                taken += 1;
            }
        }
        taken
    }
}

/// One bounded crossbeam channel for each subscriber, and a counted pointer through it.
#[derive(Debug)]
pub struct CrossbeamChannel {
    senders: Vec<crossbeam_channel::Sender<Arc<u64>>>,
    receivers: Vec<crossbeam_channel::Receiver<Arc<u64>>>,
}

impl FanOut for CrossbeamChannel {
    const NAME: &'static str = "crossbeam_channel";

    fn new(subscribers: usize) -> Self {
        let (senders, receivers) = (0..subscribers)
            .map(|_| crossbeam_channel::bounded(CAPACITY))
            .unzip();
        Self { senders, receivers }
    }

    fn publish(&mut self, burst: usize) {
        for tick in 0..burst {
            let update = Arc::new(tick as u64);
            for sender in &self.senders {
                assert!(sender.try_send(update.clone()).is_ok());
            }
        }
    }

    fn drain(&mut self) -> u64 {
        self.receivers
            .iter()
            .map(|receiver| receiver.try_iter().count() as u64)
            .sum()
    }
}

/// One rtrb ring for each subscriber, and a counted pointer through it.
#[cfg(feature = "peers")]
#[derive(Debug)]
pub struct Rtrb {
    producers: Vec<rtrb::Producer<Arc<u64>>>,
    consumers: Vec<rtrb::Consumer<Arc<u64>>>,
}

#[cfg(feature = "peers")]
impl FanOut for Rtrb {
    const NAME: &'static str = "rtrb";

    fn new(subscribers: usize) -> Self {
        let (producers, consumers) = (0..subscribers)
            .map(|_| rtrb::RingBuffer::new(CAPACITY))
            .unzip();
        Self {
            producers,
            consumers,
        }
    }

    fn publish(&mut self, burst: usize) {
        for tick in 0..burst {
            let update = Arc::new(tick as u64);
            for producer in &mut self.producers {
                assert!(producer.push(update.clone()).is_ok());
            }
        }
    }

    fn drain(&mut self) -> u64 {
        let mut taken = 0;
        for consumer in &mut self.consumers {
            while consumer.pop().is_ok() {
                taken += 1;
            }
        }
        taken
    }
}

/// tokio's broadcast: one ring for all. Publishing is O(1) there, and receivers share its fate.
#[cfg(feature = "peers")]
#[derive(Debug)]
pub struct TokioBroadcast {
    sender: tokio::sync::broadcast::Sender<Arc<u64>>,
    receivers: Vec<tokio::sync::broadcast::Receiver<Arc<u64>>>,
}

#[cfg(feature = "peers")]
impl FanOut for TokioBroadcast {
    const NAME: &'static str = "tokio_broadcast";

    fn new(subscribers: usize) -> Self {
        let sender = tokio::sync::broadcast::Sender::new(CAPACITY);
        let receivers = (0..subscribers).map(|_| sender.subscribe()).collect();
        Self { sender, receivers }
    }

    fn publish(&mut self, burst: usize) {
        for tick in 0..burst {
            // An error says that nobody listens.
            let _ = self.sender.send(Arc::new(tick as u64));
        }
    }

    fn drain(&mut self) -> u64 {
        let mut taken = 0;
        for receiver in &mut self.receivers {
            while receiver.try_recv().is_ok() {
                taken += 1;
            }
        }
        taken
    }
}
