//! The services that agents in the field speak to.
//!
//! `AgentSecure` is routed by hand, since the generated server encodes every event for every stream; and the call that
//! streams past tonic's router, which puts a body into three boxes. The rest is small and goes through generated code.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use configstream_engine::SharedSubscription;
use configstream_engine::settings::Resolution;
use configstream_proto::datadog::api::v1::agent_server::Agent;
use configstream_proto::datadog::model::v1::{
    ConfigStreamRequest, FetchEntityRequest, FetchEntityResponse, HostnameReply, HostnameRequest,
};
use configstream_proto::datadog::remoteagent::v1::remote_agent_server::RemoteAgent;
use configstream_proto::datadog::remoteagent::v1::{
    RefreshRemoteAgentRequest, RefreshRemoteAgentResponse, RegisterRemoteAgentRequest,
    RegisterRemoteAgentResponse, ReportRemoteAgentEventRequest, ReportRemoteAgentEventResponse,
};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, request};
use prost::Message;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status, async_trait};
use tonic_prost::ProstCodec;

use crate::server::body::EventBody;
use crate::server::connections::Link;
use crate::server::core::Core;
use crate::server::open_stream::OpenStream;
use crate::server::sparing::Shown;
use crate::server::stream::EventStream;
use crate::server::together::Turns;
use crate::server::unread::Unread;
use crate::status::Refusal;

/// What a stream of events runs over.
#[derive(Clone, Debug)]
pub(crate) struct Over<S: Resolution> {
    pub(crate) connection: Connection,
    /// What all streams of the connection read.
    pub(crate) events: SharedSubscription<S>,
}

/// What streams of events hold on to, of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) link: Arc<Link>,
    pub(crate) unread: Unread,
    pub(crate) turns: Turns,
}

/// The call that streams.
pub(crate) const STREAM_CONFIG_EVENTS: &str = "/datadog.api.v1.AgentSecure/StreamConfigEvents";

/// Authorises, subscribes, wraps, returns.
pub(crate) async fn stream_config_events<S: Resolution>(
    core: Arc<Core<S>>,
    over: Over<S>,
    request: http::Request<Body>,
) -> Result<http::Response<EventBody<S>>, Status> {
    let (parts, body) = request.into_parts();
    // Before the message is read: who has no session is told so, whatever it sends, and holds no handler.
    let (session_id, registration) = core.registry.authorise(session_id(&parts))?;
    let message = read_message::<ConfigStreamRequest>(body, core.request_bytes).await?;
    if message.name.len() > NAME_BYTES {
        return Err(Status::from(Refusal::NameTooLong {
            size: message.name.len(),
            limit: NAME_BYTES,
        }));
    }
    if let Some(unsaid) = core.stream_log.admit() {
        tracing::info!(
            session_id,
            unsaid,
            "Config stream authorized for remote agent '{}' (session_id '{session_id}')",
            Shown::name(&registration.display_name)
        );
    }
    let name = if message.name.is_empty() {
        let mut name = registration.display_name.clone();
        name.truncate(name.floor_char_boundary(NAME_BYTES));
        name
    } else {
        message.name
    };
    let (connection, reader) = (over.connection, over.events.reader(name.as_str()));
    let observer = reader.observer();
    let opened = core.registry.now();
    let open = OpenStream::new(name, session_id, opened, connection.clone(), observer);
    let stream = EventStream::open(core, reader, Arc::new(open))?;

    let mut response = http::Response::new(EventBody::new(stream, connection));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// `datadog.api.v1.AgentSecure`, but for the call that streams.
#[derive(Debug)]
pub(crate) struct AgentSecure<S: Resolution>(pub(crate) Arc<Core<S>>);

impl<S: Resolution> AgentSecure<S> {
    async fn route(core: Arc<Core<S>>, request: http::Request<Body>) -> http::Response<Body> {
        let limit = core.request_bytes;
        match request.uri().path() {
            "/datadog.api.v1.AgentSecure/RegisterRemoteAgent" => {
                let handler = |message| register(&core, message);
                unary(handler, request, limit).await
            }
            "/datadog.api.v1.AgentSecure/RefreshRemoteAgent" => {
                let handler = |message: Request<_>| refresh(&core, message.into_inner());
                unary(handler, request, limit).await
            }
            "/datadog.api.v1.AgentSecure/TaggerFetchEntity" => {
                let handler = |message: Request<_>| fetch_entity(message.into_inner());
                unary(handler, request, limit).await
            }
            _ => Status::unimplemented("").into_http(),
        }
    }
}

impl<S: Resolution> Clone for AgentSecure<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Resolution> NamedService for AgentSecure<S> {
    const NAME: &'static str = "datadog.api.v1.AgentSecure";
}

impl<S: Resolution> tower::Service<http::Request<Body>> for AgentSecure<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let core = self.0.clone();
        Box::pin(async move { Ok(Self::route(core, request).await) })
    }
}

/// `datadog.remoteagent.v1.RemoteAgent`.
#[derive(Debug)]
pub(crate) struct RemoteAgents<S: Resolution>(pub(crate) Arc<Core<S>>);

#[async_trait]
impl<S: Resolution> RemoteAgent for RemoteAgents<S> {
    async fn register_remote_agent(
        &self,
        request: Request<RegisterRemoteAgentRequest>,
    ) -> Result<Response<RegisterRemoteAgentResponse>, Status> {
        Ok(Response::new(register(&self.0, request)?))
    }

    async fn refresh_remote_agent(
        &self,
        request: Request<RefreshRemoteAgentRequest>,
    ) -> Result<Response<RefreshRemoteAgentResponse>, Status> {
        Ok(Response::new(refresh(&self.0, request.into_inner())?))
    }

    async fn report_remote_agent_event(
        &self,
        request: Request<ReportRemoteAgentEventRequest>,
    ) -> Result<Response<ReportRemoteAgentEventResponse>, Status> {
        let report = request.into_inner();
        let agent = self.0.registry.registration(&report.session_id)?;
        for event in report.events {
            // A peer can report as fast as it likes; the log is for the others, too.
            if let Some(unsaid) = self.0.report_log.admit() {
                let (name, said) = (
                    Shown::name(&agent.display_name),
                    Shown::message(&event.message),
                );
                tracing::info!(unsaid, "Remote agent '{name}' reports: {said}");
            }
        }
        Ok(Response::new(ReportRemoteAgentEventResponse {}))
    }
}

/// `datadog.api.v1.Agent`.
#[derive(Debug)]
pub(crate) struct HostNames<S: Resolution>(pub(crate) Arc<Core<S>>);

#[async_trait]
impl<S: Resolution> Agent for HostNames<S> {
    async fn get_hostname(
        &self,
        _: Request<HostnameRequest>,
    ) -> Result<Response<HostnameReply>, Status> {
        Ok(Response::new(HostnameReply {
            hostname: self.0.hostname.clone(),
        }))
    }
}

fn register<S: Resolution>(
    core: &Core<S>,
    mut request: Request<RegisterRemoteAgentRequest>,
) -> Result<RegisterRemoteAgentResponse, Refusal> {
    let link = request.extensions_mut().remove::<Arc<Link>>();
    let link = link.expect("each request is given the link of its connection");
    let (session_id, recommended_refresh_interval_secs) =
        core.registry.register(request.into_inner(), &link)?;
    Ok(RegisterRemoteAgentResponse {
        session_id,
        recommended_refresh_interval_secs,
    })
}

fn refresh<S: Resolution>(
    core: &Core<S>,
    request: RefreshRemoteAgentRequest,
) -> Result<RefreshRemoteAgentResponse, Refusal> {
    core.registry.refresh(&request.session_id)?;
    Ok(RefreshRemoteAgentResponse {})
}

/// There is no tagger here. One client in the field asks when it connects, and gives up on an error.
fn fetch_entity(request: FetchEntityRequest) -> Result<FetchEntityResponse, Refusal> {
    Ok(FetchEntityResponse {
        id: request.id,
        cardinality: request.cardinality,
        tags: Vec::new(),
    })
}

/// The first `session_id` counts.
fn session_id(parts: &request::Parts) -> Option<&[u8]> {
    parts.headers.get("session_id").map(HeaderValue::as_bytes)
}

/// Runs a plain function as a unary gRPC method.
async fn unary<M, R>(
    handler: impl Fn(Request<M>) -> Result<R, Refusal>,
    request: http::Request<Body>,
    limit: usize,
) -> http::Response<Body>
where
    M: Message + Default + 'static,
    R: Message + 'static,
{
    let service = tower::service_fn(|request: Request<M>| {
        let reply = handler(request);
        ready(reply.map(Response::new).map_err(Status::from))
    });
    Grpc::new(ProstCodec::<R, M>::default())
        .max_decoding_message_size(limit)
        .unary(service, request)
        .await
}

/// The one message of a request, which is not compressed, since no such encoding was offered.
async fn read_message<M: Message + Default + 'static>(
    body: Body,
    limit: usize,
) -> Result<M, Status> {
    let decoder = ProstCodec::<M, M>::default().decoder();
    let mut messages = Streaming::new_request(decoder, body, None, Some(limit));
    messages
        .message()
        .await?
        .ok_or_else(|| Status::invalid_argument("a request message is required"))
}

/// How long a subscriber's name may be, in bytes; it is kept as long as the stream.
const NAME_BYTES: usize = 1_024;
