//! Who is subscribed, for people: a cold table behind a lock, which no publisher and no consumer touches.

use std::collections::BTreeMap;

use crate::{
    mailbox::Mailbox,
    ring::Observer,
    state::State,
    sync::{AtomicU64, ColdMutex, ColdU64, Ordering},
    version::Labelled,
};

pub(crate) struct Registry<S: State> {
    last_id: AtomicU64,
    list: ColdMutex<List<S>>,
    /// A [`Summary`] of the list. Written under the lock.
    summary: ColdU64,
}

/// How many rings there are, and the storage of the largest: one word, so that one store says both.
///
/// ```text
/// 63                                8 7            0
/// | rings                            | logarithm + 1 |   0: there is none
/// ```
#[derive(Clone, Copy)]
struct Summary(u64);

struct List<S: State> {
    /// By id, so that a listing is in the order of subscribing. O(log n) to enter and to leave.
    rings: BTreeMap<u64, Ring<S>>,
    /// How many of them there are for each size of storage, by its binary logarithm.
    by_size: [usize; usize::BITS as usize],
}

/// A look at a subscription's ring and mailbox.
type Ring<S> = Observer<Labelled<S>, Mailbox>;

impl<S: State> Registry<S> {
    pub(crate) fn new() -> Self {
        Self {
            last_id: AtomicU64::new(0),
            list: ColdMutex::new(List {
                rings: BTreeMap::new(),
                by_size: [0; usize::BITS as usize],
            }),
            summary: ColdU64::new(0),
        }
    }

    /// An id that no subscription of this engine had before.
    pub(crate) fn next_id(&self) -> u64 {
        // Relaxed: a number that nobody else gets; nothing is handed over by it.
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn enter(&self, ring: Ring<S>) {
        let mut list = self.list.lock();
        list.by_size[size(&ring)] += 1;
        list.rings.insert(ring.beside().id, ring);
        self.summarise(&list);
    }

    pub(crate) fn leave(&self, id: u64) {
        let mut list = self.list.lock();
        let ring = list.rings.remove(&id);
        if let Some(ring) = &ring {
            list.by_size[size(ring)] -= 1;
        }
        self.summarise(&list);
        drop(list);
        // Not under the lock: it may be the last handle.
        drop(ring);
    }

    fn summarise(&self, list: &List<S>) {
        let largest = list.by_size.iter().rposition(|&rings| rings > 0);
        let summary = Summary::new(list.rings.len(), largest);
        // Relaxed: it bounds the chain, roughly, and is a figure for people.
        self.summary.store(summary.0, Ordering::Relaxed);
    }

    fn summary(&self) -> Summary {
        // Relaxed: as in `summarise`.
        Summary(self.summary.load(Ordering::Relaxed))
    }

    /// How many subscriptions there are.
    pub(crate) fn count(&self) -> u64 {
        self.summary().rings()
    }

    /// Updates that the storage of the largest ring of a live subscription holds; 0 if there is
    /// none.
    pub(crate) fn largest_ring(&self) -> u64 {
        self.summary().largest()
    }

    /// Keeps everybody else out of the table.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Drop + '_ {
        self.list.lock()
    }

    pub(crate) fn rings(&self) -> Vec<Ring<S>> {
        self.list.lock().rings.values().cloned().collect()
    }
}

/// The binary logarithm of how many updates the ring's storage holds.
fn size<S: State>(ring: &Ring<S>) -> usize {
    ring.capacity().next_power_of_two().ilog2() as usize
}

impl Summary {
    /// `largest`: the binary logarithm of the storage of the largest ring, if there is one.
    fn new(rings: usize, largest: Option<usize>) -> Self {
        Self((rings as u64) << 8 | largest.map_or(0, |size| size as u64 + 1))
    }

    fn rings(self) -> u64 {
        self.0 >> 8
    }

    fn largest(self) -> u64 {
        match self.0 & 0xff {
            0 => 0,
            size => 1 << (size - 1),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_how_many_rings_there_are_and_how_large_the_largest_is() {
        let said = |rings, largest| {
            let summary = Summary::new(rings, largest);
            (summary.rings(), summary.largest())
        };
        assert_eq!(said(0, None), (0, 0));
        assert_eq!(said(1, Some(0)), (1, 1));
        assert_eq!(said(1 << 40, Some(24)), (1 << 40, 1 << 24));
        assert_eq!(said(3, Some(63)), (3, 1 << 63));
    }
}
