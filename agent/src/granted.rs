//! What the agent takes from its own settings, at its start and, by [`follow`], from then on at once.
//!
//! | setting | what it sets | a change holds for |
//! | --- | --- | --- |
//! | `log_level` | how much is [logged](crate::log), unless `RUST_LOG` is set | the next event |
//! | `remote_agent.registry.enabled` | whether there are sessions at all: [`Sessions::disabled`] | the next call |
//! | `remote_agent.registry.idle_timeout` | [`Sessions::idle_timeout`] | all sessions |
//! | `remote_agent.registry.recommended_refresh_interval` | [`Sessions::recommended_refresh_interval`] | the next registration |
//! | `remote_agent.registry.sweep_interval` | [`Sessions::sweep_interval`] | the next sweep |
//! | `remote_agent.registry.max_sessions` | [`Sessions::limit`] | the next registration |
//! | `config_stream.max_connections` | [`Limits::connections`] | the next connection |
//! | `config_stream.max_handshakes` | [`Limits::handshakes`] | the next handshake |
//! | `config_stream.max_streams_per_connection` | [`Limits::streams_per_connection`] | the next connection |
//! | `config_stream.max_streams` | [`Limits::streams`] | the next stream |
//! | `config_stream.ring_capacity` | [`Limits::ring_capacity`] | the next stream |
//! | `config_stream.handshake_timeout` | [`Limits::handshake_timeout`] | the next handshake |
//! | `config_stream.request_timeout` | [`Limits::request_timeout`] | the next request |
//! | `config_stream.stall_timeout` | [`Limits::stall_timeout`] | all streams |
//! | `credentials_overlap` | [`Limits::credentials_overlap`] | the next change of certificate or token |
//! | `config_stream.keepalive_interval`, `.keepalive_timeout` | [`Limits::keepalive`] | the next connection |
//!
//! Zero is refused everywhere: a server that grants nothing serves nobody. So is a span of time below 100 ms (for the
//! refresh interval, 1 s), which no peer could keep. What is refused keeps the agent from starting,
//! but for `log_level`, which then stays `info`. While it runs, somebody who sets it is told why not, and nothing
//! changes. What comes from elsewhere, such as a file, still streams, since it is a setting like any other; but what was in
//! force stays, the log says so once, and status shows it until the setting is good again.
//!
//! Beside these the agent lives by `secret_keys` ([`secrets`](crate::secrets)) and by nothing else of its configuration.
//! Where it listens, its run directory and the prefix of environment variables are arguments, and hold until it ends.

mod follow;
mod rules;

use std::fmt;
use std::time::Duration;

use configstream_engine::settings::{Key, Settings, Value};
use configstream_grpc::{Limits, Sessions};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

pub use self::follow::{RefusedSettings, follow};

use self::rules::{LOG_LEVEL, RULES, Rule};
use crate::exit::{Exit, Failure};
use crate::log;
use crate::open_files;
use crate::secrets::{SECRET_KEYS, Secrets};

/// What the agent lives by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Granted {
    /// How sessions are treated.
    pub sessions: Sessions,
    /// The bounds of the server.
    pub limits: Limits,
    /// How much is logged.
    pub log_level: LevelFilter,
    keepalive: (Duration, Duration),
}

impl Default for Granted {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            limits: Limits::default().descriptors(open_files::for_streams()),
            log_level: LevelFilter::INFO,
            keepalive: (
                Limits::DEFAULT_KEEPALIVE_INTERVAL,
                Limits::DEFAULT_KEEPALIVE_TIMEOUT,
            ),
        }
    }
}

/// A setting that is not as the agent needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RefusedSetting {
    /// Which.
    pub key: &'static str,
    /// The layer that it is set in.
    pub source: &'static str,
    /// Where that has it from, if it is known.
    pub provenance: Option<String>,
    /// What it has to be.
    pub why: String,
}

impl RefusedSetting {
    fn new(rule: &Rule, settings: &Settings) -> Self {
        let key = Key::parse(rule.key).ok();
        let layered = key.map(|key| settings.explain(&key)).unwrap_or_default();
        let winner = layered.first();
        Self {
            key: rule.key,
            source: winner.map_or("", |winner| winner.setting.source().as_str()),
            provenance: winner.and_then(|winner| Some(winner.provenance.as_ref()?.to_string())),
            why: (rule.demand)(),
        }
    }

    fn place(&self) -> String {
        match &self.provenance {
            Some(provenance) => format!("{} ({provenance})", self.source),
            None => self.source.to_owned(),
        }
    }
}

impl fmt::Display for RefusedSetting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key, source, why, ..
        } = self;
        write!(formatter, "the setting `{key}` of {source}")?;
        if let Some(provenance) = &self.provenance {
            write!(formatter, " ({provenance})")?;
        }
        write!(formatter, " is refused: it has to be {why}")
    }
}

/// The agent's own settings: of each the last that was good, and whether that is the newest.
#[derive(Clone, Debug)]
pub struct OwnSettings {
    /// One for each of [`RULES`].
    taken: Vec<Taken>,
}

#[derive(Clone, Debug, Default)]
struct Taken {
    newest: Option<Value>,
    good: Option<Value>,
    refused: Option<RefusedSetting>,
}

/// Why the agent cannot live by a value of one of its own settings, and what to do; none if it can, or if the setting is
/// none of its own. It does not say what was given.
pub(crate) fn unfit(key: &str, value: &Value) -> Option<String> {
    if key == SECRET_KEYS {
        let why = Secrets::fault(value)?;
        return Some(format!(
            "{why}; write patterns such as *_token or vault.key"
        ));
    }
    let rule = RULES.iter().find(|rule| rule.key == key)?;
    let fits = (rule.read)(value, Granted::default()).is_some();
    (!fits).then(|| {
        let demand = (rule.demand)();
        format!("`{key}` is a setting of the agent itself, which cannot live by this value; write {demand}")
    })
}

/// What came of a setting that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in force for what the second part says.
    InForce(&'static str, &'static str),
    /// It is not.
    Refused(RefusedSetting),
}

impl OwnSettings {
    /// The settings that an agent starts with.
    ///
    /// # Errors
    ///
    /// One of them is no value that the agent can live by.
    pub fn at_start(settings: &Settings) -> Result<Self, Failure> {
        let mut own = Self {
            taken: vec![Taken::default(); RULES.len()],
        };
        own.take(settings);
        match own
            .refused()
            .into_iter()
            .find(|refused| refused.key != LOG_LEVEL)
        {
            None => Ok(own),
            Some(refused) => Err(Failure::new(
                Exit::Configuration,
                format!("the setting `{}` is refused", refused.key),
                format_args!(
                    "it has to be {}; it is set by {}",
                    refused.why,
                    refused.place()
                ),
                "correct it there, or remove it for the default",
            )),
        }
    }

    /// Puts the level of the log into force, and says what there is to say about the settings of the start.
    pub fn begin(&self) {
        log::set_level(self.granted().log_level);
        if log::is_fixed() {
            Outcome::InForce(LOG_LEVEL, "").tell();
        }
        for refused in self.refused() {
            Outcome::Refused(refused).tell();
        }
    }

    /// Takes what has changed.
    pub(crate) fn take(&mut self, settings: &Settings) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (rule, taken) in RULES.iter().zip(&mut self.taken) {
            let setting = settings.resolved().get(rule.key);
            let newest = setting.map(|setting| setting.value().clone());
            if taken.newest == newest {
                continue;
            }
            taken.newest.clone_from(&newest);
            let is_good = newest
                .as_ref()
                .is_none_or(|value| (rule.read)(value, Granted::default()).is_some());
            if is_good {
                taken.refused = None;
                taken.good = newest;
                outcomes.push(Outcome::InForce(rule.key, rule.holds_for));
            } else {
                let refused = RefusedSetting::new(rule, settings);
                taken.refused = Some(refused.clone());
                outcomes.push(Outcome::Refused(refused));
            }
        }
        outcomes
    }

    /// What they grant.
    #[must_use]
    pub fn granted(&self) -> Granted {
        let mut granted = Granted::default();
        for (rule, taken) in RULES.iter().zip(&self.taken) {
            let read = taken
                .good
                .as_ref()
                .and_then(|good| (rule.read)(good, granted.clone()));
            granted = read.unwrap_or(granted);
        }
        let (interval, timeout) = granted.keepalive;
        granted.limits = granted.limits.keepalive(interval, timeout);
        granted
    }

    /// Those that are not as they have to be.
    #[must_use]
    pub fn refused(&self) -> Vec<RefusedSetting> {
        let refused = self.taken.iter().filter_map(|taken| taken.refused.clone());
        refused.collect()
    }
}

#[cfg(test)]
mod tests {
    use configstream_engine::settings::{Change, Provenance, Source};
    use configstream_engine::{Engine, State};

    use super::*;
    use crate::known::Known;

    fn defaults() -> Settings {
        let defaults = Known::embedded().defaults();
        let change = Change::replace_layer(Source::Default, defaults);
        Settings::default().apply(&change).unwrap().state
    }

    fn with(settings: &Settings, key: &str, value: impl Into<Value>) -> Settings {
        let change = Change::set(Source::File, Key::parse(key).unwrap(), value)
            .with_provenance(Provenance::file("core.yaml", 3));
        settings.apply(&change).unwrap().state
    }

    fn shown(granted: &Granted) -> String {
        let Granted {
            sessions,
            limits,
            log_level,
            ..
        } = granted;
        format!("{sessions:?} {limits:?} log_level: {log_level}")
    }

    #[test]
    fn the_known_defaults_are_those_of_the_library() {
        let own = OwnSettings::at_start(&defaults()).unwrap();
        let mut library = Granted::default();
        library.limits = library
            .limits
            .ring_capacity(Engine::<Settings>::DEFAULT_RING_CAPACITY);
        assert_eq!(shown(&own.granted()), shown(&library));
        let known = defaults();
        for rule in &RULES {
            assert!(known.resolved().get(rule.key).is_some(), "{}", rule.key);
        }
    }

    #[test]
    fn a_value_is_unfit_only_for_the_settings_that_the_agent_lives_by() {
        let second = Value::duration(Duration::from_secs(1));
        let list = |item: &str| Value::list([item.into()]).unwrap();
        for (key, value) in [
            ("log_level", "Debug".into()),
            ("config_stream.stall_timeout", second.clone()),
            ("remote_agent.registry.recommended_refresh_interval", second),
            (
                "remote_agent.registry.idle_timeout",
                Value::duration(Duration::from_millis(100)),
            ),
            ("secret_keys", list("*_token")),
            ("secret_keys", Value::list([]).unwrap()),
            ("site", "bananas".into()),
        ] {
            assert_eq!(unfit(key, &value), None, "{key}");
        }
        for (key, value, part) in [
            ("log_level", "bananas".into(), "; write one of off,"),
            (
                "config_stream.stall_timeout",
                0.into(),
                "; write a span of time of 100ms or more, such as 30s",
            ),
            (
                "remote_agent.registry.idle_timeout",
                5.into(),
                "; write a span of time of 100ms or more",
            ),
            (
                "remote_agent.registry.sweep_interval",
                Value::duration(Duration::from_micros(99_999)),
                "; write a span of time of 100ms or more",
            ),
            (
                "remote_agent.registry.recommended_refresh_interval",
                Value::duration(Duration::from_millis(999)),
                "; write a span of time of 1s or more",
            ),
            (
                "config_stream.ring_capacity",
                i64::MAX.into(),
                "; write a number above zero and at most",
            ),
            ("secret_keys", "x".into(), "is no list; write"),
            ("secret_keys", list("a..b"), "item 1 of"),
            (
                "secret_keys",
                Value::list(vec!["a".into(); 1_000]).unwrap(),
                "has 1000 patterns; keep to",
            ),
        ] {
            let why = unfit(key, &value).unwrap();
            assert!(why.contains(part) && why.contains(key), "{why}");
            assert!(!why.contains("bananas"), "{why}");
        }
    }

    #[test]
    fn the_table_of_the_documentation_says_what_the_rules_say() {
        let text = include_str!("granted.rs");
        for Rule { key, holds_for, .. } in &RULES {
            // Two settings share a line.
            let key = key
                .strip_suffix(".keepalive_timeout")
                .map_or(*key, |_| ".keepalive_timeout");
            let line = text
                .lines()
                .find(|line| line.starts_with("//! | ") && line.contains(&format!("`{key}`")));
            let line = line.unwrap_or_else(|| panic!("{key} is not in the table"));
            assert!(line.ends_with(&format!("| {holds_for} |")), "{key}: {line}");
        }
    }

    #[test]
    fn each_setting_sets_what_it_says_and_nothing_else() {
        let span = Value::duration(Duration::from_secs(7));
        let count = Value::from(7);
        for (key, value, part) in [
            ("log_level", "debug".into(), "log_level: debug"),
            (
                "remote_agent.registry.enabled",
                false.into(),
                "enabled: false",
            ),
            (
                "remote_agent.registry.idle_timeout",
                span.clone(),
                "idle_timeout: 7s",
            ),
            (
                "remote_agent.registry.recommended_refresh_interval",
                span.clone(),
                "recommended_refresh_interval: 7s",
            ),
            (
                "remote_agent.registry.sweep_interval",
                span.clone(),
                "sweep_interval: 7s",
            ),
            (
                "remote_agent.registry.max_sessions",
                count.clone(),
                " limit: 7",
            ),
            ("config_stream.max_streams", count.clone(), " streams: 7"),
            (
                "config_stream.max_connections",
                count.clone(),
                " connections: 7",
            ),
            (
                "config_stream.max_handshakes",
                count.clone(),
                " handshakes: 7",
            ),
            (
                "config_stream.max_streams_per_connection",
                count.clone(),
                "streams_per_connection: 7",
            ),
            (
                "config_stream.ring_capacity",
                count,
                "ring_capacity: Some(7)",
            ),
            (
                "config_stream.handshake_timeout",
                span.clone(),
                "handshake_timeout: 7s",
            ),
            (
                "config_stream.request_timeout",
                span.clone(),
                "request_timeout: 7s",
            ),
            (
                "config_stream.stall_timeout",
                span.clone(),
                "stall_timeout: 7s",
            ),
            (
                "config_stream.keepalive_interval",
                span.clone(),
                "keepalive_interval: 7s",
            ),
            (
                "config_stream.keepalive_timeout",
                span,
                "keepalive_timeout: 7s",
            ),
        ] {
            let mut own = OwnSettings::at_start(&defaults()).unwrap();
            let before = shown(&own.granted());
            let outcomes = own.take(&with(&defaults(), key, value));
            assert!(
                matches!(&outcomes[..], [Outcome::InForce(changed, _)] if *changed == key),
                "{outcomes:?}"
            );
            let after = shown(&own.granted());
            assert!(after.contains(part), "{key}: {after}");
            let differ = before.split(", ").zip(after.split(", "));
            assert_eq!(differ.filter(|(a, b)| a != b).count(), 1, "{after}");
            // Back at the default.
            own.take(&defaults());
            assert_eq!(shown(&own.granted()), before);
        }
    }

    #[test]
    fn what_is_refused_keeps_the_agent_from_starting_and_says_where_it_is_set() {
        for (key, value) in [
            ("remote_agent.registry.enabled", Value::from("no")),
            ("remote_agent.registry.idle_timeout", 0.into()),
            ("remote_agent.registry.sweep_interval", "1s".into()),
            ("remote_agent.registry.max_sessions", (-1).into()),
            ("config_stream.max_connections", 0.into()),
            (
                "config_stream.max_streams_per_connection",
                (1_i64 << 40).into(),
            ),
            ("config_stream.ring_capacity", (1_i64 << 40).into()),
            ("config_stream.stall_timeout", 0.into()),
            ("config_stream.handshake_timeout", 10.into()),
        ] {
            let failure = OwnSettings::at_start(&with(&defaults(), key, value)).unwrap_err();
            assert_eq!(failure.exit(), Exit::Configuration);
            let text = failure.to_string();
            let place = text.contains(key) && text.contains("file (core.yaml:3)");
            assert!(place && text.contains("it has to be "), "{text}");
        }
        let own = OwnSettings::at_start(&with(&defaults(), "log_level", "loud")).unwrap();
        assert_eq!(own.granted().log_level, LevelFilter::INFO);
        assert_eq!(own.refused()[0].key, "log_level");
    }

    #[test]
    fn what_is_refused_leaves_the_last_good_and_is_told_once() {
        let key = "remote_agent.registry.max_sessions";
        let good = with(&defaults(), key, 7);
        let mut own = OwnSettings::at_start(&good).unwrap();
        let bad = with(&good, key, 0);
        let outcomes = own.take(&bad);
        assert_eq!(outcomes, [Outcome::Refused(own.refused()[0].clone())]);
        assert_eq!(own.take(&bad), []);
        assert!(shown(&own.granted()).contains(" limit: 7"));
        // Others go on.
        let other = with(&bad, "config_stream.max_streams", 5);
        assert!(matches!(own.take(&other)[..], [Outcome::InForce(..)]));
        assert!(shown(&own.granted()).contains(" streams: 5"));
        assert_eq!(own.refused().len(), 1);
        // Good again, be it by the same value as before.
        let mended = with(&other, key, 7);
        assert!(matches!(own.take(&mended)[..], [Outcome::InForce(..)]));
        assert_eq!(own.refused(), []);
    }
}
