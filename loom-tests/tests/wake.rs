//! I8: no wake-up is lost. `loom` reports a thread that waits for ever as a deadlock.
#![cfg(loom)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use configstream_engine::{WaitSet, model::Waiter};
use configstream_loom_tests::{
    Bell, Follower,
    Step::{Jump, Up},
    check, check_with, engine, wait_at,
};
use loom::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

/// Waits at `set`, and reads all of `followers` when it is woken, until each of them is `done`.
fn follow_at(set: &WaitSet, followers: &mut [Follower], done: impl Fn(&Follower) -> bool) {
    wait_at(set, || {
        followers.iter_mut().for_each(Follower::drain);
        followers.iter().all(&done)
    });
}

/// A waker that panics.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("the waker panics, as this model wants");
    }
}

/// Park against push.
///
/// Weakened: F3 removed; P removed; waking before pushing; no look after arming: each deadlocks.
#[test]
fn no_wakeup_is_lost_when_updates_are_pushed() {
    check(|| {
        let engine = engine(2);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publishing = thread::spawn(move || {
            engine.publish(&Up).unwrap();
            engine.publish(&Up).unwrap();
            engine
        });
        follower.run_until(2);
        let _engine = publishing.join().unwrap();
        assert_eq!(follower.updates, 2);
    });
}

/// Park against setting lagging: nothing is pushed, and the sleeper must wake all the same.
///
/// Weakened: only pushes wake: deadlocks.
#[test]
fn no_wakeup_is_lost_when_a_round_does_not_fit() {
    check(|| {
        let engine = engine(1);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publishing = thread::spawn(move || {
            engine.publish_batch(&[Up, Up]).unwrap();
            engine.publish(&Jump).unwrap();
            engine
        });
        follower.run_until(3);
        let _engine = publishing.join().unwrap();
    });
}

/// Park against close.
#[test]
fn no_wakeup_is_lost_when_the_engine_closes() {
    check(|| {
        let engine = engine(1);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publishing = thread::spawn(move || drop(engine));
        follower.run();
        publishing.join().unwrap();
    });
}

/// A waker replaced by another while a round is under way: the last one given is the one that counts.
#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    check(|| {
        let engine = engine(1);
        let mut subscription = engine.subscribe();
        subscription.try_next().unwrap();
        let publishing = thread::spawn(move || {
            engine.publish(&Up).unwrap();
            engine
        });
        let (_unheard, old) = Bell::new();
        let (bell, new) = Bell::new();
        let mut polled = subscription.poll_next(&mut Context::from_waker(&old));
        if polled.is_pending() {
            polled = subscription.poll_next(&mut Context::from_waker(&new));
        }
        while polled.is_pending() {
            bell.0.wait();
            polled = subscription.poll_next(&mut Context::from_waker(&new));
        }
        assert!(matches!(polled, Poll::Ready(Some(_))));
        let _engine = publishing.join().unwrap();
    });
}

/// A set of two subscriptions, armed once for both before they are looked at; one is served, the other only set lagging.
///
/// Weakened: F3 removed; only who waits at the subscription itself is woken: each deadlocks.
#[test]
fn a_set_loses_no_wakeup_of_any_of_its_subscriptions() {
    check(|| {
        let engine = engine(1);
        let set = WaitSet::new();
        let mut followers = [2, 1].map(|capacity| {
            let builder = engine.subscription().capacity(capacity);
            let mut follower = Follower::new(builder.wait_set(&set).subscribe());
            follower.step();
            follower
        });
        let publishing = thread::spawn(move || {
            engine.publish_batch(&[Up, Up]).unwrap();
            engine
        });
        follow_at(&set, &mut followers, |follower| {
            follower.seen.unwrap().0 == 2
        });
        let _engine = publishing.join().unwrap();
        assert_eq!((followers[0].updates, followers[1].snapshots), (2, 2));
    });
}

/// A set of subscriptions to two engines, whose rounds meet at it.
///
/// Weakened: P removed; a round leaves it to the other engine's to note the set: each deadlocks.
#[test]
fn two_engines_wake_one_set() {
    check(|| {
        let engines = [engine(1), engine(1)];
        let set = WaitSet::new();
        let mut followers = engines.each_ref().map(|engine| {
            let mut follower = Follower::new(engine.subscription().wait_set(&set).subscribe());
            follower.step();
            follower
        });
        let publishing = engines.map(|engine| {
            thread::spawn(move || {
                engine.publish(&Up).unwrap();
                engine
            })
        });
        follow_at(&set, &mut followers, |follower| follower.updates == 1);
        let _engines = publishing.map(|thread| thread.join().unwrap());
    });
}

/// Who waits at a subscription itself is woken, though it is in a set, and not the one by which the round knows the set.
///
/// Weakened: said after P that somebody waits so; only the set is woken: each deadlocks.
#[test]
fn who_waits_at_a_subscription_of_a_set_is_woken() {
    check(|| {
        let engine = engine(1);
        let set = WaitSet::new();
        let mut alone = Follower::new(engine.subscription().wait_set(&set).subscribe());
        alone.step();
        let mut other = engine.subscription().wait_set(&set).subscribe();
        other.try_next().unwrap();
        let publishing = thread::spawn(move || {
            engine.publish(&Up).unwrap();
            engine
        });
        alone.run_until(1);
        let _engine = publishing.join().unwrap();
    });
}

/// A set is woken by every round, also when somebody has come since, so that whom to wake is noted anew.
///
/// Weakened: the set keeps the mark of having been noted: deadlocks.
#[test]
fn a_set_is_woken_by_every_round() {
    check(|| {
        let engine = engine(2);
        let set = WaitSet::new();
        let mut followers = [Follower::new(
            engine.subscription().wait_set(&set).subscribe(),
        )];
        followers[0].step();
        let publishing = thread::spawn(move || {
            engine.publish(&Up).unwrap();
            // News, so that the next round notes anew whom to wake.
            let mut another = engine.subscribe();
            another.try_next().expect("a snapshot is there at once");
            engine.publish(&Up).unwrap();
            (engine, another)
        });
        follow_at(&set, &mut followers, |follower| follower.updates == 2);
        let _both = publishing.join().unwrap();
    });
}

/// The waiter by itself, at a higher bound: armed three times, with two wakers, against two rounds.
///
/// Weakened: the waker stored after `waiting` is set; an old waker kept: both deadlock. What this cannot show is
/// `waiting` cleared before the lock is tried: `loom` orders stores as they execute, so that store cannot be late.
#[test]
fn arming_again_loses_no_wakeup() {
    check_with(4, || {
        let waiter = Arc::new(Waiter::new());
        let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let waking = thread::spawn({
            let (waiter, flags) = (waiter.clone(), flags.clone());
            move || {
                for flag in flags.iter() {
                    flag.store(true, Relaxed);
                    waiter.wake();
                }
            }
        });
        let (bell, waker) = Bell::new();
        let (_unheard, other) = Bell::new();
        for flag in flags.iter() {
            loop {
                waiter.arm(&other);
                waiter.arm(&waker);
                if flag.load(Relaxed) {
                    break;
                }
                bell.0.wait();
            }
        }
        waking.join().unwrap();
    });
}

/// A subscription that blocks in one thread, and then in another.
///
/// Weakened: the first thread is unparked for the second: fails.
#[test]
fn a_subscription_blocks_in_whatever_thread_it_is_used() {
    check(|| {
        let engine = engine(2);
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let publishing = thread::spawn(move || {
            engine.publish(&Up).unwrap();
            engine.publish(&Up).unwrap();
            engine
        });
        follower.run_until(1);
        let following = thread::spawn(move || {
            follower.run_until(2);
            follower
        });
        let _engine = publishing.join().unwrap();
        assert_eq!(following.join().unwrap().updates, 2);
    });
}

/// A waker that panics: the others are woken, the publisher learns of it, and the role is free again.
#[test]
fn a_waker_that_panics_keeps_nobody_asleep() {
    check(|| {
        let engine = engine(2);
        let mut bomb = engine.subscribe();
        bomb.try_next().unwrap();
        let mut follower = Follower::new(engine.subscribe());
        follower.step();
        let waker = Waker::from(Arc::new(Bomb));
        assert!(
            bomb.poll_next(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let publishing = thread::spawn(move || {
            let first = catch_unwind(AssertUnwindSafe(|| engine.publish(&Up).map(drop)));
            assert!(first.is_err());
            engine.publish(&Up).unwrap();
            engine
        });
        follower.run_until(2);
        let _engine = publishing.join().unwrap();
    });
}
