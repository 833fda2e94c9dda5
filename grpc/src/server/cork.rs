//! A transport that holds back what is written until the connection has had its turn.
//!
//! HTTP/2 writes a frame at a time. Held back, the frames of one turn leave in one write: fewer system calls, TCP
//! segments and wake-ups of the reader. What is held is bounded, and leaves at the end of every turn. A large buffer goes
//! back to its thread when it is empty, so that idle connections have none.
//!
//! A turn reads once. A thousand requests that arrive together are so taken and answered some at a time, and the queues of
//! HTTP/2, which never shrink, stay short.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::lock::Mutex;

/// One of two handles: HTTP/2's, and that of whoever [lets go](Self::release). Both are used by one task, so the
/// lock is never contended.
pub(crate) struct Corked<T>(Arc<Mutex<Held<T>>>);

struct Held<T> {
    transport: T,
    bytes: Vec<u8>,
    /// How many of them are written out.
    written: usize,
    reading: Reading,
    /// Why nothing can be written any more; HTTP/2 hears of it when it reads.
    failure: Option<io::ErrorKind>,
    /// Since when the transport takes nothing of what is to leave.
    blocked: Option<Instant>,
}

/// In this turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    NotYet,
    Done,
    /// There may be more.
    Refused,
}

impl<T: AsyncWrite + Unpin> Corked<T> {
    pub(crate) fn new(transport: T) -> Self {
        Self(Arc::new(Mutex::new(Held {
            transport,
            bytes: Vec::new(),
            written: 0,
            reading: Reading::NotYet,
            failure: None,
            blocked: None,
        })))
    }

    /// Whether the transport has taken nothing for so long, although there was something to take. Streams are looked after
    /// by the registry; this is for what a connection has to say when it has none any more.
    pub(crate) fn is_blocked_for(&self, limit: Duration) -> bool {
        let blocked = self.0.lock().blocked;
        blocked.is_some_and(|since| since.elapsed() >= limit)
    }

    /// Ends the turn: writes out what is held. True when the connection has to have another, to read on, or to hear that
    /// writing has failed.
    pub(crate) fn release(&self, cx: &mut Context<'_>) -> bool {
        let mut held = self.0.lock();
        let again = std::mem::replace(&mut held.reading, Reading::NotYet) == Reading::Refused;
        let Poll::Ready(Err(error)) = held.poll_release(cx) else {
            return again;
        };
        held.failure.replace(error.kind()).is_none() || again
    }
}

impl<T: AsyncWrite + Unpin> Held<T> {
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.bytes.capacity() > LITTLE_BYTES {
            SPARE.set(std::mem::take(&mut self.bytes));
        }
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let rest = &self.bytes[self.written..];
            let Poll::Ready(written) = Pin::new(&mut self.transport).poll_write(cx, rest) else {
                self.blocked.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            self.blocked = None;
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.bytes.clear();
        self.written = 0;
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
        let small = self.bytes.capacity() <= LITTLE_BYTES;
        if small && self.bytes.len() + taken > LITTLE_BYTES {
            let mut large = SPARE.take();
            large.reserve(HELD_BYTES);
            large.extend_from_slice(&self.bytes);
            self.bytes = large;
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
        let mut held = self.0.lock();
        if let Some(failure) = held.failure {
            return Poll::Ready(Err(failure.into()));
        }
        if held.reading != Reading::NotYet {
            held.reading = Reading::Refused;
            return Poll::Pending;
        }
        ready!(Pin::new(&mut held.transport).poll_read(cx, buffer))?;
        held.reading = Reading::Done;
        Poll::Ready(Ok(()))
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

/// No buffer beyond this stays with an idle connection.
const LITTLE_BYTES: usize = 4 * 1024;

thread_local! {
    /// Empty, and mostly large: one that came from the system anew each time would cost page faults.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn release<T: AsyncWrite + Unpin>(corked: &Corked<T>) -> bool {
        corked.release(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn what_is_written_leaves_when_it_is_let_go() {
        let (near, mut far) = duplex(1024);
        let mut corked = Corked::new(near);
        corked.write_all(b"one ").await.unwrap();
        corked.flush().await.unwrap();
        corked.write_all(b"two").await.unwrap();
        let mut read = [0; 7];
        let mut early = ReadBuf::new(&mut read);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            Pin::new(&mut far)
                .poll_read(&mut cx, &mut early)
                .is_pending()
        );
        assert!(!release(&corked));
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"one two");
    }

    #[tokio::test]
    async fn no_more_is_held_than_the_bound() {
        let (near, mut far) = duplex(16);
        let mut corked = Corked::new(near);
        let much = vec![7; 3 * HELD_BYTES];
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(written) = Pin::new(&mut corked).poll_write(&mut cx, &much[taken..]) {
            taken += written.unwrap();
        }
        assert!((HELD_BYTES..=HELD_BYTES + 16).contains(&taken));

        let writing = async {
            corked.write_all(&much[taken..]).await.unwrap();
            corked.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (_, length) = tokio::join!(writing, far.read_to_end(&mut read));
        assert_eq!(length.unwrap(), much.len());
        assert_eq!(read, much);
    }

    #[tokio::test(start_paused = true)]
    async fn a_transport_that_takes_nothing_is_found_out() {
        let limit = Duration::from_secs(60);
        let (near, mut far) = duplex(16);
        let mut corked = Corked::new(near);
        corked.write_all(&[7; 32]).await.unwrap();
        assert!(!release(&corked));
        tokio::time::advance(limit - Duration::from_secs(1)).await;
        assert!(!corked.is_blocked_for(limit));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(corked.is_blocked_for(limit));
        far.read_exact(&mut [0; 16]).await.unwrap();
        assert!(!release(&corked));
        assert!(!corked.is_blocked_for(limit));
    }

    #[tokio::test]
    async fn a_large_buffer_goes_back_to_its_thread() {
        let (near, _far) = duplex(2 * HELD_BYTES);
        let mut corked = Corked::new(near);
        corked.write_all(&vec![7; HELD_BYTES / 2]).await.unwrap();
        let buffer = corked.0.lock().bytes.as_ptr();
        assert!(!release(&corked));
        assert_eq!(corked.0.lock().bytes.capacity(), 0);
        corked.write_all(&vec![7; HELD_BYTES / 2]).await.unwrap();
        assert_eq!(corked.0.lock().bytes.as_ptr(), buffer);
    }

    #[tokio::test]
    async fn a_turn_reads_once_and_asks_for_another() {
        let (near, mut far) = duplex(1024);
        let mut corked = Corked::new(near);
        far.write_all(b"four").await.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = |corked: &mut Corked<_>| {
            let mut bytes = [0; 2];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = Pin::new(corked).poll_read(&mut cx, &mut buffer);
            read.map(|done| done.map(|()| buffer.filled().to_vec()).unwrap())
        };
        assert_eq!(read(&mut corked), Poll::Ready(b"fo".to_vec()));
        assert_eq!(read(&mut corked), Poll::Pending);
        assert!(release(&corked));
        assert_eq!(read(&mut corked), Poll::Ready(b"ur".to_vec()));
        assert!(!release(&corked));
    }

    #[tokio::test]
    async fn a_failed_write_is_told_once_and_then_to_who_reads() {
        let (near, far) = duplex(16);
        let mut corked = Corked::new(near);
        corked.write_all(b"lost").await.unwrap();
        drop(far);
        assert!(release(&corked));
        assert!(!release(&corked));
        let read =
            poll_fn(|cx| Pin::new(&mut corked).poll_read(cx, &mut ReadBuf::new(&mut [0; 8])));
        assert_eq!(read.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
