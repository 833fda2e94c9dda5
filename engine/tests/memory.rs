//! What the engine takes from the allocator, counted.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
};

use configstream_engine::{Engine, Event, State, Subscription, Transition};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes in use, by all threads.
static IN_USE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static OWN: Cell<Own> = const { Cell::new(Own { allocations: 0, bytes: 0, in_use: 0 }) };
}

/// What this thread did. The harness allocates too, in its own.
#[derive(Clone, Copy)]
struct Own {
    allocations: u64,
    /// Of those allocations.
    bytes: u64,
    /// Allocated here and not freed here.
    in_use: i64,
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("a layout fits an isize")
}

fn count(own: impl FnOnce(&mut Own)) {
    // A thread that ends allocates nothing that we count.
    let _ = OWN.try_with(|cell| {
        let mut now = cell.get();
        own(&mut now);
        cell.set(now);
    });
}

fn allocated(size: usize) {
    IN_USE.fetch_add(signed(size), Ordering::Relaxed);
    count(|own| {
        own.allocations += 1;
        own.bytes += size as u64;
        own.in_use += signed(size);
    });
}

fn freed(size: usize) {
    IN_USE.fetch_sub(signed(size), Ordering::Relaxed);
    count(|own| own.in_use -= signed(size));
}

// SAFETY: all of the work is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        freed(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        freed(layout.size());
        allocated(size);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// One test at a time, since `IN_USE` is everybody's.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Of this thread.
fn in_use() -> i64 {
    OWN.get().in_use
}

/// Allocations and bytes that this thread made in `f`.
fn made(f: impl FnOnce()) -> (u64, u64) {
    let before = OWN.get();
    f();
    let after = OWN.get();
    (
        after.allocations - before.allocations,
        after.bytes - before.bytes,
    )
}

/// Takes nothing from the allocator but for its updates.
#[derive(Clone, Copy)]
struct Total(u64);

impl State for Total {
    type Change = u64;
    type Update = u64;
    type Rejection = Infallible;

    fn apply(&self, change: &u64) -> Result<Transition<Self>, Infallible> {
        Ok(Transition::new(Total(self.0 + change), vec![*change]))
    }
}

fn engine() -> Engine<Total> {
    Engine::builder(Total(0)).build().unwrap()
}

fn drain<S: State>(subscription: &mut Subscription<S>) {
    while subscription.try_next().is_ok() {}
}

struct Bell(AtomicU64);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug)]
enum Readers {
    Reading,
    Waiting,
    Stalled,
}

/// Allocations and bytes of 100 publishes to so many readers.
fn publishing(readers: Readers, count: usize) -> (u64, u64) {
    let engine = engine();
    let bell = Arc::new(Bell(AtomicU64::new(0)));
    let waker = Waker::from(bell.clone());
    let mut subscriptions: Vec<_> = (0..count).map(|_| engine.subscribe()).collect();
    let mut between = || {
        for subscription in &mut subscriptions {
            match readers {
                Readers::Reading => drain(subscription),
                Readers::Waiting => {
                    let mut cx = Context::from_waker(&waker);
                    while subscription.poll_next(&mut cx).is_ready() {}
                }
                Readers::Stalled => {}
            }
        }
    };
    // The first rounds make room in the table, which stays.
    for _ in 0..3 {
        between();
        engine.publish(&1).unwrap();
    }
    let mut total = (0, 0);
    for _ in 0..100 {
        between();
        let (allocations, bytes) = made(|| assert_eq!(engine.publish(&1).unwrap().updates, 1));
        total = (total.0 + allocations, total.1 + bytes);
    }
    if matches!(readers, Readers::Waiting) {
        assert_eq!(bell.0.load(Ordering::Relaxed), 103 * count as u64);
    }
    total
}

#[test]
fn a_publish_allocates_as_much_for_many_subscriptions_as_for_one() {
    let _alone = alone();
    // A thread's first use of the head takes a node.
    publishing(Readers::Reading, 1);
    let one = publishing(Readers::Reading, 1);
    println!(
        "a publish: {} allocations, {} bytes",
        one.0 as f64 / 100.0,
        one.1 as f64 / 100.0
    );
    for readers in [Readers::Reading, Readers::Waiting, Readers::Stalled] {
        for count in [1, 64, 512] {
            assert_eq!(publishing(readers, count), one, "{count} {readers:?}");
        }
    }
    // The state's list of updates; the update; the version. What a round holds is on the stack.
    assert_eq!(one.0, 300);
    assert_eq!(publishing(Readers::Reading, 0), one);
}

#[test]
fn an_idle_subscription_takes_two_kibibytes_at_most() {
    const COUNT: usize = 1000;
    let _alone = alone();
    let engine = engine();
    let mut subscriptions = Vec::with_capacity(COUNT);
    let before = in_use();
    subscriptions.extend((0..COUNT).map(|_| engine.subscribe()));
    let per_subscription = |now: i64| {
        let handle = size_of::<Subscription<Total>>() as i64;
        (now - before) / COUNT as i64 + handle
    };
    let joining = per_subscription(in_use());
    engine.publish(&1).unwrap();
    let idle = per_subscription(in_use());
    subscriptions.iter_mut().for_each(drain);
    println!("a subscription: {idle} bytes idle, {joining} before its first round");
    assert!(idle <= 2048, "{idle}");
    assert!(joining <= 2048, "{joining}");
    assert!(per_subscription(in_use()) <= 2048);
}

#[test]
fn coming_and_going_allocates_as_much_among_ten_thousand_as_alone() {
    const CYCLES: u64 = 1000;
    let _alone = alone();
    let coming_and_going = |others: usize| {
        let engine = engine();
        let _others: Vec<_> = (0..others).map(|_| engine.subscribe()).collect();
        engine.publish(&1).unwrap();
        made(|| {
            for _ in 0..CYCLES {
                assert!(engine.subscribe().try_next().is_ok());
            }
        })
    };
    let (few, few_bytes) = coming_and_going(100);
    let (many, many_bytes) = coming_and_going(10_000);
    println!(
        "a subscription: {few_bytes} bytes among 100, {many_bytes} among 10,000, in {CYCLES} cycles"
    );
    // At most a node of the list of subscriptions more, where that is about to split. A copy of anything would show.
    assert!(many <= few + CYCLES, "{few}, {many}");
    assert!(
        many_bytes <= few_bytes + few_bytes / 10,
        "{few_bytes}, {many_bytes}"
    );
}

#[test]
fn taking_events_allocates_nothing() {
    let _alone = alone();
    let engine = engine();
    let mut subscription = engine.subscribe();
    drain(&mut subscription);
    for _ in 0..200 {
        engine.publish(&1).unwrap();
    }
    // 128 updates and a snapshot.
    assert_eq!(made(|| drain(&mut subscription)), (0, 0));
    assert_eq!(subscription.stats().dropped, 72);
}

#[test]
fn nothing_is_left_of_subscriptions_that_came_and_went_while_another_thread_published() {
    const CYCLES: u64 = 100_000;
    let _alone = alone();
    let engine = engine();
    let mut witness = engine.subscribe();
    let over = AtomicBool::new(false);
    let churn = |cycles: u64| {
        over.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let mut published = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    engine.publish(&1).unwrap();
                    published += 1;
                }
                published
            });
            for cycle in 0..cycles {
                let mut subscription = engine.subscription().capacity(2).subscribe();
                if cycle % 3 == 0 {
                    let _ = subscription.try_next();
                }
            }
            over.store(true, Ordering::Relaxed);
            publisher.join().unwrap()
        })
    };
    let settle = |witness: &mut Subscription<Total>| {
        drain(witness);
        engine.publish(&1).unwrap();
        drain(witness);
        IN_USE.load(Ordering::Relaxed)
    };
    let before = settle(&mut witness);
    assert!(churn(CYCLES) > 0);
    let left = settle(&mut witness) - before;
    assert_eq!(engine.stats().subscriptions, 1);
    println!("{left} bytes are left of {CYCLES} cycles");
    assert!(left < 16 * 1024, "{left}");
}

/// Without another publish, which would sweep them: so many subscriptions of each capacity come and
/// go beside a hundred small ones that stay.
#[test]
fn what_subscriptions_leave_behind_takes_no_more_than_those_that_stay() {
    let _alone = alone();
    for (capacity, updates) in [(1, 1), (1024, 0), (1024, 20), (65_536, 0)] {
        let engine = engine();
        let before = in_use();
        let _stay: Vec<_> = (0..100)
            .map(|_| {
                let mut subscription = engine.subscription().capacity(8).subscribe();
                drain(&mut subscription);
                subscription
            })
            .collect();
        engine.publish(&1).unwrap();
        let stay = in_use() - before;
        let mut visitors: Vec<_> = (0..99)
            .map(|_| engine.subscription().capacity(capacity).subscribe())
            .collect();
        visitors.iter_mut().for_each(drain);
        for _ in 0..updates {
            engine.publish(&1).unwrap();
        }
        for visitor in visitors {
            drop(visitor);
            let left = in_use() - before - stay;
            println!("capacity {capacity}: {left} bytes beside {stay}");
        }
        // The table keeps room for four times those that stay, the list of joiners for its end.
        let left = in_use() - before - stay;
        assert!(left <= stay + 32 * 1024, "{left} bytes beside {stay}");
        assert_eq!(engine.stats().subscriptions, 100);
    }
}

#[test]
fn nothing_is_left_of_an_engine() {
    let _alone = alone();
    let everything = || {
        let engine = engine();
        let mut subscriptions: Vec<_> = (0..10).map(|_| engine.subscribe()).collect();
        subscriptions.truncate(7);
        for _ in 0..300 {
            engine.publish_batch(&[1, 2, 3]).unwrap();
            drain(&mut subscriptions[0]);
        }
        drop(engine.subscribe());
        drop(engine);
        drain(&mut subscriptions[1]);
    };
    everything();
    let before = in_use();
    everything();
    assert_eq!(in_use(), before);
}

/// A state and updates that count themselves.
struct Counted {
    alive: Arc<AtomicI64>,
}

impl Counted {
    fn new(alive: &Arc<AtomicI64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self {
            alive: alive.clone(),
        }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(&self.alive)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Pile {
    _own: Counted,
    updates: Arc<AtomicI64>,
}

impl State for Pile {
    type Change = ();
    type Update = Counted;
    type Rejection = Infallible;

    fn apply(&self, _: &()) -> Result<Transition<Self>, Infallible> {
        Ok(Transition::new(
            self.clone(),
            vec![Counted::new(&self.updates)],
        ))
    }
}

#[test]
fn a_stalled_subscription_holds_at_most_its_ring_and_one_version() {
    const RING: u32 = 16;
    let _alone = alone();
    let (states, updates) = (Arc::default(), Arc::default());
    let pile = Pile {
        _own: Counted::new(&states),
        updates: Arc::clone(&updates),
    };
    let engine = Engine::builder(pile)
        .ring_capacity(RING as usize)
        .build()
        .unwrap();
    let mut stalled = engine.subscribe();
    // One that holds the snapshot it was given.
    let Ok(Event::Snapshot(snapshot)) = stalled.try_next() else {
        panic!("the first event is a snapshot");
    };
    let mut settled = None;
    for nth in 1..=10_000 {
        engine.publish(&()).unwrap();
        let (states, updates) = (
            states.load(Ordering::Relaxed),
            updates.load(Ordering::Relaxed),
        );
        assert!(
            states <= 2,
            "{states} states: the head's and the snapshot's"
        );
        assert!(updates <= i64::from(RING), "{updates} updates: the ring's");
        if nth == 1_000 {
            settled = Some(in_use());
        }
    }
    assert_eq!(Some(in_use()), settled, "a backlog takes memory");
    assert_eq!(stalled.stats().queued, u64::from(RING));
    drop((stalled, snapshot));
    engine.publish(&()).unwrap();
    assert_eq!(states.load(Ordering::Relaxed), 1);
    assert_eq!(updates.load(Ordering::Relaxed), 0);
    drop(engine);
    assert_eq!(states.load(Ordering::Relaxed), 0);
    assert_eq!(updates.load(Ordering::Relaxed), 0);
}
