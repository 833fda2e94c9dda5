//! How an agent is doing, for people.

use std::cmp::Reverse;
use std::time::{Duration, Instant, SystemTime};

use configstream_engine::Engine;
use configstream_engine::settings::{Settings, Source};
use configstream_grpc::{AgentReport, HostStatus, ServerObserver};
use serde::Serialize;
use tokio::sync::watch;

use crate::granted::{RefusedSetting, RefusedSettings};
use crate::log;
use crate::problems::Problems;
use crate::recent::{ChangeKind, RecentChange, RecentChanges};
use crate::resolver::ResolverHandle;
use crate::sources::SourceReport;
use crate::telemetry::LOG_LINES_DROPPED;

/// What `/status` shows.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The version of the program.
    pub version: &'static str,
    /// The process.
    pub pid: u32,
    /// When all this was so: times are UTC, as RFC 3339 writes them.
    pub now: String,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// Whether it serves, as `/readyz` says.
    pub ready: bool,
    /// What its streams say they describe.
    pub origin: String,
    /// The newest version.
    pub head: HeadStatus,
    /// Where settings come from.
    pub sources: Vec<SourceStatus>,
    /// Settings of the agent itself that are not as they have to be, so that what they were before is in force.
    pub refused_settings: Vec<RefusedSetting>,
    /// What else is wrong, each with the part of the agent that it is about.
    pub problems: Vec<String>,
    /// Changes that wait for the resolver.
    pub queued_changes: usize,
    /// How many lines of the log have been dropped, since it was not read or could not be written.
    pub log_lines_dropped: u64,
    /// What the server does.
    pub server: Option<ServerStatus>,
    /// Remote agents, oldest first.
    pub agents: Vec<AgentStatus>,
    /// How many there are, if not all are shown.
    pub agents_total: usize,
    /// How many of them lag, or have not been handed the newest version yet.
    pub agents_behind: usize,
    /// The latest changes, newest first, as many as are kept.
    pub recent_changes: Vec<ChangeStatus>,
    /// How many changes there have been since the start.
    pub changes_total: u64,
}

/// The newest version.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HeadStatus {
    /// Its epoch.
    pub epoch: u64,
    /// Its sequence.
    pub sequence: u64,
    /// How many settings it has.
    pub settings: usize,
}

/// One place that settings come from.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SourceStatus {
    /// The layer it fills.
    pub source: &'static str,
    /// What it reads.
    pub detail: String,
    /// How many settings its layer holds.
    pub settings: usize,
    /// Whether its newest content is in force.
    pub healthy: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// For how long not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_for_seconds: Option<f64>,
    /// Since when not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<String>,
    /// When what is in force took effect.
    pub loaded_at: Option<String>,
    /// How often something took effect, the start included.
    pub loads: u64,
    /// How often something could not.
    pub failures: u64,
    /// Why it could not the last time, even if it could since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<String>,
}

/// One change of a setting. Its value is nobody's business here.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ChangeStatus {
    /// What changed.
    pub key: String,
    /// `set`, `unset` (a lower layer shows now) or `vanished` (no layer holds it any more).
    pub change: &'static str,
    /// The source that wins now; of a key that vanished, the one that won last.
    pub source: &'static str,
    /// The layer that was cleared, of `unset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unset_source: Option<&'static str>,
    /// At which sequence.
    pub sequence: u64,
    /// Whether it was that very sequence, or one up to there.
    pub exact: bool,
    /// When.
    pub at: String,
}

/// What the server does.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Connections open now.
    pub connections: u64,
    /// Sessions there are now.
    pub sessions: usize,
    /// Streams open now.
    pub streams: usize,
    /// Connections that ended before they were trusted.
    pub refused_handshakes: u64,
    /// Whether every stream has been handed everything published.
    pub caught_up: bool,
}

/// One remote agent.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AgentStatus {
    /// What it calls itself.
    pub display_name: String,
    /// What kind it is.
    pub flavor: String,
    /// Its process, in its own words.
    pub pid: String,
    /// How long it has been registered.
    pub age_seconds: f64,
    /// Since it last gave a sign of life.
    pub idle_seconds: f64,
    /// The sequence handed over last on the stream that is furthest behind; none before its first snapshot, or without a
    /// stream.
    pub last_sequence_sent: Option<u64>,
    /// How many updates its furthest stream is behind.
    pub lag: u64,
    /// Updates that snapshots stood in for, on its open streams.
    pub dropped: u64,
    /// Snapshots after the first, on its open streams.
    pub resyncs: u64,
    /// How many streams it has open.
    pub streams: usize,
    /// Whether one of them has overflowed, and waits for a snapshot.
    pub lagging: bool,
}

impl AgentStatus {
    /// Whether there is something that it has not been handed yet.
    fn is_behind(&self, head: u64) -> bool {
        let handed = self.last_sequence_sent.unwrap_or(0);
        self.streams > 0 && (self.lagging || self.lag > 0 || handed < head)
    }
}

impl From<AgentReport> for AgentStatus {
    fn from(agent: AgentReport) -> Self {
        let figures = || agent.streams.iter().map(|stream| &stream.figures);
        let handed = agent.streams.iter().map(|stream| stream.handed);
        Self {
            age_seconds: agent.age.as_secs_f64(),
            idle_seconds: agent.idle.as_secs_f64(),
            // None is the least.
            last_sequence_sent: handed.min().flatten().map(|sequence| sequence.get()),
            lag: figures().map(|figures| figures.lag).max().unwrap_or(0),
            dropped: figures().map(|figures| figures.dropped).sum(),
            resyncs: figures()
                .map(|figures| figures.snapshots.saturating_sub(1))
                .sum(),
            streams: agent.streams.len(),
            lagging: figures().any(|figures| figures.lagging),
            display_name: shorten(&agent.registration.display_name, 200),
            flavor: shorten(&agent.registration.flavor, 64),
            pid: shorten(&agent.registration.pid, 64),
        }
    }
}

impl From<RecentChange> for ChangeStatus {
    fn from(change: RecentChange) -> Self {
        let (kind, cleared) = match change.kind {
            ChangeKind::Set => ("set", None),
            ChangeKind::Unset { cleared } => ("unset", Some(cleared)),
            ChangeKind::Vanished => ("vanished", None),
        };
        Self {
            key: change.key.to_string(),
            change: kind,
            source: change.source.as_str(),
            unset_source: cleared.map(Source::as_str),
            sequence: change.sequence.get(),
            exact: change.exact,
            at: rfc3339(change.at),
        }
    }
}

impl Status {
    /// Keeps this many agents, those that are behind most first.
    pub fn keep_agents(&mut self, most: usize) {
        let head = self.head.sequence;
        self.agents.sort_by_key(|agent| {
            (
                Reverse(agent.lagging),
                Reverse(agent.lag),
                !agent.is_behind(head),
            )
        });
        self.agents.truncate(most);
    }
}

/// Where a [`Status`] is gathered from.
#[derive(Clone)]
pub struct StatusSource {
    pub(crate) engine: Engine<Settings>,
    pub(crate) origin: String,
    pub(crate) started: Instant,
    pub(crate) resolver: ResolverHandle,
    pub(crate) sources: Vec<NamedSource>,
    pub(crate) refused: RefusedSettings,
    pub(crate) problems: Problems,
    pub(crate) server: Option<ServerObserver<Settings>>,
    pub(crate) recent: RecentChanges,
    /// Whether the agent has been told to stop.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// A source with its name.
#[derive(Clone, Debug)]
pub(crate) struct NamedSource {
    pub(crate) source: Source,
    pub(crate) detail: String,
    pub(crate) report: SourceReport,
}

impl StatusSource {
    /// How the agent is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        let head = self.engine.head();
        let (server, agents): (_, Vec<AgentStatus>) = match &self.server {
            None => (None, Vec::new()),
            Some(server) => {
                let stats = server.stats();
                let status = ServerStatus {
                    connections: stats.connections,
                    sessions: stats.sessions,
                    streams: stats.streams,
                    refused_handshakes: stats.refused_handshakes,
                    caught_up: stats.caught_up,
                };
                let agents = server.agents().into_iter().map(AgentStatus::from);
                (Some(status), agents.collect())
            }
        };
        let (changes, changes_total) = self.recent.latest();
        let sequence = head.sequence().get();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            now: rfc3339(SystemTime::now()),
            ready: !self.is_stopping(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            origin: self.origin.clone(),
            head: HeadStatus {
                epoch: head.epoch().get(),
                sequence,
                settings: head.state().resolved().len(),
            },
            sources: self.sources.iter().map(NamedSource::status).collect(),
            refused_settings: self.refused.all(),
            problems: self.problems.all(),
            queued_changes: self.resolver.queued(),
            log_lines_dropped: log::dropped(),
            server,
            agents_total: agents.len(),
            agents_behind: agents
                .iter()
                .filter(|agent| agent.is_behind(sequence))
                .count(),
            agents,
            recent_changes: changes.into_iter().map(ChangeStatus::from).collect(),
            changes_total,
        }
    }

    /// Whether the agent shuts down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow() || self.engine.is_closed()
    }

    /// What is wrong although the agent serves: what is not as it has to be, so that what was before is in force.
    #[must_use]
    pub fn degradations(&self) -> Vec<String> {
        let sources = self.sources.iter().filter_map(|named| {
            let (source, error) = (named.source, named.status().error?);
            Some(format!(
                "{source}: the last good content stays in force: {error}"
            ))
        });
        let settings = self.refused.all().into_iter().map(|setting| {
            let (key, why) = (setting.key, setting.why);
            format!("{key}: the last good value stays in force: it has to be {why}")
        });
        let problems = self.problems.all().into_iter();
        problems.chain(sources).chain(settings).collect()
    }

    /// How the agent is doing now, in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let head = self.engine.head();
        let mut line = format!(
            "{} settings at sequence {}",
            head.state().resolved().len(),
            head.sequence()
        );
        if let Some(server) = &self.server {
            let stats = server.stats();
            line += &format!("; {} agents, {} streams", stats.sessions, stats.streams);
        }
        for degradation in self.degradations() {
            line += &format!("; {degradation}");
        }
        line
    }

    /// The part of it that goes over gRPC.
    #[must_use]
    pub fn host_status(&self) -> HostStatus {
        let mut sources: Vec<_> = self
            .sources
            .iter()
            .map(|named| {
                let state = named.report.state();
                configstream_grpc::SourceReport {
                    source: named.source,
                    detail: named.detail.clone(),
                    error: (!state.error.is_empty()).then_some(state.error),
                    settings: state.settings as u64,
                    loaded_at: state.loaded,
                    failing_since: state.failing_since,
                    last_error: state.last_failure.map(|(when, why)| (why, when)),
                    loads: state.loads,
                    failures: state.failures,
                }
            })
            .collect();
        for refused in self.refused.all() {
            blame(&mut sources, &refused, self.engine.head().state());
        }
        HostStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed(),
            sources,
            problems: self.problems.all(),
            queued_changes: self.resolver.queued() as u64,
        }
    }

    /// Brings the gauges up to date that are looked at rather than counted.
    pub fn refresh_metrics(&self) {
        let head = self.engine.head();
        metrics::counter!(LOG_LINES_DROPPED).absolute(log::dropped());
        // Gauges are doubles; all of these stay far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        for (name, value) in [
            (
                "configstream_settings",
                head.state().resolved().len() as f64,
            ),
            ("configstream_sequence_id", head.sequence().get() as f64),
            ("configstream_epoch", head.epoch().get() as f64),
            ("configstream_resolver_queue", self.resolver.queued() as f64),
        ] {
            metrics::gauge!(name).set(value);
        }
    }
}

/// Puts a refused setting to the errors of the source that has set it.
fn blame(
    sources: &mut Vec<configstream_grpc::SourceReport>,
    refused: &RefusedSetting,
    settings: &Settings,
) {
    let Ok(source) = refused.source.parse::<Source>() else {
        return;
    };
    let text = refused.to_string();
    match sources.iter_mut().find(|report| report.source == source) {
        Some(report) => {
            let error = report.error.take().map(|error| error + "; ");
            report.error = Some(error.unwrap_or_default() + &text);
        }
        // Set at run time: a source that nothing is read from.
        None => sources.push(configstream_grpc::SourceReport {
            source,
            detail: "set at run time".to_owned(),
            error: Some(text),
            settings: settings.layer(source).count() as u64,
            loaded_at: None,
            failing_since: None,
            last_error: None,
            loads: 0,
            failures: 0,
        }),
    }
}

impl std::fmt::Debug for StatusSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StatusSource")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl NamedSource {
    fn status(&self) -> SourceStatus {
        let state = self.report.state();
        let failing = state.failing_since.map(|since| {
            SystemTime::now()
                .duration_since(since)
                .unwrap_or(Duration::ZERO)
        });
        SourceStatus {
            source: self.source.as_str(),
            detail: self.detail.clone(),
            settings: state.settings,
            healthy: state.error.is_empty(),
            error: (!state.error.is_empty()).then_some(state.error),
            failing_for_seconds: failing.map(|failing| failing.as_secs_f64()),
            failing_since: state.failing_since.map(rfc3339),
            loaded_at: state.loaded.map(rfc3339),
            loads: state.loads,
            failures: state.failures,
            last_error_at: state.last_failure.as_ref().map(|(at, _)| rfc3339(*at)),
            last_error: state.last_failure.map(|(_, why)| why),
        }
    }
}

/// A time in UTC, to the millisecond.
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Whatever an agent calls itself, nobody needs more of it than this.
fn shorten(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc_to_the_millisecond() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(shorten(&"ä".repeat(200), 200), "ä".repeat(200));
        assert_eq!(shorten(&"ä".repeat(201), 200), "ä".repeat(200) + "…");
    }
}
