//! Handshakes under way: so many at a time, apart from the connections that are trusted.
//!
//! When there is no room, the oldest gives way to the newest. To refuse the newest would let peers that connect and say
//! nothing keep everybody out for as long as a handshake may take, over and over. A good handshake takes milliseconds, so
//! it is the oldest only where as many strangers as there are places come in that time.
//!
//! A handshake costs the server signatures and key exchanges before it knows its peer. Handshakes
//! go on in turn, so few at a time that there is always a thread for the connections that are
//! trusted, however many strangers knock.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::ready;
use std::thread;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::lock::Mutex;

/// Who is shaking hands.
pub(crate) struct Handshakes {
    table: Arc<Mutex<Table>>,
    turns: Semaphore,
}

#[derive(Default)]
struct Table {
    /// By age.
    under_way: BTreeMap<u64, CancellationToken>,
    begun: u64,
}

/// A place, as long as it is held.
pub(crate) struct UnderWay {
    table: Arc<Mutex<Table>>,
    number: u64,
    given_away: CancellationToken,
}

impl Default for Handshakes {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self::with_turns((threads / 2).max(1))
    }
}

impl Handshakes {
    /// With work on so many handshakes at a time.
    fn with_turns(turns: usize) -> Self {
        Self {
            table: Arc::default(),
            turns: Semaphore::new(turns),
        }
    }

    /// Does the work of a handshake in turn: each time that there is something to do for it, others
    /// may have to go first.
    pub(crate) async fn in_turn<F: Future>(&self, handshake: F) -> F::Output {
        let mut handshake = pin!(handshake);
        let mut turn = pin!(self.turns.acquire());
        poll_fn(|cx| {
            // Never closed.
            let _turn = ready!(turn.as_mut().poll(cx));
            let polled = handshake.as_mut().poll(cx);
            turn.set(self.turns.acquire());
            polled
        })
        .await
    }

    /// A place among `limit`, but at least one; the oldest handshakes lose theirs if they have to.
    pub(crate) fn begin(&self, limit: usize) -> UnderWay {
        let given_away = CancellationToken::new();
        let mut table = self.table.lock();
        while table.under_way.len() >= limit.max(1) {
            if let Some((_, oldest)) = table.under_way.pop_first() {
                oldest.cancel();
            }
        }
        let number = table.begun;
        table.begun += 1;
        table.under_way.insert(number, given_away.clone());
        UnderWay {
            table: self.table.clone(),
            number,
            given_away,
        }
    }

    /// The older half loses its places: something that handshakes take has run out. The answer is
    /// how many did.
    pub(crate) fn give_way(&self) -> usize {
        let mut table = self.table.lock();
        let half = table.under_way.len().div_ceil(2);
        for _ in 0..half {
            if let Some((_, oldest)) = table.under_way.pop_first() {
                oldest.cancel();
            }
        }
        half
    }

    /// How many there are now.
    pub(crate) fn count(&self) -> usize {
        self.table.lock().under_way.len()
    }
}

impl UnderWay {
    /// Ends when somebody else has got the place.
    pub(crate) async fn given_away(&self) {
        self.given_away.cancelled().await;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.table.lock().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Poll, Waker};

    use futures_util::FutureExt;

    use super::*;

    fn is_given_away(handshake: &UnderWay) -> bool {
        handshake.given_away().now_or_never().is_some()
    }

    #[test]
    fn work_on_handshakes_is_done_in_turn_and_one_that_waits_holds_no_turn() {
        let handshakes = Handshakes::with_turns(1);
        let mut cx = Context::from_waker(Waker::noop());
        let mut silent = pin!(handshakes.in_turn(pending::<()>()));
        assert!(silent.as_mut().poll(&mut cx).is_pending());
        // While another is worked on, the next one waits; then it has its turn.
        let mut next = pin!(handshakes.in_turn(ready(2)));
        let first = handshakes.in_turn(poll_fn(|cx| {
            assert!(next.as_mut().poll(cx).is_pending());
            Poll::Ready(1)
        }));
        assert_eq!(Box::pin(first).as_mut().poll(&mut cx), Poll::Ready(1));
        assert_eq!(next.as_mut().poll(&mut cx), Poll::Ready(2));
    }

    #[test]
    fn the_oldest_gives_way_to_the_newest() {
        let handshakes = Handshakes::default();
        let first = handshakes.begin(2);
        let second = handshakes.begin(2);
        assert!(!is_given_away(&first));
        let third = handshakes.begin(2);
        assert!(is_given_away(&first) && !is_given_away(&second));
        assert_eq!(handshakes.count(), 2);
        // Whoever has lost its place gives back nobody else's.
        drop(first);
        assert_eq!(handshakes.count(), 2);
        drop(second);
        let _fourth = handshakes.begin(2);
        assert!(!is_given_away(&third));
    }

    #[test]
    fn a_lower_limit_takes_from_the_oldest_and_leaves_one_place_at_least() {
        let handshakes = Handshakes::default();
        let before: Vec<_> = (0..5).map(|_| handshakes.begin(5)).collect();
        let last = handshakes.begin(0);
        assert!(before.iter().all(is_given_away) && !is_given_away(&last));
        assert_eq!(handshakes.count(), 1);
        drop(last);
        assert_eq!(handshakes.count(), 0);
    }

    #[test]
    fn when_something_runs_out_the_older_half_gives_way() {
        let handshakes = Handshakes::default();
        let under_way: Vec<_> = (0..5).map(|_| handshakes.begin(5)).collect();
        for given_away in [3, 4, 5, 5] {
            handshakes.give_way();
            let given = under_way.iter().take_while(|one| is_given_away(one));
            assert_eq!(given.count(), given_away);
            assert_eq!(handshakes.count(), 5 - given_away);
        }
    }
}
