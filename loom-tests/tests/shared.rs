//! I9, for updates: each is freed exactly once, after its last use, whoever lets go last.
#![cfg(loom)]

use std::sync::Arc;

use configstream_engine::model::Shared;
use configstream_loom_tests::check_with;
use loom::thread;

/// Three threads hold one value, two of them by credits.
///
/// Weakened: the Release decrement to Relaxed: fails, the value is freed while a read of it is unordered.
#[test]
fn each_update_is_freed_once() {
    check_with(4, || {
        let witness = Arc::new(7);
        let first = Shared::new(witness.clone());
        let (second, third) = first.two_more();
        let threads = [second, third].map(|shared| thread::spawn(move || assert_eq!(**shared, 7)));
        assert_eq!(**first, 7);
        drop(first);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(Arc::strong_count(&witness), 1);
    });
}
