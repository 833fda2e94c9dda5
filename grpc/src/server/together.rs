//! A connection and its streams as one task, so that what one publish gives to several streams leaves in one write.
//!
//! hyper gives each stream to an executor. Where that spawns tasks, the first frame handed over wakes the connection,
//! which runs next and flushes it before its other streams have run: a write, and a TLS record, for each stream. Here
//! the executor puts the stream beside its connection: every stream that has something hands it over, then the
//! connection is polled once, and writes what there is.
//!
//! A stream never waits for another. One without window to send into is pending and is not polled; one that always has
//! more hands over no more than its send buffer takes, and the connection has its turn after each stream had some.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, Stream};
use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::server::cork::Corked;

/// The executor that hyper is given: puts a stream beside its connection.
#[derive(Clone)]
pub(crate) struct Beside(UnboundedSender<BoxFuture<'static, ()>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Beside {
    fn execute(&self, stream: F) {
        // As with tasks: a stream that panics goes alone.
        let stream = AssertUnwindSafe(stream).catch_unwind().map(|_| ());
        // Refused when the connection has ended, and its streams with it.
        let _ = self.0.send(stream.boxed());
    }
}

/// The streams of one connection.
pub(crate) struct Together {
    /// As many as the connection may have streams, at most.
    arrived: UnboundedReceiver<BoxFuture<'static, ()>>,
    streams: FuturesUnordered<BoxFuture<'static, ()>>,
    for_streams: Arc<Bell>,
    for_connection: Arc<Bell>,
}

impl Together {
    pub(crate) fn new() -> (Beside, Self) {
        let (beside, arrived) = unbounded_channel();
        let together = Self {
            arrived,
            streams: FuturesUnordered::new(),
            for_streams: Arc::default(),
            for_connection: Arc::default(),
        };
        (Beside(beside), together)
    }

    /// Polls the streams, then the connection, which may bring new ones, then lets go what it wrote to `transport`.
    /// Ready when the connection is.
    pub(crate) fn poll<C: Future, T: AsyncWrite + Unpin>(
        &mut self,
        mut connection: Pin<&mut C>,
        transport: &Corked<T>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        self.for_streams.task.register(cx.waker());
        self.for_connection.task.register(cx.waker());
        self.poll_streams();
        // What the streams handed over has rung this bell, too, and is about to be written.
        self.for_connection.listen();
        let waker = Waker::from(self.for_connection.clone());
        let mut for_connection = Context::from_waker(&waker);
        if let Poll::Ready(output) = connection.as_mut().poll(&mut for_connection) {
            return Poll::Ready(output);
        }
        // Should it fail, the connection meets the same error when it is polled again.
        let mut again = matches!(
            transport.poll_release(&mut for_connection),
            Poll::Ready(Err(_))
        );
        while let Poll::Ready(Some(stream)) = self.arrived.poll_recv(&mut for_connection) {
            self.streams.push(stream);
            again = true;
        }
        let quiet = self.for_streams.rest() & self.for_connection.rest();
        if again || !quiet {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Lets every stream hand over what it has. Handing over wakes the stream itself, and `FuturesUnordered` returns
    /// after two such, so it is asked as often as there are streams.
    fn poll_streams(&mut self) {
        let waker = Waker::from(self.for_streams.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..=self.streams.len() {
            self.for_streams.listen();
            while let Poll::Ready(Some(())) = Pin::new(&mut self.streams).poll_next(&mut cx) {}
            if !self.for_streams.has_rung() {
                break;
            }
        }
    }
}

/// A waker that tells who is polling anyway from who has to be woken.
#[derive(Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Bell {
    /// What rings from now on is heard by who listens, and wakes nobody.
    fn listen(&self) {
        // AcqRel, here and below: what was there before a ring is seen by who hears it.
        self.state.swap(LISTENING, Ordering::AcqRel);
    }

    fn has_rung(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNG
    }

    /// Nobody listens any more. False when it has rung.
    fn rest(&self) -> bool {
        let rest =
            self.state
                .compare_exchange(LISTENING, RESTING, Ordering::AcqRel, Ordering::Acquire);
        rest.is_ok()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::AcqRel) == RESTING {
            self.task.wake();
        }
    }
}

const RESTING: u8 = 0;
const LISTENING: u8 = 1;
const RUNG: u8 = 2;
