//! Readers of one subscription against a publisher. What they do to each other is behind a lock, so one thread reads for all.
#![cfg(loom)]

use std::ops::ControlFlow::Continue;

use configstream_engine::{Event, Reader, WaitSet, model::never_waits};
use configstream_loom_tests::{Count, Step::Up, check, check_with, engine, wait_at};
use loom::thread;

/// What a reader has come to, and what it has missed.
#[derive(Default)]
struct Trail {
    seen: Option<u64>,
    missed: u64,
}

impl Trail {
    /// Reads all there is.
    fn follow(&mut self, reader: &mut Reader<Count>) {
        let _ = reader.read(|event| {
            match event {
                Event::Snapshot(snapshot) => {
                    let count = snapshot.state().get();
                    assert!(self.seen.is_none_or(|seen| seen < count), "nothing new");
                    self.missed += snapshot.missed();
                    self.seen = Some(count);
                }
                Event::Update(update) => {
                    assert_eq!(self.seen, Some(**update - 1), "a gap or a repetition");
                    self.seen = Some(**update);
                }
                _ => unreachable!("events are snapshots and updates"),
            }
            Continue::<()>(())
        });
    }
}

/// So many readers join and read while somebody publishes no more than fits.
fn join_and_miss_nothing<const READERS: usize>() {
    check(|| {
        let engine = engine(2);
        let shared = engine.subscription().share();
        let publishing = thread::spawn(move || {
            engine.publish(&Up).unwrap();
            engine.publish(&Up).unwrap();
            engine
        });
        let mut readers = [(); READERS].map(|()| (shared.reader("reader"), Trail::default()));
        for (reader, trail) in &mut readers {
            trail.follow(reader);
        }
        let _engine = publishing.join().unwrap();
        for (reader, trail) in &mut readers {
            trail.follow(reader);
            assert_eq!((trail.seen, trail.missed), (Some(2), 0));
        }
    });
}

/// I1 and I2 for readers.
///
/// Weakened: the head loaded before the ring is emptied: fails, the second one misses what a snapshot of the subscription's own
/// stood in for.
#[test]
fn two_readers_join_and_miss_nothing() {
    join_and_miss_nothing::<2>();
}

/// The same for one, to whom updates come straight from the ring.
///
/// Weakened: whatever comes out of the ring taken for the next to read: fails, an update follows the snapshot that covers it.
#[test]
fn a_reader_alone_joins_and_misses_nothing() {
    join_and_miss_nothing::<1>();
}

/// I3 and I4 for readers: more is published than fits. What an onlooker was told is what comes.
///
/// Weakened: `filled` is not stored: fails, it was told of more than it then missed.
#[test]
fn what_readers_miss_is_told_before_and_stands() {
    check_with(2, || {
        let engine = engine(1);
        let shared = engine.subscription().share();
        let mut reader = shared.reader("reader");
        let mut trail = Trail::default();
        trail.follow(&mut reader);
        let observer = reader.observer();
        let looking = thread::spawn(move || {
            let [before, after] = [(); 2].map(|()| never_waits(|| observer.stats()).dropped);
            assert!(before <= after, "what was told stands");
            (after, observer)
        });
        engine.publish(&Up).unwrap();
        engine.publish(&Up).unwrap();
        trail.follow(&mut reader);
        let (told, observer) = looking.join().unwrap();
        assert_eq!((trail.seen, trail.missed), (Some(2), 1));
        assert!(told <= trail.missed);
        let stats = observer.stats();
        assert_eq!((stats.delivered, stats.dropped, stats.lag), (1, 1, 0));
    });
}

/// I8 for readers: each of those that wait at the subscription's set comes to what is published.
///
/// Weakened: the subscription does not join the set: deadlocks.
#[test]
fn a_publish_wakes_those_who_wait_for_all_readers() {
    check(|| {
        let engine = engine(1);
        let set = WaitSet::new();
        let shared = engine.subscription().wait_set(&set).share();
        let mut readers = ["first", "second"].map(|name| (shared.reader(name), Trail::default()));
        let publishing = thread::spawn(move || {
            engine.publish(&Up).unwrap();
            engine
        });
        wait_at(&set, || {
            for (reader, trail) in &mut readers {
                trail.follow(reader);
            }
            readers.iter().all(|(_, trail)| trail.seen == Some(1))
        });
        let _engine = publishing.join().unwrap();
    });
}

/// I2 for readers: one takes a snapshot while rounds are under way, and does not read again until what that covered has gone
/// through the window of the others.
///
/// Weakened: what has left the window before its turn taken for missed: fails, it gets the same snapshot twice.
#[test]
fn what_a_snapshot_covered_may_leave_before_its_turn() {
    check(|| {
        let engine = engine(1);
        let set = WaitSet::new();
        let shared = engine.subscription().wait_set(&set).share();
        let (mut quick, mut slow) = (shared.reader("quick"), shared.reader("slow"));
        let [mut trail, mut slow_trail] = [(); 2].map(|()| Trail::default());
        trail.follow(&mut quick);
        let publisher = engine.clone();
        let publishing = thread::spawn(move || {
            publisher.publish(&Up).unwrap();
        });
        engine.publish(&Up).unwrap();
        slow_trail.follow(&mut slow);
        wait_at(&set, || {
            trail.follow(&mut quick);
            trail.seen == Some(2)
        });
        publishing.join().unwrap();
        slow_trail.follow(&mut slow);
        assert_eq!(slow_trail.seen, Some(2));
    });
}

/// What a reader that has fallen behind the window will miss is reported before, while it takes its
/// snapshot and more is published.
///
/// Weakened: T not set, its fence removed, cleared relaxed: each fails, more is reported than it
/// then missed. Loaded relaxed it passes at this bound.
#[test]
fn what_a_lagging_reader_misses_is_told_before_and_stands() {
    check_with(2, || {
        let engine = engine(1);
        let shared = engine.subscription().share();
        let mut readers = ["quick", "slow"].map(|name| (shared.reader(name), Trail::default()));
        for (reader, trail) in &mut readers {
            trail.follow(reader);
        }
        for _ in 0..2 {
            engine.publish(&Up).unwrap();
            let (quick, trail) = &mut readers[0];
            trail.follow(quick);
        }
        let (slow, trail) = &mut readers[1];
        let observer = slow.observer();
        let looking = thread::spawn(move || never_waits(|| observer.stats()).dropped);
        let publisher = engine.clone();
        let publishing = thread::spawn(move || {
            publisher.publish(&Up).unwrap();
        });
        trail.follow(slow);
        publishing.join().unwrap();
        trail.follow(slow);
        let told = looking.join().unwrap();
        assert_eq!(trail.seen, Some(3));
        assert!(told <= trail.missed, "{told}, and {} missed", trail.missed);
    });
}

/// An update that all have read leaves the window, and none has missed it.
///
/// Weakened: W stored or loaded relaxed: each fails.
#[test]
fn what_has_been_read_is_not_taken_for_missed() {
    check(|| {
        let engine = engine(2);
        let shared = engine.subscription().share();
        let mut readers = ["one", "two"].map(|name| (shared.reader(name), Trail::default()));
        for (reader, trail) in &mut readers {
            trail.follow(reader);
        }
        engine.publish(&Up).unwrap();
        let observer = readers[1].0.observer();
        let looking = thread::spawn(move || never_waits(|| observer.stats()));
        for (reader, trail) in &mut readers {
            trail.follow(reader);
        }
        let stats = looking.join().unwrap();
        assert_eq!(stats.dropped, 0, "{stats:?}");
    });
}
