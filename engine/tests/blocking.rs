//! Waiting: by blocking, by polling, by a stream; a wake-up is never lost and a wait can be given up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use configstream_engine::{Event, NextTimeoutError, Subscription};

mod ledger;
use ledger::{Change, DEADLINE, Ledger, Replay, Seen, put, take, update};

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(subscription: &mut Subscription<Ledger>, bell: &Arc<Bell>) -> Poll<Option<Seen>> {
    let waker = Waker::from(bell.clone());
    subscription
        .poll_next(&mut Context::from_waker(&waker))
        .map(|event| event.map(Seen::from))
}

#[test]
fn a_blocked_reader_is_woken_by_each_publish() {
    let engine = ledger::engine(4);
    thread::scope(|scope| {
        let mut subscription = engine.subscribe();
        let (acknowledge, acknowledged) = mpsc::channel();
        scope.spawn(move || {
            let mut replay = Replay::default();
            while let Some(event) = subscription.next() {
                replay.take(&event);
                acknowledge.send(replay.sequence()).unwrap();
            }
            // One at a time, so nothing was ever dropped.
            assert_eq!((replay.updates, replay.snapshots), (2_000, 1));
            replay.check_end(&subscription);
        });
        assert_eq!(acknowledged.recv_timeout(DEADLINE), Ok(Some(0)));
        for sequence in 1..=2_000 {
            put(&engine, [sequence]);
            assert_eq!(acknowledged.recv_timeout(DEADLINE), Ok(Some(sequence)));
        }
        engine.close();
    });
}

#[test]
fn a_blocked_reader_is_woken_by_what_needs_a_snapshot() {
    let engine = ledger::engine(1);
    thread::scope(|scope| {
        let mut subscription = engine.subscribe();
        let (acknowledge, acknowledged) = mpsc::channel();
        scope.spawn(move || {
            while let Some(event) = subscription.next() {
                acknowledge.send(event.sequence().get()).unwrap();
            }
        });
        assert_eq!(acknowledged.recv_timeout(DEADLINE), Ok(0));
        for nth in 1..=500 {
            // By turns what no update can say, and a batch that fits no ring.
            match nth % 2 {
                0 => engine.publish(&Change::PutAll(vec![nth, nth])),
                _ => engine.publish(&Change::PutAndReplace(vec![nth], nth)),
            }
            .unwrap();
            assert_eq!(acknowledged.recv_timeout(DEADLINE), Ok(2 * nth));
        }
        engine.close();
    });
}

#[test]
fn a_wait_ends_after_its_time_and_not_before() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    assert!(subscription.next_timeout(Duration::ZERO).is_ok());
    let timeout = Duration::from_millis(20);
    #[allow(clippy::disallowed_methods)]
    // the engine reads no clock; a test of its deadlines has to
    let start = Instant::now();
    let end = subscription.next_timeout(timeout).err();
    assert_eq!(end, Some(NextTimeoutError::Timeout));
    assert!(start.elapsed() >= timeout);
    assert_eq!(
        subscription.next_timeout(Duration::ZERO).err(),
        Some(NextTimeoutError::Timeout)
    );
    put(&engine, [1]);
    let event = subscription.next_timeout(Duration::ZERO).map(Seen::from);
    assert_eq!(event, Ok(update(1, 1)));
    engine.close();
    assert_eq!(
        subscription.next_timeout(DEADLINE).err(),
        Some(NextTimeoutError::Closed)
    );
}

#[test]
fn a_time_past_the_end_of_the_clock_is_never() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    thread::scope(|scope| {
        let (ready, started) = mpsc::channel();
        let reader = scope.spawn(move || {
            assert!(subscription.next_timeout(Duration::MAX).is_ok());
            ready.send(()).unwrap();
            subscription.next_timeout(Duration::MAX).map(Seen::from)
        });
        started.recv_timeout(DEADLINE).unwrap();
        put(&engine, [1]);
        assert_eq!(reader.join().unwrap(), Ok(update(1, 1)));
    });
}

#[test]
fn a_wait_with_a_deadline_is_woken_too() {
    let engine = ledger::engine(4);
    thread::scope(|scope| {
        let mut subscription = engine.subscribe();
        let (acknowledge, acknowledged) = mpsc::channel();
        scope.spawn(move || {
            while let Ok(event) = subscription.next_timeout(DEADLINE) {
                acknowledge.send(event.sequence().get()).unwrap();
            }
        });
        assert_eq!(acknowledged.recv_timeout(DEADLINE), Ok(0));
        for sequence in 1..=500 {
            put(&engine, [sequence]);
            assert_eq!(acknowledged.recv_timeout(DEADLINE), Ok(sequence));
        }
        engine.close();
    });
}

#[test]
fn polling_leaves_a_waker_only_when_there_is_nothing() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    let bell = Arc::new(Bell::default());
    assert!(poll(&mut subscription, &bell).is_ready());
    put(&engine, [1]);
    assert_eq!(bell.rung(), 0, "nobody waited");
    assert_eq!(
        poll(&mut subscription, &bell),
        Poll::Ready(Some(update(1, 1)))
    );
    assert_eq!(poll(&mut subscription, &bell), Poll::Pending);
    put(&engine, [2, 3]);
    assert_eq!(bell.rung(), 1, "one waking is enough");
    assert_eq!(
        poll(&mut subscription, &bell),
        Poll::Ready(Some(update(2, 2)))
    );
    assert_eq!(
        poll(&mut subscription, &bell),
        Poll::Ready(Some(update(3, 3)))
    );
    assert_eq!(poll(&mut subscription, &bell), Poll::Pending);
    engine.close();
    assert_eq!(bell.rung(), 2);
    assert_eq!(poll(&mut subscription, &bell), Poll::Ready(None));
    assert_eq!(poll(&mut subscription, &bell), Poll::Ready(None));
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    let (old, new) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    assert!(poll(&mut subscription, &old).is_pending());
    assert!(poll(&mut subscription, &new).is_pending());
    assert_eq!(
        Arc::strong_count(&old),
        1,
        "a waker that was replaced is let go"
    );
    put(&engine, [1]);
    assert_eq!((old.rung(), new.rung()), (0, 1));
    assert_eq!(
        Arc::strong_count(&new),
        1,
        "a waker that was woken is let go"
    );
}

#[test]
fn whoever_overflows_while_it_waits_is_woken() {
    let engine = ledger::engine(2);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    let bell = Arc::new(Bell::default());
    assert!(poll(&mut subscription, &bell).is_pending());
    engine.publish(&Change::PutAll(vec![1, 2, 3])).unwrap();
    assert_eq!(bell.rung(), 1);
    assert!(matches!(
        poll(&mut subscription, &bell),
        Poll::Ready(Some(Seen::Snapshot { missed: 3, .. }))
    ));
}

#[test]
fn what_nobody_can_see_wakes_nobody() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    let bell = Arc::new(Bell::default());
    assert!(poll(&mut subscription, &bell).is_pending());
    engine.publish(&Change::Touch).unwrap();
    engine.publish(&Change::Refuse).unwrap_err();
    engine.publish_batch(&[]).unwrap();
    assert_eq!(bell.rung(), 0);
    put(&engine, [1]);
    assert_eq!(bell.rung(), 1);
}

#[test]
fn a_waker_goes_with_its_subscription() {
    let engine = ledger::engine(4);
    let bell = Arc::new(Bell::default());
    // Others, so that nobody sweeps when this one goes.
    let _others = [engine.subscribe(), engine.subscribe()];
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    assert!(poll(&mut subscription, &bell).is_pending());
    drop(subscription);
    assert_eq!(Arc::strong_count(&bell), 1);
    put(&engine, [1, 2]);
    assert_eq!(bell.rung(), 0);
}

#[test]
fn all_ways_to_wait_mix() {
    let engine = ledger::engine(4);
    let mut subscription = engine.subscribe();
    let bell = Arc::new(Bell::default());
    assert!(subscription.next().is_some());
    assert!(poll(&mut subscription, &bell).is_pending());
    assert!(subscription.next_timeout(Duration::ZERO).is_err());
    put(&engine, [1, 2, 3, 4]);
    assert_eq!(subscription.next().map(Seen::from), Some(update(1, 1)));
    assert_eq!(
        poll(&mut subscription, &bell),
        Poll::Ready(Some(update(2, 2)))
    );
    assert_eq!(
        subscription.next_timeout(DEADLINE).map(Seen::from),
        Ok(update(3, 3))
    );
    assert_eq!(subscription.try_next().map(Seen::from), Ok(update(4, 4)));
    assert!(poll(&mut subscription, &bell).is_pending());
    thread::scope(|scope| {
        let reader = scope.spawn(|| subscription.next().map(Seen::from));
        put(&engine, [5]);
        assert_eq!(reader.join().unwrap(), Some(update(5, 5)));
    });
}

#[test]
fn a_subscription_is_an_iterator_that_ends_with_its_engine() {
    let engine = ledger::engine(8);
    let subscription = engine.subscribe();
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut state = Ledger::default();
            for event in subscription {
                state = match event {
                    Event::Snapshot(snapshot) => *snapshot.state(),
                    Event::Update(update) => state.put(*update),
                    other => panic!("{other:?}"),
                }
            }
            state
        });
        put(&engine, 0..100);
        engine.close();
        assert_eq!(reader.join().unwrap(), Ledger::of(0..100));
    });
}

#[cfg(feature = "stream")]
mod stream {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn a_subscription_is_a_stream() {
        let engine = ledger::engine(8);
        let mut subscription = engine.subscribe();
        let first = StreamExt::next(&mut subscription).now_or_never();
        assert!(matches!(first, Some(Some(Event::Snapshot(_)))));
        assert!(StreamExt::next(&mut subscription).now_or_never().is_none());
        put(&engine, [1, 2]);
        engine.close();
        // Named, since a subscription is an iterator too.
        let rest: Vec<_> = StreamExt::map(subscription, Seen::from)
            .collect()
            .now_or_never()
            .unwrap();
        assert_eq!(rest, [update(1, 1), update(2, 2)]);
    }

    #[test]
    fn a_stream_wakes_its_task() {
        let engine = ledger::engine(8);
        let mut subscription = engine.subscribe();
        take(&mut subscription);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(subscription.poll_next_unpin(&mut cx).is_pending());
        put(&engine, [1]);
        assert_eq!(bell.rung(), 1);
        assert!(subscription.poll_next_unpin(&mut cx).is_ready());
    }
}
