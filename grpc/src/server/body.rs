//! A stream of frames as an HTTP body.
//!
//! Frames are whole gRPC messages already, so there is nothing to encode and, for a frame of some size, nothing to
//! copy: its pieces are views of the bytes that all streams share. Small frames that are ready together leave as one
//! HTTP/2 frame. A large one leaves in pieces, so that the transport comes back for each: a reader that is slow but
//! moves is told from one that has stopped, and the transport never holds more than a piece.

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use tonic::Status;

use configstream_engine::settings::Resolution;

use crate::server::service::Connection;
use crate::server::stream::EventStream;
use crate::server::unread::Unread;
use crate::status::Refusal;

/// The body of a response that streams events.
pub(crate) struct EventBody<S: Resolution> {
    stream: EventStream<S>,
    /// What remains of a large frame.
    rest: Bytes,
    /// Why the stream has ended, until that is said.
    end: Option<Refusal>,
    finished: bool,
    connection: Connection,
}

impl<S: Resolution> EventBody<S> {
    pub(crate) fn new(stream: EventStream<S>, connection: Connection) -> Self {
        Self {
            stream,
            rest: Bytes::new(),
            end: None,
            finished: false,
            connection,
        }
    }

    fn next_piece(&mut self) -> Poll<Option<Frame<Bytes>>> {
        if !self.rest.is_empty() {
            return self.piece_of_rest();
        }
        let mut ready = Gathered::default();
        let rest = &mut self.rest;
        let next = self.stream.next(|frame| {
            if frame.len() <= GATHERED_BYTES {
                ready.add(frame);
            } else {
                rest.clone_from(frame);
            }
            if rest.is_empty() && ready.has_room() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        match next {
            Poll::Pending if ready.len() == 0 => return Poll::Pending,
            Poll::Ready(Some(Err(reason))) => self.end = Some(reason),
            Poll::Pending | Poll::Ready(_) => {}
        }
        if ready.len() > 0 {
            return self.give(ready.into_bytes());
        }
        if !self.rest.is_empty() {
            return self.piece_of_rest();
        }
        self.finished = true;
        Poll::Ready(
            self.end
                .take()
                .map(|reason| Frame::trailers(trailers(reason, &self.connection.unread))),
        )
    }

    fn piece_of_rest(&mut self) -> Poll<Option<Frame<Bytes>>> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        self.give(piece)
    }

    fn give(&mut self, piece: Bytes) -> Poll<Option<Frame<Bytes>>> {
        let piece = self.stream.give(piece, self.rest.is_empty());
        Poll::Ready(Some(Frame::data(piece)))
    }
}

impl<S: Resolution> Body for EventBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(None);
        }
        let piece = this.next_piece();
        this.connection.turns.tell(piece.is_pending());
        piece.map(|piece| piece.map(Ok))
    }
}

impl<S: Resolution> fmt::Debug for EventBody<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBody")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// Frames that leave together. One alone is not copied. Several are, up to a piece: that costs some nanoseconds for each,
/// where a piece of data of its own costs the transport a lock, an entry in its queue, nine bytes of head, and a turn.
#[derive(Default)]
struct Gathered {
    only: Bytes,
    several: BytesMut,
    longest: usize,
}

impl Gathered {
    fn add(&mut self, frame: &Bytes) {
        self.longest = self.longest.max(frame.len());
        if self.len() == 0 {
            self.only.clone_from(frame);
            return;
        }
        if self.several.is_empty() {
            self.several.reserve(GATHERED_BYTES);
            self.several
                .extend_from_slice(&std::mem::take(&mut self.only));
        }
        self.several.extend_from_slice(frame);
    }

    fn len(&self) -> usize {
        self.only.len() + self.several.len()
    }

    /// Whether one more would fit, if it is not longer than those before.
    fn has_room(&self) -> bool {
        self.len() + self.longest <= GATHERED_BYTES
    }

    fn into_bytes(self) -> Bytes {
        if self.several.is_empty() {
            self.only
        } else {
            self.several.freeze()
        }
    }
}

/// The registry does not know the stream any more, so these tell when the last of it has left.
fn trailers(reason: Refusal, unread: &Unread) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    Status::from(reason)
        .add_header(&mut trailers)
        .expect("codes and percent-encoded texts are header values");
    for value in trailers.values_mut() {
        let watched = unread.watch(Bytes::copy_from_slice(value.as_bytes()));
        *value = HeaderValue::from_maybe_shared(watched).expect("it was one before");
        // Or HTTP/2 would keep it, to say it in fewer bytes the next time.
        value.set_sensitive(true);
    }
    trailers
}

/// How much of a large frame is handed to the transport at a time: four HTTP/2 frames of the default size.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// How much small frames are gathered to: one HTTP/2 frame of the default size. Buffers four times as large came from
/// the system anew each time, and page faults took a quarter of a saturated server's time.
const GATHERED_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests;
