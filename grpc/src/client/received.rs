//! When the last bytes of a stream arrived.
//!
//! A message of many megabytes is one event, and a slow link takes minutes for it. A timeout on
//! the event would measure the age of the message; this clock measures the silence of the link.
//! It counts the stream's own data only: answers to pings and to other calls say nothing about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tonic::codegen::StdError;

/// Stamped by the body of a response, read by everything that waits for its messages.
#[derive(Clone, Debug)]
pub(crate) struct Received(Arc<Stamp>);

#[derive(Debug)]
struct Stamp {
    begun: Instant,
    /// Nanoseconds from `begun` to the last bytes.
    last: AtomicU64,
}

impl Received {
    /// Counts as if bytes had arrived just now.
    pub(super) fn start() -> Self {
        Self(Arc::new(Stamp {
            begun: Instant::now(),
            last: AtomicU64::new(0),
        }))
    }

    /// Stamps the data frames of `response`.
    pub(super) fn watch<B>(self, response: Response<B>) -> Response<tonic::body::Body>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let stamped = move |frame: Frame<Bytes>| {
            if frame.is_data() {
                self.stamp();
            }
            frame
        };
        response.map(|body| tonic::body::Body::new(body.map_frame(stamped)))
    }

    /// The time since the last bytes.
    pub(crate) fn silence(&self) -> Duration {
        self.last().elapsed()
    }

    /// Waits for `answer`. Gives up once there have been no bytes for `limit`, counted from the
    /// start of this wait at the earliest; an answer whose bytes keep arriving may take any time.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = T>,
    ) -> Result<T, Silence> {
        let mut answer = std::pin::pin!(answer);
        let begun = Instant::now();
        loop {
            let last = self.last().max(begun);
            // A limit beyond all clocks is none.
            let Some(deadline) = last.checked_add(limit) else {
                return Ok(answer.await);
            };
            if let Ok(answer) = timeout_at(deadline, answer.as_mut()).await {
                return Ok(answer);
            }
            if self.last().max(begun) == last {
                return Err(Silence);
            }
        }
    }

    fn stamp(&self) {
        let nanos = self.0.begun.elapsed().as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        // Relaxed: a time, which orders nothing.
        self.0.last.store(nanos, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        // Relaxed: as in `stamp`.
        self.0.begun + Duration::from_nanos(self.0.last.load(Ordering::Relaxed))
    }
}

/// No bytes arrived for as long as they may be awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silence;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_any_time_while_bytes_arrive_and_the_limit_once_they_stop() {
        let received = Received::start();
        let begun = Instant::now();
        let bytes = async {
            for _ in 0..100 {
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                received.stamp();
            }
            pending::<()>().await;
        };
        tokio::select! {
            result = received.within(LIMIT, pending::<()>()) => assert_eq!(result, Err(Silence)),
            () = bytes => unreachable!(),
        }
        assert_eq!(
            begun.elapsed(),
            100 * (LIMIT - Duration::from_secs(1)) + LIMIT
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_begins_after_a_long_silence_has_the_whole_limit() {
        let received = Received::start();
        tokio::time::sleep(10 * LIMIT).await;
        let begun = Instant::now();
        assert_eq!(received.within(LIMIT, pending::<()>()).await, Err(Silence));
        assert_eq!(begun.elapsed(), LIMIT);
    }
}
