//! What remote agents are granted, as the agent's own configuration says at its start.
//!
//! | setting | what it sets |
//! | --- | --- |
//! | `remote_agent.registry.enabled` | whether there are sessions at all: [`Sessions::disabled`] |
//! | `remote_agent.registry.idle_timeout` | [`Sessions::idle_timeout`] |
//! | `remote_agent.registry.recommended_refresh_interval` | [`Sessions::recommended_refresh_interval`] |
//! | `remote_agent.registry.sweep_interval` | [`Sessions::sweep_interval`] |
//! | `remote_agent.registry.max_sessions` | [`Sessions::limit`] |
//! | `config_stream.max_connections` | [`Limits::connections`] |
//! | `config_stream.max_streams_per_connection` | [`Limits::streams_per_connection`] |
//! | `config_stream.max_streams` | [`Limits::streams`] |
//! | `config_stream.handshake_timeout` | [`Limits::handshake_timeout`] |
//! | `config_stream.stall_timeout` | [`Limits::stall_timeout`] |
//! | `config_stream.keepalive_interval`, `.keepalive_timeout` | [`Limits::keepalive`] |
//!
//! Zero is refused everywhere: a server that grants nothing serves nobody. A change while the agent runs streams to
//! subscribers like any other, and is in force from the next start.

use std::time::Duration;

use configstream_engine::settings::{Settings, Value};
use configstream_grpc::{Limits, Sessions};

use crate::exit::{Exit, Failure};

/// How sessions are treated.
///
/// # Errors
///
/// A setting is no positive value of its type.
pub fn sessions(settings: &Settings) -> Result<Sessions, Failure> {
    let enabled = value(settings, "remote_agent.registry.enabled").and_then(Value::as_bool);
    if enabled == Some(false) {
        return Ok(Sessions::disabled());
    }
    let mut sessions = Sessions::default();
    if let Some(timeout) = span(settings, "remote_agent.registry.idle_timeout")? {
        sessions = sessions.idle_timeout(timeout);
    }
    if let Some(interval) = span(
        settings,
        "remote_agent.registry.recommended_refresh_interval",
    )? {
        sessions = sessions.recommended_refresh_interval(interval);
    }
    if let Some(interval) = span(settings, "remote_agent.registry.sweep_interval")? {
        sessions = sessions.sweep_interval(interval);
    }
    if let Some(limit) = count(settings, "remote_agent.registry.max_sessions")? {
        sessions = sessions.limit(limit);
    }
    Ok(sessions)
}

/// The bounds of the server.
///
/// # Errors
///
/// A setting is no positive value of its type.
pub fn limits(settings: &Settings) -> Result<Limits, Failure> {
    let mut limits = Limits::default();
    if let Some(limit) = count(settings, "config_stream.max_connections")? {
        limits = limits.connections(limit);
    }
    if let Some(limit) = count(settings, "config_stream.max_streams_per_connection")? {
        limits = limits.streams_per_connection(limit);
    }
    if let Some(limit) = count(settings, "config_stream.max_streams")? {
        limits = limits.streams(limit);
    }
    if let Some(timeout) = span(settings, "config_stream.handshake_timeout")? {
        limits = limits.handshake_timeout(timeout);
    }
    if let Some(timeout) = span(settings, "config_stream.stall_timeout")? {
        limits = limits.stall_timeout(timeout);
    }
    let interval = span(settings, "config_stream.keepalive_interval")?;
    let timeout = span(settings, "config_stream.keepalive_timeout")?;
    Ok(limits.keepalive(
        interval.unwrap_or(Limits::DEFAULT_KEEPALIVE_INTERVAL),
        timeout.unwrap_or(Limits::DEFAULT_KEEPALIVE_TIMEOUT),
    ))
}

fn value<'a>(settings: &'a Settings, key: &str) -> Option<&'a Value> {
    settings.resolved().get(key).map(|setting| setting.value())
}

fn span(settings: &Settings, key: &str) -> Result<Option<Duration>, Failure> {
    positive(settings, key, "a span of time", |value| {
        value.as_duration().filter(|time| !time.is_zero())
    })
}

fn count<N: TryFrom<i64> + PartialEq + From<u8>>(
    settings: &Settings,
    key: &str,
) -> Result<Option<N>, Failure> {
    positive(settings, key, "a number", |value| {
        N::try_from(value.as_i64()?)
            .ok()
            .filter(|number| *number != N::from(0))
    })
}

fn positive<T>(
    settings: &Settings,
    key: &str,
    kind: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let Some(value) = value(settings, key) else {
        return Ok(None);
    };
    match read(value) {
        Some(read) => Ok(Some(read)),
        None => Err(Failure::new(
            Exit::Configuration,
            format!("the setting `{key}` is refused"),
            format_args!("it has to be {kind} above zero"),
            format!(
                "correct it, or remove it for the default; `configstream explain {key}` of a running agent shows where it is from"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use configstream_engine::State;
    use configstream_engine::settings::{Change, Key, Source};

    use super::*;
    use crate::known::Known;

    fn with(key: &str, value: impl Into<Value>) -> Settings {
        let defaults = Known::embedded().defaults();
        let change = Change::batch([
            Change::replace_layer(Source::Default, defaults),
            Change::set(Source::File, Key::parse(key).unwrap(), value),
        ]);
        Settings::default().apply(&change).unwrap().state
    }

    #[test]
    fn the_known_defaults_are_those_of_the_library() {
        let settings = with("mine", 1);
        let shown = |sessions: Sessions| format!("{sessions:?}");
        assert_eq!(
            shown(sessions(&settings).unwrap()),
            shown(Sessions::default())
        );
        let shown = |limits: Limits| format!("{limits:?}");
        assert_eq!(shown(limits(&settings).unwrap()), shown(Limits::default()));
    }

    #[test]
    fn each_setting_sets_what_it_says() {
        let second = Value::duration(Duration::from_secs(7));
        for (key, value, part) in [
            (
                "remote_agent.registry.enabled",
                Value::Bool(false),
                "enabled: false",
            ),
            (
                "remote_agent.registry.idle_timeout",
                second.clone(),
                "idle_timeout: 7s",
            ),
            (
                "remote_agent.registry.recommended_refresh_interval",
                second.clone(),
                "recommended_refresh_interval: 7s",
            ),
            (
                "remote_agent.registry.sweep_interval",
                second.clone(),
                "sweep_interval: 7s",
            ),
            ("remote_agent.registry.max_sessions", 7.into(), "limit: 7"),
        ] {
            let shown = format!("{:?}", sessions(&with(key, value)).unwrap());
            assert!(shown.contains(part), "{key}: {shown}");
        }
        for (key, value, part) in [
            ("config_stream.max_streams", 7.into(), " streams: 7"),
            ("config_stream.max_connections", 7.into(), " connections: 7"),
            (
                "config_stream.max_streams_per_connection",
                7.into(),
                "streams_per_connection: 7",
            ),
            (
                "config_stream.handshake_timeout",
                second.clone(),
                "handshake_timeout: 7s",
            ),
            (
                "config_stream.stall_timeout",
                second.clone(),
                "stall_timeout: 7s",
            ),
            (
                "config_stream.keepalive_interval",
                second.clone(),
                "keepalive_interval: 7s",
            ),
            (
                "config_stream.keepalive_timeout",
                second,
                "keepalive_timeout: 7s",
            ),
        ] {
            let shown = format!("{:?}", limits(&with(key, value)).unwrap());
            assert!(shown.contains(part), "{key}: {shown}");
        }
    }

    #[test]
    fn nothing_may_be_zero_or_of_another_kind() {
        for (key, value) in [
            ("remote_agent.registry.idle_timeout", Value::from(0)),
            ("remote_agent.registry.sweep_interval", "1s".into()),
            ("remote_agent.registry.max_sessions", (-1).into()),
        ] {
            let failure = sessions(&with(key, value)).unwrap_err();
            assert_eq!(failure.exit(), Exit::Configuration);
            assert!(failure.to_string().contains(key), "{failure}");
        }
        for (key, value) in [
            ("config_stream.max_connections", Value::from(0)),
            (
                "config_stream.max_streams_per_connection",
                (1_i64 << 40).into(),
            ),
            ("config_stream.stall_timeout", 0.into()),
        ] {
            let failure = limits(&with(key, value)).unwrap_err();
            assert!(failure.to_string().contains("above zero"), "{failure}");
        }
    }
}
