//! The body of a request, for which the server does not wait for ever.
//!
//! What is read of a request is bounded in size, and what is read of all of them at a time is, too
//! (`budget.rs`); but a peer that stops in the midst of a message would keep its handler, and what
//! it has sent, as long as it likes. So a request has to end in time. One call of ours goes on
//! asking, that of reflection: there the time begins anew with each piece.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use crate::server::budget::Hold;
use crate::status::Refusal;

/// A request body that fails when it takes too long.
pub(crate) struct Timed<B> {
    body: B,
    limit: Duration,
    /// Whether the time begins anew with each piece.
    asks_on: bool,
    held: Hold,
    /// Runs from when there was something to wait for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> Timed<B> {
    /// As the body of a request for `path`.
    pub(crate) fn new(body: B, path: &str, limit: Duration, held: Hold) -> Self {
        Self {
            body,
            limit,
            held,
            asks_on: path.starts_with("/grpc.reflection."),
            deadline: None,
        }
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(piece) = Pin::new(&mut self.body).poll_frame(cx) {
            if self.asks_on {
                self.deadline = None;
            }
            if let Some(Ok(piece)) = &piece
                && let Some(data) = piece.data_ref()
            {
                self.held.grow(data.len());
            }
            return Poll::Ready(piece.map(|piece| piece.map_err(|e| Status::from_error(e.into()))));
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(Refusal::RequestTooSlow { limit }.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
