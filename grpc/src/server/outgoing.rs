//! The body of whatever the server answers, as HTTP/2 is given it: a stream of events without a box around it, since each
//! box is a call and a copy for each of its updates.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use configstream_engine::settings::Resolution;
use http_body::{Body, Frame};
use tonic::Status;

use crate::server::body::EventBody;
use crate::server::unread::Reply;

/// The body of a response.
pub(crate) enum Outgoing<S: Resolution> {
    Events(EventBody<S>),
    /// Of any other call, and of one that is refused.
    Reply(Reply<tonic::body::Body>),
}

impl<S: Resolution> Body for Outgoing<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Self::Events(body) => Pin::new(body).poll_frame(cx),
            Self::Reply(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Events(body) => body.is_end_stream(),
            Self::Reply(body) => body.is_end_stream(),
        }
    }
}
