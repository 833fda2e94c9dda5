//! What all parts of one server share.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use configstream_engine::Engine;
use configstream_engine::settings::Resolution;

use crate::encode::Encoder;
use crate::metrics::Telemetry;
use crate::server::admin::AdminBackend;
use crate::server::bounds::ServerBounds;
use crate::server::budget::Budget;
use crate::server::connections::{Connections, Link};
use crate::server::credentials::ServerCredentials;
use crate::server::handshakes::Handshakes;
use crate::server::peer::Peer;
use crate::server::registry::Registry;
use crate::server::service::{Connection, Over};
use crate::server::sparing::Sparing;

/// One server, behind all of its connections.
pub(crate) struct Core<S: Resolution> {
    pub(crate) engine: Engine<S>,
    pub(crate) encoder: Encoder,
    pub(crate) registry: Registry,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) admin: Option<Arc<dyn AdminBackend>>,
    pub(crate) bounds: ServerBounds,
    /// As large as a request message may be.
    pub(crate) request_bytes: usize,
    pub(crate) credentials: ServerCredentials,
    pub(crate) hostname: String,
    pub(crate) handshakes: Handshakes,
    pub(crate) connections: Connections,
    /// What comes in of requests, and what is not read of replies.
    pub(crate) requests: Budget,
    pub(crate) replies: Budget,
    pub(crate) refused_handshakes: AtomicU64,
    pub(crate) handshake_log: Sparing,
    pub(crate) accept_log: Sparing,
    pub(crate) connection_log: Sparing,
    /// What remote agents report goes to the log.
    pub(crate) report_log: Sparing,
    /// Streams that are authorised, and subscribers that join: a client may come back without a pause.
    pub(crate) stream_log: Sparing,
    pub(crate) subscriber_log: Sparing,
    /// Snapshots for subscribers that fell behind.
    pub(crate) resync_log: Sparing,
    /// Changes that are refused before they are read.
    pub(crate) refused_change_log: Sparing,
    pub(crate) refused_connections: AtomicU64,
}

/// What a server has done so far, and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections open now whose peers are trusted.
    pub connections: u64,
    /// Handshakes under way.
    pub handshakes: usize,
    /// Connections that ended before they were trusted: a wrong certificate, a wrong key, no TLS, too slow, too many at a
    /// time.
    pub refused_handshakes: u64,
    /// Connections hung up on because there were too many.
    pub refused_connections: u64,
    /// Sessions there are now.
    pub sessions: usize,
    /// Streams open now.
    pub streams: usize,
    /// Frames made of snapshots. Grows with the versions that somebody joined at, not with who joined.
    pub snapshots_encoded: u64,
    /// Frames made of updates. Grows with the updates, not with the streams.
    pub updates_encoded: u64,
    /// Settings encoded. Grows with the settings set, not with the snapshots and updates they are in.
    pub settings_encoded: u64,
    /// Whether every stream has been handed everything published.
    pub caught_up: bool,
}

impl<S: Resolution> Core<S> {
    pub(crate) fn stats(&self) -> ServerStats {
        let (sessions, streams) = self.registry.counts();
        let made = self.encoder.made();
        // Relaxed, all: statistics.
        ServerStats {
            connections: self.connections.count() as u64,
            handshakes: self.handshakes.count(),
            refused_handshakes: self.refused_handshakes.load(Ordering::Relaxed),
            refused_connections: self.refused_connections.load(Ordering::Relaxed),
            sessions,
            streams,
            snapshots_encoded: made.snapshots,
            updates_encoded: made.updates,
            settings_encoded: made.settings,
            caught_up: self.registry.is_caught_up(),
        }
    }

    /// What requests run over on this connection: one subscription for all of its streams.
    pub(crate) fn over(&self, connection: Connection) -> Over<S> {
        let mut events = self.engine.subscription();
        events = events.wait_set(&connection.turns.updates);
        if let Some(updates) = self.bounds.granted().limits.ring_capacity {
            events = events.capacity(updates);
        }
        Over {
            events: events.share(),
            connection,
        }
    }

    /// Says that a connection has given way to another, and counts it.
    pub(crate) fn tell_displaced(&self, link: &Link) {
        if let Some(unsaid) = self.connection_log.admit() {
            let limit = self.bounds.granted().limits.trusted_connections();
            let peer = link.peer;
            tracing::warn!(%peer, unsaid, "Hung up on a connection for another: there are {limit} already");
        }
        self.refused_connections.fetch_add(1, Ordering::Relaxed);
        self.telemetry.refused_connections.increment(1);
    }

    pub(crate) fn refuse_handshake(&self, peer: Peer, error: &io::Error) {
        if let Some(unsaid) = self.handshake_log.admit() {
            tracing::warn!(%peer, %error, unsaid, "Refused a handshake: {error}");
        }
        self.refused_handshakes.fetch_add(1, Ordering::Relaxed);
        self.telemetry.refused_handshakes.increment(1);
    }
}

impl<S: Resolution> fmt::Debug for Core<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("origin", &self.encoder.origin())
            .finish_non_exhaustive()
    }
}
