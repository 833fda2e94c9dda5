//! Sessions and streams against a clock that stands still until it is moved, and sweeps that come when they are called.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use configstream_engine::settings::{Change, Key, Settings, Source};
use configstream_engine::{Engine, TryNextError};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::server::connections::{Connections, Place};
use crate::server::limits::Limits;
use crate::server::peer::Peer;
use crate::server::service::Connection;
use crate::server::together::Together;
use crate::server::unread::Unread;

const IDLE: Duration = Sessions::DEFAULT_IDLE_TIMEOUT;
const STALL: Duration = Duration::from_secs(90);
const SECOND: Duration = Duration::from_secs(1);

/// A registry, the time, and an engine to stream.
struct Desk {
    registry: Registry,
    bounds: ServerBounds,
    now: Arc<Mutex<Instant>>,
    engine: Engine<Settings>,
    connections: Connections,
}

/// A stream whose reader is the test.
struct Reader {
    open: Arc<OpenStream>,
    events: configstream_engine::Reader<Settings>,
    connection: CancellationToken,
    number: u64,
}

impl Desk {
    fn new() -> Self {
        Self::with(Limits::default(), Sessions::default())
    }

    fn with(limits: Limits, sessions: Sessions) -> Self {
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = now.clone();
        let sessions = sessions.clock(move || *clock.lock());
        let bounds = ServerBounds::new(limits.stall_timeout(STALL), sessions);
        Self {
            registry: Registry::new(bounds.clone(), Arc::new(Telemetry::new())),
            bounds,
            now,
            engine: Engine::builder(Settings::new()).build().unwrap(),
            connections: Connections::default(),
        }
    }

    fn connect(&self) -> Place {
        let hang_up = CancellationToken::new();
        self.connections
            .enter(Peer::OfTheHost, hang_up, usize::MAX)
            .0
    }

    fn register(&self) -> String {
        self.register_on(&self.connect()).unwrap()
    }

    fn register_on(&self, connection: &Place) -> Result<String, Refusal> {
        let request = RegisterRemoteAgentRequest {
            display_name: "remote".into(),
            ..Default::default()
        };
        // One after the other, so that the oldest is known.
        *self.now.lock() += Duration::from_micros(1);
        Ok(self.registry.register(request, &connection.link)?.0)
    }

    fn open(&self, session_id: &str) -> Reader {
        self.open_on(&self.connect(), session_id).unwrap()
    }

    fn open_on(&self, connection: &Place, session_id: &str) -> Result<Reader, Refusal> {
        let link = connection.link.clone();
        let events = self.engine.subscription().share().reader("stream");
        let observer = events.observer();
        let hang_up = link.hang_up.clone();
        let (_, together) = Together::new();
        let connection = Connection {
            link,
            unread: Unread::default(),
            turns: together.turns(),
        };
        let open = Arc::new(OpenStream::new(
            "stream".into(),
            session_id.into(),
            self.registry.now(),
            connection,
            observer,
        ));
        let number = self.registry.attach(open.clone())?;
        Ok(Reader {
            open,
            events,
            connection: hang_up,
            number,
        })
    }

    fn lives(&self, session_id: &str) -> bool {
        self.registry.refresh(session_id).is_ok()
    }

    fn publish(&self, value: i64) {
        let change = Change::set(Source::File, Key::parse("a").unwrap(), value);
        self.engine.publish(&change).unwrap();
    }

    /// So many sweeps at their interval.
    fn sweeps(&self, count: u32) {
        for _ in 0..count {
            *self.now.lock() += SECOND;
            self.registry.sweep();
        }
    }
}

impl Reader {
    /// Takes everything there is.
    fn read(&mut self) {
        while self.take().is_ok() {
            drop(self.given());
        }
    }

    /// Takes one event.
    fn take(&mut self) -> Result<(), TryNextError> {
        self.events.read(|_| ControlFlow::Break(()))
    }

    /// A piece that its connection has been given.
    fn given(&self) -> Bytes {
        self.open.give(Bytes::new(), None)
    }

    fn ended(&self) -> Option<Refusal> {
        self.open.end_reason().cloned()
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap()
}

#[test]
fn an_expired_session_ends_its_streams_with_permission_denied_within_two_sweeps() {
    let desk = Desk::new();
    let id = desk.register();
    let reader = desk.open(&id);
    desk.sweeps(seconds(IDLE) - 1);
    assert_eq!(reader.ended(), None);
    desk.sweeps(2);
    assert_eq!(
        reader.ended(),
        Some(Refusal::UnknownSession { id: id.clone() })
    );
    assert_eq!(
        tonic::Status::from(reader.ended().unwrap()).code(),
        tonic::Code::PermissionDenied
    );
    assert_eq!(desk.registry.counts().0, 0);
    assert_eq!(
        desk.registry.refresh(&id),
        Err(Refusal::NoSessionForRefresh)
    );
}

#[test]
fn an_open_stream_with_nothing_to_take_is_life() {
    let desk = Desk::new();
    let mut reader = desk.open(&desk.register());
    reader.read();
    desk.sweeps(10 * seconds(IDLE));
    assert_eq!((reader.ended(), desk.registry.counts()), (None, (1, 1)));
}

#[test]
fn an_open_stream_that_takes_something_now_and_then_is_life() {
    let desk = Desk::new();
    let mut reader = desk.open(&desk.register());
    reader.read();
    for value in 0..5 {
        desk.publish(value);
        desk.sweeps(seconds(IDLE) - 1);
        assert_eq!(reader.ended(), None);
        // It takes one, and has more waiting.
        desk.publish(value + 1_000);
        reader.take().unwrap();
        drop(reader.given());
        desk.sweeps(1);
    }
    assert_eq!((reader.ended(), desk.registry.counts()), (None, (1, 1)));
}

#[test]
fn a_refresh_keeps_a_session_whose_stream_takes_nothing() {
    let desk = Desk::new();
    let id = desk.register();
    let reader = desk.open(&id);
    for _ in 0..8 {
        desk.sweeps(10);
        desk.registry.refresh(&id).unwrap();
    }
    assert_eq!((reader.ended(), desk.registry.counts()), (None, (1, 1)));
}

#[test]
fn a_stream_that_stays_stalled_loses_its_connection_and_one_that_wakes_before_does_not() {
    let desk = Desk::new();
    let id = desk.register();
    let (mut wakes, stays) = (desk.open(&id), desk.open(&id));
    for turn in 0..3 {
        // The stall begins at the first sweep that sees it.
        for _ in 0..seconds(STALL) {
            desk.sweeps(1);
            desk.registry.refresh(&id).unwrap();
        }
        assert!(!wakes.connection.is_cancelled(), "turn {turn}");
        wakes.read();
        desk.sweeps(2);
        desk.publish(turn);
        desk.registry.refresh(&id).unwrap();
        assert!(stays.connection.is_cancelled(), "turn {turn}");
    }
    assert!(!wakes.connection.is_cancelled());
    assert_eq!(wakes.ended(), None);
}

#[test]
fn a_piece_that_the_connection_keeps_is_waiting() {
    let desk = Desk::new();
    let id = desk.register();
    let mut reader = desk.open(&id);
    reader.take().unwrap();
    let _kept = reader.given();
    assert!(!desk.registry.is_caught_up());
    for _ in 0..=seconds(STALL) {
        desk.sweeps(1);
        desk.registry.refresh(&id).unwrap();
    }
    desk.sweeps(1);
    assert!(reader.connection.is_cancelled());
}

#[test]
fn a_shorter_idle_timeout_expires_an_idle_session_within_two_sweeps() {
    let desk = Desk::new();
    let (idle, streaming) = (desk.register(), desk.register());
    let mut reader = desk.open(&streaming);
    reader.read();
    desk.sweeps(20);
    let sessions = desk.bounds.sessions().idle_timeout(10 * SECOND);
    desk.bounds.set_sessions(sessions);
    assert_eq!(desk.registry.counts().0, 2);
    desk.sweeps(2);
    assert_eq!(
        desk.registry.refresh(&idle),
        Err(Refusal::NoSessionForRefresh)
    );
    assert_eq!((reader.ended(), desk.registry.counts()), (None, (1, 1)));
}

#[test]
fn a_shorter_stall_timeout_holds_for_a_stream_that_is_stalled_already() {
    let desk = Desk::new();
    let id = desk.register();
    let reader = desk.open(&id);
    desk.sweeps(20);
    assert!(!reader.connection.is_cancelled());
    desk.bounds
        .set_limits(Limits::default().stall_timeout(10 * SECOND));
    desk.sweeps(1);
    assert!(reader.connection.is_cancelled());
}

#[test]
fn a_register_loop_displaces_the_sessions_of_its_own_connection() {
    let desk = Desk::with(Limits::default(), Sessions::default().limit(8));
    let (greedy, good) = (desk.connect(), desk.connect());
    let waiting = desk.register_on(&good).unwrap();
    let first = desk.register_on(&greedy).unwrap();
    let streaming = desk.register_on(&greedy).unwrap();
    let reader = desk.open_on(&greedy, &streaming).unwrap();
    for _ in 0..100 {
        desk.register_on(&greedy).unwrap();
        assert!(desk.lives(&waiting));
    }
    assert_eq!(desk.registry.counts(), (8, 1));
    assert!(!desk.lives(&first));
    assert_eq!((desk.lives(&streaming), reader.ended()), (true, None));
}

#[test]
fn sessions_of_connections_that_have_ended_make_room_before_those_of_open_ones() {
    let desk = Desk::with(Limits::default(), Sessions::default().limit(4));
    let (ended, open) = (desk.connect(), desk.connect());
    let pair = [(); 2].map(|()| desk.register_on(&open).unwrap());
    let left = [(); 2].map(|()| desk.register_on(&ended).unwrap());
    drop(ended);
    let newcomer = desk.connect();
    for gone in &left {
        assert!(
            desk.registry
                .report()
                .iter()
                .any(|agent| agent.session_id == *gone)
        );
        desk.register_on(&newcomer).unwrap();
        assert!(
            !desk
                .registry
                .report()
                .iter()
                .any(|agent| agent.session_id == *gone)
        );
    }
    assert!(pair.iter().all(|id| desk.lives(id)));
}

#[test]
fn a_session_that_streamed_stays_longer_than_those_that_never_did() {
    let desk = Desk::with(Limits::default(), Sessions::default().limit(4));
    let connection = desk.connect();
    let streamed = desk.register_on(&connection).unwrap();
    let reader = desk.open_on(&connection, &streamed).unwrap();
    desk.registry.detach(reader.number);
    let never = [(); 3].map(|()| desk.register_on(&connection).unwrap());
    drop(connection);
    let newcomer = desk.connect();
    for id in &never {
        desk.register_on(&newcomer).unwrap();
        assert!(!desk.lives(id));
    }
    assert!(desk.lives(&streamed));
}

#[test]
fn where_every_session_streams_the_next_is_refused_unless_another_connection_has_more() {
    let desk = Desk::with(Limits::default(), Sessions::default().limit(4));
    let connections = [(); 4].map(|()| desk.connect());
    let mut readers: Vec<_> = connections
        .iter()
        .map(|connection| {
            let id = desk.register_on(connection).unwrap();
            desk.open_on(connection, &id).unwrap()
        })
        .collect();
    let newcomer = desk.connect();
    let refused = Err(Refusal::TooManySessions { limit: 4 });
    assert_eq!(desk.register_on(&newcomer), refused);
    assert_eq!(desk.register_on(&connections[0]), refused);
    // One leaves, and another connection takes its place: it has two.
    desk.registry.detach(readers.remove(3).number);
    desk.sweeps(1);
    let second = desk.register_on(&connections[0]).unwrap();
    let second = desk.open_on(&connections[0], &second).unwrap();
    desk.register_on(&newcomer).unwrap();
    assert!(second.ended().is_some());
    assert!(readers.iter().all(|reader| reader.ended().is_none()));
}

#[test]
fn a_stream_too_many_takes_the_place_of_one_on_the_connection_with_the_most() {
    let desk = Desk::with(Limits::default().streams(8), Sessions::default());
    let (greedy, good) = (desk.connect(), desk.connect());
    let id = desk.register_on(&greedy).unwrap();
    let mut taken: Vec<_> = (0..8)
        .map(|_| desk.open_on(&greedy, &id).unwrap())
        .collect();
    let refused = Refusal::TooManyStreams { limit: 8 };
    assert_eq!(desk.open_on(&greedy, &id).err(), Some(refused.clone()));
    for reader in &mut taken {
        reader.read();
    }
    let id = desk.register_on(&good).unwrap();
    let mut reader = desk.open_on(&good, &id).unwrap();
    reader.read();
    assert_eq!(taken[7].ended(), Some(refused.clone()));
    assert!(
        !taken[7].connection.is_cancelled(),
        "it reads, so it gets its status"
    );
    for reader in taken.drain(7..) {
        desk.registry.detach(reader.number);
    }
    // One that takes nothing cannot be told: its connection goes.
    desk.publish(1);
    for reader in &mut taken[1..] {
        reader.read();
    }
    reader.read();
    desk.sweeps(2);
    desk.open_on(&good, &id).unwrap();
    assert_eq!(taken[0].ended(), Some(refused));
    assert!(taken[0].connection.is_cancelled());
    assert_eq!(reader.ended(), None);
}

/// Whatever many connections register, stream under, refresh and leave behind, in whatever order.
#[test]
fn an_agent_gets_in_and_stays_while_many_connections_take_all_they_can() {
    const LIMIT: usize = 48;
    const CONNECTIONS: usize = 20;
    for seed in 1..=20 {
        let desk = Desk::with(
            Limits::default().streams(LIMIT),
            Sessions::default().limit(LIMIT),
        );
        let mut random = Random(seed);
        let mut hostile: Vec<Place> = (0..CONNECTIONS).map(|_| desk.connect()).collect();
        let mut ids: Vec<String> = Vec::new();
        let mut readers: Vec<(Arc<Link>, Reader)> = Vec::new();
        let mut harm = |times: usize| {
            for _ in 0..times {
                let which = random.below(CONNECTIONS);
                match random.below(8) {
                    0..4 => ids.extend(desk.register_on(&hostile[which])),
                    4 | 5 if !ids.is_empty() => {
                        let id = &ids[random.below(ids.len())];
                        let opened = desk.open_on(&hostile[which], id);
                        readers.extend(opened.map(|reader| (hostile[which].link.clone(), reader)));
                    }
                    6 if !ids.is_empty() => {
                        let _ = desk.registry.refresh(&ids[random.below(ids.len())]);
                    }
                    _ => {
                        let left = std::mem::replace(&mut hostile[which], desk.connect());
                        let link = left.link.clone();
                        drop(left);
                        for (_, gone) in readers.extract_if(.., |(on, _)| Arc::ptr_eq(on, &link)) {
                            desk.registry.detach(gone.number);
                        }
                    }
                }
                // Those that were told to end do, as their connections poll them.
                for (_, gone) in readers.extract_if(.., |(_, reader)| reader.ended().is_some()) {
                    desk.registry.detach(gone.number);
                }
                let (sessions, streams) = desk.registry.counts();
                assert!(sessions <= LIMIT && streams <= LIMIT + 1);
            }
        };
        harm(500);
        assert_eq!(desk.registry.counts().0, LIMIT, "seed {seed}");
        let good = desk.connect();
        let id = desk.register_on(&good).unwrap();
        harm(50);
        let reader = desk.open_on(&good, &id).unwrap();
        harm(500);
        assert_eq!(reader.ended(), None, "seed {seed}");
        assert!(!reader.connection.is_cancelled() && desk.lives(&id));
    }
}

/// Numbers by chance, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
