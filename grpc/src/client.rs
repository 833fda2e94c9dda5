//! The calls a remote agent, or a person, makes.

mod connector;
mod events;
mod received;

use std::time::Duration;

use configstream_engine::settings::{Key, Source, Value};
use configstream_engine::{Epoch, Sequence};
use configstream_proto::configstream::admin::v1 as admin;
use configstream_proto::configstream::admin::v1::config_admin_client::ConfigAdminClient;
use configstream_proto::datadog::api::v1::agent_client::AgentClient;
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::{ConfigStreamRequest, HostnameRequest};
use configstream_proto::datadog::remoteagent::v1::{
    RefreshRemoteAgentRequest, RegisterRemoteAgentRequest,
};
use http::Response;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::{InterceptedService, ResponseBody};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tower::util::MapResponse;

pub use self::connector::{ConnectError, Connector};
pub use self::events::{ConfigEvent, ConfigSnapshot, ConfigUpdate, Events, StreamError};

pub(crate) use self::events::Progress;
pub(crate) use self::received::Received;

use self::connector::Bearer;
use crate::convert::ToProto;
use crate::server::{ChangeRequest, Registration};

/// A connection to an agent. Cheap to clone; clones share it. It dials again when a call finds it broken.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Checked,
}

/// A channel whose answers are all gRPC.
type Checked = MapResponse<
    InterceptedService<Channel, Bearer>,
    fn(Response<ResponseBody<Body>>) -> Response<Body>,
>;

/// What registering gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// What authorises streams.
    pub id: String,
    /// How often the server wants the session refreshed.
    pub refresh_interval: Duration,
}

impl Client {
    /// The largest message this side takes: a snapshot of everything.
    pub const MESSAGE_BYTES: usize = 128 * 1024 * 1024;

    pub(crate) fn new(channel: InterceptedService<Channel, Bearer>) -> Self {
        Self {
            channel: MapResponse::new(channel, check),
        }
    }

    /// Registers a remote agent.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn register(&self, registration: &Registration) -> Result<Session, Status> {
        let reply = self
            .agent_secure()
            .register_remote_agent(RegisterRemoteAgentRequest {
                pid: registration.pid.clone(),
                flavor: registration.flavor.clone(),
                display_name: registration.display_name.clone(),
                api_endpoint_uri: registration.api_endpoint_uri.clone(),
                services: registration.services.clone(),
            })
            .await?
            .into_inner();
        let interval = Duration::from_secs(reply.recommended_refresh_interval_secs.into());
        Ok(Session {
            id: reply.session_id,
            refresh_interval: interval,
        })
    }

    /// Keeps a session alive.
    ///
    /// # Errors
    /// As the server answers; `NotFound` when there is no such session any more.
    pub async fn refresh(&self, session_id: &str) -> Result<(), Status> {
        let request = RefreshRemoteAgentRequest {
            session_id: session_id.to_owned(),
        };
        self.agent_secure().refresh_remote_agent(request).await?;
        Ok(())
    }

    /// Streams the configuration to a subscriber called `name`.
    ///
    /// # Errors
    /// As the server answers; `PermissionDenied` when there is no such session any more.
    pub async fn stream(&self, name: &str, session_id: &str) -> Result<Events, Status> {
        let mut request = Request::new(ConfigStreamRequest {
            name: name.to_owned(),
        });
        let session_id = MetadataValue::try_from(session_id)
            .map_err(|_| Status::invalid_argument("a session id is visible ASCII"))?;
        request.metadata_mut().insert("session_id", session_id);
        let received = Received::start();
        let stamping = received.clone();
        let channel = MapResponse::new(self.channel.clone(), |response| stamping.watch(response));
        let stream = AgentSecureClient::new(channel)
            .max_decoding_message_size(Self::MESSAGE_BYTES)
            .stream_config_events(request)
            .await?;
        Ok(Events::new(stream.into_inner(), received))
    }

    /// The name of the agent's host.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn hostname(&self) -> Result<String, Status> {
        let mut agent = AgentClient::new(self.channel.clone());
        Ok(agent
            .get_hostname(HostnameRequest {})
            .await?
            .into_inner()
            .hostname)
    }

    /// What wins for `key`.
    ///
    /// # Errors
    /// As the server answers; `NotFound` when no layer holds the key.
    pub async fn get(&self, key: &str) -> Result<admin::GetResponse, Status> {
        let request = admin::GetRequest {
            key: key.to_owned(),
        };
        Ok(self.admin().get(request).await?.into_inner())
    }

    /// What wins for `prefix` and everything below it; for everything, if it is empty.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn list(&self, prefix: &str) -> Result<admin::ListResponse, Status> {
        let request = admin::ListRequest {
            prefix: prefix.to_owned(),
        };
        Ok(self.admin().list(request).await?.into_inner())
    }

    /// Sets `key` in the layer `source`.
    ///
    /// # Errors
    /// As the server answers; `InvalidArgument` when the settings refuse it.
    pub async fn set(
        &self,
        source: Source,
        key: &Key,
        value: &Value,
        requested_by: &str,
    ) -> Result<admin::Committed, Status> {
        let request = admin::SetRequest {
            key: key.as_str().to_owned(),
            value: Some(value.to_proto()),
            source: source.as_str().to_owned(),
            requested_by: requested_by.to_owned(),
            ..Default::default()
        };
        Ok(self.admin().set(request).await?.into_inner())
    }

    /// Removes `key` from the layer `source`.
    ///
    /// # Errors
    /// As the server answers; `NotFound` when the layer does not hold the key.
    pub async fn unset(
        &self,
        source: Source,
        key: &Key,
        requested_by: &str,
    ) -> Result<admin::Committed, Status> {
        let request = admin::UnsetRequest {
            key: key.as_str().to_owned(),
            source: source.as_str().to_owned(),
            requested_by: requested_by.to_owned(),
            ..Default::default()
        };
        Ok(self.admin().unset(request).await?.into_inner())
    }

    /// Makes several changes as one, all of them or none, or only asks what would come of them.
    ///
    /// # Errors
    /// As the server answers; `InvalidArgument` when the settings refuse one of them, `Aborted` when a condition does not
    /// hold.
    pub async fn apply(&self, request: &ChangeRequest) -> Result<admin::ApplyResponse, Status> {
        Ok(self.admin().apply(request.to_proto()).await?.into_inner())
    }

    /// Every layer that holds `key`, highest first.
    ///
    /// # Errors
    /// As the server answers; `NotFound` when no layer holds the key.
    pub async fn explain(&self, key: &str) -> Result<Vec<admin::Layer>, Status> {
        let request = admin::ExplainRequest {
            key: key.to_owned(),
        };
        Ok(self.admin().explain(request).await?.into_inner().layers)
    }

    /// The remote agents registered now, oldest first.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn agents(&self) -> Result<Vec<admin::Agent>, Status> {
        Ok(self
            .admin()
            .agents(admin::AgentsRequest {})
            .await?
            .into_inner()
            .agents)
    }

    /// Waits until every open stream has been handed `sequence`, at most `timeout`. The answer names the agents that lack
    /// it on some stream; none means that everybody has it.
    ///
    /// # Errors
    /// As the server answers; `Unavailable` when it shuts down meanwhile.
    pub async fn wait_for_streams(
        &self,
        epoch: Epoch,
        sequence: Sequence,
        timeout: Duration,
    ) -> Result<admin::WaitForStreamsResponse, Status> {
        let request = admin::WaitForStreamsRequest {
            epoch: epoch.get(),
            sequence: sequence.get(),
            timeout_seconds: timeout.as_secs_f64(),
        };
        Ok(self.admin().wait_for_streams(request).await?.into_inner())
    }

    /// How the agent itself is.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn status(&self) -> Result<admin::StatusResponse, Status> {
        Ok(self
            .admin()
            .status(admin::StatusRequest {})
            .await?
            .into_inner())
    }

    fn agent_secure(&self) -> AgentSecureClient<Checked> {
        AgentSecureClient::new(self.channel.clone()).max_decoding_message_size(Self::MESSAGE_BYTES)
    }

    fn admin(&self) -> ConfigAdminClient<Checked> {
        ConfigAdminClient::new(self.channel.clone()).max_decoding_message_size(Self::MESSAGE_BYTES)
    }
}

/// Turns an answer that is not gRPC, such as the page of an HTTP proxy, into a status that says so.
fn check(response: Response<ResponseBody<Body>>) -> Response<Body> {
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return response.map(Body::new);
    }
    let kind = match kind.and_then(|kind| kind.to_str().ok()) {
        Some(kind) if kind.len() <= LONGEST_CONTENT_TYPE => kind,
        Some(_) => "a long content type",
        None => "no content type",
    };
    let status = response.status();
    Status::unknown(format!(
        "what answered is no gRPC server: HTTP {status} with {kind}, as an HTTP proxy or a web server \
         answers; give the agent's own address, or let the proxy pass gRPC over HTTP/2"
    ))
    .into_http()
}

/// Of an answer that is not gRPC: a longer one is not repeated.
const LONGEST_CONTENT_TYPE: usize = 100;
