//! Real threads, as many interleavings as they happen to find, and the books checked at the end: each subscription has
//! rebuilt the head's state from its events, without a gap, a repetition or a step back, and every update that was
//! published since its first snapshot is delivered, dropped or forced, by its own count and by the engine's.
//!
//! Short by default, and shorter where CONFIGSTREAM_TEST_PERCENT asks for less than 100. The long
//! runs: `cargo test -p configstream-engine --release --test stress -- --ignored`.
//!
//! # Under sanitizers
//! `.ci/sanitize`: this file and others under ThreadSanitizer and AddressSanitizer, on the stable compiler. The standard
//! library is not instrumented, so what the sanitizer says of its insides is suppressed; of the engine's own accesses
//! nothing is.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
};

use configstream_engine::{Committed, Engine, Epoch, PublishError, Sequence, Subscription};

mod ledger;
use ledger::{Change, Dice, Ledger, Replay};

/// Who takes part in a run, and for how long.
#[derive(Clone, Copy)]
struct Cast {
    publishers: u64,
    /// By each publisher.
    publishes: u64,
    /// Read as fast as they can, by blocking and by polling.
    readers: usize,
    /// Read a little, and then not before all has been published.
    stallers: usize,
    /// Subscribe, read a little and leave, again and again.
    visitors: usize,
    ring_capacity: usize,
}

/// A door that is closed until it is opened for good.
#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Door {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        let (_open, wait) = self
            .opened
            .wait_timeout_while(open, ledger::DEADLINE * 10, |open| !*open)
            .unwrap();
        assert!(!wait.timed_out());
    }
}

/// What a publisher does next.
fn any_change(dice: &mut Dice) -> Change {
    match dice.roll(64) {
        0 => Change::Replace(dice.roll(1 << 20)),
        1 => Change::PutAndReplace(vec![1, 2], dice.roll(1 << 20)),
        2 | 3 => Change::Touch,
        4 => Change::Refuse,
        5..=12 => Change::PutAll((0..dice.roll(4)).collect()),
        _ => Change::Put(dice.roll(1 << 20)),
    }
}

/// Publishes, and returns the sequences that were spent on it.
fn publisher(engine: &Engine<Ledger>, seed: u64, publishes: u64) -> Vec<u64> {
    let mut dice = Dice::new(seed);
    let mut spent = Vec::new();
    for _ in 0..publishes {
        let outcome = if dice.roll(8) == 0 {
            let batch: Vec<Change> = (0..dice.roll(5)).map(|_| any_change(&mut dice)).collect();
            (
                batch.contains(&Change::Refuse),
                engine.publish_batch(&batch),
            )
        } else {
            let change = any_change(&mut dice);
            (change == Change::Refuse, engine.publish(&change))
        };
        match outcome {
            (false, Ok(committed)) => spent.extend(sequences(&committed)),
            (true, Err(PublishError::Rejected(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    spent
}

/// Those that a publish can tell: what a forced snapshot stood in for it does not say.
fn sequences(committed: &Committed) -> std::ops::RangeInclusive<u64> {
    let last = committed.sequence.get();
    let count = committed.updates + u64::from(committed.needs_snapshot);
    last + 1 - count..=last
}

fn read_all(mut subscription: Subscription<Ledger>, mut replay: Replay) {
    while let Some(event) = subscription.next() {
        replay.take(&event);
    }
    replay.check_end(&subscription);
}

/// Polls with a waker that unparks this thread: the smallest executor there is.
fn poll_all(mut subscription: Subscription<Ledger>) {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut replay = Replay::default();
    loop {
        // A new waker each time, so that it has to be replaced.
        let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
        match subscription.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(event)) => replay.take(&event),
            Poll::Ready(None) => break,
            Poll::Pending => thread::park(),
        }
    }
    replay.check_end(&subscription);
}

fn stall(mut subscription: Subscription<Ledger>, published: &Door) {
    let mut replay = Replay::default();
    for _ in 0..5 {
        if let Some(event) = subscription.next() {
            replay.take(&event);
        }
    }
    published.pass();
    while let Some(event) = subscription.next() {
        replay.take(&event);
    }
    replay.check_end(&subscription);
}

fn visit(engine: &Engine<Ledger>, seed: u64, over: &AtomicBool) {
    let mut dice = Dice::new(seed);
    while !over.load(Ordering::Relaxed) {
        let capacity = usize::try_from(1 + dice.roll(8)).unwrap();
        let mut subscription = engine.subscription().capacity(capacity).subscribe();
        let mut replay = Replay::default();
        for _ in 0..dice.roll(20) {
            match subscription.try_next() {
                Ok(event) => replay.take(&event),
                Err(_) => thread::yield_now(),
            }
        }
        let observer = subscription.observer();
        drop(subscription);
        let stats = observer.stats();
        assert_eq!(stats.delivered, replay.updates);
        assert_eq!(stats.snapshots, replay.snapshots);
    }
}

fn perform(cast: Cast) {
    let engine = ledger::engine(cast.ring_capacity);
    let published = Door::default();
    let over = AtomicBool::new(false);
    let mut spent: Vec<u64> = thread::scope(|scope| {
        for reader in 0..cast.readers {
            let subscription = engine.subscribe();
            scope.spawn(move || match reader % 2 {
                0 => read_all(subscription, Replay::default()),
                _ => poll_all(subscription),
            });
        }
        for _ in 0..cast.stallers {
            let (subscription, published) = (engine.subscribe(), &published);
            scope.spawn(move || stall(subscription, published));
        }
        for visitor in 0..cast.visitors {
            let (engine, over) = (&engine, &over);
            scope.spawn(move || visit(engine, 1000 + visitor as u64, over));
        }
        let publishers: Vec<_> = (0..cast.publishers)
            .map(|seed| {
                let engine = &engine;
                let publishes = ledger::scaled(cast.publishes);
                scope.spawn(move || publisher(engine, seed, publishes))
            })
            .collect();
        // Whoever panics must not leave the others waiting for the door.
        let spent: Vec<_> = publishers.into_iter().map(|it| it.join()).collect();
        engine.close();
        published.open();
        over.store(true, Ordering::Relaxed);
        spent.into_iter().flat_map(Result::unwrap).collect()
    });
    spent.sort_unstable();
    assert!(
        spent.is_sorted_by(|a, b| a < b),
        "a sequence was spent twice"
    );
    let stats = engine.stats();
    assert_eq!(stats.published, stats.sequence.get());
    assert!(spent.last().is_none_or(|&last| last <= stats.published));
    assert_eq!(stats.subscriptions, 0);
    assert_eq!(engine.subscriptions(), []);
}

#[test]
fn everybody_converges() {
    perform(Cast {
        publishers: 2,
        publishes: 5_000,
        readers: 3,
        stallers: 1,
        visitors: 1,
        ring_capacity: 8,
    });
}

#[test]
fn everybody_converges_with_rings_of_one() {
    perform(Cast {
        publishers: 3,
        publishes: 3_000,
        readers: 2,
        stallers: 1,
        visitors: 2,
        ring_capacity: 1,
    });
}

#[test]
fn everybody_converges_with_rings_that_hold_much() {
    perform(Cast {
        publishers: 4,
        publishes: 2_500,
        readers: 2,
        stallers: 1,
        visitors: 1,
        ring_capacity: 1024,
    });
}

#[test]
#[ignore = "long: a minute"]
fn everybody_converges_for_long() {
    for ring_capacity in [1, 2, 3, 8, 128] {
        perform(Cast {
            publishers: 4,
            publishes: 200_000,
            readers: 4,
            stallers: 2,
            visitors: 2,
            ring_capacity,
        });
    }
}

/// States that are adopted in epochs of their own, while others publish into whatever epoch it is.
fn adopt_and_publish(rounds: u64) {
    let engine = ledger::engine(4);
    thread::scope(|scope| {
        for _ in 0..3 {
            let subscription = engine.subscribe();
            scope.spawn(move || read_all(subscription, Replay::across_epochs()));
        }
        let adopting = scope.spawn(|| {
            for round in 1..=rounds {
                let state = Ledger::replaced(round);
                let (epoch, sequence) = (Epoch::new(round), Sequence::new(round % 3));
                engine.adopt(state, epoch, sequence).unwrap();
                // Somebody else may have been faster, and this be a discontinuity: then nothing happens.
                let _ = engine.follow(vec![round], sequence.next());
            }
        });
        let publishing = scope.spawn(|| publisher(&engine, 7, rounds * 4));
        let outcomes = (adopting.join(), publishing.join());
        engine.close();
        outcomes.0.unwrap();
        outcomes.1.unwrap();
    });
    assert_eq!(engine.head().epoch(), Epoch::new(rounds));
}

#[test]
fn everybody_converges_across_epochs() {
    adopt_and_publish(ledger::scaled(2_000));
}

#[test]
#[ignore = "long: half a minute"]
fn everybody_converges_across_epochs_for_long() {
    adopt_and_publish(500_000);
}

/// Each engine lives for a moment, so that beginning and end meet everything else.
fn many_short_lives(lives: u64) {
    for seed in 0..lives {
        let engine = ledger::engine(1 + usize::try_from(seed % 4).unwrap());
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for _ in 0..2 {
                let subscription = engine.subscribe();
                readers.push(scope.spawn(move || read_all(subscription, Replay::default())));
            }
            let (one, other) = (engine.clone(), engine);
            scope.spawn(move || drop(publisher(&one, seed, 10)));
            scope.spawn(move || {
                let late = other.subscribe();
                publisher(&other, seed + 1, 10);
                // Perhaps the last handle, perhaps not.
                drop(other);
                read_all(late, Replay::default());
            });
        });
    }
}

#[test]
fn everybody_converges_in_short_lives() {
    many_short_lives(ledger::scaled(300));
}

#[test]
#[ignore = "long: half a minute"]
fn everybody_converges_in_many_short_lives() {
    many_short_lives(100_000);
}

/// One reader, woken for every single update: the most that can be made of the moment between looking and parking.
fn ping_pong(rounds: u64) {
    let (ping, pong) = (ledger::engine(1), ledger::engine(1));
    thread::scope(|scope| {
        let (mut pings, mut pongs) = (ping.subscribe(), pong.subscribe());
        assert!(pings.next().is_some() && pongs.next().is_some());
        scope.spawn(move || {
            while let Some(event) = pings.next() {
                let sequence = pong.publish(&Change::Put(1)).unwrap().sequence;
                assert_eq!(event.sequence(), sequence);
            }
        });
        for _ in 0..rounds {
            let sequence = ping.publish(&Change::Put(1)).unwrap().sequence;
            let event = pongs.next_timeout(ledger::DEADLINE).unwrap();
            assert_eq!(event.sequence(), sequence);
        }
        ping.close();
    });
}

#[test]
fn no_wake_up_is_lost() {
    ping_pong(ledger::scaled(5_000));
}

#[test]
#[ignore = "long: half a minute"]
fn no_wake_up_is_lost_for_long() {
    ping_pong(1_000_000);
}
