//! Who is subscribed, for people: a cold table behind a lock, which no publisher and no consumer touches.

use std::collections::BTreeMap;

use crate::{
    mailbox::Mailbox, ring::Observer, shared::Shared, state::State, sync::ColdMutex,
    version::Labelled,
};

pub(crate) struct Registry<S: State>(ColdMutex<Table<S>>);

struct Table<S: State> {
    next: u64,
    /// By id, so that a listing is in the order of subscribing. O(log n) to enter and to leave.
    rings: BTreeMap<u64, Observer<Shared<Labelled<S>>, Mailbox>>,
}

impl<S: State> Registry<S> {
    pub(crate) fn new() -> Self {
        Self(ColdMutex::new(Table {
            next: 0,
            rings: BTreeMap::new(),
        }))
    }

    /// An id that no subscription of this engine had before.
    pub(crate) fn next_id(&self) -> u64 {
        let mut table = self.0.lock();
        table.next += 1;
        table.next
    }

    pub(crate) fn enter(&self, ring: Observer<Shared<Labelled<S>>, Mailbox>) {
        self.0.lock().rings.insert(ring.beside().id, ring);
    }

    pub(crate) fn leave(&self, id: u64) {
        let ring = self.0.lock().rings.remove(&id);
        // Not under the lock: it may be the last handle.
        drop(ring);
    }

    /// Keeps everybody else out of the table.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Drop + '_ {
        self.0.lock()
    }

    pub(crate) fn rings(&self) -> Vec<Observer<Shared<Labelled<S>>, Mailbox>> {
        self.0.lock().rings.values().cloned().collect()
    }
}
