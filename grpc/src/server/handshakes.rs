//! Handshakes under way: so many at a time, apart from the connections that are trusted.
//!
//! When there is no room, the oldest gives way to the newest. To refuse the newest would let peers that connect and say
//! nothing keep everybody out for as long as a handshake may take, over and over. A good handshake takes milliseconds, so
//! it is the oldest only where as many strangers as there are places come in that time.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Who is shaking hands.
#[derive(Default)]
pub(crate) struct Handshakes(Arc<Mutex<Table>>);

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

impl Handshakes {
    /// A place among `limit`, but at least one; the oldest handshakes lose theirs if they have to.
    pub(crate) fn begin(&self, limit: usize) -> UnderWay {
        let given_away = CancellationToken::new();
        let mut table = self.0.lock();
        while table.under_way.len() >= limit.max(1) {
            if let Some((_, oldest)) = table.under_way.pop_first() {
                oldest.cancel();
            }
        }
        let number = table.begun;
        table.begun += 1;
        table.under_way.insert(number, given_away.clone());
        UnderWay {
            table: self.0.clone(),
            number,
            given_away,
        }
    }

    /// The older half loses its places: something that handshakes take has run out. The answer is how many did.
    pub(crate) fn give_way(&self) -> usize {
        let mut table = self.0.lock();
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
        self.0.lock().under_way.len()
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
    use futures_util::FutureExt;

    use super::*;

    fn is_given_away(handshake: &UnderWay) -> bool {
        handshake.given_away().now_or_never().is_some()
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
