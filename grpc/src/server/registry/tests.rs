//! Sessions and streams against a clock that stands still until it is moved, and sweeps that come when they are called.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use configstream_engine::settings::{Change, Key, Settings, Source};
use configstream_engine::{Engine, TryNextError};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::server::limits::Limits;
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
}

/// A stream whose reader is the test.
struct Reader {
    open: Arc<OpenStream>,
    events: configstream_engine::Reader<Settings>,
    connection: CancellationToken,
}

impl Desk {
    fn new() -> Self {
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = now.clone();
        let limits = Limits::default().stall_timeout(STALL);
        let sessions = Sessions::default().clock(move || *clock.lock());
        let bounds = ServerBounds::new(limits, sessions);
        Self {
            registry: Registry::new(bounds.clone(), Arc::new(Telemetry::new())),
            bounds,
            now,
            engine: Engine::builder(Settings::new()).build().unwrap(),
        }
    }

    fn register(&self) -> String {
        let request = RegisterRemoteAgentRequest {
            display_name: "remote".into(),
            ..Default::default()
        };
        self.registry.register(request).unwrap().0
    }

    fn open(&self, session_id: &str) -> Reader {
        let events = self.engine.subscription().share().reader("stream");
        let observer = events.observer();
        let hang_up = CancellationToken::new();
        let (_, together) = Together::new();
        let connection = Connection {
            hang_up: hang_up.clone(),
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
        self.registry.attach(open.clone()).unwrap();
        Reader {
            open,
            events,
            connection: hang_up,
        }
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
