//! Wakers are somebody else's code, run in the middle of a round: they may publish, subscribe, unsubscribe, close, block
//! and panic.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
};

use configstream_engine::{Engine, SnapshotReason, Subscription};

mod ledger;
use ledger::{Change, DEADLINE, Ledger, drain, put, snapshot, take, update};

/// A waker that runs what it is given, each time.
struct Runs<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Runs<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// A subscription that has caught up, and runs `f` when it is woken.
fn waiting(engine: &Engine<Ledger>, f: impl Fn() + Send + Sync + 'static) -> Subscription<Ledger> {
    let mut subscription = engine.subscribe();
    take(&mut subscription);
    wait(&mut subscription, f);
    subscription
}

fn wait(subscription: &mut Subscription<Ledger>, f: impl Fn() + Send + Sync + 'static) {
    let waker = Waker::from(Arc::new(Runs(f)));
    assert!(
        subscription
            .poll_next(&mut Context::from_waker(&waker))
            .is_pending()
    );
}

fn message(publish: impl FnOnce()) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(publish)).unwrap_err();
    payload.downcast_ref::<&'static str>().copied().unwrap()
}

#[test]
fn a_waker_that_panics_does_not_keep_others_from_being_served() {
    let engine = ledger::engine(8);
    let woken = Arc::new(AtomicUsize::new(0));
    let count = |woken: &Arc<AtomicUsize>| {
        let woken = woken.clone();
        move || {
            woken.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut before = waiting(&engine, count(&woken));
    let mut bad = waiting(&engine, || panic!("a waker"));
    let mut between = waiting(&engine, count(&woken));
    let mut worse = waiting(&engine, || panic!("a waker"));
    let mut after = waiting(&engine, count(&woken));
    // The publisher gets the first of the panics, after all has been done.
    assert_eq!(message(|| put(&engine, [1])), "a waker");
    assert_eq!(woken.load(Ordering::Relaxed), 3);
    assert_eq!(engine.head().sequence().get(), 1);
    let all = [&mut before, &mut bad, &mut between, &mut worse, &mut after];
    for subscription in all {
        assert_eq!(take(subscription), [update(1, 1)]);
    }
    // The role has been given back, and the wakers are used up.
    put(&engine, [2]);
    assert_eq!(take(&mut bad), [update(2, 2)]);
    assert_eq!(take(&mut after), [update(2, 2)]);
}

#[test]
fn a_waker_that_panics_as_the_engine_closes_does_not_keep_it_open() {
    let engine = ledger::engine(8);
    let mut subscription = waiting(&engine, || panic!("a waker"));
    assert_eq!(message(|| engine.close()), "a waker");
    assert!(engine.is_closed());
    assert_eq!(drain(&mut subscription).0, []);
}

#[test]
fn a_waker_may_publish() {
    let engine = ledger::engine(8);
    let mut other = engine.subscribe();
    take(&mut other);
    let inner = engine.clone();
    let mut subscription = waiting(&engine, move || put(&inner, [2, 3]));
    put(&engine, [1]);
    let events = [update(1, 1), update(2, 2), update(3, 3)];
    assert_eq!(take(&mut subscription), events);
    assert_eq!(take(&mut other), events);
}

#[test]
fn wakers_may_publish_to_each_other_without_end_of_stack() {
    let engine = ledger::engine(8);
    let left = Arc::new(AtomicUsize::new(0));
    // Woken again by what it publishes: ten thousand rounds, none of them inside another.
    let subscription = Arc::new(Mutex::new(engine.subscribe()));
    fn again(
        subscription: &Arc<Mutex<Subscription<Ledger>>>,
        engine: &Engine<Ledger>,
        left: &Arc<AtomicUsize>,
    ) {
        let mut guard = subscription.lock().unwrap();
        take(&mut guard);
        let (inner, engine, left) = (Arc::downgrade(subscription), engine.clone(), left.clone());
        wait(&mut guard, move || {
            if left.fetch_add(1, Ordering::Relaxed) < 10_000 {
                again(&inner.upgrade().unwrap(), &engine, &left);
                put(&engine, [1]);
            }
        });
    }
    again(&subscription, &engine, &left);
    put(&engine, [1]);
    assert_eq!(engine.head().sequence().get(), 10_001);
    engine.close();
}

#[test]
fn a_waker_may_subscribe() {
    let engine = ledger::engine(8);
    let new = Arc::new(Mutex::new(Vec::new()));
    let mut subscription = {
        let (engine, new) = (engine.clone(), new.clone());
        waiting(&engine.clone(), move || {
            new.lock().unwrap().push(engine.subscribe());
        })
    };
    put(&engine, [1]);
    let mut new = new.lock().unwrap().pop().unwrap();
    assert_eq!(
        take(&mut new),
        [snapshot(1, Ledger::of([1]), SnapshotReason::First, 0)]
    );
    put(&engine, [2]);
    assert_eq!(take(&mut new), [update(2, 2)]);
    assert_eq!(take(&mut subscription), [update(1, 1), update(2, 2)]);
}

#[test]
fn a_waker_may_drop_subscriptions() {
    let engine = ledger::engine(8);
    let doomed: Arc<Mutex<Vec<_>>> = Arc::default();
    let mut subscription = {
        let doomed = doomed.clone();
        waiting(&engine, move || doomed.lock().unwrap().clear())
    };
    doomed
        .lock()
        .unwrap()
        .extend((0..100).map(|_| waiting(&engine, || {})));
    put(&engine, [1]);
    assert_eq!(engine.stats().subscriptions, 1);
    assert_eq!(engine.subscriptions().len(), 1);
    put(&engine, [2]);
    assert_eq!(take(&mut subscription), [update(1, 1), update(2, 2)]);
}

#[test]
fn a_waker_may_close() {
    let engine = ledger::engine(8);
    let inner = engine.clone();
    let mut subscription = waiting(&engine, move || inner.close());
    put(&engine, [1]);
    assert!(engine.is_closed());
    assert_eq!(
        drain(&mut subscription),
        (
            vec![update(1, 1)],
            configstream_engine::TryNextError::Closed
        )
    );
}

#[test]
fn a_waker_may_drop_the_last_handle() {
    let engine = ledger::engine(8);
    let handle = Arc::new(Mutex::new(Some(engine.clone())));
    let mut subscription = {
        let handle = handle.clone();
        waiting(&engine, move || drop(handle.lock().unwrap().take()))
    };
    drop(engine);
    // Published by a borrowed handle that is dropped meanwhile: taken out of the mutex for the call.
    let publisher = handle.lock().unwrap().clone().unwrap();
    put(&publisher, [1]);
    assert!(handle.lock().unwrap().is_none());
    drop(publisher);
    assert_eq!(drain(&mut subscription).0, [update(1, 1)]);
    assert!(subscription.head().is_closed());
}

#[test]
fn a_publisher_that_is_held_up_in_a_waker_holds_up_nobody() {
    let engine = ledger::engine(8);
    let (reached, entered) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let mut subscription = waiting(&engine, move || {
        reached.send(()).unwrap();
        gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
    });
    thread::scope(|scope| {
        let stuck = scope.spawn(|| put(&engine, [1]));
        entered.recv_timeout(DEADLINE).unwrap();
        // All of this returns while the round is stuck.
        put(&engine, [2, 3]);
        let mut late = engine.subscribe();
        assert_eq!(
            take(&mut late),
            [snapshot(3, Ledger::of([1, 2, 3]), SnapshotReason::First, 0)]
        );
        assert_eq!(engine.stats().sequence.get(), 3);
        drop(engine.subscribe());
        assert_eq!(take(&mut subscription), [update(1, 1)]);
        put(&engine, [4]);
        assert_eq!(
            take(&mut late),
            [],
            "committed, and handed out by the round that is under way"
        );
        release.send(()).unwrap();
        stuck.join().unwrap();
        assert_eq!(take(&mut late), [update(4, 4)]);
    });
    assert_eq!(
        take(&mut subscription),
        [update(2, 2), update(3, 3), update(4, 4)]
    );
}

#[test]
fn what_a_snapshot_covered_while_a_round_was_stuck_is_neither_queued_nor_delivered() {
    let engine = ledger::engine(4);
    let (reached, entered) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let _stuck = waiting(&engine, move || {
        reached.send(()).unwrap();
        gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
    });
    let mut late = thread::scope(|scope| {
        let stuck = scope.spawn(|| put(&engine, [1]));
        entered.recv_timeout(DEADLINE).unwrap();
        put(&engine, [2, 3, 4]);
        let mut late = engine.subscribe();
        assert_eq!(take(&mut late).len(), 1);
        release.send(()).unwrap();
        stuck.join().unwrap();
        late
    });
    // The next round of the stuck publisher has pushed 2, 3 and 4, which the snapshot covers.
    engine.publish(&Change::PutAll(vec![5; 5])).unwrap();
    let before = late.stats();
    assert_eq!((before.queued, before.dropped), (0, 5));
    let state = *engine.head().state();
    assert_eq!(
        take(&mut late),
        [snapshot(9, state, SnapshotReason::Lagged, 5)]
    );
    let after = late.stats();
    assert_eq!((after.queued, after.dropped, after.delivered), (0, 5, 0));
}

#[test]
fn subscriptions_may_go_while_others_publish() {
    let engine = ledger::engine(2);
    let mut witness = engine.subscription().capacity(4096).subscribe();
    take(&mut witness);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let mut subscription = waiting_or_not(&engine);
                    let _ = subscription.try_next();
                    drop(subscription);
                }
            });
        }
        put(&engine, 0..4_000);
    });
    assert_eq!(engine.stats().subscriptions, 1);
    assert_eq!(take(&mut witness).len(), 4_000);
    engine.publish(&Change::Touch).unwrap();
}

/// Polled once with a waker, whatever came of it.
fn waiting_or_not(engine: &Engine<Ledger>) -> Subscription<Ledger> {
    let mut subscription = engine.subscribe();
    let mut cx = Context::from_waker(Waker::noop());
    let _ = subscription.poll_next(&mut cx);
    let _ = subscription.poll_next(&mut cx);
    subscription
}
