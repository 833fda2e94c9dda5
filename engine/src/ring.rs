//! A bounded single-producer single-consumer ring of shared values, with something shared beside it.
//!
//! Contract: first in, first out; nothing torn, nothing repeated; capacity exactly as asked; several items enter at
//! once (one store shows them all) or not at all, and what does not fit changes nothing (invariant I12). Storage is
//! a power of two, so that a position becomes a slot by a mask.
//!
//! A ring begins with a few slots, and gets all when it first needs more: most consumers keep up, and what they have then fits
//! a cache line, beside those of others, where it would be on a page of its own.
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
//! * M: `more`, set by [`Producer::room`], looked at by the consumer when it finds nothing in the few slots. Hands over the other
//!   slots, and from which position on items are there; those before it have been stored by then.
//! * R: `read`, Release in [`Consumer::pop`] to Acquire in [`Producer::room`]. Hands the emptied slots back.
//!
//! Positions only grow; `write - read` items are in the ring. Each end keeps its own position, and the producer how far the
//! consumer's was, which can only be too pessimistic.
//!
//! Models: `loom-tests/tests/ring.rs`.

use std::{fmt, marker::PhantomData, ptr};

use crate::{
    panics::FirstPanic,
    shared::{Counted, Shared},
    sync::{Arc, AtomicU64, HandedArc, Ordering, PointerCell, SetOnce},
};

/// The two ends of a new ring for exactly `capacity` items.
pub(crate) fn ring<T, B>(capacity: usize, beside: B) -> (Producer<T, B>, Consumer<T, B>) {
    let at_first = at_first(capacity);
    let slots: Slots<T> = empty(at_first, 0);
    let ring = HandedArc::new(Ring {
        read: AtomicU64::new(0),
        beside,
        more: SetOnce::new(),
        few: slots.clone(),
        capacity,
    });
    let producer = Producer {
        slots: slots.clone(),
        ring: ring.clone(),
        write: 0,
        end: at_first as u64,
    };
    let consumer = Consumer {
        has_all: slots.len() >= capacity,
        slots,
        ring,
        read: 0,
    };
    (producer, consumer)
}

/// How many slots a ring takes: at least, at most.
pub(crate) fn slots(capacity: usize) -> (usize, usize) {
    let (at_first, all) = (at_first(capacity), capacity.next_power_of_two());
    let at_most = if at_first < capacity {
        at_first + all
    } else {
        all
    };
    (at_first, at_most)
}

/// Slots that a ring begins with.
fn at_first(capacity: usize) -> usize {
    if capacity > LARGE {
        capacity
    } else {
        capacity.min(FEW)
    }
}

/// The writing end. One per ring, and whatever moves its position takes `&mut self`: that is what makes the ring's unsafe
/// code right.
pub(crate) struct Producer<T, B> {
    /// Those of the ring that are filled now.
    slots: Slots<T>,
    ring: HandedArc<Ring<T, B>>,
    /// The position to fill next.
    write: u64,
    /// The position before which there is room in `slots`, by what `ring.read` was when we last looked.
    end: u64,
}

/// The reading end. One per ring, as above.
pub(crate) struct Consumer<T, B> {
    /// Those of the ring that the next item is in.
    slots: Slots<T>,
    /// These are all that there will be.
    has_all: bool,
    ring: HandedArc<Ring<T, B>>,
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
pub(crate) struct Observer<T, B>(HandedArc<Ring<T, B>>);

/// In this order, from the start of a line.
#[repr(C, align(64))]
struct Ring<T, B> {
    /// Written by the consumer.
    read: AtomicU64,
    /// Begins on the line of `read`: see [`LEFT_OF_LINE`].
    beside: B,
    more: SetOnce<More<T>>,
    few: Slots<T>,
    capacity: usize,
}

/// Slots for the whole capacity, and the position of the first item that is there.
struct More<T> {
    slots: Slots<T>,
    from: u64,
}

/// So many slots a ring begins with: they fill a line.
#[cfg(not(loom))]
const FEW: usize = 8;
/// One, so that models come to need more.
#[cfg(loom)]
const FEW: usize = 1;

/// A ring for more items than this has all slots at once: making them takes a nanosecond each, and would hold up a publisher.
const LARGE: usize = 1024;

/// How many bytes of `beside` are on the line of `read`.
#[cfg(all(not(loom), target_pointer_width = "64"))]
pub(crate) const LEFT_OF_LINE: usize = 64 - size_of::<AtomicU64>();

type Slots<T> = Arc<[Slot<T>]>;

/// The newest item that was put here, which may have been taken since; or nothing yet. Written by the producer.
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
            self.make_room(items as u64)?;
        }
        Some(Room {
            producer: self,
            items,
        })
    }

    /// Looks how far the consumer is now, and goes on to more slots where the few do not suffice.
    fn make_room(&mut self, items: u64) -> Option<()> {
        // Sync point R: pairs with the Release store in `pop`.
        let read = self.ring.read.load(Ordering::Acquire);
        let capacity = self.ring.capacity as u64;
        let inside = (self.write - read).checked_add(items)?;
        if inside > capacity {
            return None;
        }
        if inside > self.slots.len() as u64 {
            self.slots = empty(self.ring.capacity, self.write);
            let more = More {
                slots: self.slots.clone(),
                from: self.write,
            };
            // Sync point M: pairs with the look in `more_item`.
            let first = self.ring.more.set(more).is_ok();
            debug_assert!(first, "all slots suffice for what fits");
        }
        self.end = read + capacity.min(self.slots.len() as u64);
        Some(())
    }

    pub(crate) fn capacity(&self) -> usize {
        self.ring.capacity
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
    pub(crate) fn is_empty(&mut self) -> bool {
        self.item().is_none()
    }

    /// The next item, if there is one now.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Shared<T>> {
        let item = self.item()?;
        self.read += 1;
        // Sync point R: hands the slot back to `room`.
        self.ring.read.store(self.read, Ordering::Release);
        // SAFETY: the item is of this lap, so it was put there for this position, and W has handed it over; `read` has moved
        // on, and this is the only consumer, so it is taken once.
        Some(unsafe { Shared::from_raw(item) })
    }

    /// The next item, left where it is.
    #[inline]
    fn item(&mut self) -> Option<*mut Counted<T>> {
        item_at(&self.slots, self.read).or_else(|| self.more_item())
    }

    /// The next item, which was not there when we looked.
    #[inline(never)] // out of the way of the next item that is
    fn more_item(&mut self) -> Option<*mut Counted<T>> {
        if self.has_all {
            return None;
        }
        // Sync point M: pairs with `set` in `make_room`. What is before `from` has been put into the few slots since we looked.
        let more = self.ring.more.get()?;
        if self.read >= more.from {
            self.slots = more.slots.clone();
            self.has_all = true;
        }
        item_at(&self.slots, self.read)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.ring.capacity
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
    /// Nothing, as of the lap before `lap`.
    fn empty(lap: usize) -> Self {
        Self {
            item: PointerCell::new(ptr::without_provenance_mut(lap ^ LAP)),
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

/// So many slots, or as many more as make a power of two, of which none is filled, for the positions from this one on.
fn empty<T>(slots: usize, from: u64) -> Slots<T> {
    let slots = slots.next_power_of_two() as u64;
    let first_use = |slot: u64| from + (slot.wrapping_sub(from) & (slots - 1));
    (0..slots)
        .map(|slot| Slot::empty(lap(slots, first_use(slot))))
        .collect()
}

/// The item that was put there for this position, if it has been.
#[inline]
fn item_at<T>(slots: &[Slot<T>], position: u64) -> Option<*mut Counted<T>> {
    let (slot, lap) = place(slots, position);
    slots[slot].item_of(lap)
}

/// Which slot a position is, and the bit of its lap.
#[inline]
fn place<T>(slots: &[Slot<T>], position: u64) -> (usize, usize) {
    let count = slots.len() as u64;
    // Less than a length.
    #[allow(clippy::cast_possible_truncation)]
    let slot = (position & (count - 1)) as usize;
    (slot, lap(count, position))
}

/// The bit of a position's lap of so many slots: it changes with every lap.
#[inline]
fn lap(slots: u64, position: u64) -> usize {
    // The number of slots is a power of two, so this bit counts the laps.
    usize::from(position & slots != 0)
}

impl<T, B> Drop for Ring<T, B> {
    fn drop(&mut self) {
        // Sync points R, M and W: the last handle to the ring has gone, so both ends are still, and
        // the count of the handles has handed over what they did.
        let read = self.read.load(Ordering::Acquire);
        let mut panics = FirstPanic::default();
        for position in read..read + self.capacity as u64 {
            let more = self.more.get().filter(|more| position >= more.from);
            let slots = more.map_or(&self.few, |more| &more.slots);
            let Some(item) = item_at(slots, position) else {
                break;
            };
            // SAFETY: the item is of this lap, so it was put there for this position, which nobody has read; each is
            // visited once.
            let item = unsafe { Shared::from_raw(item) };
            panics.run(|| drop(item));
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
        for capacity in [1, 2, 3, 5, 8, 9, 100] {
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

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let (mut producer, mut consumer) = ring(3, ());
        assert!(push(&mut producer, &[1, 2]));
        assert!(!push(&mut producer, &[3, 4]));
        assert!(push(&mut producer, &[3]));
        assert_eq!(drain(&mut consumer), [1, 2, 3]);
    }

    /// Wherever in its storage a push begins, it enters exactly if there is room, and comes out whole and in order.
    #[test]
    fn a_push_at_any_place_enters_whole_or_not_at_all() {
        let items: Vec<u32> = (0..64).collect();
        for (capacity, begin) in [5, 20]
            .into_iter()
            .flat_map(|n| (0..2 * n).map(move |begin| (n, begin)))
        {
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
    fn a_ring_has_few_slots_until_it_needs_more() {
        let (mut producer, mut consumer) = ring::<u32, ()>(100, ());
        for lap in 0..3 {
            assert!((0..8).all(|item| push(&mut producer, &[item])));
            assert_eq!(producer.slots.len(), 8, "lap {lap}");
            assert_eq!(drain(&mut consumer), [0, 1, 2, 3, 4, 5, 6, 7]);
        }
        assert!((0..9).all(|item| push(&mut producer, &[item])));
        assert_eq!((producer.slots.len(), consumer.slots.len()), (128, 8));
        assert_eq!(drain(&mut consumer), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(consumer.slots.len(), 128);
    }

    #[test]
    fn what_is_left_inside_is_dropped_with_the_ring() {
        let witness = Arc::new(());
        for (begin, inside, taken) in (0..20).flat_map(|begin| {
            (0..=20).flat_map(move |inside| (0..=inside).map(move |taken| (begin, inside, taken)))
        }) {
            let (mut producer, mut consumer) = ring(20, ());
            let mut push = || {
                let item = Shared::new(witness.clone());
                producer.room(1).unwrap().fill([item].into_iter());
            };
            for _ in 0..begin {
                push();
                drop(consumer.pop());
            }
            (0..inside).for_each(|_| push());
            (0..taken).for_each(|_| drop(consumer.pop()));
            assert_eq!(Arc::strong_count(&witness), 1 + inside - taken);
            drop(producer);
            drop(consumer);
            assert_eq!(Arc::strong_count(&witness), 1);
        }
    }
}
