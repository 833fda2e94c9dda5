//! The subscription that the streams of one connection share, so that a publish costs a push for each connection.

use std::sync::Arc;

use configstream_engine::settings::Resolution;
use configstream_engine::{Engine, Reader, WaitSet, WeakFeed};
use parking_lot::Mutex;

/// Of one connection.
pub(crate) struct Feeds<S: Resolution>(Arc<Mutex<Option<Newest<S>>>>);

/// What the last stream was opened with. Its streams keep it.
struct Newest<S: Resolution> {
    feed: WeakFeed<S>,
    /// As was asked for; `None` is the engine's.
    capacity: Option<usize>,
}

impl<S: Resolution> Feeds<S> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// One more stream, of whose updates so many are kept, and which waits at `updates`. A capacity that was changed while
    /// the server runs holds for new streams, and so begins a feed.
    pub(crate) fn reader(
        &self,
        engine: &Engine<S>,
        updates: &WaitSet,
        capacity: Option<usize>,
        name: &str,
    ) -> Reader<S> {
        let mut newest = self.0.lock();
        let shared = newest.as_ref().filter(|newest| newest.capacity == capacity);
        if let Some(feed) = shared.and_then(|newest| newest.feed.upgrade()) {
            return feed.reader(name);
        }
        let mut subscription = engine.subscription().wait_set(updates);
        if let Some(updates) = capacity {
            subscription = subscription.capacity(updates);
        }
        let feed = subscription.feed();
        *newest = Some(Newest {
            feed: feed.downgrade(),
            capacity,
        });
        feed.reader(name)
    }
}

impl<S: Resolution> Clone for Feeds<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
