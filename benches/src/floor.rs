//! What fan-out over one ring per subscriber costs at the least: the hand-written floor.
//!
//! For each subscriber a single-producer single-consumer ring of pointers; an update's count is raised once, by the number
//! of subscribers; a burst enters a ring by one store. No head, no snapshot, no account, no waiting, nobody joins or leaves:
//! it is here to be measured against, and good for nothing else.
//!
//! # Sync points
//! * W: `write`, Release in [`Publisher::publish`] to Acquire in [`Receiver::drain`]. Hands over the slots' contents.
//! * R: `read`, Release in [`Receiver::drain`] to Acquire in [`Publisher::publish`]. Hands the emptied slots back.
//! * C: `count`, Release in every decrement to the Acquire fence of the last. Hands over all use of the value.

use std::{
    cell::Cell,
    hint::black_box,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering, fence},
    },
};

use crate::fan_out::{CAPACITY, FanOut, Publisher, Receiver};

/// The floor, as an implementation among others.
#[derive(Debug)]
pub(crate) struct Floor;

impl FanOut for Floor {
    const NAME: &'static str = "floor";
    type Publisher = Producers;
    type Receiver = Consumer;

    fn open(subscribers: usize) -> (Producers, Vec<Consumer>) {
        let rings: Vec<_> = (0..subscribers).map(|_| Arc::new(Ring::new())).collect();
        let consumers = rings.iter().map(|ring| Consumer {
            ring: ring.clone(),
            read: 0,
        });
        let consumers = consumers.collect();
        let producers = rings.into_iter().map(|ring| Producer {
            ring,
            write: 0,
            read: 0,
        });
        let producers = Producers {
            producers: producers.collect(),
            burst: Vec::with_capacity(CAPACITY),
        };
        (producers, consumers)
    }

    fn come_and_go(publisher: &mut Producers) {
        let ring = Arc::new(Ring::new());
        let consumer = Consumer {
            ring: ring.clone(),
            read: 0,
        };
        publisher.producers.push(Producer {
            ring,
            write: 0,
            read: 0,
        });
        drop(black_box(consumer));
        publisher.producers.pop();
    }
}

/// The writing ends of all rings.
#[derive(Debug)]
pub(crate) struct Producers {
    producers: Vec<Producer>,
    burst: Vec<NonNull<Update>>,
}

/// The reading end of one ring.
#[derive(Debug)]
pub(crate) struct Consumer {
    ring: Arc<Ring>,
    read: usize,
}

#[derive(Debug)]
struct Producer {
    ring: Arc<Ring>,
    write: usize,
    /// What `ring.read` was when we last looked.
    read: usize,
}

#[derive(Debug)]
struct Update {
    count: AtomicUsize,
    value: u64,
}

#[derive(Debug)]
struct Ring {
    slots: Box<[Cell<*mut Update>]>,
    write: Padded,
    read: Padded,
}

/// Alone on its cache line, and on the one that is fetched with it.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(AtomicUsize);

// SAFETY: an update's value is only read, and its count is atomic; so the pointers may be used in any thread, by whoever
// holds a count. A slot is the producer's from R to W and the consumer's from W to R, and a ring has one of each: they are
// neither cloned nor shared.
unsafe impl Sync for Ring {}

// SAFETY: as above.
unsafe impl Send for Ring {}

// SAFETY: as above; between two calls there are no pointers in `burst` that anybody uses.
unsafe impl Send for Producers {}

impl Ring {
    fn new() -> Self {
        Self {
            slots: vec![Cell::new(ptr::null_mut()); CAPACITY].into(),
            write: Padded(AtomicUsize::new(0)),
            read: Padded(AtomicUsize::new(0)),
        }
    }
}

impl Publisher for Producers {
    fn publish(&mut self, burst: usize) {
        self.burst.clear();
        for tick in 0..burst {
            let update = Box::new(Update {
                // One for this function, so that an update without receivers is freed as well.
                count: AtomicUsize::new(1),
                value: tick as u64,
            });
            self.burst.push(NonNull::from(Box::leak(update)));
        }
        for update in &self.burst {
            // SAFETY: this function's own count keeps the update.
            let update = unsafe { update.as_ref() };
            update
                .count
                .fetch_add(self.producers.len(), Ordering::Relaxed);
        }
        for producer in &mut self.producers {
            producer.push_all(&self.burst);
        }
        for &update in &self.burst {
            release(update);
        }
    }
}

impl Producer {
    fn push_all(&mut self, burst: &[NonNull<Update>]) {
        if self.write - self.read + burst.len() > CAPACITY {
            // Sync point R.
            self.read = self.ring.read.0.load(Ordering::Acquire);
            assert!(
                self.write - self.read + burst.len() <= CAPACITY,
                "a full ring"
            );
        }
        // Two straight runs, up to the end of storage and on from its start.
        let (start, end) = self.ring.slots.split_at(self.write % CAPACITY);
        let mut burst_left = burst.iter();
        for run in [end, start] {
            for (slot, update) in run.iter().zip(&mut burst_left) {
                slot.set(update.as_ptr());
            }
        }
        self.write += burst.len();
        // Sync point W.
        self.ring.write.0.store(self.write, Ordering::Release);
    }
}

impl Receiver for Consumer {
    fn drain(&mut self) -> u64 {
        // Sync point W.
        let write = self.ring.write.0.load(Ordering::Acquire);
        let mut taken = 0;
        while self.read < write {
            let update = NonNull::new(self.ring.slots[self.read % CAPACITY].get());
            let update = update.expect("W: the slot was filled");
            // SAFETY: the slot's count is this consumer's, until `release`.
            black_box(unsafe { update.as_ref() }.value);
            release(update);
            self.read += 1;
            // Sync point R. For each, as the engine does: a publisher may go on while the rest is being taken.
            self.ring.read.0.store(self.read, Ordering::Release);
            taken += 1;
        }
        taken
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.drain();
    }
}

/// Gives one count back; the last one frees.
fn release(update: NonNull<Update>) {
    // SAFETY: the caller owns one count, so the update is still there.
    let count = unsafe { &update.as_ref().count };
    // Sync point C.
    if count.fetch_sub(1, Ordering::Release) == 1 {
        // Sync point C: pairs with the Release decrements of the others.
        fence(Ordering::Acquire);
        // SAFETY: the count is zero, so nobody else has it; it came from a box.
        drop(unsafe { Box::from_raw(update.as_ptr()) });
    }
}
