//! Who is subscribed, for people: a cold table behind a lock, which no publisher and no consumer touches.

use std::collections::BTreeMap;

use crate::{
    mailbox::Mailbox,
    ring::Observer,
    state::State,
    sync::{AtomicU64, ColdMutex, Ordering},
    version::Labelled,
};

pub(crate) struct Registry<S: State> {
    last_id: AtomicU64,
    /// By id, so that a listing is in the order of subscribing. O(log n) to enter and to leave.
    rings: ColdMutex<BTreeMap<u64, Ring<S>>>,
}

/// A look at a subscription's ring and mailbox.
type Ring<S> = Observer<Labelled<S>, Mailbox>;

impl<S: State> Registry<S> {
    pub(crate) fn new() -> Self {
        Self {
            last_id: AtomicU64::new(0),
            rings: ColdMutex::new(BTreeMap::new()),
        }
    }

    /// An id that no subscription of this engine had before.
    pub(crate) fn next_id(&self) -> u64 {
        // Relaxed: a number that nobody else gets; nothing is handed over by it.
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn enter(&self, ring: Ring<S>) {
        self.rings.lock().insert(ring.beside().id, ring);
    }

    pub(crate) fn leave(&self, id: u64) {
        let ring = self.rings.lock().remove(&id);
        // Not under the lock: it may be the last handle.
        drop(ring);
    }

    /// Keeps everybody else out of the table.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Drop + '_ {
        self.rings.lock()
    }

    pub(crate) fn rings(&self) -> Vec<Ring<S>> {
        self.rings.lock().values().cloned().collect()
    }
}
