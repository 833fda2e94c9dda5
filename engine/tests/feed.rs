//! One subscription shared by several readers: to each what a subscription of its own would give.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use configstream_engine::{
    Engine, Event, Feed, Reader, SnapshotReason, State, Transition, TryNextError, WaitSet,
};

mod ledger;
use ledger::{Change, Dice, Ledger, Replay, Seen, accounted, engine, put, snapshot, update};

fn feed(engine: &Engine<Ledger>, capacity: usize) -> Feed<Ledger> {
    engine.subscription().capacity(capacity).feed()
}

/// All that can be taken now.
fn take(reader: &mut Reader<Ledger>) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        match reader.try_next() {
            Ok(event) => seen.push(event.into()),
            Err(end) => {
                assert_eq!(end, TryNextError::Empty);
                return seen;
            }
        }
    }
}

fn first(sequence: u64, state: Ledger) -> Seen {
    snapshot(sequence, state, SnapshotReason::First, 0)
}

#[test]
fn each_reader_gets_a_snapshot_and_then_every_update() {
    let engine = engine(8);
    put(&engine, [1]);
    let feed = feed(&engine, 8);
    let mut readers = [feed.reader("one"), feed.reader("two")];
    put(&engine, [2]);
    assert_eq!(take(&mut readers[0]), [first(2, Ledger::of([1, 2]))]);
    put(&engine, [3, 4]);
    assert_eq!(take(&mut readers[0]), [update(3, 3), update(4, 4)]);
    assert_eq!(
        take(&mut readers[1]),
        [first(4, Ledger::of([1, 2, 3, 4]))],
        "whoever looks late begins late"
    );
    put(&engine, [5]);
    for reader in &mut readers {
        assert_eq!(take(reader), [update(5, 5)]);
        assert_eq!(take(reader), []);
    }
    assert_eq!(engine.stats().subscriptions, 1);
}

#[test]
fn who_is_left_behind_gets_a_snapshot_and_holds_nobody_up() {
    let engine = engine(2);
    let feed = feed(&engine, 2);
    let (mut slow, mut fast) = (feed.reader("slow"), feed.reader("fast"));
    take(&mut slow);
    take(&mut fast);
    for value in 1..=3 {
        put(&engine, [value]);
        assert_eq!(take(&mut fast), [update(value, value)]);
    }
    let observer = slow.observer();
    let stats = observer.stats();
    assert_eq!((stats.lag, stats.dropped, stats.queued), (3, 3, 0));
    assert!(stats.lagging);
    put(&engine, [4]);
    let all = Ledger::of([1, 2, 3, 4]);
    assert_eq!(
        take(&mut slow),
        [snapshot(4, all, SnapshotReason::Lagged, 4)]
    );
    assert_eq!(take(&mut fast), [update(4, 4)]);
    put(&engine, [5]);
    assert_eq!(take(&mut slow), [update(5, 5)]);
    let stats = observer.stats();
    assert_eq!((stats.delivered, stats.dropped, stats.snapshots), (1, 4, 2));
    assert_eq!(fast.observer().stats().dropped, 0);
}

#[test]
fn a_ring_that_overflows_leaves_each_reader_behind_once() {
    let engine = engine(2);
    let feed = feed(&engine, 2);
    let mut readers = [feed.reader("one"), feed.reader("two")];
    for reader in &mut readers {
        take(reader);
    }
    put(&engine, 1..=5);
    let stats = readers[0].observer().stats();
    assert_eq!((stats.lag, stats.dropped, stats.queued), (5, 3, 2));
    let all = Ledger::of(1..=5);
    let last = |missed| snapshot(5, all, SnapshotReason::Lagged, missed);
    assert_eq!(
        take(&mut readers[0]),
        [update(1, 1), update(2, 2), last(3)],
        "what the ring held comes first"
    );
    assert_eq!(take(&mut readers[1]), [last(5)], "the window has moved on");
}

#[test]
fn a_version_that_needs_a_snapshot_reaches_every_reader_as_one() {
    let engine = engine(4);
    let feed = feed(&engine, 4);
    let (mut here, mut late) = (feed.reader("here"), feed.reader("late"));
    take(&mut here);
    take(&mut late);
    put(&engine, [1]);
    engine.publish(&Change::Replace(7)).unwrap();
    let forced = |missed, reason| snapshot(2, *engine.head().state(), reason, missed);
    assert_eq!(
        take(&mut here),
        [update(1, 1), forced(0, SnapshotReason::Forced)]
    );
    assert_eq!(take(&mut late), [forced(1, SnapshotReason::Lagged)]);
    let stats = late.observer().stats();
    assert_eq!((stats.dropped, stats.forced), (1, 1));
}

#[test]
fn after_the_close_everybody_gets_the_rest_and_then_the_end() {
    let engine = engine(4);
    let feed = feed(&engine, 4);
    let (mut reader, mut unread) = (feed.reader("reader"), feed.reader("unread"));
    take(&mut reader);
    put(&engine, [1]);
    engine.close();
    assert_eq!(Seen::from(reader.try_next().unwrap()), update(1, 1));
    for _ in 0..2 {
        assert_eq!(reader.try_next().unwrap_err(), TryNextError::Closed);
    }
    assert_eq!(
        Seen::from(unread.try_next().unwrap()),
        first(1, Ledger::of([1]))
    );
    assert_eq!(unread.try_next().unwrap_err(), TryNextError::Closed);
    let mut joined = feed.reader("joined");
    assert!(matches!(joined.try_next(), Ok(Event::Snapshot(_))));
    assert_eq!(joined.try_next().unwrap_err(), TryNextError::Closed);
}

#[test]
fn a_wait_set_is_woken_once_for_all_readers() {
    let engine = engine(4);
    let set = WaitSet::new();
    let feed = engine.subscription().wait_set(&set).feed();
    let mut readers = [feed.reader("one"), feed.reader("two")];
    let woken = Arc::new(Woken::default());
    set.arm(&woken.clone().into());
    for reader in &mut readers {
        take(reader);
    }
    put(&engine, [1, 2]);
    assert!(woken.0.swap(false, Ordering::Relaxed));
    set.arm(&woken.clone().into());
    for reader in &mut readers {
        assert_eq!(take(reader), [update(1, 1), update(2, 2)]);
    }
    assert!(!woken.0.load(Ordering::Relaxed));
}

#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A state whose updates tell whether somebody holds them.
#[derive(Clone)]
struct Nothing;

impl State for Nothing {
    type Change = Arc<()>;
    type Update = Arc<()>;
    type Rejection = std::convert::Infallible;

    fn apply(&self, change: &Arc<()>) -> Result<Transition<Self>, Self::Rejection> {
        Ok(Transition::new(Self, vec![change.clone()]))
    }
}

/// Publishes one update, and another so that the head does not hold it.
fn published(engine: &Engine<Nothing>) -> Weak<()> {
    let update = Arc::new(());
    engine.publish(&update).unwrap();
    engine.publish(&Arc::new(())).unwrap();
    Arc::downgrade(&update)
}

#[test]
fn what_everybody_has_taken_is_let_go() {
    let engine = Engine::builder(Nothing).build().unwrap();
    let feed = engine.subscription().capacity(4).feed();
    let (mut one, mut two) = (feed.reader("one"), feed.reader("two"));
    let drain = |reader: &mut Reader<Nothing>| while reader.try_next().is_ok() {};
    drain(&mut one);
    drain(&mut two);
    let update = published(&engine);
    drain(&mut one);
    assert_eq!(update.strong_count(), 1, "for the other");
    drain(&mut two);
    assert_eq!(update.strong_count(), 0);

    let update = published(&engine);
    drain(&mut one);
    drop(two);
    assert_eq!(update.strong_count(), 0, "who has left needs nothing");

    let _stalled = feed.reader("stalled");
    let updates: Vec<_> = (0..4).map(|_| published(&engine)).collect();
    drain(&mut one);
    let held = updates.iter().filter(|update| update.strong_count() > 0);
    assert!(held.count() <= 2, "the window holds four updates at most");
}

#[test]
fn a_feed_that_nobody_keeps_unsubscribes() {
    let engine = engine(2);
    let feed = feed(&engine, 2);
    let weak = feed.downgrade();
    let mut reader = feed.reader("last");
    drop(feed);
    take(&mut reader);
    assert_eq!(weak.upgrade().unwrap().capacity(), 2);
    assert_eq!(engine.stats().subscriptions, 1);
    drop(reader);
    assert!(weak.upgrade().is_none());
    assert_eq!(engine.stats().subscriptions, 0);
}

/// A reader, and what it has made of its events so far.
struct Reading {
    reader: Reader<Ledger>,
    replay: Replay,
    dropped: u64,
}

impl Reading {
    fn of(feed: &Feed<Ledger>) -> Self {
        Self {
            reader: feed.reader("any"),
            replay: Replay::of_a_feed(),
            dropped: 0,
        }
    }

    /// Takes so many events, or all there are.
    fn read(&mut self, count: usize) {
        for _ in 0..count {
            match self.reader.try_next() {
                Ok(event) => self.replay.take(event),
                Err(_) => return,
            }
        }
    }

    /// Nobody publishes meanwhile: the figures add up.
    fn balance(&mut self, engine: &Engine<Ledger>) {
        let stats = self.reader.observer().stats();
        assert_eq!(stats.delivered, self.replay.updates);
        assert_eq!(stats.snapshots, self.replay.snapshots);
        assert!(stats.dropped >= self.dropped, "dropped fell: {stats:?}");
        self.dropped = stats.dropped;
        assert!(stats.queued <= 2 * stats.capacity as u64, "{stats:?}");
        if stats.snapshots > 0 {
            let published = engine.head().sequence().get() - self.replay.first;
            assert_eq!(accounted(&stats), published, "{stats:?}");
        }
    }

    fn check_end(&mut self, engine: &Engine<Ledger>) {
        self.read(usize::MAX);
        self.replay.check_state(&engine.head());
        self.balance(engine);
        assert_eq!(self.dropped, self.replay.missed);
        let stats = self.reader.observer().stats();
        assert_eq!((stats.lag, stats.queued, stats.lagging), (0, 0, false));
    }
}

fn any_change(dice: &mut Dice) -> Change {
    match dice.roll(16) {
        0 => Change::Replace(dice.roll(100)),
        1 => Change::PutAndReplace(vec![1, 2], dice.roll(100)),
        2 => Change::Touch,
        3..=5 => Change::PutAll((0..dice.roll(4)).collect()),
        _ => Change::Put(dice.roll(100)),
    }
}

#[test]
fn whatever_happens_every_reader_sees_it_all_in_order() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let engine = engine(4);
        let feeds: Vec<_> = (1..=3).map(|capacity| feed(&engine, capacity)).collect();
        let mut readings: Vec<Reading> = Vec::new();
        for _ in 0..200 {
            let who = usize::try_from(dice.roll(8)).unwrap();
            match dice.roll(8) {
                0 if readings.len() < 8 => readings.push(Reading::of(&feeds[who % feeds.len()])),
                1 if who < readings.len() && dice.roll(4) == 0 => drop(readings.swap_remove(who)),
                2..=4 => {
                    engine.publish(&any_change(&mut dice)).unwrap();
                }
                _ if who < readings.len() => {
                    let count = usize::try_from(dice.roll(5)).unwrap();
                    readings[who].read(count);
                }
                _ => {}
            }
            for reading in &mut readings {
                reading.balance(&engine);
            }
        }
        for reading in &mut readings {
            reading.check_end(&engine);
        }
    }
}

#[test]
fn readers_keep_up_with_publishers_on_other_threads() {
    let engine = engine(16);
    let feed = feed(&engine, 16);
    let mut readings: Vec<_> = (0..4).map(|_| Reading::of(&feed)).collect();
    let observers: Vec<_> = readings.iter().map(|own| own.reader.observer()).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..2)
            .map(|seed| {
                let engine = &engine;
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    for _ in 0..2_000 {
                        engine.publish(&any_change(&mut dice)).unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut dropped = vec![0; observers.len()];
            while !done.load(Ordering::Relaxed) {
                for (observer, before) in observers.iter().zip(&mut dropped) {
                    let stats = observer.stats();
                    assert!(stats.dropped >= *before, "{stats:?}");
                    *before = stats.dropped;
                }
            }
        });
        let mut dice = Dice::new(7);
        while publishers.iter().any(|publisher| !publisher.is_finished()) {
            let who = usize::try_from(dice.roll(8)).unwrap();
            if let Some(reading) = readings.get_mut(who) {
                reading.read(usize::try_from(dice.roll(40)).unwrap());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    for reading in &mut readings {
        reading.check_end(&engine);
    }
}
