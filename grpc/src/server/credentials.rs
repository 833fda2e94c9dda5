//! What peers have to show: the newest certificate and token, and those before for a while after
//! they were replaced.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

use crate::server::bounds::ServerBounds;
use crate::tls::Identity;
use crate::token::Token;

/// The certificate and the token of a running server, to be replaced from anywhere; see
/// [`ServerHandle::credentials`](crate::ServerHandle::credentials). Clones are the same
/// credentials.
///
/// The server shows the newest certificate at once. For as long as [`Limits::credentials_overlap`]
/// says, it also accepts the certificate before it from a client, and the token before it with a
/// call. Connections that are open stay open, and so do their streams.
///
/// [`Limits::credentials_overlap`]: crate::Limits::credentials_overlap
#[derive(Clone)]
pub struct ServerCredentials(Arc<Shared>);

struct Shared {
    current: ArcSwap<Current>,
    bounds: ServerBounds,
}

/// What is accepted at one moment.
struct Current {
    identity: Identity,
    identity_before: Option<(Identity, Instant)>,
    token: Token,
    token_before: Option<(Token, Instant)>,
    tls: TlsAcceptor,
}

/// What has been replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replaced {
    /// Whether the certificate is another one.
    pub certificate: bool,
    /// Whether the token is another one.
    pub token: bool,
    /// For how long those before are accepted, too.
    pub overlap: Duration,
}

impl Current {
    fn new(
        (identity, identity_before): (Identity, Option<(Identity, Instant)>),
        (token, token_before): (Token, Option<(Token, Instant)>),
    ) -> Self {
        let config = identity.server_config_beside(identity_before.as_ref());
        Self {
            tls: TlsAcceptor::from(Arc::new(config)),
            identity,
            identity_before,
            token,
            token_before,
        }
    }
}

impl ServerCredentials {
    pub(crate) fn new(identity: Identity, token: Token, bounds: ServerBounds) -> Self {
        let current = Current::new((identity, None), (token, None));
        Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(current),
            bounds,
        }))
    }

    /// Replaces both; what is the same stays as it is. Of what was replaced before, nothing is
    /// accepted any more: there is one certificate before the newest, and one token.
    pub fn replace(&self, identity: &Identity, token: &Token) -> Replaced {
        let overlap = self.0.bounds.granted().limits.credentials_overlap;
        let until = Instant::now().checked_add(overlap);
        let mut replaced = Replaced {
            certificate: false,
            token: false,
            overlap,
        };
        self.0.current.rcu(|old| {
            replaced.certificate = !identity.is_same_as(&old.identity);
            replaced.token = !token.is_same_as(&old.token);
            if !replaced.certificate && !replaced.token {
                return old.clone();
            }
            let identities = match replaced.certificate {
                true => (
                    identity.clone(),
                    until.map(|until| (old.identity.clone(), until)),
                ),
                false => (old.identity.clone(), old.identity_before.clone()),
            };
            let tokens = match replaced.token {
                true => (token.clone(), until.map(|until| (old.token.clone(), until))),
                false => (old.token.clone(), old.token_before.clone()),
            };
            Arc::new(Current::new(identities, tokens))
        });
        replaced
    }

    /// How a connection that comes now shakes hands.
    pub(crate) fn tls(&self) -> TlsAcceptor {
        self.0.current.load().tls.clone()
    }

    /// Whether `authorization` presents a token that is accepted now.
    pub(crate) fn accept(&self, authorization: &[u8]) -> bool {
        let current = self.0.current.load();
        let before = current.token_before.as_ref();
        let before = before.filter(|(_, until)| Instant::now() < *until);
        current.token.is_presented_by(authorization)
            || before.is_some_and(|(token, _)| token.is_presented_by(authorization))
    }
}

impl fmt::Debug for ServerCredentials {
    /// Prints neither key nor token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCredentials").finish_non_exhaustive()
    }
}
