//! Reading and changing the configuration by hand.
//!
//! Reads come straight from the head. Changes, and what only the host knows, go through [`AdminBackend`], since an
//! agent has one thread that applies changes.

mod backend;
mod change;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::{Resolution, Setting};
use configstream_engine::{Epoch, Sequence, Version};
use configstream_proto::configstream::admin::v1 as proto;
use configstream_proto::configstream::admin::v1::config_admin_server::ConfigAdmin;
use tonic::{Request, Response, Status, async_trait};

pub use self::backend::{
    AdminBackend, AdminError, Applied, ChangeRequest, Conditions, Difference, Edit, Explanation,
    HostStatus, SourceReport,
};

pub use self::change::AUDIT_LOG;

pub(crate) use self::change::{Audited, is_change, tell_unread};

use self::change::{Audit, Given, admin_setting, parse_key, parse_source};
use crate::convert::ToProto;
use crate::server::core::Core;
use crate::server::progress::Position;
use crate::server::registration::Registration;
use crate::server::session::{AgentReport, StreamReport};
use crate::server::wait;
use crate::status::Refusal;

/// The service, over what the server's parts share.
#[derive(Debug)]
pub(crate) struct AdminService<S: Resolution>(pub(crate) Arc<Core<S>>);

impl<S: Resolution> AdminService<S> {
    fn backend(&self) -> Result<&dyn AdminBackend, Refusal> {
        self.0.admin.as_deref().ok_or(Refusal::ReadOnly)
    }

    /// Makes a change, and leaves a line in the log whatever comes of it. On a task of its own: whoever asks may hang up, and
    /// the change be made all the same.
    async fn apply_audited(&self, request: ChangeRequest) -> Result<Applied, Refusal> {
        let service = Self(self.0.clone());
        let applying = tokio::spawn(async move {
            let audit = Audit::of(&request);
            let outcome = match service.backend() {
                Ok(backend) => backend.apply(request).await.map_err(Refusal::from),
                Err(refusal) => Err(refusal),
            };
            audit.tell(&outcome);
            outcome
        });
        match applying.await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => Err(Refusal::ShuttingDown),
            },
        }
    }

    /// A setting of `head`, and since when it is so.
    ///
    /// The backend may know of a later change than `head`, or of the one that made `head` only in a moment. So the sequence
    /// told is the true one or an earlier one, or else that of `head`: whoever makes a change on condition of it has seen
    /// what he changes.
    fn setting(&self, head: &Version<S>, setting: &Setting) -> proto::Setting {
        let changed = self
            .0
            .admin
            .as_deref()
            .and_then(|backend| backend.changed_at(setting.key().as_str()))
            .map(|(epoch, sequence)| match epoch == head.epoch() {
                true => sequence.min(head.sequence()),
                false => head.sequence(),
            });
        admin_setting(setting, changed)
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
            setting: Some(self.setting(&head, setting)),
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
                .map(|setting| self.setting(&head, setting))
                .collect(),
            epoch: head.epoch().get(),
            sequence: head.sequence().get(),
        }))
    }

    async fn set(
        &self,
        request: Request<proto::SetRequest>,
    ) -> Result<Response<proto::Committed>, Status> {
        let (audited, request) = opened(request);
        let given = Given::set(&request);
        let request = given.check(ChangeRequest::from_set(request), &audited)?;
        let applied = self.apply_audited(request).await?;
        Ok(Response::new(applied.committed()))
    }

    async fn unset(
        &self,
        request: Request<proto::UnsetRequest>,
    ) -> Result<Response<proto::Committed>, Status> {
        let (audited, request) = opened(request);
        let given = Given::unset(&request);
        let (source, key) = (parse_source(&request.source), request.key.clone());
        let request = given.check(ChangeRequest::from_unset(request), &audited)?;
        let (source, applied) = (source?, self.apply_audited(request).await?);
        if applied.differences.is_empty() && !applied.persisted {
            let source = source.to_string();
            return Err(Refusal::NotHeld { key, source }.into());
        }
        Ok(Response::new(applied.committed()))
    }

    async fn apply(
        &self,
        request: Request<proto::ApplyRequest>,
    ) -> Result<Response<proto::ApplyResponse>, Status> {
        let (audited, request) = opened(request);
        let given = Given::apply(&request);
        let request = given.check(ChangeRequest::from_apply(request), &audited)?;
        let applied = self.apply_audited(request).await?;
        Ok(Response::new(applied.to_proto()))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let backend = self.backend()?;
        let key = parse_key(&request.into_inner().key)?;
        let layers = backend.explain(key.clone()).await.map_err(Refusal::from)?;
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
                requested_by: layer.requested_by,
                requested_at: layer.requested_at.map(Into::into),
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
            pid: std::process::id(),
            now: Some(SystemTime::now().into()),
            queued_changes: host.queued_changes,
            problems: host.problems,
            sources: host.sources.iter().map(ToProto::to_proto).collect(),
        }))
    }
}

/// A request to change something, and what is to know that it has left its line.
fn opened<T>(request: Request<T>) -> (Audited, T) {
    let audited = request.extensions().get::<Audited>().cloned();
    (audited.unwrap_or_default(), request.into_inner())
}

impl ToProto for SourceReport {
    type Output = proto::SourceStatus;

    fn to_proto(&self) -> proto::SourceStatus {
        let (last_error, last_error_at) = self.last_error.clone().unzip();
        proto::SourceStatus {
            source: self.source.as_str().to_owned(),
            detail: self.detail.clone(),
            error: self.error.clone().unwrap_or_default(),
            settings: self.settings,
            loaded_at: self.loaded_at.map(Into::into),
            failing_since: self.failing_since.map(Into::into),
            last_error: last_error.unwrap_or_default(),
            last_error_at: last_error_at.map(Into::into),
            loads: self.loads,
            failures: self.failures,
        }
    }
}

impl ToProto for AgentReport {
    type Output = proto::Agent;

    fn to_proto(&self) -> proto::Agent {
        let agent = Registration::clone(&self.registration);
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
