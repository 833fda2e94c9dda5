//! I12: the ring is first in, first out; nothing torn, nothing repeated; what does not fit changes nothing.
#![cfg(loom)]

use configstream_engine::model::ring;
use configstream_loom_tests::check_with;
use loom::thread;

/// Two laps of a small ring, popped while they are pushed.
///
/// Weakened: W stored or loaded Relaxed: each fails, by a look at an item that is not ordered behind its making. M stored or
/// loaded Relaxed, or more slots looked at before the few are read: each fails, at capacity 2.
fn items_arrive_once_and_in_order(capacity: usize) {
    check_with(4, move || {
        let (mut producer, mut consumer) = ring::<u64>(capacity);
        let pushing = thread::spawn(move || {
            let mut pushed = 0;
            for _ in 0..4 {
                if producer.push([pushed]).is_ok() {
                    pushed += 1;
                }
            }
            pushed
        });
        let mut popped = 0;
        for _ in 0..3 {
            if let Some(item) = consumer.pop() {
                assert_eq!(*item, popped);
                popped += 1;
            }
        }
        let pushed = pushing.join().unwrap();
        while let Some(item) = consumer.pop() {
            assert_eq!(*item, popped);
            popped += 1;
        }
        assert_eq!(popped, pushed);
    });
}

#[test]
fn items_arrive_once_and_in_order_at_capacity_1() {
    items_arrive_once_and_in_order(1);
}

#[test]
fn items_arrive_once_and_in_order_at_capacity_2() {
    items_arrive_once_and_in_order(2);
}

/// I7 at the ring: the items of one push are there together, or the push was refused and none is; and none is put where the
/// consumer is not done.
///
/// Weakened: R stored or loaded Relaxed: each fails, at capacity 2, by a plain store that is not ordered behind the consumer's
/// look. The first of the items stored first: fails.
fn a_push_enters_whole_or_not_at_all(capacity: usize) {
    check_with(4, move || {
        let (mut producer, mut consumer) = ring::<u64>(capacity);
        let pushing = thread::spawn(move || {
            let first = producer.push([0, 1]).is_ok();
            let second = producer.push([2, 3]).is_ok();
            (first, second)
        });
        let mut popped = Vec::new();
        popped.extend(consumer.pop().map(|item| *item));
        if !popped.is_empty() {
            let second = consumer.pop().expect("the second came with the first");
            popped.push(*second);
        }
        let (first, second) = pushing.join().unwrap();
        while let Some(item) = consumer.pop() {
            popped.push(*item);
        }
        assert!(first);
        assert_eq!(popped, if second { vec![0, 1, 2, 3] } else { vec![0, 1] });
    });
}

#[test]
fn a_push_enters_whole_or_not_at_all_at_capacity_2() {
    a_push_enters_whole_or_not_at_all(2);
}

#[test]
fn a_push_enters_whole_or_not_at_all_at_capacity_3() {
    a_push_enters_whole_or_not_at_all(3);
}
