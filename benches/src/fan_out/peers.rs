//! Other people's channels and rings.

use std::sync::Arc;

use super::{CAPACITY, FanOut, Publisher, Receiver};

/// Declares a peer with one bounded channel for each subscriber.
macro_rules! per_subscriber {
    ($name:ident, $text:literal, $sender:ty, $receiver:ty, $open:expr, $push:ident, $pop:ident) => {
        pub(super) struct $name;

        impl FanOut for $name {
            const NAME: &'static str = $text;
            type Publisher = Vec<$sender>;
            type Receiver = $receiver;

            fn open(subscribers: usize) -> (Self::Publisher, Vec<Self::Receiver>) {
                (0..subscribers).map(|_| $open).unzip()
            }
        }

        impl Publisher for Vec<$sender> {
            fn publish(&mut self, burst: usize) {
                for tick in 0..burst {
                    let update = Arc::new(tick as u64);
                    for sender in &mut *self {
                        assert!(sender.$push(update.clone()).is_ok(), $text);
                    }
                }
            }
        }

        drain!($receiver, $pop);
    };
}

macro_rules! drain {
    ($receiver:ty, $pop:ident) => {
        impl Receiver for $receiver {
            fn drain(&mut self) -> u64 {
                let mut taken = 0;
                while self.$pop().is_ok() {
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
        }

        impl Publisher for $sender {
            fn publish(&mut self, burst: usize) {
                for tick in 0..burst {
                    // An error says that nobody listens; that nothing was lost is checked where it is received.
                    let _ = self.$push(Arc::new(tick as u64));
                }
            }
        }

        drain!($receiver, try_recv);
    };
}

per_subscriber!(
    CrossbeamChannel,
    "crossbeam_channel",
    crossbeam_channel::Sender<Arc<u64>>,
    crossbeam_channel::Receiver<Arc<u64>>,
    crossbeam_channel::bounded(CAPACITY),
    try_send,
    try_recv
);

per_subscriber!(
    Flume,
    "flume",
    flume::Sender<Arc<u64>>,
    flume::Receiver<Arc<u64>>,
    flume::bounded(CAPACITY),
    try_send,
    try_recv
);

per_subscriber!(
    Rtrb,
    "rtrb",
    rtrb::Producer<Arc<u64>>,
    rtrb::Consumer<Arc<u64>>,
    rtrb::RingBuffer::new(CAPACITY),
    push,
    pop
);

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
        std::hint::black_box(*newest);
        1
    }
}
