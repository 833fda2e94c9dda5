//! The rules: of each setting what it has to be, what it sets, and what a change of it holds for.

use std::time::Duration;

use configstream_engine::Engine;
use configstream_engine::settings::{Settings, Value};
use configstream_grpc::Sessions;

use super::Granted;
use crate::log;

/// How one setting is taken.
pub(super) struct Rule {
    pub(super) key: &'static str,
    /// What a change of it holds for, at once.
    pub(super) holds_for: &'static str,
    /// What it has to be.
    pub(super) demand: fn() -> String,
    /// Puts a value in; `None` if it is not what it has to be.
    pub(super) read: fn(&Value, Granted) -> Option<Granted>,
}

pub(super) const LOG_LEVEL: &str = "log_level";

/// In the order in which they apply: switching the registry off resets the rest of [`Sessions`].
pub(super) const RULES: [Rule; 17] = [
    Rule {
        key: LOG_LEVEL,
        holds_for: "the next event",
        demand: || "one of off, critical, error, warn, info, debug, trace".to_owned(),
        read: |value, mut granted| {
            granted.log_level = log::parse_level(value.as_str()?)?;
            Some(granted)
        },
    },
    Rule {
        key: "remote_agent.registry.enabled",
        holds_for: "the next call",
        demand: || "true or false".to_owned(),
        read: |value, mut granted| {
            if !value.as_bool()? {
                granted.sessions = Sessions::disabled();
            }
            Some(granted)
        },
    },
    Rule {
        key: "remote_agent.registry.idle_timeout",
        holds_for: "all sessions",
        demand: a_span,
        read: |value, mut granted| {
            granted.sessions = granted.sessions.idle_timeout(span(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "remote_agent.registry.recommended_refresh_interval",
        holds_for: "the next registration",
        demand: || a_span_from(LEAST_REFRESH),
        read: |value, mut granted| {
            let interval = span_from(LEAST_REFRESH, value)?;
            granted.sessions = granted.sessions.recommended_refresh_interval(interval);
            Some(granted)
        },
    },
    Rule {
        key: "remote_agent.registry.sweep_interval",
        holds_for: "the next sweep",
        demand: a_span,
        read: |value, mut granted| {
            granted.sessions = granted.sessions.sweep_interval(span(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "remote_agent.registry.max_sessions",
        holds_for: "the next registration",
        demand: a_count,
        read: |value, mut granted| {
            granted.sessions = granted.sessions.limit(count(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.max_connections",
        holds_for: "the next connection",
        demand: a_count,
        read: |value, mut granted| {
            granted.limits = granted.limits.connections(count(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.max_handshakes",
        holds_for: "the next handshake",
        demand: a_count,
        read: |value, mut granted| {
            granted.limits = granted.limits.handshakes(count(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.max_streams_per_connection",
        holds_for: "the next connection",
        demand: a_count,
        read: |value, mut granted| {
            granted.limits = granted.limits.streams_per_connection(count(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.max_streams",
        holds_for: "the next stream",
        demand: a_count,
        read: |value, mut granted| {
            granted.limits = granted.limits.streams(count(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.ring_capacity",
        holds_for: "the next stream",
        demand: || format!("{} and at most {MAX_RING_CAPACITY}", a_count()),
        read: |value, mut granted| {
            let capacity = count(value).filter(|capacity| *capacity <= MAX_RING_CAPACITY)?;
            granted.limits = granted.limits.ring_capacity(capacity);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.handshake_timeout",
        holds_for: "the next handshake",
        demand: a_span,
        read: |value, mut granted| {
            granted.limits = granted.limits.handshake_timeout(span(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.request_timeout",
        holds_for: "the next request",
        demand: a_span,
        read: |value, mut granted| {
            granted.limits = granted.limits.request_timeout(span(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.stall_timeout",
        holds_for: "all streams",
        demand: a_span,
        read: |value, mut granted| {
            granted.limits = granted.limits.stall_timeout(span(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "credentials_overlap",
        holds_for: "the next change of certificate or token",
        demand: a_span,
        read: |value, mut granted| {
            granted.limits = granted.limits.credentials_overlap(span(value)?);
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.keepalive_interval",
        holds_for: "the next connection",
        demand: a_span,
        read: |value, mut granted| {
            granted.keepalive.0 = span(value)?;
            Some(granted)
        },
    },
    Rule {
        key: "config_stream.keepalive_timeout",
        holds_for: "the next connection",
        demand: a_span,
        read: |value, mut granted| {
            granted.keepalive.1 = span(value)?;
            Some(granted)
        },
    },
];

const MAX_RING_CAPACITY: usize = Engine::<Settings>::MAX_RING_CAPACITY;

/// The least that the agent waits for anything: a peer nearby can do its part meanwhile, and it does not look after it so
/// often that it does nothing else. A number without a unit is nanoseconds, so that a slip is soon below.
const LEAST: Duration = Duration::from_millis(100);

/// Clients are told it in whole seconds.
const LEAST_REFRESH: Duration = Duration::from_secs(1);

fn a_span() -> String {
    a_span_from(LEAST)
}

fn a_span_from(least: Duration) -> String {
    format!("a span of time of {least:?} or more, such as 30s")
}

fn a_count() -> String {
    "a number above zero".to_owned()
}

fn span(value: &Value) -> Option<Duration> {
    span_from(LEAST, value)
}

fn span_from(least: Duration, value: &Value) -> Option<Duration> {
    value.as_duration().filter(|time| *time >= least)
}

fn count<N: TryFrom<i64> + PartialEq + From<u8>>(value: &Value) -> Option<N> {
    let number = N::try_from(value.as_i64()?).ok()?;
    (number != N::from(0)).then_some(number)
}
