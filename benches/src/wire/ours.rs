//! This project's server.

use std::io;

use configstream_engine::Engine;
use configstream_engine::settings::{Change, Key, Settings, Source};
use configstream_grpc::{Identity, Limits, Server, ServerHandle, Token, UnixTransport};
use tokio::net::UnixStream;

use super::server::{RING_CAPACITY, Service, Socket, Stream, nth_of, update_keys};

pub(super) struct Ours {
    engine: Engine<Settings>,
    handle: ServerHandle<Settings>,
    keys: Vec<Key>,
}

impl Ours {
    /// On the current runtime.
    pub(super) fn start(settings: Settings, identity: Identity, token: Token) -> Self {
        let engine = Engine::builder(settings)
            .ring_capacity(RING_CAPACITY)
            .build()
            .expect("a ring with room");
        let handle = Server::builder(engine.clone(), identity, token)
            .limits(Limits::default().connections(2_048))
            .build()
            .serve([]);
        Self {
            engine,
            handle,
            keys: update_keys().collect(),
        }
    }
}

impl Service for Ours {
    fn unix(&self, socket: UnixStream) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(UnixTransport::new(socket)?))
    }

    fn serve_connection(&self, socket: Socket) {
        self.handle.serve_connection(socket);
    }

    fn publish(&self, nth: u64, due_ns: u64) {
        let due = i64::try_from(due_ns).expect("a moment below 2^53");
        let key = nth_of(&self.keys, nth).clone();
        let change = Change::set(Source::File, key, due);
        self.engine.publish(&change).expect("a setting that fits");
    }

    fn slowest_lag(&self) -> u64 {
        // Further behind: it has stopped reading. A publisher that waits for the others lets them never get there.
        let lags = self.handle.lags().into_iter();
        let of_readers = lags.filter(|lag| *lag < RING_CAPACITY as u64);
        of_readers.max().unwrap_or(0)
    }
}
