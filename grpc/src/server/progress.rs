//! How far a stream has got, and waiting until it has got further.
//!
//! # Contract
//! * What counts is what HTTP/2 has let go of, wholly: it had a window for it, and has written it. Whether the peer has read it
//!   only the peer knows.
//! * A stream that ends or has gone is waited for no longer.
//! * While nobody waits, getting on costs a stream one more load.
//!
//! # Sync points
//! * P: `steps`, read and modified by both sides, AcqRel. Its modifications have one order, so either whoever waits comes
//!   later, and sees what was handed over, or the stream does, sees that somebody waits, and notifies.
//! * H: `handed`, Release in `advance` to Acquire in `position`: who sees a sequence sees its epoch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use configstream_engine::{Epoch, Sequence};
use tokio::sync::Notify;

/// A version, as remote consumers know it. One epoch after the other, and within an epoch one sequence after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: Sequence,
}

/// How far one stream has got.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// How many pieces have left.
    steps: AtomicU64,
    /// A stream lives in one epoch.
    epoch: OnceLock<Epoch>,
    /// The sequence handed over last, plus one; none yet is zero.
    handed: AtomicU64,
    /// Nothing more is to be expected.
    over: AtomicBool,
    waiting: AtomicUsize,
    moved: Notify,
}

impl Progress {
    /// A piece has left, and with it, if a frame ends there, everything up to `handed`.
    pub(crate) fn advance(&self, handed: Option<Position>) {
        if let Some(Position { epoch, sequence }) = handed {
            self.epoch.get_or_init(|| epoch);
            // Sync point H.
            self.handed
                .store(sequence.get().saturating_add(1), Ordering::Release);
        }
        // Sync point P: pairs with the one in `until`.
        self.steps.fetch_add(1, Ordering::AcqRel);
        // Relaxed: ordered by P.
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.moved.notify_waiters();
        }
    }

    /// The stream ends, or has gone.
    pub(crate) fn finish(&self) {
        self.over.store(true, Ordering::Release);
        self.moved.notify_waiters();
    }

    pub(crate) fn steps(&self) -> u64 {
        // Relaxed: a statistic that the registry compares with what it was a second ago.
        self.steps.load(Ordering::Relaxed)
    }

    /// Up to where everything was handed over; `None` before the first snapshot was.
    pub(crate) fn position(&self) -> Option<Position> {
        // Sync point H.
        let handed = self.handed.load(Ordering::Acquire);
        Some(Position {
            epoch: *self.epoch.get()?,
            sequence: Sequence::new(handed.checked_sub(1)?),
        })
    }

    pub(crate) fn has_passed(&self, position: Position) -> bool {
        self.position().is_some_and(|handed| handed >= position)
    }

    /// Waits until the stream has passed `position`, or is over.
    pub(crate) async fn until(&self, position: Position) {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            // Hears of everything from here on.
            let moved = self.moved.notified();
            // Sync point P: pairs with the one in `advance`.
            self.steps.fetch_add(0, Ordering::AcqRel);
            if self.has_passed(position) || self.over.load(Ordering::Acquire) {
                return;
            }
            moved.await;
        }
    }
}

/// Somebody who waits, as long as he does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        // Relaxed: ordered by P, as are its readers.
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

    fn position(epoch: u64, sequence: u64) -> Position {
        Position {
            epoch: Epoch::new(epoch),
            sequence: Sequence::new(sequence),
        }
    }

    #[test]
    fn nothing_is_passed_before_the_first_snapshot() {
        let progress = Progress::default();
        progress.advance(None);
        assert_eq!((progress.position(), progress.steps()), (None, 1));
        assert!(!progress.has_passed(position(0, 0)));
        progress.advance(Some(position(0, 0)));
        assert!(progress.has_passed(position(0, 0)));
        assert!(!progress.has_passed(position(0, 1)));
    }

    #[test]
    fn a_later_epoch_has_passed_every_sequence_of_an_earlier_one() {
        let progress = Progress::default();
        progress.advance(Some(position(2, 0)));
        assert!(progress.has_passed(position(1, 1_000)));
        assert!(!progress.has_passed(position(3, 0)));
    }

    #[test]
    fn who_waits_is_woken_by_the_sequence_and_by_the_end() {
        let progress = Progress::default();
        let mut waiting = Box::pin(progress.until(position(1, 5)));
        assert!(waiting.as_mut().now_or_never().is_none());
        progress.advance(Some(position(1, 4)));
        assert!(waiting.as_mut().now_or_never().is_none());
        progress.advance(Some(position(1, 5)));
        assert!(waiting.as_mut().now_or_never().is_some());

        let mut waiting = Box::pin(progress.until(position(1, 6)));
        assert!(waiting.as_mut().now_or_never().is_none());
        progress.finish();
        assert!(waiting.as_mut().now_or_never().is_some());
        drop(waiting);
        assert_eq!(progress.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_wake_up_is_lost_between_two_threads() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        for _ in 0..200 {
            let progress = Progress::default();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for sequence in 0..20 {
                        progress.advance(Some(position(1, sequence)));
                    }
                });
                for sequence in [3, 10, 19] {
                    let passed = progress.until(position(1, sequence));
                    runtime
                        .block_on(async { tokio::time::timeout(DEADLINE, passed).await })
                        .expect("a wake-up");
                }
            });
        }
    }
}
