//! Async subscribers that wait, each in a task of its own or many in one, and a publisher that wakes them all.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use configstream_engine::{TryNextError, WaitSet};
use tokio::{
    runtime,
    sync::broadcast,
    task::{LocalSet, spawn_local, yield_now},
};

use crate::{fan_out::CAPACITY, tick};

/// Subscriptions of one set, in [`engine_sets`]: as many as the streams of a connection in the load generator, where 512
/// share eight.
pub const SET: usize = 64;

/// How long publishing takes, once for each round, to so many tasks parked on this engine: publishing alone, and until all
/// have received and are parked again.
#[must_use]
pub fn engine(tasks: usize, rounds: u64) -> (Duration, Duration) {
    let engine = tick::engine(CAPACITY);
    let subscribe = || {
        let mut subscription = engine.subscribe();
        async move |received: &Cell<u64>| {
            while poll_fn(|cx| subscription.poll_next(cx)).await.is_some() {
                received.set(received.get() + 1);
            }
        }
    };
    wake_all(tasks, 1, rounds, subscribe, || {
        assert!(engine.publish(&1).is_ok());
    })
}

/// The same of as many subscriptions, of which each task reads [`SET`], and waits for all of them at one wait set.
#[must_use]
pub fn engine_sets(subscriptions: usize, rounds: u64) -> (Duration, Duration) {
    let engine = tick::engine(CAPACITY);
    let subscribe = || {
        let set = WaitSet::new();
        let subscribe = || engine.subscription().wait_set(&set).subscribe();
        let mut subscriptions: Vec<_> = (0..SET).map(|_| subscribe()).collect();
        async move |received: &Cell<u64>| {
            let closed = poll_fn(|cx| {
                set.arm(cx.waker());
                for subscription in &mut subscriptions {
                    loop {
                        match subscription.try_next() {
                            Ok(_) => received.set(received.get() + 1),
                            Err(TryNextError::Closed) => return Poll::Ready(()),
                            Err(_) => break,
                        }
                    }
                }
                Poll::Pending
            });
            closed.await;
        }
    };
    wake_all(subscriptions / SET, SET, rounds, subscribe, || {
        assert!(engine.publish(&1).is_ok());
    })
}

/// The same of tokio's broadcast.
#[must_use]
pub fn tokio_broadcast(tasks: usize, rounds: u64) -> (Duration, Duration) {
    let sender = broadcast::Sender::new(CAPACITY);
    // One for each task to begin with, as the engine's first snapshot.
    let subscribe = || {
        let mut receiver = sender.subscribe();
        async move |received: &Cell<u64>| {
            received.set(received.get() + 1);
            while receiver.recv().await.is_ok() {
                received.set(received.get() + 1);
            }
        }
    };
    wake_all(tasks, 1, rounds, subscribe, || {
        assert!(sender.send(Arc::new(1_u64)).is_ok());
    })
}

/// The same of async-broadcast, by the receiving that its documentation advises inside of a task.
#[cfg(feature = "peers")]
#[must_use]
pub fn async_broadcast(tasks: usize, rounds: u64) -> (Duration, Duration) {
    let (sender, first) = async_broadcast::broadcast(CAPACITY);
    let subscribe = || {
        let mut receiver = sender.new_receiver();
        async move |received: &Cell<u64>| {
            received.set(received.get() + 1);
            while receiver.recv_direct().await.is_ok() {
                received.set(received.get() + 1);
            }
        }
    };
    // Not closed before the first task has come.
    let _open = first.deactivate();
    wake_all(tasks, 1, rounds, subscribe, || {
        assert!(sender.try_broadcast(Arc::new(1_u64)).is_ok());
    })
}

/// Each task receives so many times each update. One thread runs all, so that "all are parked" is a fact: a task runs until
/// it waits.
fn wake_all<T>(
    tasks: usize,
    times: usize,
    rounds: u64,
    subscribe: impl Fn() -> T,
    mut publish: impl FnMut(),
) -> (Duration, Duration)
where
    T: AsyncFnOnce(&Cell<u64>) + 'static,
{
    let received = Rc::new(Cell::new(0));
    let all_have = async |events: u64| {
        while received.get() < events * (tasks * times) as u64 {
            yield_now().await;
        }
    };
    let running = async {
        for _ in 0..tasks {
            let (task, received) = (subscribe(), received.clone());
            spawn_local(async move { task(&received).await });
        }
        all_have(1).await;
        let (mut publishing, mut whole) = (Duration::ZERO, Duration::ZERO);
        for round in 0..rounds {
            let start = Instant::now();
            publish();
            publishing += start.elapsed();
            all_have(round + 2).await;
            whole += start.elapsed();
        }
        (publishing, whole)
    };
    block_on(running)
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = runtime::Builder::new_current_thread().build();
    LocalSet::new().block_on(&runtime.expect("a runtime without drivers"), future)
}
