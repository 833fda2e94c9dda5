//! A bounded single-producer single-consumer ring, with something shared beside it.
//!
//! Contract: first in, first out; nothing torn, nothing repeated; capacity exactly as asked; several items enter at
//! once (one store publishes them all) or not at all, and what does not fit changes nothing (invariant I12). Storage is
//! the next power of two, so that a position becomes a slot by a mask.
//!
//! `beside` is whatever the two ends want to share in the same allocation: for a subscription, its mailbox. What a push and
//! a look for more touch of either stands on one line: a publisher serves hundreds of rings that others have driven out of
//! its cache, and a line that is not there costs it as much as ten pushes to one that is.
//!
//! # Sync points
//! * W: `write`, Release in [`Room::fill`] to Acquire in [`Consumer::refresh`]. Hands over the slots' contents.
//! * R: `read`, Release in [`Consumer::pop`] to Acquire in [`Producer::room`]. Hands the emptied slots back.
//!
//! Positions only grow; `write - read` items are in the ring, and each end keeps its own position and a cached copy of
//! the other's, which can only be too pessimistic.
//!
//! Models: `loom-tests/tests/ring.rs`.

use std::{fmt, mem::MaybeUninit};

use crate::sync::{Arc, AtomicU64, Ordering, Padded, UnsafeCell};

/// The two ends of a new ring for exactly `capacity` items.
pub(crate) fn ring<T, B>(capacity: usize, beside: B) -> (Producer<T, B>, Consumer<T, B>) {
    let slots = capacity.next_power_of_two();
    let ring = Arc::new(Ring {
        write: AtomicU64::new(0),
        slots: (0..slots)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect(),
        beside,
        read: Padded(AtomicU64::new(0)),
        capacity,
    });
    let producer = Producer {
        ring: ring.clone(),
        capacity,
        write: 0,
        read: 0,
    };
    let consumer = Consumer {
        ring,
        read: 0,
        write: 0,
    };
    (producer, consumer)
}

/// The writing end. One per ring, and whatever moves its position takes `&mut self`: that is what makes the ring's unsafe
/// code right.
pub(crate) struct Producer<T, B> {
    ring: Arc<Ring<T, B>>,
    /// The same number as `ring.capacity`.
    capacity: usize,
    /// The same number as `ring.write`.
    write: u64,
    /// What `ring.read` was when we last looked: at most what it is now.
    read: u64,
}

/// The reading end. One per ring, as above.
pub(crate) struct Consumer<T, B> {
    ring: Arc<Ring<T, B>>,
    /// The same number as `ring.read`.
    read: u64,
    /// What `ring.write` was when we last looked: at most what it is now.
    write: u64,
}

/// Places in the ring that are free for sure: the proof that a push fits.
#[must_use]
pub(crate) struct Room<'a, T, B> {
    producer: &'a mut Producer<T, B>,
    items: usize,
}

/// A look at the ring from outside: its length, and what is beside it.
pub(crate) struct Observer<T, B>(Arc<Ring<T, B>>);

/// In this order, from the start of a line.
#[repr(C, align(64))]
struct Ring<T, B> {
    /// Written by the producer.
    write: AtomicU64,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Begins on the line of `write`: see [`LEFT_OF_LINE`].
    beside: B,
    /// Written by the consumer; on a line of its own.
    read: Padded<AtomicU64>,
    capacity: usize,
}

/// How many bytes of `beside` are on the line that a push writes.
#[cfg(all(not(loom), target_pointer_width = "64"))]
pub(crate) const LEFT_OF_LINE: usize = 64 - size_of::<AtomicU64>() - size_of::<Box<[u8]>>();

// SAFETY: items move from the producer's thread to the consumer's, or are dropped by whoever drops the ring (so
// `T: Send`); nobody gets a `&T` of an item inside. A slot is touched by the producer from when R hands it over until W
// does, and by the consumer from W to R. `beside` is shared by reference.
unsafe impl<T: Send, B: Send + Sync> Sync for Ring<T, B> {}

// SAFETY: as above.
unsafe impl<T: Send, B: Send + Sync> Send for Ring<T, B> {}

impl<T, B> Producer<T, B> {
    /// Room for exactly so many items, if there is so much now. It stays, since only this producer fills the ring.
    #[inline]
    pub(crate) fn room(&mut self, items: usize) -> Option<Room<'_, T, B>> {
        let spare = self.capacity.checked_sub(items)? as u64;
        if self.write - self.read > spare {
            // Sync point R: pairs with the Release store in `pop`.
            self.read = self.ring.read.load(Ordering::Acquire);
            if self.write - self.read > spare {
                return None;
            }
        }
        Some(Room {
            producer: self,
            items,
        })
    }

    pub(crate) fn beside(&self) -> &B {
        &self.ring.beside
    }
}

impl<T, B> Room<'_, T, B> {
    /// Appends the items, as many as there is room for at most. The consumer sees them at once.
    #[inline]
    pub(crate) fn fill(self, items: impl Iterator<Item = T>) {
        let Producer { ring, write, .. } = self.producer;
        let first = ring.index(*write);
        let mut pushed = 0;
        let mut put = |slot: &UnsafeCell<MaybeUninit<T>>, item| {
            slot.with_mut(|slot| {
                // SAFETY: `room` has seen that this position is less than `capacity` beyond `read`, so the consumer is done
                // with the slot (R) and will not look at it before W; this is the only producer.
                unsafe { slot.write(MaybeUninit::new(item)) };
            });
            pushed += 1;
        };
        let mut items = items.take(self.items);
        if self.items == 1 {
            // One update a round is the ordinary case, and spared what straight runs cost to set up.
            if let Some(item) = items.next() {
                put(&ring.slots[first], item);
            }
        } else {
            // Two straight runs, up to the end of storage and on from its start.
            let (start, end) = ring.slots.split_at(first);
            for run in [end, start] {
                for (slot, item) in run.iter().zip(&mut items) {
                    put(slot, item);
                }
            }
        }
        *write += pushed;
        // Sync point W: hands the slots over to `refresh`.
        ring.write.store(*write, Ordering::Release);
    }
}

impl<T, B> Consumer<T, B> {
    /// Whether what the last [`refresh`](Self::refresh) saw has all been taken.
    #[inline]
    pub(crate) fn is_drained(&self) -> bool {
        self.read == self.write
    }

    /// Looks what the producer has pushed since. `true`: there is something to pop.
    #[inline]
    pub(crate) fn refresh(&mut self) -> bool {
        // Sync point W: pairs with the Release store in `fill`.
        self.write = self.ring.write.load(Ordering::Acquire);
        !self.is_drained()
    }

    /// The next item of those that the last [`refresh`](Self::refresh) saw.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.is_drained() {
            return None;
        }
        let item = self.ring.slot(self.read).with(|slot| {
            // SAFETY: `read < write`, so this slot was filled, W handed it over, and the producer does not touch it
            // before R; this is the only consumer.
            unsafe { slot.read() }
        });
        self.read += 1;
        // Sync point R: hands the slot back to `room`.
        self.ring.read.store(self.read, Ordering::Release);
        // SAFETY: the slot was filled (above), and `read` has moved on, so it is read once.
        Some(unsafe { item.assume_init() })
    }

    pub(crate) fn beside(&self) -> &B {
        &self.ring.beside
    }

    pub(crate) fn observer(&self) -> Observer<T, B> {
        Observer(self.ring.clone())
    }
}

impl<T, B> Observer<T, B> {
    /// How many items are inside, about: both ends may move meanwhile.
    pub(crate) fn len(&self) -> u64 {
        // Relaxed: a figure for people. `read` first, so that a pop between the two cannot make it negative.
        let read = self.0.read.load(Ordering::Relaxed);
        let write = self.0.write.load(Ordering::Relaxed);
        write.saturating_sub(read).min(self.0.capacity as u64)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity
    }

    pub(crate) fn beside(&self) -> &B {
        &self.0.beside
    }
}

impl<T, B> Clone for Observer<T, B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, B> Ring<T, B> {
    /// Which slot a position is.
    #[inline]
    fn index(&self, position: u64) -> usize {
        // The number of slots is a power of two; the bits above the mask are the lap.
        #[allow(clippy::cast_possible_truncation)]
        let position = position as usize;
        position & (self.slots.len() - 1)
    }

    #[inline]
    fn slot(&self, position: u64) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[self.index(position)]
    }
}

impl<T, B> Drop for Ring<T, B> {
    fn drop(&mut self) {
        // Sync points R and W: the last handle to the ring has gone, so both ends are still; this sees what they did, even
        // where the handles' own count orders nothing (under `loom`).
        let read = self.read.load(Ordering::Acquire);
        let write = self.write.load(Ordering::Acquire);
        for position in read..write {
            let item = self.slot(position).with_mut(|slot| {
                // SAFETY: positions from `read` to `write` are filled, and nobody else is left.
                unsafe { slot.read() }
            });
            // SAFETY: as above; each position is visited once.
            drop(unsafe { item.assume_init() });
        }
    }
}

impl<T, B> fmt::Debug for Consumer<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("read", &self.read)
            .field("write", &self.write)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn push(producer: &mut Producer<u32, ()>, items: &[u32]) -> bool {
        let room = producer.room(items.len());
        room.map(|room| room.fill(items.iter().copied())).is_some()
    }

    fn drain(consumer: &mut Consumer<u32, ()>) -> Vec<u32> {
        consumer.refresh();
        std::iter::from_fn(|| consumer.pop()).collect()
    }

    #[test]
    fn capacity_is_exactly_what_was_asked() {
        for capacity in [1, 2, 3, 5, 8, 100] {
            let (mut producer, mut consumer) = ring::<u32, ()>(capacity, ());
            for lap in 0..3 {
                let items: Vec<u32> = (0..u32::try_from(capacity).unwrap()).collect();
                assert!(push(&mut producer, &items), "{capacity}, lap {lap}");
                assert!(!push(&mut producer, &[1]), "{capacity}, lap {lap}");
                assert_eq!(drain(&mut consumer), items);
            }
        }
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let (mut producer, mut consumer) = ring(3, ());
        assert!(push(&mut producer, &[1, 2]));
        assert!(!push(&mut producer, &[3, 4]));
        assert!(push(&mut producer, &[3]));
        assert_eq!(drain(&mut consumer), [1, 2, 3]);
    }

    #[test]
    fn no_more_goes_in_than_there_was_room_for() {
        let (mut producer, mut consumer) = ring(2, ());
        for items in [1, 2] {
            producer.room(items).unwrap().fill(7..);
            assert_eq!(drain(&mut consumer), vec![7, 8][..items]);
        }
    }

    #[test]
    fn more_than_the_whole_ring_never_fits() {
        let (mut producer, _consumer) = ring::<u32, ()>(2, ());
        assert!(producer.room(3).is_none());
        assert!(producer.room(usize::MAX).is_none());
    }

    #[test]
    fn what_is_left_inside_is_dropped_with_the_ring() {
        let witness = Arc::new(());
        let (mut producer, mut consumer) = ring(4, ());
        let room = producer.room(3).unwrap();
        room.fill([witness.clone(), witness.clone(), witness.clone()].into_iter());
        consumer.refresh();
        drop(consumer.pop());
        assert_eq!(Arc::strong_count(&witness), 3);
        drop(producer);
        drop(consumer);
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}
