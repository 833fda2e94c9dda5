//! How an agent is doing, for people.

use std::time::{Duration, Instant, SystemTime};

use configstream_engine::Engine;
use configstream_engine::settings::{Settings, Source};
use configstream_grpc::{AgentReport, HostStatus, ServerObserver};
use serde::Serialize;

use crate::granted::{RefusedSetting, RefusedSettings};
use crate::resolver::ResolverHandle;
use crate::sources::SourceReport;

/// What `/status` shows.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The version of the program.
    pub version: &'static str,
    /// The process.
    pub pid: u32,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// What its streams say they describe.
    pub origin: String,
    /// The newest version.
    pub head: HeadStatus,
    /// Where settings come from.
    pub sources: Vec<SourceStatus>,
    /// Settings of the agent itself that are not as they have to be, so that what they were before is in force.
    pub refused_settings: Vec<RefusedSetting>,
    /// Changes that wait for the resolver.
    pub queued_changes: usize,
    /// What the server does.
    pub server: Option<ServerStatus>,
    /// Remote agents, oldest first.
    pub agents: Vec<AgentStatus>,
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
            display_name: agent.registration.display_name,
            flavor: agent.registration.flavor,
        }
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
    pub(crate) server: Option<ServerObserver<Settings>>,
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
        let (server, agents) = match &self.server {
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
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            origin: self.origin.clone(),
            head: HeadStatus {
                epoch: head.epoch().get(),
                sequence: head.sequence().get(),
                settings: head.state().resolved().len(),
            },
            sources: self.sources.iter().map(NamedSource::status).collect(),
            refused_settings: self.refused.all(),
            queued_changes: self.resolver.queued(),
            server,
            agents,
        }
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
        for named in &self.sources {
            let error = named.report.state().error;
            if !error.is_empty() {
                line += &format!("; {} refused: {error}", named.source);
            }
        }
        for setting in self.refused.all() {
            line += &format!("; `{}` refused: it has to be {}", setting.key, setting.why);
        }
        line
    }

    /// The part of it that goes over gRPC.
    #[must_use]
    pub fn host_status(&self) -> HostStatus {
        HostStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed(),
            sources: self
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
                        last_error: state.last_error,
                        loads: state.loads,
                        failures: state.failures,
                    }
                })
                .collect(),
            queued_changes: self.resolver.queued() as u64,
        }
    }

    /// Brings the gauges up to date that are looked at rather than counted.
    pub fn refresh_metrics(&self) {
        let head = self.engine.head();
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
        }
    }
}
