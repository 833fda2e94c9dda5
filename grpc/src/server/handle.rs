//! What a host holds of a running server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use configstream_engine::settings::Resolution;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::server::accept::Acceptor;
use crate::server::bounds::ServerBounds;
use crate::server::core::{Core, ServerStats};
use crate::server::credentials::ServerCredentials;
use crate::server::routes::services;
use crate::server::session::AgentReport;
use crate::status::Refusal;

/// A running server. Dropping the handle leaves it running.
#[must_use = "only its handle can shut a server down"]
pub struct ServerHandle<S: Resolution> {
    pub(super) acceptor: Arc<Acceptor<S>>,
    pub(super) health: HealthReporter,
}

impl<S: Resolution> ServerHandle<S> {
    /// Ends every stream with `Unavailable`, accepts nothing any more, and waits for the connections to finish; those
    /// which have not within `deadline` are cut.
    pub async fn shutdown(self, deadline: Duration) {
        let Self {
            acceptor,
            mut health,
        } = self;
        for service in services::<S>() {
            health
                .set_service_status(service, ServingStatus::NotServing)
                .await;
            // Ends those who watch it, once they have been told; they would stay as long as they may.
            health.clear_service_status(service).await;
        }
        acceptor.core.registry.close(&Refusal::ShuttingDown);
        acceptor.closing.cancel();
        acceptor.tasks.close();
        if timeout(deadline, acceptor.tasks.wait()).await.is_err() {
            let connections = acceptor.core.stats().connections;
            tracing::warn!(
                connections,
                "cutting connections that did not finish in time"
            );
            acceptor.abort.cancel();
            acceptor.tasks.wait().await;
        }
    }

    /// Serves a connection that the host has accepted itself, and trusts: over a transport of its own, or after a TLS
    /// handshake of its own. Nothing is asked here but the token and the session, and to begin within
    /// [`handshake_timeout`](crate::Limits::handshake_timeout). Spawns onto the current tokio runtime.
    ///
    /// Unix sockets are cheaper as a [`UnixTransport`](crate::UnixTransport), which those of a
    /// [`Listener`](crate::Listener) are anyway.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn serve_connection(
        &self,
        connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        self.acceptor.admit_trusted(connection);
    }

    /// What the server has done so far, and is doing.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.acceptor.core.stats()
    }

    /// The remote agents registered now, oldest first, with their streams.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentReport> {
        self.acceptor.core.registry.report()
    }

    /// How many updates each open stream has yet to take, for a publisher that paces itself; without those that have yet to
    /// take their first snapshot. Does not wait for streams.
    #[must_use]
    pub fn lags(&self) -> Vec<u64> {
        self.acceptor.core.registry.lags()
    }

    /// What the server grants, to be read and changed while it runs.
    #[must_use]
    pub fn bounds(&self) -> ServerBounds {
        self.acceptor.core.bounds.clone()
    }

    /// The certificate and the token of the server, to be replaced while it runs.
    #[must_use]
    pub fn credentials(&self) -> ServerCredentials {
        self.acceptor.core.credentials.clone()
    }

    /// A view of the figures that can be kept apart from the handle.
    #[must_use]
    pub fn observer(&self) -> ServerObserver<S> {
        ServerObserver {
            core: self.acceptor.core.clone(),
        }
    }
}

/// A look at a running server's figures from anywhere.
pub struct ServerObserver<S: Resolution> {
    core: Arc<Core<S>>,
}

impl<S: Resolution> ServerObserver<S> {
    /// See [`ServerHandle::stats`].
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.core.stats()
    }

    /// See [`ServerHandle::agents`].
    #[must_use]
    pub fn agents(&self) -> Vec<AgentReport> {
        self.core.registry.report()
    }
}

impl<S: Resolution> Clone for ServerObserver<S> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
        }
    }
}

impl<S: Resolution> fmt::Debug for ServerHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerHandle")
            .field(&self.acceptor.core)
            .finish()
    }
}

impl<S: Resolution> fmt::Debug for ServerObserver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerObserver").field(&self.core).finish()
    }
}
