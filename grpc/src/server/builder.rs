//! A server's options.

use std::fmt;
use std::sync::Arc;

use configstream_engine::Engine;
use configstream_engine::settings::Resolution;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::encode::Encoder;
use crate::metrics::Telemetry;
use crate::server::Server;
use crate::server::accept::Acceptor;
use crate::server::admin::AdminBackend;
use crate::server::bounds::ServerBounds;
use crate::server::budget::{Budget, REPLY_BYTES, REQUEST_BYTES};
use crate::server::core::Core;
use crate::server::credentials::ServerCredentials;
use crate::server::limits::Limits;
use crate::server::registry::Registry;
use crate::server::routes::routes;
use crate::server::session::Sessions;
use crate::server::sparing::Sparing;
use crate::tls::Identity;
use crate::token::Token;

/// Options of a [`Server`].
#[must_use = "call `build`"]
pub struct ServerBuilder<S: Resolution> {
    engine: Engine<S>,
    identity: Identity,
    token: Token,
    origin: Arc<str>,
    hostname: String,
    limits: Limits,
    sessions: Sessions,
    admin: Option<Arc<dyn AdminBackend>>,
}

impl<S: Resolution> ServerBuilder<S> {
    pub(super) fn new(engine: Engine<S>, identity: Identity, token: Token) -> Self {
        Self {
            engine,
            identity,
            token,
            origin: Server::<S>::DEFAULT_ORIGIN.into(),
            hostname: String::new(),
            limits: Limits::default(),
            sessions: Sessions::default(),
            admin: None,
        }
    }

    /// What the streams describe, for example the base name of a configuration file. Default, and what an empty one
    /// stands for: [`Server::DEFAULT_ORIGIN`].
    pub fn origin(mut self, origin: impl Into<Arc<str>>) -> Self {
        self.origin = origin.into();
        if self.origin.is_empty() {
            self.origin = Server::<S>::DEFAULT_ORIGIN.into();
        }
        self
    }

    /// What `GetHostname` answers. Default: nothing.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = hostname.into();
        self
    }

    /// What peers are granted. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How remote agents are treated. Default: [`Sessions::default`].
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = sessions;
        self
    }

    /// Who applies changes. Default: nobody; the configuration can be read only.
    pub fn admin(mut self, backend: Arc<dyn AdminBackend>) -> Self {
        self.admin = Some(backend);
        self
    }

    /// A server that waits for listeners.
    pub fn build(self) -> Server<S> {
        let telemetry = Arc::new(Telemetry::new());
        let bounds = ServerBounds::new(self.limits.clone(), self.sessions);
        let credentials = ServerCredentials::new(self.identity, self.token, bounds.clone());
        let core = Arc::new(Core {
            engine: self.engine,
            encoder: Encoder::new(self.origin, self.limits.event_bytes),
            registry: Registry::new(bounds.clone(), telemetry.clone()),
            telemetry,
            admin: self.admin,
            bounds,
            request_bytes: self.limits.request_bytes,
            credentials,
            hostname: self.hostname,
            handshakes: Default::default(),
            connections: Default::default(),
            requests: Budget::new(REQUEST_BYTES),
            replies: Budget::new(REPLY_BYTES),
            refused_handshakes: Default::default(),
            handshake_log: Sparing::few(),
            accept_log: Sparing::few(),
            connection_log: Sparing::few(),
            report_log: Sparing::few(),
            stream_log: Sparing::many(),
            subscriber_log: Sparing::many(),
            resync_log: Sparing::many(),
            refused_change_log: Sparing::few(),
            refused_connections: Default::default(),
        });
        let (health, routes) = routes(&core);
        let acceptor = Acceptor {
            core,
            routes,
            closing: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Server {
            acceptor: Arc::new(acceptor),
            health,
        }
    }
}

impl<S: Resolution> fmt::Debug for ServerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("origin", &self.origin)
            .field("limits", &self.limits)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}
