//! Nothing grows without bound, neither memory nor the stack: not with subscriptions that nobody serves, nor with
//! versions that nobody distributes.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use configstream_engine::{Engine, Event, SnapshotReason, State, Subscription, Transition};

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `f` where recursion in proportion to any of the numbers below would overflow.
fn on_a_small_stack(f: impl FnOnce() + Send) {
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn_scoped(scope, f)
            .unwrap()
            .join()
            .unwrap();
    });
}

/// A counter that knows how many of its versions are alive.
struct Counter {
    count: u64,
    alive: Arc<AtomicUsize>,
}

impl Counter {
    fn new(count: u64, alive: Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self { count, alive }
    }
}

impl Clone for Counter {
    fn clone(&self) -> Self {
        Self::new(self.count, self.alive.clone())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl State for Counter {
    /// Whether subscribers are to be told.
    type Change = bool;
    type Update = u64;
    type Rejection = Infallible;

    fn apply(&self, told: &bool) -> Result<Transition<Self>, Infallible> {
        let next = Self::new(self.count + 1, self.alive.clone());
        let updates = if *told { vec![next.count] } else { Vec::new() };
        Ok(Transition::new(next, updates))
    }
}

fn engine(ring_capacity: usize) -> (Engine<Counter>, Arc<AtomicUsize>) {
    let alive = Arc::default();
    let engine = Engine::builder(Counter::new(0, Arc::clone(&alive)))
        .ring_capacity(ring_capacity)
        .build()
        .unwrap();
    (engine, alive)
}

/// All events there are now: the state that they lead to, and how many of them were snapshots.
fn replay(subscription: &mut Subscription<Counter>, mut count: u64) -> (u64, u64) {
    let mut snapshots = 0;
    while let Ok(event) = subscription.try_next() {
        match event {
            Event::Snapshot(snapshot) => {
                snapshots += 1;
                count = snapshot.state().count;
            }
            Event::Update(update) => {
                assert_eq!(*update, count + 1);
                count = *update;
            }
            other => panic!("{other:?}"),
        }
    }
    (count, snapshots)
}

#[test]
fn a_hundred_thousand_subscriptions_may_come_and_go_without_a_publish() {
    on_a_small_stack(|| {
        let (engine, _) = engine(1);
        let subscriptions: Vec<_> = (0..100_000).map(|_| engine.subscribe()).collect();
        assert_eq!(engine.stats().subscriptions, 100_000);
        drop(subscriptions);
        assert_eq!(engine.stats().subscriptions, 0);
        assert_eq!(engine.subscriptions().len(), 0);
        engine.publish(&true).unwrap();
    });
}

#[test]
fn a_hundred_thousand_subscriptions_may_come_before_the_first_publish() {
    on_a_small_stack(|| {
        let (engine, _) = engine(1);
        let mut subscriptions: Vec<_> = (0..100_000).map(|_| engine.subscribe()).collect();
        engine.publish(&true).unwrap();
        for subscription in &mut subscriptions {
            assert_eq!(replay(subscription, 0), (1, 1));
        }
        engine.publish(&true).unwrap();
        drop(engine);
        for subscription in &mut subscriptions {
            assert_eq!(replay(subscription, 1), (2, 0));
        }
    });
}

#[test]
fn the_order_in_which_an_engine_and_its_subscriptions_go_does_not_matter() {
    on_a_small_stack(|| {
        let (engine, alive) = engine(1);
        let mut subscriptions: Vec<_> = (0..10_000).map(|_| engine.subscribe()).collect();
        drop(engine);
        subscriptions.truncate(5_000);
        subscriptions.reverse();
        drop(subscriptions);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn versions_that_nobody_can_see_do_not_pile_up() {
    let (engine, alive) = engine(1);
    let _subscription = engine.subscribe();
    for _ in 0..10_000 {
        engine.publish(&false).unwrap();
        assert!(alive.load(Ordering::SeqCst) <= 2);
    }
}

/// A waker that says when it is run, and then waits for leave.
struct Gate {
    reached: mpsc::Sender<()>,
    leave: Mutex<mpsc::Receiver<()>>,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.reached.send(()).unwrap();
        let leave = self.leave.lock().unwrap();
        leave.recv_timeout(DEADLINE).unwrap();
    }
}

/// Has one publisher stuck in the middle of a round while `meanwhile` runs on this thread.
fn while_a_round_is_stuck(engine: &Engine<Counter>, meanwhile: impl FnOnce()) {
    let (reached, entered) = mpsc::channel();
    let (release, leave) = mpsc::channel();
    let gate = Waker::from(Arc::new(Gate {
        reached,
        leave: Mutex::new(leave),
    }));
    let mut trap = engine.subscribe();
    let mut cx = Context::from_waker(&gate);
    assert!(trap.poll_next(&mut cx).is_ready());
    assert!(trap.poll_next(&mut cx).is_pending());
    thread::scope(|scope| {
        let stuck = scope.spawn(|| engine.publish(&true).unwrap());
        entered.recv_timeout(DEADLINE).unwrap();
        meanwhile();
        release.send(()).unwrap();
        stuck.join().unwrap();
    });
}

#[test]
fn a_chain_that_nobody_distributes_is_cut() {
    on_a_small_stack(|| {
        const RING: usize = 16;
        // Four rings, and then: the head, the one before it, the one in the making, and what the stuck round holds.
        const BOUND: usize = 4 * RING + 8;
        const VERSIONS: u64 = 100_000;
        let (engine, alive) = engine(RING);
        let mut subscriptions: Vec<_> = (0..3).map(|_| engine.subscribe()).collect();
        for subscription in &mut subscriptions {
            assert_eq!(replay(subscription, 0), (0, 1));
        }
        while_a_round_is_stuck(&engine, || {
            let mut most = 0;
            for _ in 0..VERSIONS {
                engine.publish(&true).unwrap();
                most = most.max(alive.load(Ordering::SeqCst));
            }
            assert!(most <= BOUND, "{most} versions at once");
            assert!(
                most >= 4 * RING,
                "{most} versions: the chain was cut too early"
            );
            // What has been cut has been freed.
            assert!(alive.load(Ordering::SeqCst) <= 8);
        });
        // The round that was stuck has looked again: a snapshot for everyone, and nobody is behind.
        for subscription in &mut subscriptions {
            assert_eq!(subscription.stats().dropped, VERSIONS);
            assert_eq!(replay(subscription, 0), (VERSIONS + 1, 1));
        }
        engine.publish(&true).unwrap();
        for subscription in &mut subscriptions {
            assert_eq!(replay(subscription, VERSIONS + 1), (VERSIONS + 2, 0));
        }
        drop(subscriptions);
        drop(engine);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn the_bound_of_a_chain_follows_the_subscriptions_that_are_there() {
    const RING: usize = 16;
    let (engine, alive) = engine(RING);
    let mut small = engine.subscribe();
    assert_eq!(replay(&mut small, 0), (0, 1));
    // One that left before any round, and one that a round has met.
    drop(engine.subscription().capacity(1 << 20).subscribe());
    let mut large = engine.subscription().capacity(1 << 20).subscribe();
    assert_eq!(replay(&mut large, 0), (0, 1));
    engine.publish(&true).unwrap();
    assert_eq!(replay(&mut small, 0), (1, 0));
    let most_of = |publishes: usize| {
        let mut most = 0;
        while_a_round_is_stuck(&engine, || {
            for _ in 0..publishes {
                engine.publish(&true).unwrap();
                most = most.max(alive.load(Ordering::SeqCst));
            }
        });
        most
    };
    let most = most_of(10_000);
    assert!(most > 10_000, "{most}: the large one could take them all");
    drop(large);
    let most = most_of(10_000);
    assert!(most <= 4 * RING + 8, "{most} versions at once");
}

#[test]
fn a_held_version_keeps_its_own_state_only() {
    const RING: usize = 16;
    let (engine, alive) = engine(RING);
    let mut subscription = engine.subscribe();
    assert_eq!(replay(&mut subscription, 0), (0, 1));
    let mut held = Vec::new();
    while_a_round_is_stuck(&engine, || {
        for nth in 0..1_000 {
            engine.publish(&true).unwrap();
            // Some alone, and some next to each other, the one before a cut among them.
            if nth % 50 == 0 || (300..400).contains(&nth) {
                held.push(engine.head());
            }
        }
        // What is undistributed, and what is held.
        let most = held.len() + 4 * RING + 8;
        assert!(alive.load(Ordering::SeqCst) <= most);
    });
    // The role has moved on: beside these there is the head.
    assert!(held.iter().all(|version| version.state().count > 0));
    assert_eq!(alive.load(Ordering::SeqCst), held.len() + 1);
    drop(held);
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    assert_eq!(replay(&mut subscription, 0), (1_001, 1));
}

#[test]
fn a_chain_within_the_bound_is_handed_out_whole() {
    let (engine, _) = engine(64);
    let mut subscription = engine.subscribe();
    assert_eq!(replay(&mut subscription, 0), (0, 1));
    while_a_round_is_stuck(&engine, || {
        for _ in 0..63 {
            engine.publish(&true).unwrap();
        }
        assert_eq!(subscription.stats().queued, 1);
    });
    assert_eq!(subscription.stats().queued, 64);
    assert_eq!(replay(&mut subscription, 0), (64, 0));
}

#[test]
fn a_chain_too_long_for_a_ring_is_a_snapshot_there_and_updates_elsewhere() {
    let (engine, _) = engine(64);
    let mut large = engine.subscribe();
    let mut small = engine.subscription().capacity(8).subscribe();
    assert_eq!(replay(&mut large, 0), (0, 1));
    assert_eq!(replay(&mut small, 0), (0, 1));
    while_a_round_is_stuck(&engine, || {
        for _ in 0..20 {
            engine.publish(&true).unwrap();
        }
    });
    assert_eq!(replay(&mut large, 0), (21, 0));
    // The one update from before, then the rest.
    let Ok(Event::Update(update)) = small.try_next() else {
        panic!("pushed by the round that was stuck");
    };
    assert_eq!(*update, 1);
    let Ok(Event::Snapshot(snapshot)) = small.try_next() else {
        panic!("twenty updates do not fit");
    };
    assert_eq!(snapshot.reason(), SnapshotReason::Lagged);
    assert_eq!((snapshot.missed(), snapshot.state().count), (20, 21));
}
