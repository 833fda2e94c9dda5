//! Sockets, and how their reader waits for what comes.

use std::hint::spin_loop;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use clap::ValueEnum;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::wire::access::Access;

/// How a reader waits for what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Receiver {
    /// Tasks of one tokio runtime: the thread that polls sockets wakes the task, which reads.
    #[default]
    Async,
    /// A thread for each connection, asleep in `read`.
    Parked,
    /// A thread for each connection that never sleeps and reads again and again.
    Spinning,
}

impl Receiver {
    /// As it stands in options and identifiers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Parked => "parked",
            Self::Spinning => "spinning",
        }
    }
}

/// A connected socket. Of a receiver that is a thread, it is never pending: it waits itself.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) async fn connect(
    receiver: Receiver,
    access: &Access,
    address: &str,
) -> io::Result<Box<dyn Stream>> {
    let socket: Box<dyn Stream> = match (receiver, access.unix) {
        (Receiver::Async, true) => Box::new(UnixStream::connect(address).await?),
        (Receiver::Async, false) => {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Box::new(socket)
        }
        (_, true) => {
            let socket = std::os::unix::net::UnixStream::connect(address)?;
            socket.set_nonblocking(receiver == Receiver::Spinning)?;
            Box::new(Waiting::new(socket))
        }
        (_, false) => {
            let socket = std::net::TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(receiver == Receiver::Spinning)?;
            Box::new(Waiting::new(socket))
        }
    };
    if !access.tls {
        return Ok(socket);
    }
    // tokio-rustls goes on reading before it sends the end of its handshake, and has to be told that nothing is there.
    if receiver != Receiver::Async {
        let text = "with TLS there are only async receivers";
        return Err(io::Error::new(ErrorKind::Unsupported, text));
    }
    let tls = TlsConnector::from(Arc::new(access.identity()?.client_config()));
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    Ok(Box::new(tls.connect(name, socket).await?))
}

/// Waits in the calling thread: in the kernel or, when the socket does not block, by asking again.
struct Waiting<T> {
    socket: T,
    /// Initialised once, so that a read costs no more than what came.
    buffer: Box<[u8]>,
}

impl<T: Read + Write> Waiting<T> {
    fn new(socket: T) -> Self {
        Self {
            socket,
            buffer: vec![0; BUFFER_BYTES].into(),
        }
    }
}

fn wait<R>(mut attempt: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => spin_loop(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl<T: Read + Write + Unpin> AsyncRead for Waiting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            socket,
            buffer: own,
        } = &mut *self;
        let room = own.len().min(buffer.remaining());
        let read = wait(|| socket.read(&mut own[..room]))?;
        buffer.put_slice(&own[..read]);
        Poll::Ready(Ok(()))
    }
}

impl<T: Read + Write + Unpin> AsyncWrite for Waiting<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(wait(|| self.socket.write(bytes)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(wait(|| self.socket.flush()))
    }

    /// The process ends, and its sockets with it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const BUFFER_BYTES: usize = 256 * 1024;
