//! Bytes that all peers together make the server hold at a time: requests that come in, replies
//! that are not read.
//!
//! One request or reply is bounded, and so are those of a connection; but there are many
//! connections. Where the sum is too much, the connection that has held some of it longest is hung
//! up on: a good peer sends a request in one go and reads what it has asked for, in milliseconds.
//! One alone may hold more than the limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::lock::Mutex;

use crate::server::connections::Link;

/// How many bytes may be held, and by whom they are.
pub(crate) struct Budget(Arc<Mutex<Table>>);

struct Table {
    limit: usize,
    bytes: usize,
    /// By age.
    held: BTreeMap<u64, (usize, Arc<Link>)>,
    begun: u64,
}

/// What one request or reply holds. Dropping it gives that back.
pub(crate) struct Hold {
    table: Arc<Mutex<Table>>,
    link: Arc<Link>,
    number: Option<u64>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Table {
            limit,
            bytes: 0,
            held: BTreeMap::new(),
            begun: 0,
        })))
    }

    /// For something of the connection `link`, which holds nothing yet.
    pub(crate) fn hold(&self, link: &Arc<Link>) -> Hold {
        Hold {
            table: self.0.clone(),
            link: link.clone(),
            number: None,
        }
    }
}

impl Hold {
    /// So many bytes more.
    pub(crate) fn grow(&mut self, bytes: usize) {
        let mut table = self.table.lock();
        let number = *self.number.get_or_insert_with(|| {
            table.begun += 1;
            let number = table.begun;
            table.held.insert(number, (0, self.link.clone()));
            number
        });
        // If it had to give way, its connection is about to end.
        let Some((held, _)) = table.held.get_mut(&number) else {
            return;
        };
        *held += bytes;
        table.bytes += bytes;
        while table.bytes > table.limit && table.held.len() > 1 {
            let Some((_, (held, link))) = table.held.pop_first() else {
                return;
            };
            table.bytes -= held;
            link.hang_up.cancel();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut table = self.table.lock();
            if let Some((held, _)) = table.held.remove(&number) {
                table.bytes -= held;
            }
        }
    }
}

/// What requests may hold while they come in.
pub(crate) const REQUEST_BYTES: usize = 32 * 1024 * 1024;

/// What replies may hold that are not read.
pub(crate) const REPLY_BYTES: usize = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::server::peer::Peer;

    fn link() -> Arc<Link> {
        Arc::new(Link::new(Peer::OfTheHost, CancellationToken::new()))
    }

    #[test]
    fn the_connection_that_has_held_bytes_longest_is_hung_up_on_where_all_hold_too_many() {
        let budget = Budget::new(100);
        let links = [(); 4].map(|()| link());
        let mut holds = links.each_ref().map(|link| budget.hold(link));
        // What began first but holds nothing is not touched.
        for (number, bytes) in [(1, 40), (2, 40), (3, 20), (0, 10)] {
            holds[number].grow(bytes);
        }
        let hung_up = || links.each_ref().map(|link| link.hang_up.is_cancelled());
        assert_eq!(hung_up(), [false, true, false, false]);
        // It does not count any more, and what is given back neither.
        let [first, second, third, mut fourth] = holds;
        drop(second);
        drop(third);
        fourth.grow(70);
        assert_eq!(hung_up(), [false, true, false, false]);
        drop(first);
        fourth.grow(1_000);
        assert_eq!(hung_up(), [false, true, false, false], "one alone may");
    }
}
