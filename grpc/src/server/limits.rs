//! What a server grants its peers at most, and for how long it waits for them.

use std::time::Duration;

use configstream_engine::settings::Settings;

use crate::client::Client;

/// The bounds of a [`Server`](crate::Server). Every one has a value; none is left at a library's default. A running server
/// can be given others: see [`ServerBounds`](crate::ServerBounds).
///
/// ```
/// # use configstream_grpc::Limits;
/// let limits = Limits::default().connections(64).streams_per_connection(16);
/// ```
#[derive(Clone, Debug)]
#[must_use = "limits take effect when a server is given them"]
pub struct Limits {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
    pub(crate) descriptors: usize,
    pub(crate) streams_per_connection: u32,
    pub(crate) streams: usize,
    pub(crate) ring_capacity: Option<usize>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) header_bytes: u32,
    pub(crate) request_bytes: usize,
    pub(crate) event_bytes: usize,
    pub(crate) send_buffer_bytes: usize,
    pub(crate) credentials_overlap: Duration,
}

impl Limits {
    /// Default of [`connections`](Self::connections).
    pub const DEFAULT_CONNECTIONS: usize = 1_024;
    /// Default of [`handshakes`](Self::handshakes): all that may be connected can come back at once.
    pub const DEFAULT_HANDSHAKES: usize = 1_024;
    /// Default of [`streams_per_connection`](Self::streams_per_connection).
    pub const DEFAULT_STREAMS_PER_CONNECTION: u32 = 256;
    /// Default of [`streams`](Self::streams).
    pub const DEFAULT_STREAMS: usize = 8_192;
    /// Default of [`handshake_timeout`](Self::handshake_timeout).
    pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`request_timeout`](Self::request_timeout).
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`stall_timeout`](Self::stall_timeout).
    pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(60);
    /// Default interval of [`keepalive`](Self::keepalive).
    pub const DEFAULT_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
    /// Default timeout of [`keepalive`](Self::keepalive).
    pub const DEFAULT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
    /// Default of [`header_bytes`](Self::header_bytes).
    pub const DEFAULT_HEADER_BYTES: u32 = 16 * 1024;
    /// Default of [`request_bytes`](Self::request_bytes).
    pub const DEFAULT_REQUEST_BYTES: usize = 1024 * 1024;
    /// Default of [`event_bytes`](Self::event_bytes): what clients in the field accept.
    pub const DEFAULT_EVENT_BYTES: usize = 128 * 1024 * 1024;
    /// Default of [`send_buffer_bytes`](Self::send_buffer_bytes).
    pub const DEFAULT_SEND_BUFFER_BYTES: usize = 16 * 1024;

    /// Default of [`credentials_overlap`](Self::credentials_overlap).
    pub const DEFAULT_CREDENTIALS_OVERLAP: Duration = Duration::from_secs(5 * 60);

    /// What a stream whose reader has stopped makes the server hold at most, with the default
    /// [`send_buffer_bytes`](Self::send_buffer_bytes) and on a connection of its own: buffers of the transport, and a piece of
    /// a frame. Beside it there are the updates in its ring, which it shares with other streams; two frames, likewise,
    /// the end of one and the beginning of the next; and what the system holds for the socket.
    pub const STALLED_STREAM_BYTES: usize = 512 * 1024;

    /// Connections at a time, counted when the peer is trusted. The next one takes the place of
    /// another: of the oldest without a stream of events while more than an eighth are without,
    /// else of the oldest after three quarters. 0 counts as 1.
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// Handshakes at a time, beside the connections. The next one takes the place of the oldest, which is hung up on and
    /// counts as refused: so peers that connect and say nothing keep nobody out. 0 counts as 1.
    pub fn handshakes(mut self, count: usize) -> Self {
        self.handshakes = count;
        self
    }

    /// Connections are served on file descriptors below this number, so that the rest of what the
    /// process may open is left for its files: the system gives out the lowest that is free.
    /// Trusted connections may take three quarters of them, so that some are left for handshakes.
    /// One more is hung up on, as where the system has none, and the oldest handshakes make room.
    /// Default: no bound.
    pub fn descriptors(mut self, below: usize) -> Self {
        self.descriptors = below;
        self
    }

    /// Requests at a time on one connection, streams of events included. A client that obeys HTTP/2 waits for its
    /// turn; one that does not has the request refused.
    pub fn streams_per_connection(mut self, count: u32) -> Self {
        self.streams_per_connection = count;
        self
    }

    /// Streams of events at a time, on all connections. One more takes the place of one on the
    /// connection with the most, if that has more than its own would, which ends with
    /// `Unavailable`; otherwise it is itself refused with that.
    pub fn streams(mut self, count: usize) -> Self {
        self.streams = count;
        self
    }

    /// How many updates a stream may fall behind before a snapshot stands in for them. The streams of a connection share a ring of
    /// as many, and a window of as many for those that some have read and others have not: 48 bytes each, where so many wait. 0
    /// counts as 1, and more than [`Engine::MAX_RING_CAPACITY`] as that. Default: the engine's.
    ///
    /// [`Engine::MAX_RING_CAPACITY`]: configstream_engine::Engine::MAX_RING_CAPACITY
    pub fn ring_capacity(mut self, updates: usize) -> Self {
        self.ring_capacity = Some(updates);
        self
    }

    /// How long it may take a peer to finish TLS and to say that it speaks HTTP/2. Whoever takes longer is hung up on and
    /// counts as refused.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long the server waits for a request to end, whether it is for a stream or for one reply. One that takes longer
    /// is refused with `DeadlineExceeded`. A call of reflection may go on asking: there it is the time between questions.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a stream may take nothing although something waits for it, or a reply or the end of a stream stay unread,
    /// before the connection is dropped.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// How often a connection is pinged, and how long the answer may take before the connection is dropped. The answer may
    /// always take as long as the [`stall_timeout`](Self::stall_timeout): a process that is stopped cannot answer, and is not
    /// to lose its connection if it wakes before that.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keepalive_interval = interval;
        self.keepalive_timeout = timeout;
        self
    }

    /// How long a ping's answer may take.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.keepalive_timeout.max(self.stall_timeout)
    }

    /// Size of a request's headers. Larger ones are refused.
    pub fn header_bytes(mut self, size: u32) -> Self {
        self.header_bytes = size;
        self
    }

    /// Size of a request message. Larger ones are refused with `OutOfRange`. Each request of a connection may hold as much
    /// while it comes in, but for the one that needs no token: its message is empty, and may have 4 KiB.
    pub fn request_bytes(mut self, size: usize) -> Self {
        self.request_bytes = size;
        self
    }

    /// Size of an event, be it a snapshot or an update. A stream that would have to send a larger one ends with
    /// `ResourceExhausted`.
    pub fn event_bytes(mut self, size: usize) -> Self {
        self.event_bytes = size;
        self
    }

    /// For how long the certificate and the token before are accepted, too, once a server has been
    /// given others: see [`ServerCredentials`](crate::ServerCredentials).
    pub fn credentials_overlap(mut self, overlap: Duration) -> Self {
        self.credentials_overlap = overlap;
        self
    }

    /// How much one stream may have waiting in the transport, beyond the frame being handed over. 0 counts as 1, and more than
    /// 4 GiB as that.
    pub fn send_buffer_bytes(mut self, size: usize) -> Self {
        self.send_buffer_bytes = size;
        self
    }

    /// How many trusted connections there may be: as many as are granted, in their share of the
    /// descriptors. A peer that is not trusted takes none of that share, so it displaces none of
    /// them.
    pub(crate) fn trusted_connections(&self) -> usize {
        let share = self.descriptors - self.descriptors / 4;
        self.connections.min(share)
    }
}

// A state as large as an engine takes by default reaches every client: on the wire it is smaller than the largest event, which
// our own client takes, too.
const _: () = {
    assert!(Settings::DEFAULT_SIZE_LIMIT < Limits::DEFAULT_EVENT_BYTES as u64);
    assert!(Limits::DEFAULT_EVENT_BYTES <= Client::MESSAGE_BYTES);
};

/// A century, for both sides: HTTP/2 adds it to the time that it is.
pub(crate) const LONGEST_KEEPALIVE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: Self::DEFAULT_CONNECTIONS,
            handshakes: Self::DEFAULT_HANDSHAKES,
            descriptors: usize::MAX,
            streams_per_connection: Self::DEFAULT_STREAMS_PER_CONNECTION,
            streams: Self::DEFAULT_STREAMS,
            ring_capacity: None,
            handshake_timeout: Self::DEFAULT_HANDSHAKE_TIMEOUT,
            request_timeout: Self::DEFAULT_REQUEST_TIMEOUT,
            stall_timeout: Self::DEFAULT_STALL_TIMEOUT,
            keepalive_interval: Self::DEFAULT_KEEPALIVE_INTERVAL,
            keepalive_timeout: Self::DEFAULT_KEEPALIVE_TIMEOUT,
            header_bytes: Self::DEFAULT_HEADER_BYTES,
            request_bytes: Self::DEFAULT_REQUEST_BYTES,
            event_bytes: Self::DEFAULT_EVENT_BYTES,
            send_buffer_bytes: Self::DEFAULT_SEND_BUFFER_BYTES,
            credentials_overlap: Self::DEFAULT_CREDENTIALS_OVERLAP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_connections_leave_descriptors_for_handshakes() {
        let granted = |connections, descriptors| {
            let limits = Limits::default().connections(connections);
            limits.descriptors(descriptors).trusted_connections()
        };
        assert_eq!(granted(1_024, usize::MAX), 1_024);
        assert_eq!(granted(1_024, 160), 120);
        assert_eq!(granted(100, 160), 100);
        assert_eq!(granted(1_024, 1), 1);
    }
}
