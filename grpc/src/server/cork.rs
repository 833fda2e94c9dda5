//! A transport that holds back what is written until the connection has had its turn.
//!
//! HTTP/2 writes a frame at a time. Held back, the frames of one turn leave in one write: fewer system calls, TCP
//! segments and wake-ups of the reader. What is held is bounded, and leaves at the end of every turn. A turn of little
//! gives a large buffer back; one of much keeps it for the next.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One of two handles: HTTP/2's, and that of whoever [lets go](Self::poll_release). Both are used by one task, so the
/// lock is never contended.
pub(crate) struct Corked<T>(Arc<Mutex<Held<T>>>);

struct Held<T> {
    transport: T,
    bytes: BytesMut,
    /// Since all of it was last written out.
    taken: usize,
}

impl<T: AsyncWrite + Unpin> Corked<T> {
    pub(crate) fn new(transport: T) -> Self {
        Self(Arc::new(Mutex::new(Held {
            transport,
            bytes: BytesMut::new(),
            taken: 0,
        })))
    }

    /// Writes out what is held.
    pub(crate) fn poll_release(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        ready!(held.poll_drain(cx))?;
        if std::mem::take(&mut held.taken) <= LITTLE_BYTES && held.bytes.capacity() > LITTLE_BYTES {
            held.bytes = BytesMut::new();
        }
        Pin::new(&mut held.transport).poll_flush(cx)
    }
}

impl<T: AsyncWrite + Unpin> Held<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes.advance(written);
        }
        self.bytes.clear();
        Poll::Ready(Ok(()))
    }

    /// Waits for room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.bytes.len() >= HELD_BYTES {
            ready!(self.poll_drain(cx))?;
        }
        Poll::Ready(Ok(HELD_BYTES - self.bytes.len()))
    }

    fn hold(&mut self, bytes: &[u8], room: usize) -> usize {
        let taken = bytes.len().min(room);
        self.taken += taken;
        if self.bytes.len() + taken > LITTLE_BYTES {
            self.bytes.reserve(room);
        }
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }
}

impl<T> Clone for Corked<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corked<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().transport).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corked<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.lock();
        let room = ready!(held.poll_room(cx))?;
        Poll::Ready(Ok(held.hold(bytes, room)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.lock();
        let room = ready!(held.poll_room(cx))?;
        let mut taken = 0;
        for piece in pieces {
            taken += held.hold(piece, room - taken);
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done when the turn is over.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        ready!(held.poll_drain(cx))?;
        Pin::new(&mut held.transport).poll_shutdown(cx)
    }
}

/// How much is held at most: four HTTP/2 frames of the default size.
const HELD_BYTES: usize = 64 * 1024;

/// No more than this in a turn, and no buffer beyond this stays.
const LITTLE_BYTES: usize = 4 * 1024;
