//! What the server knows of one open stream: how far it is, whether it still takes, and how to end it.
//!
//! Shared by the stream itself, which a connection polls, and the registry, which looks at it once a second.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use configstream_engine::{ReaderObserver, State, SubscriptionStats};
use metrics::Counter;

use crate::server::connections::Link;
use crate::server::progress::{Position, Progress};
use crate::server::service::Connection;
use crate::server::unread::until_let_go;
use crate::status::Refusal;

/// One open stream of configuration events.
pub(crate) struct OpenStream {
    pub(crate) name: String,
    pub(crate) session_id: String,
    pub(crate) opened: Instant,
    reader: Box<dyn Watched>,
    /// What the stream runs over, with all else that does.
    connection: Connection,
    pub(crate) progress: Progress,
    /// How many pieces the connection was given.
    given: AtomicU64,
    /// How many dropped updates the metric has heard of.
    reported_dropped: AtomicU64,
    end: OnceLock<Refusal>,
}

impl OpenStream {
    pub(crate) fn new(
        name: String,
        session_id: String,
        opened: Instant,
        connection: Connection,
        reader: impl Watched + 'static,
    ) -> Self {
        Self {
            name,
            session_id,
            opened,
            reader: Box::new(reader),
            connection,
            progress: Progress::default(),
            given: AtomicU64::new(0),
            reported_dropped: AtomicU64::new(0),
            end: OnceLock::new(),
        }
    }

    /// Tells the stream to end with `reason`. The first reason stays.
    pub(crate) fn end(&self, reason: Refusal) {
        let _ = self.end.set(reason);
        self.connection.turns.everyone.wake_by_ref();
        self.progress.finish();
    }

    /// Hangs up on the peer: for a stream that takes nothing, and so cannot be told anything.
    pub(crate) fn hang_up(&self) {
        self.connection.link.hang_up.cancel();
    }

    /// What it runs over, as the tables know it.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.connection.link
    }

    /// Why the stream has to end, if it has to.
    pub(crate) fn end_reason(&self) -> Option<&Refusal> {
        self.end.get()
    }

    /// The same bytes, for the connection, which are with it until it lets go of them. They are all there is up to
    /// `position`, where a frame ends with them.
    pub(crate) fn give(self: &Arc<Self>, bytes: Bytes, position: Option<Position>) -> Bytes {
        // Relaxed, here and in `is_waiting`: a statistic, looked at once a second.
        self.given.fetch_add(1, Ordering::Relaxed);
        let stream = self.clone();
        until_let_go(bytes, Piece { position, stream })
    }

    /// Whether there is something that the connection has not sent yet.
    pub(crate) fn is_waiting(&self) -> bool {
        if self.given.load(Ordering::Relaxed) != self.progress.steps() || self.end.get().is_some() {
            return true;
        }
        self.lag() != Some(0)
    }

    /// How many updates it has yet to take; `None` before its first snapshot.
    pub(crate) fn lag(&self) -> Option<u64> {
        self.reader.lag()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end_reason().is_some()
    }

    /// Adds what was dropped since the last report; also for a stream that takes nothing, so that the metric moves.
    pub(crate) fn report_dropped(&self, metric: &Counter) {
        let dropped = self.figures().dropped;
        let reported = self.reported_dropped.fetch_max(dropped, Ordering::Relaxed);
        metric.increment(dropped.saturating_sub(reported));
    }

    pub(crate) fn figures(&self) -> SubscriptionStats {
        self.reader.figures()
    }
}

/// The figures of what the stream reads, whatever state is replicated.
pub(crate) trait Watched: Send + Sync {
    fn figures(&self) -> SubscriptionStats;

    /// As there, at less cost; `None` before the first snapshot.
    fn lag(&self) -> Option<u64>;
}

impl<S: State> Watched for ReaderObserver<S> {
    fn figures(&self) -> SubscriptionStats {
        self.stats()
    }

    fn lag(&self) -> Option<u64> {
        self.lag()
    }
}

/// What a connection was given, until it is let go: HTTP/2 takes it before there is a window for it.
struct Piece {
    position: Option<Position>,
    stream: Arc<OpenStream>,
}

impl Drop for Piece {
    /// Also when the stream is reset or its connection breaks: then nobody waits for it much longer.
    fn drop(&mut self) {
        self.stream.progress.advance(self.position);
    }
}

impl fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStream")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
