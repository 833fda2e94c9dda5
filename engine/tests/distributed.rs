//! Distribution can be seen, and waited for.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use configstream_engine::NotDistributed;

mod ledger;
use ledger::{Change, DEADLINE, put, take};

/// Says that it was woken, and then blocks until it may go on.
struct Slow {
    woken: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        self.woken.send(()).unwrap();
        let go_on = self.go_on.lock().unwrap_or_else(PoisonError::into_inner);
        go_on.recv_timeout(DEADLINE).unwrap();
    }
}

#[test]
fn what_was_published_by_the_only_publisher_is_distributed() {
    let engine = ledger::engine(4);
    let committed = engine.publish(&Change::Put(1)).unwrap();
    assert_eq!(engine.wait_distributed(&committed, Duration::ZERO), Ok(()));
    assert_eq!(engine.stats().distributed, 1);
}

/// A change that subscribers cannot tell has the sequence of the one before: it is waited for all
/// the same.
#[test]
fn what_waits_behind_a_slow_waker_is_seen_and_can_be_waited_for() {
    let engine = ledger::engine(4);
    let mut parked = engine.subscribe();
    take(&mut parked);
    let (woken, is_woken) = channel();
    let (let_go_on, go_on) = channel();
    let waker = Waker::from(Arc::new(Slow {
        woken,
        go_on: Mutex::new(go_on),
    }));
    assert!(
        parked
            .poll_next(&mut Context::from_waker(&waker))
            .is_pending()
    );
    thread::scope(|scope| {
        scope.spawn(|| put(&engine, [1]));
        is_woken.recv_timeout(DEADLINE).unwrap();
        // In every ring, but the round goes on.
        assert_eq!(engine.stats().distributed, 1);
        let second = engine.publish(&Change::Put(2)).unwrap();
        let unseen = engine.publish(&Change::Touch).unwrap();
        let stats = engine.stats();
        assert_eq!((stats.published, stats.distributed), (2, 1));
        for committed in [&second, &unseen] {
            // However often: a wait that is over leaves nothing behind.
            for _ in 0..100 {
                let waited = engine.wait_distributed(committed, Duration::ZERO);
                assert_eq!(waited, Err(NotDistributed));
            }
        }
        let waiting = [second, unseen].map(|committed| {
            let engine = &engine;
            scope.spawn(move || engine.wait_distributed(&committed, DEADLINE))
        });
        let_go_on.send(()).unwrap();
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), Ok(()));
        }
    });
    assert_eq!(engine.stats().distributed, 2);
    assert_eq!(take(&mut parked).len(), 2);
}
