//! Connecting: where to, as whom, and how long to wait.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use crate::address::Address;
use crate::client::Client;
use crate::server::LONGEST_KEEPALIVE;
use crate::tls::Identity;
use crate::token::Token;

/// How to reach an agent: its address, the certificate both sides pin, and the token.
#[derive(Clone)]
#[must_use = "call `connect`"]
pub struct Connector {
    address: Address,
    identity: Identity,
    tls: Arc<ClientConfig>,
    token: Token,
    connect_timeout: Duration,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
    window_bytes: u32,
}

impl Connector {
    /// Default of [`connect_timeout`](Self::connect_timeout).
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default interval of [`keepalive`](Self::keepalive).
    pub const DEFAULT_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
    /// Default timeout of [`keepalive`](Self::keepalive).
    pub const DEFAULT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
    /// Default of [`window_bytes`](Self::window_bytes).
    pub const DEFAULT_WINDOW_BYTES: u32 = 1024 * 1024;

    /// Connects to `address`, which has to show `identity`'s certificate and to hold its key.
    pub fn new(address: Address, identity: &Identity, token: Token) -> Self {
        Self {
            address,
            identity: identity.clone(),
            tls: Arc::new(identity.client_config()),
            token,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            keepalive_interval: Self::DEFAULT_KEEPALIVE_INTERVAL,
            keepalive_timeout: Self::DEFAULT_KEEPALIVE_TIMEOUT,
            window_bytes: Self::DEFAULT_WINDOW_BYTES,
        }
    }

    /// How long connecting may take, the TLS handshake included.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often the connection is pinged while a call or a stream is open, and how long the answer may take before it
    /// is given up.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keepalive_interval = interval;
        self.keepalive_timeout = timeout;
        self
    }

    /// How much a stream may be sent ahead of what is read from it. A connection may be sent as much, too. More than
    /// 2^31 - 1 counts as that.
    pub fn window_bytes(mut self, size: u32) -> Self {
        self.window_bytes = size.min(LARGEST_WINDOW_BYTES);
        self
    }

    /// Where it connects to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether another connector goes to the same address with the same credentials.
    pub(crate) fn leads_where(&self, other: &Self) -> bool {
        self.address == other.address
            && self.identity.is_same_as(&other.identity)
            && self.token.is_same_as(&other.token)
    }

    /// Connects. Nothing of the protocol has been spoken then: a server that does not trust this side may say so only
    /// when it is first asked something.
    ///
    /// # Errors
    /// Nobody listens, it took too long, or the other side is not who it should be.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let endpoint = Endpoint::from_static(URI)
            // TLS is ours, not tonic's, but the requests had better say that there is some.
            .origin(http::Uri::from_static(ORIGIN))
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(self.keepalive_interval.min(LONGEST_KEEPALIVE))
            .keep_alive_timeout(self.keepalive_timeout.min(LONGEST_KEEPALIVE))
            .initial_stream_window_size(self.window_bytes)
            .initial_connection_window_size(self.window_bytes);
        let (address, tls) = (self.address.clone(), self.tls.clone());
        let dial = tower::service_fn(move |_| dial(address.clone(), tls.clone()));
        match endpoint.connect_with_connector(dial).await {
            Ok(channel) => Ok(Client::new(InterceptedService::new(
                channel,
                Bearer::new(&self.token),
            ))),
            Err(error) => {
                let reason = innermost(&error);
                let kind = reason.downcast_ref().map(io::Error::kind);
                Err(ConnectError {
                    address: self.address.clone(),
                    reason: reason.to_string(),
                    unanswered: kind.is_some_and(is_unanswered),
                    untrusted: is_untrusted(reason),
                })
            }
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    address: Address,
    reason: String,
    unanswered: bool,
    untrusted: bool,
}

impl ConnectError {
    /// Where it went.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether somebody answered who has another certificate than the one that is trusted, or not the key to it.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        self.untrusted
    }

    /// Whether nobody listens, or whoever does hung up before a word was said.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.unanswered
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.address, self.reason)
    }
}

impl Error for ConnectError {}

/// Puts the token on every request.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    fn new(token: &Token) -> Self {
        let value: HeaderValue = token.to_authorization();
        let mut value =
            MetadataValue::try_from(value.as_bytes()).expect("it was a header value before");
        value.set_sensitive(true);
        Self(value)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert(AUTHORIZATION.as_str(), self.0.clone());
        Ok(request)
    }
}

/// A connection of either kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn dial(address: Address, tls: Arc<ClientConfig>) -> io::Result<TokioIo<Box<dyn Io>>> {
    // The certificate is pinned, so the name decides nothing.
    let name = ServerName::try_from("localhost").expect("it is a DNS name");
    let connector = TlsConnector::from(tls);
    let stream: Box<dyn Io> = match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            // Where this fails, the connection is about to fail on its own.
            let _ = stream.set_nodelay(true);
            Box::new(connector.connect(name, stream).await?)
        }
        Address::Unix(path) => Box::new(
            connector
                .connect(name, UnixStream::connect(path).await?)
                .await?,
        ),
    };
    Ok(TokioIo::new(stream))
}

/// What it comes down to: the outer layers of a transport's error say no more than that it is one.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// What TLS finds wrong comes bare, or as what an error of I/O was made of.
fn is_untrusted(reason: &(dyn Error + 'static)) -> bool {
    let wrapped = reason
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let found = match wrapped {
        Some(error) => error.downcast_ref(),
        None => reason.downcast_ref(),
    };
    matches!(found, Some(rustls::Error::InvalidCertificate(_)))
}

/// Not among these: what takes its time, and a handshake that is answered by a refusal.
fn is_unanswered(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset,
        HostUnreachable, NetworkDown, NetworkUnreachable, NotFound, UnexpectedEof,
    };
    matches!(
        kind,
        AddrNotAvailable
            | BrokenPipe
            | ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | NotFound
            | UnexpectedEof
    )
}

/// RFC 9113, 6.9.1.
const LARGEST_WINDOW_BYTES: u32 = (1 << 31) - 1;

const URI: &str = "http://localhost";
const ORIGIN: &str = "https://localhost";
