//! Connections: accepted, trusted, served, and let go.
//!
//! The loop is ours rather than tonic's, which can neither pin a certificate that is its own authority, nor bound
//! handshakes, send buffers and stalls.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use configstream_engine::settings::Resolution;
use futures_util::StreamExt;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use crate::server::admin::{Audited, is_change, tell_unread};
use crate::server::auth;
use crate::server::bounds::ServerBounds;
use crate::server::connections::{Link, Place};
use crate::server::core::Core;
use crate::server::cork::Corked;
use crate::server::handshakes::UnderWay;
use crate::server::limits::{LONGEST_KEEPALIVE, Limits};
use crate::server::outgoing::Outgoing;
use crate::server::peer::Peer;
use crate::server::preface::{self, Prefaced};
use crate::server::request::Timed;
use crate::server::service::{Connection, Over, STREAM_CONFIG_EVENTS, stream_config_events};
use crate::server::together::{Beside, Together};
use crate::server::unix::UnixTransport;
use crate::server::unread::{Reply, Unread};

/// A bound socket to serve on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// What every connection of a server needs.
pub(crate) struct Acceptor<S: Resolution> {
    pub(crate) core: Arc<Core<S>>,
    pub(crate) routes: Routes,
    /// No new connections; those there are finish their requests.
    pub(crate) closing: CancellationToken,
    /// No connections.
    pub(crate) abort: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl<S: Resolution> Acceptor<S> {
    /// Accepts until the server closes.
    pub(crate) async fn serve(self: Arc<Self>, listener: Listener) {
        loop {
            let descriptors = self.core.bounds.granted().limits.descriptors;
            let accepting = accept(&listener, descriptors);
            let accepted = self.closing.run_until_cancelled(accepting).await;
            match accepted {
                None => return,
                Some(Ok((Either::Left(stream), peer))) => self.admit(stream, peer),
                Some(Ok((Either::Right(stream), peer))) => self.admit(stream, peer),
                // Whoever knocked has gone again.
                Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Some(Err(error)) => {
                    // Out of descriptors, mostly: peers that are not trusted hold them for as long
                    // as they may shake hands. Trying again at once would only burn the processor,
                    // and would take the place of a handshake that has just begun.
                    if let Some(unsaid) = self.core.accept_log.admit() {
                        tracing::warn!(%error, unsaid, "cannot accept a connection");
                    }
                    if self.core.handshakes.give_way() == 0
                        && let Some(link) = self.core.connections.give_way()
                    {
                        self.core.tell_displaced(&link);
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
    ) {
        let limit = self.core.bounds.granted().limits.handshakes;
        let handshake = self.core.handshakes.begin(limit);
        let this = self.clone();
        self.tasks.spawn(async move {
            if let Some(stream) = this.shake(stream, peer, handshake).await {
                this.converse(stream, this.enter(peer)).await;
            }
        });
    }

    /// Serves a peer whom somebody else has let in.
    pub(crate) fn admit_trusted(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        let place = self.enter(Peer::OfTheHost);
        let this = self.clone();
        self.tasks.spawn(async move {
            let limit = this.core.bounds.granted().limits.handshake_timeout;
            let reading = timeout(limit, preface::read(stream));
            match this.closing.run_until_cancelled(reading).await {
                Some(Ok(Ok(stream))) => this.converse(stream, place).await,
                Some(_) => tracing::debug!("a connection that does not speak HTTP/2"),
                None => {}
            }
        });
    }

    /// A place for one more connection.
    fn enter(&self, peer: Peer) -> Place {
        let limit = self.core.bounds.granted().limits.trusted_connections();
        let hang_up = self.abort.child_token();
        let (place, displaced) = self.core.connections.enter(peer, hang_up, limit);
        if let Some(link) = displaced {
            self.core.tell_displaced(&link);
        }
        place
    }

    /// The peer, when it has shown that it can be trusted, and in time.
    async fn shake<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: T,
        peer: Peer,
        handshake: UnderWay,
    ) -> Option<Prefaced<TlsStream<T>>> {
        let limit = self.core.bounds.granted().limits.handshake_timeout;
        let tls = self.core.credentials.tls();
        let shaken = tokio::select! {
            shaken = timeout(limit, self.core.handshakes.in_turn(preface::shake(&tls, stream))) => shaken
                .unwrap_or_else(|_| Err(io::Error::other(format!("it took longer than {limit:?}")))),
            () = handshake.given_away() => {
                Err(io::Error::other("of too many at a time it was the oldest"))
            }
            () = self.closing.cancelled() => return None,
        };
        shaken
            .inspect_err(|error| self.core.refuse_handshake(peer, error))
            .ok()
    }

    /// Serves a peer that is trusted.
    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        place: Place,
    ) {
        let Link { peer, hang_up, .. } = &*place.link;
        let (beside, mut together) = Together::new();
        let builder = protocol(&self.core.bounds.granted().limits, beside);
        let over = self.core.over(Connection {
            link: place.link.clone(),
            unread: Unread::default(),
            turns: together.turns(),
        });
        let service = service_fn(|request| self.call(request, &over));
        let stream = Corked::new(stream);
        let transport = TokioIo::new(stream.clone());
        let mut served = pin!(builder.serve_connection(transport, service));
        let closing = async {
            tokio::select! {
                () = hang_up.cancelled() => false,
                () = stuck(&stream, &over.connection.unread, &self.core.bounds) => {
                    tracing::warn!(%peer, "Hanging up on a peer that does not read");
                    false
                }
                () = self.closing.cancelled() => true,
            }
        };
        // A set, of one, since that polls who was woken: a connection is polled for each publish, these hardly ever.
        let mut closing = FuturesUnordered::from_iter([closing]);
        let ended = tokio::select! {
            // Or a connection that is never through with its work would spend what tokio grants a task, and be left no end.
            biased;
            Some(closing) = closing.next() => if closing {
                served.as_mut().graceful_shutdown();
                let finish = poll_fn(|cx| together.poll(served.as_mut(), &stream, cx));
                hang_up.run_until_cancelled(finish).await
            } else {
                None
            },
            ended = poll_fn(|cx| together.poll(served.as_mut(), &stream, cx)) => Some(ended),
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }

    /// Lets a request through the gate, and to its handler.
    fn call(
        &self,
        request: http::Request<Incoming>,
        over: &Over<S>,
    ) -> impl Future<Output = Result<http::Response<Outgoing<S>>, Infallible>> + Send + use<S> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path();
        let admitted = auth::admit(&self.core.credentials, path, &parts.headers);
        let streams = path == STREAM_CONFIG_EVENTS;
        let limit = self.core.bounds.granted().limits.request_timeout;
        let audited = is_change(path).then(|| (Audited::default(), path.to_owned()));
        let link = &over.connection.link;
        let body = Timed::new(body, path, limit, self.core.requests.hold(link));
        let body = Body::new(body);
        link.begin_request();
        if let Some((audited, _)) = &audited {
            parts.extensions.insert(audited.clone());
        }
        parts.extensions.insert(link.clone());
        let request = http::Request::from_parts(parts, body);
        let (core, mut routes, over) = (self.core.clone(), self.routes.clone(), over.clone());
        let (refusals, peer) = (self.core.clone(), over.connection.link.peer);
        // In a box, or a stream would keep the room for it.
        Box::pin(async move {
            let unread = over.connection.unread.clone();
            let held = core.replies.hold(&over.connection.link);
            let reply = match admitted {
                Err(refusal) => Status::from(refusal).into_http(),
                Ok(()) if streams => match stream_config_events(core, over, request).await {
                    Ok(events) => return Ok(events.map(Outgoing::Events)),
                    Err(status) => status.into_http(),
                },
                // Always ready: each route is a service of its own, and none of ours waits.
                Ok(()) => routes.call(request).await?,
            };
            if let Some((audited, path)) = audited
                && audited.lacks_line(&reply)
                && let Some(unsaid) = refusals.refused_change_log.admit()
            {
                tell_unread(&path, &peer, &reply, unsaid);
            }
            Ok(reply.map(|body| Outgoing::Reply(Reply::new(body, unread, held))))
        })
    }
}

/// HTTP/2 within the limits.
fn protocol(limits: &Limits, beside: Beside) -> http2::Builder<Beside> {
    let mut builder = http2::Builder::new(beside);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.header_bytes)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .max_send_buf_size(limits.send_buffer_bytes.clamp(1, u32::MAX as usize))
        .initial_stream_window_size(RECEIVE_WINDOW_BYTES)
        .initial_connection_window_size(RECEIVE_WINDOW_BYTES)
        .keep_alive_interval(limits.keepalive_interval.min(LONGEST_KEEPALIVE))
        .keep_alive_timeout(limits.answer_timeout().min(LONGEST_KEEPALIVE));
    builder
}

/// Ends when a peer has taken nothing for the stall timeout, or not what waits for it: its streams may have ended already,
/// and what the connection would still say reaches nobody.
async fn stuck<T: AsyncWrite + Unpin>(
    transport: &Corked<T>,
    unread: &Unread,
    bounds: &ServerBounds,
) {
    loop {
        let changed = bounds.changed();
        let limit = bounds.granted().limits.stall_timeout;
        if transport.is_blocked_for(limit) || unread.is_stuck_for(limit) {
            return;
        }
        // In time or not: either is the time to look again.
        let _ = timeout((limit / 4).max(SHORTEST_LOOK), changed).await;
    }
}

/// The next connection, on a descriptor below a number.
async fn accept(
    listener: &Listener,
    descriptors: usize,
) -> io::Result<(Either<TcpStream, UnixTransport>, Peer)> {
    let check = |stream: &dyn AsRawFd| match usize::try_from(stream.as_raw_fd()) {
        Ok(descriptor) if descriptor < descriptors => Ok(()),
        _ => Err(io::Error::other(
            "connections hold as many files as they may",
        )),
    };
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            check(&stream)?;
            // Updates are small and wanted now. Where this fails, the connection is about to fail on its own.
            let _ = stream.set_nodelay(true);
            Ok((Either::Left(stream), Peer::Tcp(address)))
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            check(&stream)?;
            let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
            Ok((
                Either::Right(UnixTransport::new(stream)?),
                Peer::Unix(process),
            ))
        }
    }
}

/// Some handshakes' time. As many as wait in the system's queue, about a thousand, are accepted or
/// hung up on within two seconds, since several fit between two pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// Requests of a connection that its peer has reset before they were looked at. One more, and the peer is told to calm down
/// and hung up on.
const PENDING_RESETS: usize = 20;

/// Errors of a peer that were answered by resetting a stream, refused streams included, in the life of a connection; then as
/// above.
const ERROR_RESETS: usize = 1_024;

/// Requests are small, so one window for all is plenty.
const RECEIVE_WINDOW_BYTES: u32 = 256 * 1024;
