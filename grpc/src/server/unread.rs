//! What was given to a connection and has not left it, because its peer makes no room for it.
//!
//! HTTP/2 takes a reply whole before there is a window for it, and the handler is done; nobody polls anything that could
//! tell of a peer that does not read. But HTTP/2 lets go of the bytes once it has sent them, and that can be told.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Instant;
use tonic::Status;

use crate::lock::Mutex;
use crate::server::body::PIECE_BYTES;
use crate::server::budget::Hold;

/// The pieces that one connection has yet to send. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// Since when, oldest first.
    pieces: BTreeMap<u64, Instant>,
    given: u64,
}

/// A piece's place in the table, until it is let go.
struct Entry {
    number: u64,
    table: Arc<Mutex<Table>>,
}

/// Bytes, and what goes with them.
struct Guarded<G> {
    bytes: Bytes,
    _guard: G,
}

/// The same bytes. `guard` is dropped when the last view of them has gone, which for HTTP/2 is when it has sent them.
pub(crate) fn until_let_go(bytes: Bytes, guard: impl Send + 'static) -> Bytes {
    Bytes::from_owner(Guarded {
        bytes,
        _guard: guard,
    })
}

impl Unread {
    /// The same bytes, which are unread until the last view of them has gone.
    pub(crate) fn watch(&self, bytes: Bytes) -> Bytes {
        let mut table = self.0.lock();
        let number = table.given;
        table.given += 1;
        table.pieces.insert(number, Instant::now());
        drop(table);
        let table = self.0.clone();
        until_let_go(bytes, Entry { number, table })
    }

    /// Whether a piece has not left for so long.
    pub(crate) fn is_stuck_for(&self, limit: Duration) -> bool {
        let table = self.0.lock();
        let oldest = table.pieces.first_key_value();
        oldest.is_some_and(|(_, since)| since.elapsed() >= limit)
    }
}

impl<G> AsRef<[u8]> for Guarded<G> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.lock().pieces.remove(&self.number);
    }
}

/// The body of a reply, watched. It leaves in pieces, so that a peer that reads slowly is told from one that does not read.
pub(crate) struct Reply<B> {
    body: B,
    /// What came before there was room for it.
    first: Option<Option<Result<Frame<Bytes>, Status>>>,
    /// What remains of a large piece.
    rest: Bytes,
    unread: Unread,
    held: Hold,
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Reply<B> {
    /// What is there already is taken at once: HTTP/2 asks for it only when there is a window, and
    /// until then a message would be there as it was built, several times as large, and would not
    /// count.
    pub(crate) fn new(mut body: B, unread: Unread, mut held: Hold) -> Self {
        let first = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        let first = match first {
            Poll::Ready(first) => Some(first),
            Poll::Pending => None,
        };
        if let Some(Some(Ok(frame))) = &first {
            held.grow(frame.data_ref().map_or(0, Bytes::len));
        }
        Self {
            body,
            first,
            rest: Bytes::new(),
            unread,
            held,
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.held.grow(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for Reply<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            let frame = match ready!(self.poll_body(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let size = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(size);
        Poll::Ready(Some(Ok(Frame::data(self.unread.watch(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        // A reply that is headers alone must say so before it is polled: clients take a frame
        // without data behind the headers for the loss of the trailers.
        self.rest.is_empty()
            && match &self.first {
                Some(Some(_)) => false,
                Some(None) => true,
                None => self.body.is_end_stream(),
            }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::server::budget::Budget;
    use crate::server::connections::Link;
    use crate::server::peer::Peer;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A reply of three pieces and trailers.
    struct Large(Option<Bytes>);

    impl Body for Large {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let trailers = || Frame::trailers(HeaderMap::new());
            Poll::Ready(Some(Ok(self.0.take().map_or_else(trailers, Frame::data))))
        }
    }

    #[test]
    fn a_reply_of_headers_alone_says_that_nothing_follows() {
        let link = Arc::new(Link::new(Peer::OfTheHost, CancellationToken::new()));
        let reply = |body| Reply::new(body, Unread::default(), Budget::new(0).hold(&link));
        assert!(reply(tonic::body::Body::empty()).is_end_stream());
        let whole = http_body_util::Full::new(Bytes::from_static(b"x"));
        let whole = http_body_util::BodyExt::map_err(whole, |never| match never {});
        assert!(!reply(tonic::body::Body::new(whole)).is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_told_from_one_that_does_not_read() {
        let unread = Unread::default();
        let whole = Bytes::from(vec![7; 2 * PIECE_BYTES + 1]);
        let link = Arc::new(Link::new(Peer::OfTheHost, CancellationToken::new()));
        let held = Budget::new(0).hold(&link);
        let mut reply = Reply::new(Large(Some(whole.clone())), unread.clone(), held);
        let mut next = || {
            let mut cx = Context::from_waker(Waker::noop());
            match Pin::new(&mut reply).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => panic!("no frame: {other:?}"),
            }
        };
        let mut read = Vec::new();
        for size in [PIECE_BYTES, PIECE_BYTES, 1] {
            let piece = next().into_data().unwrap();
            assert_eq!(piece.len(), size);
            tokio::time::advance(LIMIT - Duration::from_secs(1)).await;
            assert!(!unread.is_stuck_for(LIMIT));
            read.extend_from_slice(&piece);
            // What is left of a piece keeps it.
            let rest = piece.slice(size - 1..);
            drop(piece);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(unread.is_stuck_for(LIMIT));
            drop(rest);
            assert!(!unread.is_stuck_for(Duration::ZERO));
        }
        assert_eq!(read, whole);
        assert!(next().is_trailers());
    }
}
