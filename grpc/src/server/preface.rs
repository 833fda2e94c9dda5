//! The start of a connection, until it is one: TLS, and the preface by which a client shows that it speaks HTTP/2.
//!
//! hyper waits for the preface as long as the peer likes, so it is read here, under the same deadline as the handshake, and
//! put back in front of what follows.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Shakes hands with a peer and reads its preface.
pub(crate) async fn shake<T: AsyncRead + AsyncWrite + Unpin>(
    tls: &TlsAcceptor,
    stream: T,
) -> io::Result<Prefaced<TlsStream<T>>> {
    read(tls.accept(stream).await?).await
}

/// Reads the preface of a peer.
pub(crate) async fn read<T: AsyncRead + Unpin>(mut stream: T) -> io::Result<Prefaced<T>> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface == *PREFACE {
        Ok(Prefaced {
            stream,
            replayed: 0,
        })
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the peer does not speak HTTP/2",
        ))
    }
}

/// A stream whose reader gets to see the preface again.
#[derive(Debug)]
pub(crate) struct Prefaced<T> {
    stream: T,
    /// How much of it was.
    replayed: usize,
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefaced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &PREFACE[self.replayed..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let some = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..some]);
        self.replayed += some;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefaced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// RFC 9113, 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
