//! Other people's channels and rings, each used as its own documentation says.
//!
//! What was checked, twice, against the documentation and the source of the versions in Cargo.lock:
//!
//! | peer | what its documentation advises | what is done here |
//! | --- | --- | --- |
//! | rtrb 0.3.6 | many items at once: `write_chunk_uninit` with `fill_from_iter`, and `read_chunk` as an iterator (`rtrb::chunks`; the functions on slices want `Copy`); one by one: `push`, `pop`; who waits can only ask again | a burst is one chunk in and one chunk out; a single update is pushed; whoever waits for it spins |
//! | crossbeam-channel 0.5.17 | `bounded` for a fixed capacity, which is its array of slots without locks, exactly as large as asked; `try_send` and `try_recv` (or `try_iter`, which is the same) where nobody waits, `recv` or `iter` where somebody does, which spins before it sleeps; there are no batches | so |
//! | flume 0.12 | as crossbeam-channel; `drain` takes all that is there under one lock, and its storage with it, so that the next sends grow a new one; its features add `select` and `async`, and `spin`, which "may be more performant on a small number of platforms" | `bounded`, `try_send`, `try_recv`, `iter` where somebody waits; no feature: the first two do not change the path of a send, and with two cores a spinning thread waits for an owner that was preempted |
//! | tokio broadcast 1.54 | values are cloned for each receiver, so `Arc` where that is dear; `Sender::subscribe`; a capacity that lagging receivers do not reach (it is rounded up to a power of two: 128 and 1,024 are ones); `Lagged` says what was lost, and the next call goes on | `Arc`, and bursts of at most 100 of 128; `try_recv`, since nobody waits here; who waits does it by `recv` in a loop of one future, and goes on after `Lagged`: `parked.rs`, `latency.rs` |
//! | … its feature `parking_lot` | "a potential optimization" of tokio's locks, off by default | left off: a lock that nobody contends for, which is the case in all but `contended`, costs the same either way (5 ns) |
//! | tokio watch 1.54 | for the newest value alone; `borrow_and_update`, held shortly; `send_replace` whether or not anybody listens | so; what it skips by design is not held against it, nor counted as delivered |
//! | async-broadcast 0.7.2 | `try_broadcast` and `try_recv` outside of a task; `recv_direct` inside of one, which saves the allocation of `recv`; a full channel refuses, unless `set_overflow` lets the oldest go; new receivers from the sender, which start at the next message; a channel without receivers is closed, unless an inactive one is kept | so, with overflow where somebody stalls or nobody reads; measured with nobody subscribed it refuses at once, which is why we subtract T(1) |
//! | bus 2.4.1 | "performance degrades somewhat when the queue is full", so set it high (one place more is kept free); `Arc` where cloning is dear; the last reader gets the value moved; `try_broadcast` where the writer must not block; readers that left are looked at when it is full | capacity 128 for bursts of at most 100, `Arc`, `try_broadcast`, `try_recv`; not in `subscribe`, where nothing would ever look at who left |
//!
//! A burst is made once, and then handed to one channel after the other, so that a channel's lines are fetched once for the whole of
//! it. The last channel gets the updates themselves, so that no count is raised for nothing. What
//! none of them offers is raising the count of a shared update once for all its receivers: that is the floor's and ours.

use std::{hint::black_box, sync::Arc};

use super::{CAPACITY, FanOut, Publisher, Receiver};

/// The sending ends of all channels, and the updates of a burst.
pub(super) struct Senders<S> {
    senders: Vec<S>,
    burst: Vec<Arc<u64>>,
}

/// Declares a peer with one bounded channel for each subscriber.
macro_rules! per_subscriber {
    ($name:ident, $text:literal, $sender:ty, $receiver:ty, $open:expr, $push:ident) => {
        pub(super) struct $name;

        impl FanOut for $name {
            const NAME: &'static str = $text;
            type Publisher = Senders<$sender>;
            type Receiver = $receiver;

            fn open(subscribers: usize) -> (Self::Publisher, Vec<Self::Receiver>) {
                let (senders, receivers) = (0..subscribers).map(|_| $open).unzip();
                let burst = Vec::with_capacity(CAPACITY);
                (Senders { senders, burst }, receivers)
            }

            fn come_and_go(publisher: &mut Self::Publisher) {
                let (sender, receiver) = $open;
                publisher.senders.push(sender);
                drop(black_box(receiver));
                publisher.senders.pop();
            }
        }

        impl Publisher for Senders<$sender> {
            fn publish(&mut self, burst: usize) {
                self.burst
                    .extend((0..burst).map(|tick| Arc::new(tick as u64)));
                if let Some((last, others)) = self.senders.split_last_mut() {
                    for sender in others {
                        for update in &self.burst {
                            assert!(sender.$push(update.clone()).is_ok(), $text);
                        }
                    }
                    for update in self.burst.drain(..) {
                        assert!(last.$push(update).is_ok(), $text);
                    }
                }
                self.burst.clear();
            }
        }
    };
}

macro_rules! drain {
    ($receiver:ty) => {
        impl Receiver for $receiver {
            fn drain(&mut self) -> u64 {
                let mut taken = 0;
                while self.try_recv().is_ok() {
                    taken += 1;
                }
                taken
            }
        }
    };
}

/// Declares a peer with one ring for all.
macro_rules! shared {
    ($name:ident, $text:literal, $sender:ty, $receiver:ty, $open:expr, $subscribe:expr, $push:ident) => {
        pub(super) struct $name;

        impl FanOut for $name {
            const NAME: &'static str = $text;
            const SHARED: bool = true;
            type Publisher = $sender;
            type Receiver = $receiver;

            fn open(subscribers: usize) -> (Self::Publisher, Vec<Self::Receiver>) {
                #[allow(unused_mut)] // not every one needs it
                let (mut sender, _open_meanwhile) = $open;
                let receivers = (0..subscribers).map(|_| $subscribe(&mut sender)).collect();
                (sender, receivers)
            }

            fn come_and_go(publisher: &mut Self::Publisher) {
                drop(black_box($subscribe(publisher)));
            }
        }

        impl Publisher for $sender {
            fn publish(&mut self, burst: usize) {
                for tick in 0..burst {
                    // An error says that nobody listens; that nothing was lost is checked where it is received.
                    let _ = self.$push(Arc::new(tick as u64));
                }
            }
        }

        drain!($receiver);
    };
}

per_subscriber!(
    CrossbeamChannel,
    "crossbeam_channel",
    crossbeam_channel::Sender<Arc<u64>>,
    crossbeam_channel::Receiver<Arc<u64>>,
    crossbeam_channel::bounded(CAPACITY),
    try_send
);
drain!(crossbeam_channel::Receiver<Arc<u64>>);

per_subscriber!(
    Flume,
    "flume",
    flume::Sender<Arc<u64>>,
    flume::Receiver<Arc<u64>>,
    flume::bounded(CAPACITY),
    try_send
);
drain!(flume::Receiver<Arc<u64>>);

pub(super) struct Rtrb;

/// The writing ends of all rings, and the updates of a burst.
pub(super) struct RtrbProducers {
    producers: Vec<rtrb::Producer<Arc<u64>>>,
    burst: Vec<Arc<u64>>,
}

impl FanOut for Rtrb {
    const NAME: &'static str = "rtrb";
    type Publisher = RtrbProducers;
    type Receiver = rtrb::Consumer<Arc<u64>>;

    fn open(subscribers: usize) -> (RtrbProducers, Vec<Self::Receiver>) {
        let rings = (0..subscribers).map(|_| rtrb::RingBuffer::new(CAPACITY));
        let (producers, consumers) = rings.unzip();
        let burst = Vec::with_capacity(CAPACITY);
        (RtrbProducers { producers, burst }, consumers)
    }

    fn come_and_go(publisher: &mut RtrbProducers) {
        let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
        publisher.producers.push(producer);
        drop(black_box(consumer));
        publisher.producers.pop();
    }
}

impl Publisher for RtrbProducers {
    fn publish(&mut self, burst: usize) {
        self.burst
            .extend((0..burst).map(|tick| Arc::new(tick as u64)));
        if let Some((last, others)) = self.producers.split_last_mut() {
            for producer in others {
                push_all(producer, burst, self.burst.iter().cloned());
            }
            push_all(last, burst, self.burst.drain(..));
        }
        self.burst.clear();
    }
}

fn push_all(
    producer: &mut rtrb::Producer<Arc<u64>>,
    burst: usize,
    mut updates: impl Iterator<Item = Arc<u64>>,
) {
    let pushed = match burst {
        1 => updates.all(|update| producer.push(update).is_ok()),
        _ => {
            let chunk = producer.write_chunk_uninit(burst);
            chunk.is_ok_and(|chunk| chunk.fill_from_iter(updates) == burst)
        }
    };
    assert!(pushed, "rtrb");
}

impl Receiver for rtrb::Consumer<Arc<u64>> {
    fn drain(&mut self) -> u64 {
        let there = self.slots();
        let chunk = self.read_chunk(there);
        chunk.map_or(0, |chunk| chunk.into_iter().count() as u64)
    }
}

shared!(
    TokioBroadcast,
    "tokio_broadcast",
    tokio::sync::broadcast::Sender<Arc<u64>>,
    tokio::sync::broadcast::Receiver<Arc<u64>>,
    (tokio::sync::broadcast::Sender::new(CAPACITY), ()),
    |sender: &mut Self::Publisher| sender.subscribe(),
    send
);

shared!(
    AsyncBroadcast,
    "async_broadcast",
    async_broadcast::Sender<Arc<u64>>,
    async_broadcast::Receiver<Arc<u64>>,
    async_broadcast::broadcast(CAPACITY),
    |sender: &mut Self::Publisher| sender.new_receiver(),
    try_broadcast
);

shared!(
    Bus,
    "bus",
    bus::Bus<Arc<u64>>,
    bus::BusReader<Arc<u64>>,
    (bus::Bus::new(CAPACITY), ()),
    |sender: &mut Self::Publisher| sender.add_rx(),
    try_broadcast
);

/// Keeps the newest only: what a configuration without updates would use.
pub(super) struct TokioWatch;

impl FanOut for TokioWatch {
    const NAME: &'static str = "tokio_watch";
    const SHARED: bool = true;
    const NEWEST_ONLY: bool = true;
    type Publisher = tokio::sync::watch::Sender<Arc<u64>>;
    type Receiver = tokio::sync::watch::Receiver<Arc<u64>>;

    fn open(subscribers: usize) -> (Self::Publisher, Vec<Self::Receiver>) {
        let sender = tokio::sync::watch::Sender::new(Arc::new(0));
        let receivers = (0..subscribers).map(|_| sender.subscribe()).collect();
        (sender, receivers)
    }

    fn come_and_go(publisher: &mut Self::Publisher) {
        let newest = publisher.subscribe().borrow_and_update().clone();
        drop(black_box(newest));
    }
}

impl Publisher for tokio::sync::watch::Sender<Arc<u64>> {
    fn publish(&mut self, burst: usize) {
        for tick in 0..burst {
            self.send_replace(Arc::new(tick as u64));
        }
    }
}

impl Receiver for tokio::sync::watch::Receiver<Arc<u64>> {
    fn drain(&mut self) -> u64 {
        // It can be closed only when the sender has gone.
        if !self.has_changed().is_ok_and(|changed| changed) {
            return 0;
        }
        let newest = self.borrow_and_update().clone();
        black_box(*newest);
        1
    }
}
