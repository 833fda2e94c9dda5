//! Many readers of one subscription: each has what a subscription of its own would give it.

use std::{
    convert::Infallible,
    ops::ControlFlow::{Break, Continue},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use configstream_engine::{
    Engine, Event, Reader, SharedSubscription, SnapshotReason, State, Transition, TryNextError,
};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::FileFailurePersistence};

mod ledger;
use ledger::{Change, DEADLINE, Ledger, Replay, Seen, put, snapshot, update};

/// At most so many events, and what ended it if there were fewer.
fn read(reader: &mut Reader<Ledger>, count: usize) -> (Vec<Seen>, Option<TryNextError>) {
    let mut seen = Vec::new();
    if count == 0 {
        return (seen, None);
    }
    let end = reader.read(|event| {
        seen.push(event.clone().into());
        if seen.len() < count {
            Continue(())
        } else {
            Break(())
        }
    });
    (seen, end.err())
}

/// All there is now.
fn read_all(reader: &mut Reader<Ledger>) -> Vec<Seen> {
    let (seen, end) = read(reader, usize::MAX);
    assert_eq!(end, Some(TryNextError::Empty));
    seen
}

/// An engine, and a subscription to share whose ring and window hold so many updates.
fn shared(capacity: usize) -> (Engine<Ledger>, SharedSubscription<Ledger>) {
    let engine = ledger::engine(capacity);
    let shared = engine.subscription().name("shared").share();
    (engine, shared)
}

/// Readers named `one` and `two` that have had their first snapshots.
fn two(shared: &SharedSubscription<Ledger>) -> [Reader<Ledger>; 2] {
    ["one", "two"].map(|name| {
        let mut reader = shared.reader(name);
        read_all(&mut reader);
        reader
    })
}

#[test]
fn a_publisher_has_one_subscription_whatever_the_number_of_readers() {
    let (engine, shared) = shared(8);
    assert_eq!(engine.stats().subscriptions, 0);
    let mut readers = ["one", "two", "three"].map(|name| shared.reader(name));
    let listed = engine.subscriptions();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name.as_deref(), Some("shared"));
    for reader in &mut readers {
        let first = snapshot(0, Ledger::default(), SnapshotReason::First, 0);
        assert_eq!(read_all(reader), [first]);
    }
    put(&engine, [7, 8]);
    for reader in &mut readers {
        assert_eq!(read_all(reader), [update(1, 7), update(2, 8)]);
    }
    let observers = readers.each_ref().map(Reader::observer);
    let names = observers.each_ref().map(|observer| observer.stats().name);
    assert_eq!(names, ["one", "two", "three"].map(|name| Some(name.into())));
    drop(readers);
    assert_eq!(engine.stats().subscriptions, 0);
    assert_eq!(observers[0].stats().delivered, 2);
    let mut later = shared.clone().reader("later");
    assert_eq!(engine.stats().subscriptions, 1);
    let first = snapshot(2, Ledger::of([7, 8]), SnapshotReason::First, 0);
    assert_eq!(read_all(&mut later), [first]);
}

#[test]
fn who_stays_behind_misses_what_it_could_not_keep_and_nobody_else_does() {
    let (engine, shared) = shared(2);
    let mut readers = two(&shared);
    let [quick, slow] = &mut readers;
    for value in 1..=2 {
        put(&engine, [value]);
        assert_eq!(read_all(quick), [update(value, value)]);
    }
    let stats = slow.observer().stats();
    assert_eq!((stats.queued, stats.dropped, stats.lag), (2, 0, 2));
    assert!(!stats.lagging);
    put(&engine, [3]);
    assert_eq!(read_all(quick), [update(3, 3)]);
    // Told before it says so itself.
    let stats = slow.observer().stats();
    assert_eq!((stats.queued, stats.dropped, stats.lag), (0, 3, 3));
    assert!(stats.lagging);
    let lagged = snapshot(3, Ledger::of(1..=3), SnapshotReason::Lagged, 3);
    assert_eq!(read_all(slow), [lagged]);
    put(&engine, [4]);
    for reader in [&mut *slow, &mut *quick] {
        assert_eq!(read_all(reader), [update(4, 4)]);
        assert!(!reader.observer().stats().lagging);
    }
    for value in 5..=8 {
        put(&engine, [value]);
        read_all(quick);
    }
    // What was told stands, also when all have left.
    let observer = slow.observer();
    assert_eq!(observer.stats().dropped, 7);
    drop(readers);
    assert_eq!(observer.stats().dropped, 7);
}

#[test]
fn if_nobody_reads_the_ring_keeps_what_it_holds_and_all_get_that_first() {
    let (engine, shared) = shared(2);
    let mut readers = two(&shared);
    put(&engine, 1..=5);
    for reader in &mut readers {
        let stats = reader.observer().stats();
        assert_eq!((stats.queued, stats.dropped), (2, 3));
        let lagged = snapshot(5, Ledger::of(1..=5), SnapshotReason::Lagged, 3);
        assert_eq!(read_all(reader), [update(1, 1), update(2, 2), lagged]);
    }
}

#[test]
fn a_state_that_no_update_leads_to_is_nobodys_drop() {
    let (engine, shared) = shared(4);
    let mut readers = two(&shared);
    put(&engine, [1]);
    engine.publish(&Change::Replace(9)).unwrap();
    put(&engine, [2]);
    for reader in &mut readers {
        let seen = read_all(reader);
        assert_eq!(seen[0], update(1, 1));
        let stats = reader.observer().stats();
        assert_eq!((stats.forced, stats.lag), (1, 0));
        assert_eq!(stats.delivered + stats.dropped, 2);
    }
}

#[test]
fn the_end_comes_after_everything_and_stays() {
    let (engine, shared) = shared(4);
    let mut readers = two(&shared);
    put(&engine, [1]);
    engine.close();
    for reader in &mut readers {
        let (seen, end) = read(reader, usize::MAX);
        assert_eq!(seen, [update(1, 1)]);
        assert_eq!(end, Some(TryNextError::Closed));
        assert_eq!(read(reader, 1), (vec![], Some(TryNextError::Closed)));
    }
    let mut late = shared.reader("late");
    let first = snapshot(1, Ledger::of([1]), SnapshotReason::First, 0);
    let (seen, end) = read(&mut late, usize::MAX);
    assert_eq!((seen, end), (vec![first], Some(TryNextError::Closed)));
}

/// Its updates tell how many hold them.
#[derive(Clone)]
struct Witnessed;

impl State for Witnessed {
    type Change = Arc<()>;
    type Update = Arc<()>;
    type Rejection = Infallible;

    fn apply(&self, witness: &Arc<()>) -> Result<Transition<Self>, Infallible> {
        Ok(Transition::new(Self, vec![witness.clone()]))
    }
}

/// Reads all there is, and keeps none of it.
fn pass(reader: &mut Reader<Witnessed>) {
    let read = reader.read(|_| Continue::<()>(()));
    assert_eq!(read, Err(TryNextError::Empty));
}

#[test]
fn an_update_goes_when_all_have_read_it_or_passed_it_or_left() {
    let engine = Engine::builder(Witnessed).ring_capacity(4).build().unwrap();
    let shared = engine.subscription().share();
    let mut readers = ["one", "two", "three"].map(|name| Some(shared.reader(name)));
    readers.iter_mut().flatten().for_each(pass);
    let publish = |witness: &Arc<()>| {
        engine.publish(witness).unwrap();
    };
    let witness = Arc::new(());
    publish(&witness);
    // The version that it led to holds it, too.
    publish(&Arc::new(()));
    assert_eq!(Arc::strong_count(&witness), 2);
    for reader in &mut readers[..2] {
        pass(reader.as_mut().unwrap());
        assert_eq!(Arc::strong_count(&witness), 2);
    }
    readers[2] = None;
    assert_eq!(Arc::strong_count(&witness), 1);

    // One of two lags: what it has missed is not kept for it, and its snapshot stands in for the rest.
    let witnesses: Vec<_> = (0..6).map(|_| Arc::new(())).collect();
    for witness in &witnesses {
        publish(witness);
        pass(readers[0].as_mut().unwrap());
    }
    let held = |witness: &Arc<()>| Arc::strong_count(witness) > 1;
    let kept: Vec<bool> = witnesses.iter().map(held).collect();
    assert_eq!(kept, [false, false, true, true, true, true]);
    pass(readers[1].as_mut().unwrap());
    publish(&Arc::new(()));
    assert!(!witnesses.iter().any(held));
}

#[test]
fn what_panics_has_been_handed_out_and_the_others_get_it_all_the_same() {
    let (engine, shared) = shared(4);
    let mut readers = two(&shared);
    put(&engine, [1, 2]);
    let [one, two] = &mut readers;
    let panicking = catch_unwind(AssertUnwindSafe(|| {
        let _ = one.read::<()>(|_| panic!("as it should"));
    }));
    assert!(panicking.is_err());
    assert_eq!(read_all(one), [update(2, 2)]);
    assert_eq!(read_all(two), [update(1, 1), update(2, 2)]);
    assert_eq!(one.observer().stats(), {
        let mut stats = two.observer().stats();
        stats.id = one.id();
        stats.name = Some("one".into());
        stats
    });
}

#[test]
fn a_reader_that_never_runs_out_of_updates_keeps_no_other_from_its_turn() {
    let (engine, shared) = shared(8);
    let [begun, stop] = [(); 2].map(|()| AtomicBool::new(false));
    let (done, came) = mpsc::channel();
    let in_time = thread::scope(|scope| {
        scope.spawn(|| {
            let mut busy = shared.reader("busy");
            // There is always one more: each event taken publishes the next.
            let end = busy.read(|_| {
                put(&engine, [1]);
                begun.store(true, SeqCst);
                if stop.load(SeqCst) {
                    Break(())
                } else {
                    Continue(())
                }
            });
            // Unless the other one has taken it over.
            assert!(matches!(end, Ok(()) | Err(TryNextError::Empty)));
        });
        while !begun.load(SeqCst) {
            thread::yield_now();
        }
        scope.spawn(|| {
            let mut other = shared.reader("other");
            for _ in 0..100 {
                // Something or nothing: it had its turn.
                let _ = other.read(|_| Break(()));
                done.send(()).unwrap();
            }
        });
        let in_time = (0..100).all(|_| came.recv_timeout(DEADLINE).is_ok());
        stop.store(true, SeqCst);
        in_time
    });
    assert!(in_time, "a turn for the other");
}

#[test]
fn figures_of_readers_are_read_without_their_lock() {
    let (engine, shared) = shared(8);
    let [mut one, two] = two(&shared);
    let [mine, others] = [one.observer(), two.observer()];
    put(&engine, [1, 2]);
    let mut figures = Vec::new();
    let end = one.read(|_| {
        // In `take` this thread has the lock.
        figures.push((mine.stats().queued, others.stats().queued));
        Continue::<()>(())
    });
    assert_eq!(end, Err(TryNextError::Empty));
    assert_eq!(figures, [(1, 2), (0, 2)]);
}

/// What `f` panics with.
fn panic_text(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
    *panic
        .downcast::<String>()
        .unwrap_or_else(|panic| Box::new(String::from(*panic.downcast::<&'static str>().unwrap())))
}

#[test]
fn a_reader_that_would_wait_for_itself_panics_and_says_why() {
    let (engine, shared) = shared(8);
    let [mut one, mut two] = two(&shared);
    put(&engine, [1, 2]);
    let _ = one.read(|_| {
        for text in [
            panic_text(|| drop(shared.reader("new"))),
            panic_text(|| assert_eq!(two.read(|_| Break(())), Ok(()))),
        ] {
            assert!(text.contains("in the `take` of another"), "{text}");
        }
        Break(())
    });
    // Neither has done any harm.
    assert_eq!(read_all(&mut one), [update(2, 2)]);
    assert_eq!(read_all(&mut two), [update(1, 1), update(2, 2)]);
    assert_eq!(engine.stats().subscriptions, 1);
}

#[test]
fn in_the_take_of_a_snapshot_readers_come_and_read() {
    let (engine, shared) = shared(8);
    let mut one = shared.reader("one");
    let mut new = None;
    let _ = one.read(|_| {
        let mut reader = shared.reader("new");
        let first = snapshot(0, Ledger::default(), SnapshotReason::First, 0);
        assert_eq!(read_all(&mut reader), [first]);
        new = Some(reader);
        Continue::<()>(())
    });
    put(&engine, [1]);
    assert_eq!(read_all(&mut new.unwrap()), [update(1, 1)]);
}

#[test]
fn a_reader_dropped_in_the_take_of_another_has_left() {
    let engine = Engine::builder(Witnessed).ring_capacity(4).build().unwrap();
    let shared = engine.subscription().share();
    let mut readers = ["one", "two", "three"].map(|name| Some(shared.reader(name)));
    readers.iter_mut().flatten().for_each(pass);
    let witness = Arc::new(());
    for witness in [&witness, &Arc::new(())] {
        engine.publish(witness).unwrap();
    }
    let [one, two, three] = &mut readers;
    pass(three.as_mut().unwrap());
    let read = one.as_mut().unwrap().read(|_| {
        *two = None;
        Continue::<()>(())
    });
    assert_eq!(read, Err(TryNextError::Empty));
    assert_eq!(Arc::strong_count(&witness), 1);
    drop(readers);
    assert_eq!(engine.stats().subscriptions, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Change),
    Batch(Vec<Change>),
    Join,
    /// So many events, or all there are.
    Read(Index, usize),
    Leave(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let change = || {
        prop_oneof![
            12 => (0..100_u64).prop_map(Change::Put),
            3 => vec(0..100_u64, 0..5).prop_map(Change::PutAll),
            1 => (0..100_u64).prop_map(Change::Replace),
            1 => (vec(0..100_u64, 0..3), 0..100_u64)
                .prop_map(|(values, value)| Change::PutAndReplace(values, value)),
            2 => Just(Change::Touch),
        ]
    };
    prop_oneof![
        16 => change().prop_map(Step::Publish),
        4 => vec(change(), 0..4).prop_map(Step::Batch),
        4 => Just(Step::Join),
        20 => (any::<Index>(), prop_oneof![0..4_usize, Just(usize::MAX)])
            .prop_map(|(who, count)| Step::Read(who, count)),
        2 => any::<Index>().prop_map(Step::Leave),
    ]
}

/// A reader, and what it must have by what it was given.
struct Follower {
    reader: Reader<Ledger>,
    replay: Replay,
    /// How much had been published when it last read all there was; `None` before the first time.
    current_at: Option<u64>,
    /// How much had been published at its first snapshot.
    first: Option<u64>,
}

impl Follower {
    fn new(reader: Reader<Ledger>) -> Self {
        Self {
            reader,
            replay: Replay::of_reader(),
            current_at: None,
            first: None,
        }
    }

    /// `needed` is how much had been published when a snapshot was last needed by all.
    fn read(&mut self, count: usize, published: u64, needed: u64, capacity: u64) {
        let kept_up = self
            .current_at
            .is_some_and(|at| published - at <= capacity && needed <= at);
        let mut left = count;
        let end = self.reader.read(|event| {
            if let Event::Snapshot(snapshot) = event {
                self.first.get_or_insert(published);
                let reason = snapshot.reason();
                assert!(!kept_up || reason != SnapshotReason::Lagged, "{snapshot:?}");
            }
            self.replay.take(event);
            left -= 1;
            if left > 0 { Continue(()) } else { Break(()) }
        });
        if end.is_err() {
            self.current_at = Some(published);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// The contract of each, by `Replay`; the accounting equation after each step; no drop for whoever keeps up; and in the end
    /// everybody is where the engine is.
    #[test]
    fn every_reader_follows_whatever_the_others_do(
        capacity in 1..=4_usize,
        steps in vec(step(), 1..120),
    ) {
        let (engine, shared) = shared(capacity);
        let mut followers: Vec<Follower> = Vec::new();
        let mut needed = 0;
        for step in &steps {
            let committed = match step {
                Step::Publish(change) => Some(engine.publish(change).unwrap()),
                Step::Batch(changes) => Some(engine.publish_batch(changes).unwrap()),
                _ => None,
            };
            if committed.is_some_and(|committed| committed.needs_snapshot) {
                needed = engine.stats().published;
            }
            match step {
                Step::Join => followers.push(Follower::new(shared.reader("reader"))),
                Step::Read(who, count) if !followers.is_empty() && *count > 0 => {
                    let who = who.index(followers.len());
                    followers[who].read(*count, engine.stats().published, needed, capacity as u64);
                }
                Step::Leave(who) if !followers.is_empty() => {
                    followers.remove(who.index(followers.len()));
                }
                _ => {}
            }
            let published = engine.stats().published;
            prop_assert_eq!(engine.stats().subscriptions, u64::from(!followers.is_empty()));
            for follower in &followers {
                let observer = follower.reader.observer();
                let stats = observer.stats();
                prop_assert_eq!(observer.lag(), follower.first.map(|_| stats.lag));
                if let Some(first) = follower.first {
                    prop_assert_eq!(published - first, ledger::accounted(&stats));
                }
            }
        }
        engine.close();
        let head = engine.head();
        for follower in &mut followers {
            follower.read(usize::MAX, engine.stats().published, needed, capacity as u64);
            let again = follower.reader.read(|_| Break(()));
            prop_assert_eq!(again, Err(TryNextError::Closed));
            follower.replay.check_at(&head, &follower.reader.observer().stats());
        }
    }
}
