//! A connection and its streams as one task, so that what one publish gives to several streams leaves in one write.
//!
//! hyper gives each stream to an executor. Where that spawns tasks, the first frame handed over wakes the connection,
//! which runs next and flushes it before its other streams have run: a write, and a TLS record, for each stream. Here
//! the executor puts the stream beside its connection: every stream that has something hands it over, then the
//! connection is polled once, and writes what there is.
//!
//! A publish nearly always has something for every stream of a connection. So they read one subscription, which waits at a
//! [`WaitSet`]: a publish serves and wakes the connection, once, and then every stream has a turn. Whoever has something for one
//! stream alone, such as room to send into, asks for a turn of that stream.
//!
//! A stream never waits for another. One without window to send into is pending and does nothing in its turn; one that
//! always has more hands over no more than its send buffer takes, and the connection has its turn after each stream had
//! some.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use configstream_engine::WaitSet;
use futures_util::future::{BoxFuture, FutureExt};
use hyper::rt::Executor;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::server::bell::Bell;
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
    streams: Vec<Running>,
    turns: Turns,
    for_streams: Arc<ForStreams>,
    for_connection: Arc<Bell>,
}

struct Running {
    stream: BoxFuture<'static, ()>,
    turn: Arc<Turn>,
    waker: Waker,
}

/// What streams of events hold on to, of the connection they run over.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    /// Where what they read is waited for. Armed before they look for updates, so that what comes after they looked, and found
    /// nothing, asks for another turn.
    pub(crate) updates: WaitSet,
    /// Gives all of them a turn.
    pub(crate) everyone: Waker,
    /// Whether the stream polled last has handed over all it had.
    done: Arc<AtomicBool>,
}

impl Turns {
    /// A stream of events has been polled: it had something, or is `done`, and waits for what gives everyone a turn.
    pub(crate) fn tell(&self, done: bool) {
        // Relaxed, here and below: for the task that polls.
        self.done.store(done, Ordering::Relaxed);
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

/// What rings when a stream asks for a turn; and a waker that asks for a turn of all: one object, since a publisher wakes one
/// for each connection, and comes to cold ones.
struct ForStreams {
    everyone: Asked,
    bell: Bell,
}

/// A waker that asks for a turn of one stream.
struct Turn {
    asked: Asked,
    for_streams: Arc<ForStreams>,
}

/// Whether a turn is asked for. The first is.
struct Asked(AtomicBool);

impl Together {
    pub(crate) fn new() -> (Beside, Self) {
        let (beside, arrived) = unbounded_channel();
        let for_streams = Arc::new(ForStreams {
            everyone: Asked::new(),
            bell: Bell::default(),
        });
        let together = Self {
            arrived,
            streams: Vec::new(),
            turns: Turns {
                updates: WaitSet::new(),
                everyone: Waker::from(for_streams.clone()),
                done: Arc::default(),
            },
            for_streams,
            for_connection: Arc::default(),
        };
        (Beside(beside), together)
    }

    pub(crate) fn turns(&self) -> Turns {
        self.turns.clone()
    }

    /// Polls the streams, then the connection, which may bring new ones, then lets go what it wrote to `transport`.
    /// Ready when the connection is.
    pub(crate) fn poll<C: Future, T: AsyncWrite + Unpin>(
        &mut self,
        mut connection: Pin<&mut C>,
        transport: &Corked<T>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        self.for_streams.bell.register(cx.waker());
        self.for_connection.register(cx.waker());
        self.poll_streams();
        // What the streams handed over has rung this bell, too, and is about to be written.
        self.for_connection.listen();
        let waker = Waker::from(self.for_connection.clone());
        let mut for_connection = Context::from_waker(&waker);
        if let Poll::Ready(output) = connection.as_mut().poll(&mut for_connection) {
            return Poll::Ready(output);
        }
        let mut again = transport.release(&mut for_connection);
        while let Poll::Ready(Some(stream)) = self.arrived.poll_recv(&mut for_connection) {
            self.streams.push(Running::new(stream, &self.for_streams));
            again = true;
        }
        let quiet = self.for_streams.bell.rest() & self.for_connection.rest();
        if again || !quiet {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Lets every stream that has asked for a turn hand over what it has. Handing over asks for one more, as HTTP/2 does for
    /// the room that it has made, so there are two; but a stream that has done all it could has no use for it.
    fn poll_streams(&mut self) {
        for _ in 0..2 {
            self.for_streams.bell.listen();
            let everyone = self.for_streams.everyone.take();
            if everyone {
                self.turns.updates.arm(&self.turns.everyone);
            }
            self.streams.retain_mut(|running| {
                let asked = running.turn.asked.take();
                if !(asked || everyone) {
                    return true;
                }
                self.turns.tell(false);
                let pending = running.poll().is_pending();
                if self.turns.is_done() {
                    running.turn.asked.take();
                }
                pending
            });
            if !self.for_streams.bell.has_rung() {
                break;
            }
        }
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        // Subscriptions may outlive the connection in the engine's table, until the next publish.
        self.turns.updates.disarm();
    }
}

impl Running {
    fn new(stream: BoxFuture<'static, ()>, for_streams: &Arc<ForStreams>) -> Self {
        let turn = Arc::new(Turn {
            asked: Asked::new(),
            for_streams: for_streams.clone(),
        });
        Self {
            stream,
            waker: Waker::from(turn.clone()),
            turn,
        }
    }

    fn poll(&mut self) -> Poll<()> {
        self.stream
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker))
    }
}

impl Asked {
    fn new() -> Self {
        Self(AtomicBool::new(true))
    }

    /// Whether it was asked for. The next has to be asked for anew.
    fn take(&self) -> bool {
        // Relaxed: who asked before the bell was listened to is seen by that; who asks after it rings again.
        // AcqRel: what was there before it was asked for is seen by who takes it; pairs with `ask`.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }

    /// Asks, and rings. Who finds it asked for leaves the ringing to whoever asked.
    fn ask(&self, bell: &Bell) {
        // AcqRel: pairs with `take`.
        if !self.0.swap(true, Ordering::AcqRel) {
            bell.ring();
        }
    }
}

impl Wake for ForStreams {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.everyone.ask(&self.bell);
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.asked.ask(&self.for_streams.bell);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::io::duplex;

    use super::*;

    /// What happened, in order.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<&'static str>>>);

    impl Log {
        fn add(&self, what: &'static str) {
            self.0.lock().unwrap().push(what);
        }

        fn take(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Never done; each poll takes a turn, and wakes itself the first time, as handing over to HTTP/2 does.
    fn stream(
        log: &Log,
        wakers: &Arc<Mutex<Vec<Waker>>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (log, wakers, mut first) = (log.clone(), wakers.clone(), true);
        std::future::poll_fn(move |cx| {
            log.add("stream");
            wakers.lock().unwrap().push(cx.waker().clone());
            if std::mem::take(&mut first) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
    }

    #[test]
    fn every_stream_has_its_turn_before_the_connection_writes() {
        let (beside, mut together) = Together::new();
        let (log, wakers, task) = (Log::default(), Arc::default(), Arc::new(Task::default()));
        let (transport, _far) = duplex(64);
        let transport = Corked::new(transport);
        let waker = Waker::from(task.clone());
        let mut cx = Context::from_waker(&waker);
        let connection = log.clone();
        let mut connection = std::pin::pin!(std::future::poll_fn(move |_| {
            connection.add("connection");
            Poll::<()>::Pending
        }));
        for _ in 0..5 {
            beside.execute(stream(&log, &wakers));
        }
        assert!(
            together
                .poll(connection.as_mut(), &transport, &mut cx)
                .is_pending()
        );
        assert_eq!(log.take(), ["connection"]);
        assert_eq!(task.0.load(Ordering::Relaxed), 1);

        assert!(
            together
                .poll(connection.as_mut(), &transport, &mut cx)
                .is_pending()
        );
        let turns = log.take();
        assert_eq!(turns.len(), 11);
        assert_eq!(turns.last(), Some(&"connection"));

        // Woken together: one wake-up, and one more turn each.
        let woken = std::mem::take(&mut *wakers.lock().unwrap());
        let before = task.0.load(Ordering::Relaxed);
        woken.into_iter().for_each(Waker::wake);
        assert_eq!(task.0.load(Ordering::Relaxed), before + 1);
        assert!(
            together
                .poll(connection.as_mut(), &transport, &mut cx)
                .is_pending()
        );
        assert_eq!(
            log.take(),
            [
                "stream",
                "stream",
                "stream",
                "stream",
                "stream",
                "connection"
            ]
        );
    }

    /// Polls the streams over a connection that has nothing of its own: how many turns each that writes a log had.
    fn turns_of<'a>(
        logs: &'a [Log; 2],
        together: &'a mut Together,
        task: &Arc<Task>,
    ) -> impl FnMut() -> [usize; 2] + use<'a> {
        let (transport, far) = duplex(64);
        let transport = Corked::new(transport);
        let waker = Waker::from(task.clone());
        move || {
            let _far = &far;
            let mut cx = Context::from_waker(&waker);
            let connection = std::pin::pin!(pending::<()>());
            let polled = together.poll(connection, &transport, &mut cx);
            assert!(polled.is_pending());
            logs.each_ref().map(|log| log.take().len())
        }
    }

    #[test]
    fn a_turn_for_everyone_is_one_and_one_asked_for_by_a_stream_is_its_own() {
        let (beside, mut together) = Together::new();
        let everyone = together.turns().everyone;
        let (wakers, task) = (Arc::default(), Arc::new(Task::default()));
        let logs = [Log::default(), Log::default()];
        for log in &logs {
            beside.execute(stream(log, &wakers));
        }
        let mut poll = turns_of(&logs, &mut together, &task);
        poll();
        assert_eq!(poll(), [2, 2], "and once more for having handed over");
        let first = wakers.lock().unwrap()[0].clone();

        let before = task.0.load(Ordering::Relaxed);
        first.wake();
        assert_eq!(poll(), [1, 0]);
        everyone.wake_by_ref();
        everyone.wake_by_ref();
        assert_eq!(poll(), [1, 1]);
        assert_eq!(poll(), [0, 0]);
        assert_eq!(task.0.load(Ordering::Relaxed), before + 2);
    }

    #[test]
    fn a_stream_that_has_done_all_it_could_has_no_second_turn() {
        let (beside, mut together) = Together::new();
        let turns = together.turns();
        let logs = [Log::default(), Log::default()];
        for (log, done) in logs.iter().zip([true, false]) {
            let (log, turns) = (log.clone(), turns.clone());
            beside.execute(std::future::poll_fn(move |cx| {
                log.add("stream");
                cx.waker().wake_by_ref();
                turns.tell(done);
                Poll::Pending
            }));
        }
        let mut poll = turns_of(&logs, &mut together, &Arc::default());
        assert_eq!(poll(), [0, 0], "they arrive");
        assert_eq!(poll(), [1, 2]);
        turns.everyone.wake_by_ref();
        assert_eq!(poll(), [1, 2]);
    }

    #[test]
    fn a_stream_that_panics_goes_alone() {
        let (beside, mut together) = Together::new();
        let (log, wakers) = (Log::default(), Arc::default());
        let (transport, _far) = duplex(64);
        let transport = Corked::new(transport);
        let mut cx = Context::from_waker(Waker::noop());
        let mut connection = std::pin::pin!(pending::<()>());
        beside.execute(async { panic!("as it should") });
        beside.execute(stream(&log, &wakers));
        for _ in 0..2 {
            assert!(
                together
                    .poll(connection.as_mut(), &transport, &mut cx)
                    .is_pending()
            );
        }
        assert_eq!(together.streams.len(), 1);
        assert_eq!(log.take(), ["stream", "stream"]);
    }
}
