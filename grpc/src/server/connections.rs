//! Trusted connections: so many at a time, and what each of them holds of the server's other
//! tables.
//!
//! # Policy
//! All peers show one certificate and one token and often one address, so only what its connections
//! hold tells a peer that takes too much from the others. A new connection gets a place. When none
//! is free, one other connection gives way:
//! * An eighth of the places is for connections without a stream of events. While more than that
//!   have none, the one of those that has begun no request for longest gives way: an agent opens
//!   its stream as soon as it is connected, and a tool that works keeps its connection.
//! * Otherwise a connection with streams gives way. The oldest three quarters of the places are
//!   safe; the next oldest goes. So agents that were there before a flood stay, and an agent that
//!   comes during it gets in at once.
//! * Where there are fewer than four places and each has a stream, none gives way: the new
//!   connection is hung up on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::lock::Mutex;
use crate::server::peer::Peer;

/// The trusted connections of a server.
#[derive(Default)]
pub(crate) struct Connections(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// By age.
    open: BTreeMap<u64, Arc<Link>>,
    begun: u64,
}

/// One trusted connection, as the tables know it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: Peer,
    /// Drops the connection.
    pub(crate) hang_up: CancellationToken,
    /// Sessions that belong to it, and streams of events open on it. Relaxed, all: the registry
    /// changes them under its lock, and this table only chooses by them.
    sessions: AtomicUsize,
    streams: AtomicUsize,
    gone: AtomicBool,
    /// When it last did something: it came, or began a request. By the count of [`ACTIVITY`].
    active: AtomicU64,
    /// When the next registration would be due, if they came at [`REGISTRATIONS_PER_SECOND`].
    due: Mutex<Option<Instant>>,
}

/// A connection's place, as long as it is held.
pub(crate) struct Place {
    table: Arc<Mutex<Table>>,
    number: u64,
    pub(crate) link: Arc<Link>,
}

/// One of the sessions or streams that a connection holds. Dropping it gives that back.
#[derive(Debug)]
pub(crate) struct Held {
    link: Arc<Link>,
    of: fn(&Link) -> &AtomicUsize,
}

impl Connections {
    /// A place among `limit`, and the connection that has given way for it, if one had to.
    pub(crate) fn enter(
        &self,
        peer: Peer,
        hang_up: CancellationToken,
        limit: usize,
    ) -> (Place, Option<Arc<Link>>) {
        let link = Arc::new(Link::new(peer, hang_up));
        let mut table = self.0.lock();
        let number = table.begun;
        table.begun += 1;
        table.open.insert(number, link.clone());
        let displaced = (table.open.len() > limit.max(1))
            .then(|| table.displace(limit, number))
            .flatten();
        let place = Place {
            table: self.0.clone(),
            number,
            link,
        };
        (place, displaced)
    }

    /// One connection gives way: something that connections take has run out.
    pub(crate) fn give_way(&self) -> Option<Arc<Link>> {
        let mut table = self.0.lock();
        let (all, none) = (table.open.len(), table.begun);
        table.displace(all, none)
    }

    /// How many there are now.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().open.len()
    }
}

impl Table {
    fn displace(&mut self, limit: usize, newcomer: u64) -> Option<Arc<Link>> {
        let others = || self.open.range(..newcomer);
        let idle = || others().filter(|(_, link)| link.streams() == 0);
        let mut young = others().skip((limit * 3).div_ceil(4));
        let chosen = if idle().count() > limit / 8 {
            idle().min_by_key(|(_, link)| link.active.load(Ordering::Relaxed))
        } else {
            young
                .find(|(_, link)| link.streams() > 0)
                .or_else(|| idle().next())
                .or_else(|| self.open.last_key_value())
        };
        let number = *chosen?.0;
        let link = self.open.remove(&number)?;
        link.hang_up.cancel();
        Some(link)
    }
}

impl Link {
    pub(crate) fn new(peer: Peer, hang_up: CancellationToken) -> Self {
        Self {
            peer,
            hang_up,
            sessions: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            active: AtomicU64::new(ACTIVITY.fetch_add(1, Ordering::Relaxed)),
            due: Mutex::default(),
        }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// It begins a request.
    pub(crate) fn begin_request(&self) {
        let now = ACTIVITY.fetch_add(1, Ordering::Relaxed);
        self.active.store(now, Ordering::Relaxed);
    }

    /// Whether the connection has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn hold_session(self: &Arc<Self>) -> Held {
        Held::new(self, |link| &link.sessions)
    }

    pub(crate) fn hold_stream(self: &Arc<Self>) -> Held {
        Held::new(self, |link| &link.streams)
    }

    /// Whether one more registration may come at this time: [`REGISTRATIONS_PER_SECOND`], and
    /// [`REGISTRATIONS_AT_ONCE`] before.
    pub(crate) fn may_register(&self, now: Instant) -> bool {
        const INTERVAL: Duration = Duration::from_millis(1_000 / REGISTRATIONS_PER_SECOND as u64);
        let mut due = self.due.lock();
        let next = due.map_or(now, |due| due.max(now));
        let admitted = next.saturating_duration_since(now) < INTERVAL * REGISTRATIONS_AT_ONCE;
        if admitted {
            *due = Some(next + INTERVAL);
        }
        admitted
    }
}

impl Held {
    fn new(link: &Arc<Link>, of: fn(&Link) -> &AtomicUsize) -> Self {
        of(link).fetch_add(1, Ordering::Relaxed);
        Self {
            link: link.clone(),
            of,
        }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.of)(&self.link).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.link.gone.store(true, Ordering::Relaxed);
        self.table.lock().open.remove(&self.number);
    }
}

/// Counts what connections do. Relaxed: an order for [`Table::displace`], by which it only chooses.
static ACTIVITY: AtomicU64 = AtomicU64::new(0);

/// Registrations that one connection may make in a second.
pub(crate) const REGISTRATIONS_PER_SECOND: u32 = 100;

/// Registrations that one connection may make at once: a proxy brings many agents on one connection
/// when a server comes back.
const REGISTRATIONS_AT_ONCE: u32 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 16;

    fn enter(connections: &Connections) -> (Place, Option<Arc<Link>>) {
        connections.enter(Peer::OfTheHost, CancellationToken::new(), LIMIT)
    }

    fn is_displaced(place: &Place) -> bool {
        place.link.hang_up.is_cancelled()
    }

    #[test]
    fn the_oldest_connection_without_a_stream_gives_way_to_the_newest() {
        let connections = Connections::default();
        let streaming = enter(&connections).0;
        let _stream = streaming.link.hold_stream();
        let idle: Vec<_> = (1..LIMIT).map(|_| enter(&connections).0).collect();
        for (count, oldest) in idle.iter().enumerate().take(10) {
            let before = idle.iter().filter(|place| is_displaced(place)).count();
            assert_eq!((before, is_displaced(oldest)), (count, false));
            let (_newest, displaced) = enter(&connections);
            assert!(Arc::ptr_eq(&displaced.unwrap(), &oldest.link));
            // It leaves at once, and its place would be free: keep the table full.
            std::mem::forget(_newest);
            assert_eq!(connections.count(), LIMIT);
        }
        assert!(!is_displaced(&streaming));
    }

    #[test]
    fn a_connection_that_works_stays_while_others_do_nothing() {
        let connections = Connections::default();
        let working = enter(&connections).0;
        let mut others = Vec::new();
        for _ in 0..10 * LIMIT {
            others.push(enter(&connections).0);
            working.link.begin_request();
        }
        assert!(!is_displaced(&working));
        assert_eq!(connections.count(), LIMIT);
    }

    #[test]
    fn a_flood_of_streaming_connections_moves_neither_the_old_nor_the_newest() {
        let connections = Connections::default();
        let mut places = Vec::new();
        for _ in 0..LIMIT {
            let place = enter(&connections).0;
            let stream = place.link.hold_stream();
            places.push((place, stream));
        }
        for _ in 0..10 * LIMIT {
            let (place, displaced) = enter(&connections);
            assert!(displaced.is_some());
            // The newest stays while as many come as there are places that are not safe, and has
            // time to open a stream.
            let newest: Vec<_> = places.iter().rev().take(LIMIT / 4 - 1).collect();
            assert!(newest.iter().all(|(place, _)| !is_displaced(place)));
            let stream = place.link.hold_stream();
            places.push((place, stream));
        }
        assert!(
            places[..LIMIT / 4 * 3]
                .iter()
                .all(|(place, _)| !is_displaced(place))
        );
        assert_eq!(connections.count(), LIMIT);
    }

    #[test]
    fn connections_that_hammer_leave_a_newcomer_time_to_open_its_stream() {
        let connections = Connections::default();
        let mut others = Vec::new();
        for _ in 0..LIMIT {
            let place = enter(&connections).0;
            let stream = place.link.hold_stream();
            others.push((place, Some(stream)));
        }
        let good = enter(&connections).0;
        for _ in 0..LIMIT / 8 {
            others.push((enter(&connections).0, None));
            assert!(!is_displaced(&good));
        }
        let _stream = good.link.hold_stream();
        for _ in 0..100 {
            others.push((enter(&connections).0, None));
        }
        assert!(!is_displaced(&good));
    }

    #[test]
    fn where_the_only_place_has_a_stream_the_next_connection_is_hung_up_on() {
        let connections = Connections::default();
        let first = connections
            .enter(Peer::OfTheHost, CancellationToken::new(), 1)
            .0;
        let _stream = first.link.hold_stream();
        let (next, displaced) = connections.enter(Peer::OfTheHost, CancellationToken::new(), 1);
        assert!(Arc::ptr_eq(&displaced.unwrap(), &next.link));
        assert!(is_displaced(&next) && !is_displaced(&first));
        assert_eq!(connections.count(), 1);
    }

    #[test]
    fn what_a_displaced_connection_gives_back_is_no_place_of_another() {
        let connections = Connections::default();
        let places: Vec<_> = (0..LIMIT).map(|_| enter(&connections).0).collect();
        let newest = enter(&connections).0;
        assert!(is_displaced(&places[0]) && !places[0].link.is_gone());
        let link = places[0].link.clone();
        drop(places);
        assert!(link.is_gone());
        assert_eq!(connections.count(), 1);
        drop(newest);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn registrations_are_limited_to_a_rate_after_a_burst() {
        let link = Link::new(Peer::OfTheHost, CancellationToken::new());
        let now = Instant::now();
        let admitted = |now| (0..5_000).filter(|_| link.may_register(now)).count();
        assert_eq!(admitted(now), 1_024);
        assert_eq!(admitted(now + Duration::from_secs(1)), 100);
        assert_eq!(admitted(now + Duration::from_secs(3_600)), 1_024);
    }
}
