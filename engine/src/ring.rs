//! A bounded single-producer single-consumer ring of shared values, with something shared beside it.
//!
//! Contract: first in, first out; nothing torn, nothing repeated; capacity exactly as asked; several items enter at
//! once (one store shows them all) or not at all, and what does not fit changes nothing (invariant I12). Storage is
//! the next power of two, so that a position becomes a slot by a mask.
//!
//! A slot is a pointer, with a bit that tells laps apart: it says by itself whether it is filled, as the cells of Vyukov's
//! bounded queue do by a number, and nobody reads the producer's position. So a push to one who keeps up is one store to one
//! cache line that the consumer has had, and no load of it. That counts: a publisher serves hundreds of rings, whose lines
//! others have driven out of its cache since.
//!
//! `beside` is whatever the two ends want to share in the same allocation: for a subscription, its mailbox. It begins on the
//! line of the consumer's position, for what the consumer writes with each item.
//!
//! # Sync points
//! * W: a slot, stored by [`Room::fill`] (Release), loaded by [`Consumer::pop`] (Acquire). Hands over the item. Of several, the
//!   first is stored last, and the others plainly: the consumer comes to them when it has seen the first.
//! * R: `read`, Release in [`Consumer::pop`] to Acquire in [`Producer::room`]. Hands the emptied slots back.
//!
//! Positions only grow; `write - read` items are in the ring. Each end keeps its own position, and the producer how far the
//! consumer's was, which can only be too pessimistic.
//!
//! Models: `loom-tests/tests/ring.rs`.

use std::{fmt, marker::PhantomData};

use crate::{
    shared::{Counted, Shared},
    sync::{Arc, AtomicU64, Ordering, PointerCell},
};

/// The two ends of a new ring for exactly `capacity` items.
pub(crate) fn ring<T, B>(capacity: usize, beside: B) -> (Producer<T, B>, Consumer<T, B>) {
    let slots = capacity.next_power_of_two();
    let slots: Slots<T> = (0..slots).map(|_| Slot::empty()).collect();
    let ring = Arc::new(Ring {
        read: AtomicU64::new(0),
        beside,
        slots: slots.clone(),
        capacity,
    });
    let producer = Producer {
        slots: slots.clone(),
        ring: ring.clone(),
        write: 0,
        end: capacity as u64,
    };
    let consumer = Consumer {
        slots,
        ring,
        read: 0,
    };
    (producer, consumer)
}

/// The writing end. One per ring, and whatever moves its position takes `&mut self`: that is what makes the ring's unsafe
/// code right.
pub(crate) struct Producer<T, B> {
    /// Those of the ring, found without a look at it.
    slots: Slots<T>,
    ring: Arc<Ring<T, B>>,
    /// The position to fill next.
    write: u64,
    /// The position before which there is room: `capacity` beyond what `ring.read` was when we last looked.
    end: u64,
}

/// The reading end. One per ring, as above.
pub(crate) struct Consumer<T, B> {
    slots: Slots<T>,
    ring: Arc<Ring<T, B>>,
    /// The same number as `ring.read`.
    read: u64,
}

/// Places in the ring that are free for sure: the proof that a push fits.
#[must_use]
pub(crate) struct Room<'a, T, B> {
    producer: &'a mut Producer<T, B>,
    items: usize,
}

/// A look at the ring from outside: its capacity, and what is beside it.
pub(crate) struct Observer<T, B>(Arc<Ring<T, B>>);

/// In this order, from the start of a line.
#[repr(C, align(64))]
struct Ring<T, B> {
    /// Written by the consumer.
    read: AtomicU64,
    /// Begins on the line of `read`: see [`LEFT_OF_LINE`].
    beside: B,
    slots: Slots<T>,
    capacity: usize,
}

/// How many bytes of `beside` are on the line of `read`.
#[cfg(all(not(loom), target_pointer_width = "64"))]
pub(crate) const LEFT_OF_LINE: usize = 64 - size_of::<AtomicU64>();

type Slots<T> = Arc<[Slot<T>]>;

/// The newest item that was put here, which may have been taken since; or none yet. Written by the producer.
struct Slot<T> {
    /// With the bit of its [`lap`].
    item: PointerCell<Counted<T>>,
    /// Items are shared, and dropped, by whoever has an end of the ring.
    owns: PhantomData<Shared<T>>,
}

impl<T, B> Producer<T, B> {
    /// Room for exactly so many items, if there is so much now. It stays, since only this producer fills the ring.
    #[inline]
    pub(crate) fn room(&mut self, items: usize) -> Option<Room<'_, T, B>> {
        if self.end - self.write < items as u64 {
            // Sync point R: pairs with the Release store in `pop`.
            self.end = self.ring.read.load(Ordering::Acquire) + self.ring.capacity as u64;
            if self.end - self.write < items as u64 {
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
    /// Appends the items. The consumer sees them at once.
    ///
    /// # Panics
    /// If they are not exactly as many as there is room for.
    #[inline]
    pub(crate) fn fill(self, mut items: impl ExactSizeIterator<Item = Shared<T>>) {
        let Producer { slots, write, .. } = self.producer;
        assert_eq!(items.len(), self.items, "what there is room for");
        let Some(first_item) = items.next() else {
            return;
        };
        let (first, lap) = place(slots, *write);
        if self.items > 1 {
            // Two straight runs, up to the end of storage and on from its start.
            let (start, end) = slots.split_at(first);
            for (run, lap) in [(&end[1..], lap), (start, lap ^ 1)] {
                for (slot, item) in run.iter().zip(&mut items) {
                    slot.fill_behind(item, lap);
                }
            }
        }
        slots[first].fill(first_item, lap);
        *write += self.items as u64;
    }
}

impl<T, B> Consumer<T, B> {
    /// Whether there is nothing to pop now.
    pub(crate) fn is_empty(&self) -> bool {
        let (slot, lap) = place(&self.slots, self.read);
        self.slots[slot].item_of(lap).is_none()
    }

    /// The next item, if there is one now.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Shared<T>> {
        let (slot, lap) = place(&self.slots, self.read);
        let item = self.slots[slot].item_of(lap)?;
        self.read += 1;
        // Sync point R: hands the slot back to `room`.
        self.ring.read.store(self.read, Ordering::Release);
        // SAFETY: the item is of this lap, so it was put there for this position, and W has handed it over; `read` has moved
        // on, and this is the only consumer, so it is taken once.
        Some(unsafe { Shared::from_raw(item) })
    }

    pub(crate) fn beside(&self) -> &B {
        &self.ring.beside
    }

    pub(crate) fn observer(&self) -> Observer<T, B> {
        Observer(self.ring.clone())
    }
}

impl<T, B> Observer<T, B> {
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

impl<T> Slot<T> {
    fn empty() -> Self {
        Self {
            item: PointerCell::null(),
            owns: PhantomData,
        }
    }

    /// For the producer, of the first slot that it fills.
    #[inline]
    fn fill(&self, item: Shared<T>, lap: usize) {
        // Sync point W: pairs with the Acquire load in `item_of`.
        self.item.store(marked(item, lap), Ordering::Release);
    }

    /// For the producer, of a slot behind one that it has yet to fill.
    #[inline]
    fn fill_behind(&self, item: Shared<T>, lap: usize) {
        self.item.with_mut(|slot| {
            // SAFETY: `room` has seen that the consumer is done with this slot (R), and it looks at it again only when W has
            // shown it the one before; this is the only producer.
            unsafe { slot.write(marked(item, lap)) };
        });
    }

    /// The item, if it is of this lap.
    #[inline]
    fn item_of(&self, lap: usize) -> Option<*mut Counted<T>> {
        // Sync point W: pairs with the Release store in `fill`.
        let item = self.item.load(Ordering::Acquire);
        (item.addr() & LAP == lap).then(|| item.map_addr(|address| address & !LAP))
    }
}

/// The bit of an item's address that says in which lap it was put into its slot.
const LAP: usize = 1;

#[inline]
fn marked<T>(item: Shared<T>, lap: usize) -> *mut Counted<T> {
    const { assert!(align_of::<Counted<T>>() > LAP, "the bit is free") };
    item.into_raw().map_addr(|address| address | lap)
}

/// Which slot a position is, and the bit of its lap: 1 in the first, so that null is an item of none, then in turn.
#[inline]
fn place<T>(slots: &[Slot<T>], position: u64) -> (usize, usize) {
    // The number of slots is a power of two; the bits from there on are the lap.
    #[allow(clippy::cast_possible_truncation)]
    let position = position as usize;
    let slot = position & (slots.len() - 1);
    (slot, usize::from(position & slots.len() == 0))
}

impl<T, B> Drop for Ring<T, B> {
    fn drop(&mut self) {
        // Sync points R and W: the last handle to the ring has gone, so both ends are still; this sees what they did, even
        // where the handles' own count orders nothing (under `loom`).
        let read = self.read.load(Ordering::Acquire);
        for position in read..read + self.capacity as u64 {
            let (slot, lap) = place(&self.slots, position);
            let Some(item) = self.slots[slot].item_of(lap) else {
                break;
            };
            // SAFETY: the item is of this lap, so it was put there for this position, which nobody has read; each is
            // visited once.
            drop(unsafe { Shared::from_raw(item) });
        }
    }
}

impl<T, B> fmt::Debug for Consumer<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn push(producer: &mut Producer<u32, ()>, items: &[u32]) -> bool {
        let items = items.iter().map(|&item| Shared::new(item));
        let room = producer.room(items.len());
        room.map(|room| room.fill(items)).is_some()
    }

    fn drain(consumer: &mut Consumer<u32, ()>) -> Vec<u32> {
        std::iter::from_fn(|| consumer.pop().map(|item| *item)).collect()
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
                assert!(consumer.is_empty());
            }
        }
    }

    /// Wherever in its storage a push begins, it enters exactly if there is room, and comes out whole and in order.
    #[test]
    fn a_push_at_any_place_enters_whole_or_not_at_all() {
        let (capacity, items) = (5, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        for begin in 0..20 {
            for inside in 0..=capacity {
                for more in 1..=capacity + 1 {
                    let (mut producer, mut consumer) = ring::<u32, ()>(capacity, ());
                    for _ in 0..begin {
                        assert!(push(&mut producer, &[0]));
                        assert_eq!(drain(&mut consumer), [0]);
                    }
                    let (before, rest) = items.split_at(inside);
                    assert!(before.iter().all(|&item| push(&mut producer, &[item])));
                    let fits = inside + more <= capacity;
                    assert_eq!(push(&mut producer, &rest[..more]), fits);
                    let there = if fits { inside + more } else { inside };
                    assert_eq!(drain(&mut consumer), items[..there]);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "what there is room for")]
    fn no_more_goes_in_than_there_was_room_for() {
        let (mut producer, _consumer) = ring(2, ());
        let room = producer.room(1).unwrap();
        room.fill([7, 8].map(Shared::new).into_iter());
    }

    #[test]
    fn more_than_the_whole_ring_never_fits() {
        let (mut producer, _consumer) = ring::<u32, ()>(2, ());
        assert!(push(&mut producer, &[1]));
        assert!(producer.room(3).is_none());
        assert!(producer.room(usize::MAX).is_none());
    }

    #[test]
    fn what_is_left_inside_is_dropped_with_the_ring() {
        for taken in 0..=6 {
            let witness = Shared::new(Arc::new(()));
            let (mut producer, mut consumer) = ring(6, ());
            for _ in 0..2 {
                let items = vec![(); 6].into_iter().map(|()| witness.clone());
                producer.room(6).unwrap().fill(items);
                for _ in 0..6 {
                    consumer.pop();
                }
            }
            let items = vec![(); 6].into_iter().map(|()| witness.clone());
            producer.room(6).unwrap().fill(items);
            let taken: Vec<_> = (0..taken).map(|_| consumer.pop()).collect();
            drop(producer);
            drop(consumer);
            drop(taken);
            let value = Arc::clone(&witness);
            drop(witness);
            assert_eq!(Arc::strong_count(&value), 1);
        }
    }
}
