//! The server: an engine's configuration over gRPC.

mod accept;
mod admin;
mod auth;
mod bell;
mod body;
mod bounds;
mod budget;
mod builder;
mod connections;
mod core;
mod cork;
mod credentials;
mod handle;
mod handshakes;
mod limits;
mod open_stream;
mod outgoing;
mod peer;
mod preface;
mod progress;
mod reflection;
mod registration;
mod registry;
mod request;
mod routes;
mod service;
mod session;
mod sparing;
mod stream;
mod together;
mod unix;
mod unread;
mod wait;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use configstream_engine::Engine;
use configstream_engine::settings::Resolution;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tonic_health::server::HealthReporter;

pub use self::accept::Listener;
pub use self::admin::{
    AUDIT_LOG, AdminBackend, AdminError, Applied, ChangeRequest, Conditions, Difference, Edit,
    Explanation, HostStatus, SourceReport,
};
pub use self::bounds::ServerBounds;
pub use self::builder::ServerBuilder;
pub use self::core::ServerStats;
pub use self::credentials::{Replaced, ServerCredentials};
pub use self::handle::{ServerHandle, ServerObserver};
pub use self::limits::Limits;
pub use self::registration::Registration;
pub use self::session::{AgentReport, Sessions, StreamReport};
pub use self::unix::UnixTransport;

pub(crate) use self::limits::LONGEST_KEEPALIVE;

use self::accept::Acceptor;
use crate::tls::Identity;
use crate::token::Token;

/// A server over an engine: the streams, the registry of remote agents that authorises them, administration, health
/// and reflection. Generic over what resolves the settings, so that a replica can be served again.
///
/// # Examples
///
/// ```no_run
/// # use configstream_grpc::{Identity, Server, Token};
/// # use configstream_engine::{Engine, settings::Settings};
/// # async fn example(engine: Engine<Settings>, identity: Identity, token: Token) -> std::io::Result<()> {
/// let server = Server::builder(engine, identity, token).origin("agent.yaml").build();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:5001").await?;
/// let handle = server.serve_tcp(listener);
/// // … until it is time to go:
/// handle.shutdown(std::time::Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a server serves nothing until it is given listeners"]
pub struct Server<S: Resolution> {
    acceptor: Arc<Acceptor<S>>,
    health: HealthReporter,
}

impl<S: Resolution> Server<S> {
    /// What streams are said to describe, unless the host knows better.
    pub const DEFAULT_ORIGIN: &'static str = "core-agent";

    /// A server over `engine`, which only holders of `identity` reach, and only with `token`.
    pub fn builder(engine: Engine<S>, identity: Identity, token: Token) -> ServerBuilder<S> {
        ServerBuilder::new(engine, identity, token)
    }

    /// Serves on a TCP socket. Spawns onto the current tokio runtime.
    pub fn serve_tcp(self, listener: TcpListener) -> ServerHandle<S> {
        self.serve([listener.into()])
    }

    /// Serves on a Unix socket. Spawns onto the current tokio runtime.
    pub fn serve_unix(self, listener: UnixListener) -> ServerHandle<S> {
        self.serve([listener.into()])
    }

    /// Serves on several sockets. Spawns onto the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn serve(self, listeners: impl IntoIterator<Item = Listener>) -> ServerHandle<S> {
        let Self { acceptor, health } = self;
        for listener in listeners {
            acceptor.tasks.spawn(acceptor.clone().serve(listener));
        }
        acceptor.tasks.spawn(sweep(acceptor.clone()));
        ServerHandle { acceptor, health }
    }
}

impl<S: Resolution> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.acceptor.core).finish()
    }
}

/// Looks at sessions and streams until the server closes, and at once when its bounds change.
async fn sweep<S: Resolution>(acceptor: Arc<Acceptor<S>>) {
    let core = &acceptor.core;
    let sweeps = async {
        loop {
            let changed = core.bounds.changed();
            core.registry.sweep();
            let interval = core.bounds.granted().sessions.sweep_interval;
            // In time or not: either is the time for the next.
            let _ = timeout(interval.max(SHORTEST_INTERVAL), changed).await;
        }
    };
    acceptor.closing.run_until_cancelled(sweeps).await;
}

/// However often sweeps are asked for, there is time for something else.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
