//! Reading and changing the configuration by hand.
//!
//! Reads come straight from the head. Changes, and what only the host knows, go through [`AdminBackend`], since an
//! agent has one thread that applies changes.

use std::sync::Arc;
use std::time::Duration;

use configstream_engine::settings::{Key, Resolution, Setting, Source, Value};
use configstream_engine::{Committed, Epoch, Sequence};
use configstream_proto::configstream::admin::v1 as proto;
use configstream_proto::configstream::admin::v1::config_admin_server::ConfigAdmin;
use tonic::{Request, Response, Status, async_trait};

use crate::convert::{ToProto, value_from_proto};
use crate::server::core::Core;
use crate::server::progress::Position;
use crate::server::session::{AgentReport, StreamReport};
use crate::server::wait;
use crate::status::Refusal;

/// What a host offers to whoever administers it. A server built without one can be read, not changed.
#[async_trait]
pub trait AdminBackend: Send + Sync + 'static {
    /// Sets `key` in the layer `source`. `requested_by` says who asks, for people; it may be empty.
    ///
    /// # Errors
    /// See [`AdminError`].
    async fn set(
        &self,
        source: Source,
        key: Key,
        value: Value,
        requested_by: String,
    ) -> Result<Committed, AdminError>;

    /// Removes `key` from the layer `source`.
    ///
    /// # Errors
    /// See [`AdminError`]; [`AdminError::NotHeld`] when the layer does not hold the key.
    async fn unset(
        &self,
        source: Source,
        key: Key,
        requested_by: String,
    ) -> Result<Committed, AdminError>;

    /// Every layer that holds `key`, highest first; empty if none does.
    ///
    /// # Errors
    /// See [`AdminError`].
    async fn explain(&self, key: Key) -> Result<Vec<Explanation>, AdminError>;

    /// How the host is.
    async fn status(&self) -> HostStatus;
}

/// What one layer says about a key.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct Explanation {
    /// The layer.
    pub source: Source,
    /// Its value.
    pub value: Value,
    /// Whether this is the one that streams.
    pub wins: bool,
    /// Where it came from, for people; may be empty.
    pub provenance: String,
}

/// What only the host knows of its status.
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct HostStatus {
    /// The program's version.
    pub version: String,
    /// Since it started.
    pub uptime: Duration,
    /// Where its settings come from.
    pub sources: Vec<SourceReport>,
}

/// How one place that settings come from is doing.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct SourceReport {
    /// The layer it fills.
    pub source: Source,
    /// What it reads: a path, a prefix.
    pub detail: String,
    /// Why its newest content is not in force.
    pub error: Option<String>,
    /// How many settings its layer holds.
    pub settings: u64,
}

/// Why an administrator's wish was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminError {
    /// The settings refuse the change, for this reason: `InvalidArgument`.
    Rejected(String),
    /// The layer does not hold the key: `NotFound`.
    NotHeld,
    /// Too many changes wait already: `ResourceExhausted`.
    Overloaded,
    /// The host can read, not write: `FailedPrecondition`.
    ReadOnly,
    /// The host is closing: `Unavailable`.
    Closed,
}

impl AdminError {
    fn into_refusal(self, source: &str, key: &str) -> Refusal {
        match self {
            Self::Rejected(reason) => Refusal::Rejected { reason },
            Self::NotHeld => Refusal::NotHeld {
                key: key.to_owned(),
                source: source.to_owned(),
            },
            Self::Overloaded => Refusal::Overloaded,
            Self::ReadOnly => Refusal::ReadOnly,
            Self::Closed => Refusal::ShuttingDown,
        }
    }
}

/// The service, over what the server's parts share.
#[derive(Debug)]
pub(crate) struct AdminService<S: Resolution>(pub(crate) Arc<Core<S>>);

impl<S: Resolution> AdminService<S> {
    fn backend(&self) -> Result<&dyn AdminBackend, Refusal> {
        self.0.admin.as_deref().ok_or(Refusal::ReadOnly)
    }
}

#[async_trait]
impl<S: Resolution> ConfigAdmin for AdminService<S> {
    async fn get(
        &self,
        request: Request<proto::GetRequest>,
    ) -> Result<Response<proto::GetResponse>, Status> {
        let key = request.into_inner().key;
        let head = self.0.engine.head();
        let Some(setting) = head.state().resolved().get(&key) else {
            return Err(Refusal::UnknownKey { key }.into());
        };
        Ok(Response::new(proto::GetResponse {
            setting: Some(admin_setting(setting)),
            epoch: head.epoch().get(),
            sequence: head.sequence().get(),
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        let prefix = request.into_inner().prefix;
        let section = prefix.trim_end_matches('.');
        let head = self.0.engine.head();
        let within = |key: &str| {
            section.is_empty()
                || key
                    .strip_prefix(section)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        Ok(Response::new(proto::ListResponse {
            settings: head
                .state()
                .resolved()
                .iter()
                .filter(|setting| within(setting.key().as_str()))
                .map(|setting| admin_setting(setting))
                .collect(),
            epoch: head.epoch().get(),
            sequence: head.sequence().get(),
        }))
    }

    async fn set(
        &self,
        request: Request<proto::SetRequest>,
    ) -> Result<Response<proto::Committed>, Status> {
        let backend = self.backend()?;
        let proto::SetRequest {
            key,
            value,
            source,
            requested_by,
        } = request.into_inner();
        let (source, key) = (parse_source(&source)?, parse_key(&key)?);
        let value = parse_value(value, &key)?;
        let names = (source, key.clone());
        let committed = backend.set(source, key, value, requested_by).await;
        finish(committed, &names)
    }

    async fn unset(
        &self,
        request: Request<proto::UnsetRequest>,
    ) -> Result<Response<proto::Committed>, Status> {
        let backend = self.backend()?;
        let proto::UnsetRequest {
            key,
            source,
            requested_by,
        } = request.into_inner();
        let (source, key) = (parse_source(&source)?, parse_key(&key)?);
        let names = (source, key.clone());
        let committed = backend.unset(source, key, requested_by).await;
        finish(committed, &names)
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let backend = self.backend()?;
        let key = parse_key(&request.into_inner().key)?;
        let layers = backend
            .explain(key.clone())
            .await
            .map_err(|error| error.into_refusal("", key.as_str()))?;
        if layers.is_empty() {
            return Err(Refusal::UnknownKey {
                key: key.as_str().to_owned(),
            }
            .into());
        }
        let layers = layers
            .into_iter()
            .map(|layer| proto::Layer {
                source: layer.source.as_str().to_owned(),
                value: Some(layer.value.to_proto()),
                wins: layer.wins,
                provenance: layer.provenance,
            })
            .collect();
        Ok(Response::new(proto::ExplainResponse { layers }))
    }

    async fn agents(
        &self,
        _: Request<proto::AgentsRequest>,
    ) -> Result<Response<proto::AgentsResponse>, Status> {
        let agents = self
            .0
            .registry
            .report()
            .iter()
            .map(ToProto::to_proto)
            .collect();
        Ok(Response::new(proto::AgentsResponse { agents }))
    }

    async fn wait_for_streams(
        &self,
        request: Request<proto::WaitForStreamsRequest>,
    ) -> Result<Response<proto::WaitForStreamsResponse>, Status> {
        let request = request.into_inner();
        let seconds = request.timeout_seconds;
        let limit = Duration::try_from_secs_f64(seconds).map_err(|error| Refusal::Malformed {
            reason: format!("bad timeout_seconds {seconds}: {error}"),
        })?;
        let position = Position {
            epoch: Epoch::new(request.epoch),
            sequence: Sequence::new(request.sequence),
        };
        let verdict = wait::for_streams(&self.0.registry, position, limit).await?;
        Ok(Response::new(proto::WaitForStreamsResponse {
            passed: verdict.passed as u64,
            behind: verdict.behind.iter().map(ToProto::to_proto).collect(),
        }))
    }

    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let host = match &self.0.admin {
            Some(backend) => backend.status().await,
            None => HostStatus::default(),
        };
        let stats = self.0.stats();
        let head = self.0.engine.head();
        Ok(Response::new(proto::StatusResponse {
            version: host.version,
            uptime_seconds: host.uptime.as_secs_f64(),
            origin: self.0.encoder.origin().to_owned(),
            epoch: head.epoch().get(),
            sequence: head.sequence().get(),
            settings: head.state().resolved().len() as u64,
            sessions: stats.sessions as u64,
            streams: stats.streams as u64,
            connections: stats.connections,
            refused_handshakes: stats.refused_handshakes,
            caught_up: stats.caught_up,
            sources: host
                .sources
                .into_iter()
                .map(|source| proto::SourceStatus {
                    source: source.source.as_str().to_owned(),
                    detail: source.detail,
                    error: source.error.unwrap_or_default(),
                    settings: source.settings,
                })
                .collect(),
        }))
    }
}

impl ToProto for AgentReport {
    type Output = proto::Agent;

    fn to_proto(&self) -> proto::Agent {
        let agent = self.registration.clone();
        proto::Agent {
            session_id: self.session_id.clone(),
            display_name: agent.display_name,
            flavor: agent.flavor,
            pid: agent.pid,
            api_endpoint_uri: agent.api_endpoint_uri,
            services: agent.services,
            age_seconds: self.age.as_secs_f64(),
            idle_seconds: self.idle.as_secs_f64(),
            streams: self.streams.iter().map(ToProto::to_proto).collect(),
        }
    }
}

impl ToProto for StreamReport {
    type Output = proto::Stream;

    fn to_proto(&self) -> proto::Stream {
        let figures = &self.figures;
        proto::Stream {
            name: self.name.clone(),
            age_seconds: self.age.as_secs_f64(),
            last_sequence_sent: self.handed.map(|sequence| sequence.get()),
            lag: figures.lag,
            lagging: figures.lagging,
            updates_sent: figures.delivered,
            snapshots_sent: figures.snapshots,
            resyncs: figures.snapshots.saturating_sub(1),
            dropped: figures.dropped,
        }
    }
}

fn admin_setting(setting: &Setting) -> proto::Setting {
    proto::Setting {
        key: setting.key().as_str().to_owned(),
        source: setting.source().as_str().to_owned(),
        value: Some(setting.value().to_proto()),
    }
}

fn parse_source(name: &str) -> Result<Source, Refusal> {
    if name.is_empty() {
        return Ok(Source::AgentRuntime);
    }
    name.parse().map_err(|_| Refusal::Malformed {
        reason: format!("unknown source '{name}'"),
    })
}

fn parse_key(key: &str) -> Result<Key, Refusal> {
    Key::parse(key).map_err(|error| Refusal::Malformed {
        reason: format!("bad key '{key}': {error}"),
    })
}

fn parse_value(value: Option<prost_types::Value>, key: &Key) -> Result<Value, Refusal> {
    value_from_proto(value.unwrap_or_default()).map_err(|error| Refusal::Malformed {
        reason: format!("bad value for '{}': {error}", key.as_str()),
    })
}

fn finish(
    committed: Result<Committed, AdminError>,
    (source, key): &(Source, Key),
) -> Result<Response<proto::Committed>, Status> {
    let committed = committed.map_err(|error| error.into_refusal(source.as_str(), key.as_str()))?;
    Ok(Response::new(proto::Committed {
        epoch: committed.epoch.get(),
        sequence: committed.sequence.get(),
        updates: committed.updates,
        needs_snapshot: committed.needs_snapshot,
    }))
}
