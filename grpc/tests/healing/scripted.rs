//! A server that does what it is told, right or wrong.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use configstream_grpc::{Address, Connector, Token};
use configstream_proto::datadog::api::v1::agent_secure_server::{AgentSecure, AgentSecureServer};
use configstream_proto::datadog::model::v1::config_event::Event;
use configstream_proto::datadog::model::v1::{
    ConfigEvent, ConfigSetting, ConfigSnapshot, ConfigStreamRequest, ConfigUpdate,
    FetchEntityRequest, FetchEntityResponse,
};
use configstream_proto::datadog::remoteagent::v1::{
    RefreshRemoteAgentRequest, RefreshRemoteAgentResponse, RegisterRemoteAgentRequest,
    RegisterRemoteAgentResponse,
};
use futures_util::{Stream, StreamExt, stream};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tower::Service;

use crate::support::Pem;

/// What to do with one stream.
pub struct Script {
    pub events: Vec<ConfigEvent>,
    pub end: End,
}

pub enum End {
    /// With this; nothing is an OK.
    With(Option<Status>),
    /// It is not even opened.
    Refused(Status),
    /// Nobody says whether it is opened.
    Unanswered,
    /// Never.
    Hang,
}

pub struct Scripted {
    pub connector: Connector,
    pub told: Arc<Told>,
}

/// What it is told, and what it has seen.
#[derive(Default)]
pub struct Told {
    /// A stream that finds none hangs.
    scripts: Mutex<VecDeque<Script>>,
    /// What sessions are called; one that finds none here is numbered.
    pub sessions: Mutex<VecDeque<String>>,
    /// Refreshes to be refused.
    pub forget: AtomicU64,
    /// Registrations that get no answer.
    pub ignore: AtomicU64,
    /// Refreshes that get no answer.
    pub ignore_refreshes: AtomicU64,
    pub refreshed: AtomicU64,
    /// Counts the times that all connections are sent a GOAWAY.
    pub go_away: watch::Sender<u64>,
    pub connections: AtomicU64,
    pub registered: AtomicU64,
    pub streams: AtomicU64,
}

impl Scripted {
    pub async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let pem = Pem::generate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        let connector = Connector::new(address, &pem.identity(), token);
        let told = Arc::new(Told::default());
        told.scripts.lock().unwrap().extend(scripts);
        let tls = TlsAcceptor::from(Arc::new(pem.identity().server_config()));
        let routes = Routes::new(AgentSecureServer::from_arc(Arc::new(Agent(told.clone()))));
        let counted = told.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counted.connections.fetch_add(1, Ordering::Relaxed);
                let (tls, routes) = (tls.clone(), routes.clone());
                let mut go_away = counted.go_away.subscribe();
                tokio::spawn(async move {
                    let Ok(socket) = tls.accept(socket).await else {
                        return;
                    };
                    let service = service_fn(|request| routes.clone().call(request));
                    let mut connection = pin!(
                        http2::Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(socket), service)
                    );
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        _ = go_away.changed() => connection.as_mut().graceful_shutdown(),
                    }
                    let _ = connection.await;
                });
            }
        });
        Self { connector, told }
    }

    pub fn streams(&self) -> u64 {
        self.told.streams.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.told.connections.load(Ordering::Relaxed)
    }

    pub fn registered(&self) -> u64 {
        self.told.registered.load(Ordering::Relaxed)
    }
}

/// `a` is `value`, as of a sequence.
pub fn snapshot(sequence_id: i32, value: i32) -> ConfigEvent {
    ConfigEvent {
        event: Some(Event::Snapshot(ConfigSnapshot {
            origin: "scripted".into(),
            sequence_id,
            settings: vec![setting(value)],
            epoch: 1,
        })),
    }
}

pub fn update(sequence_id: i32, value: i32, batch_remaining: u32) -> ConfigEvent {
    ConfigEvent {
        event: Some(Event::Update(ConfigUpdate {
            origin: "scripted".into(),
            sequence_id,
            setting: Some(setting(value)),
            batch_remaining,
        })),
    }
}

fn setting(value: i32) -> ConfigSetting {
    let kind = prost_types::value::Kind::NumberValue(value.into());
    ConfigSetting {
        source: "file".into(),
        key: "a".into(),
        value: Some(prost_types::Value { kind: Some(kind) }),
        unset_source: None,
    }
}

struct Agent(Arc<Told>);

/// Counts down, if there is something left.
fn take(counter: &AtomicU64) -> bool {
    let less = |count: u64| count.checked_sub(1);
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

#[tonic::async_trait]
impl AgentSecure for Agent {
    async fn register_remote_agent(
        &self,
        _: Request<RegisterRemoteAgentRequest>,
    ) -> Result<Response<RegisterRemoteAgentResponse>, Status> {
        if take(&self.0.ignore) {
            std::future::pending::<()>().await;
        }
        let count = self.0.registered.fetch_add(1, Ordering::Relaxed) + 1;
        let named = self.0.sessions.lock().unwrap().pop_front();
        Ok(Response::new(RegisterRemoteAgentResponse {
            session_id: named.unwrap_or_else(|| format!("session-{count}")),
            recommended_refresh_interval_secs: 1,
        }))
    }

    async fn refresh_remote_agent(
        &self,
        _: Request<RefreshRemoteAgentRequest>,
    ) -> Result<Response<RefreshRemoteAgentResponse>, Status> {
        if take(&self.0.ignore_refreshes) {
            std::future::pending::<()>().await;
        }
        if take(&self.0.forget) {
            return Err(Status::not_found("no remote agent found with session ID"));
        }
        self.0.refreshed.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(RefreshRemoteAgentResponse {}))
    }

    type StreamConfigEventsStream = Pin<Box<dyn Stream<Item = Result<ConfigEvent, Status>> + Send>>;

    async fn stream_config_events(
        &self,
        _: Request<ConfigStreamRequest>,
    ) -> Result<Response<Self::StreamConfigEventsStream>, Status> {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        let script = self.0.scripts.lock().unwrap().pop_front();
        let Script { events, end } = script.unwrap_or(Script {
            events: Vec::new(),
            end: End::Hang,
        });
        let events = stream::iter(events).map(Ok);
        Ok(Response::new(match end {
            End::With(status) => Box::pin(events.chain(stream::iter(status.map(Err)))),
            End::Refused(status) => return Err(status),
            End::Unanswered => std::future::pending().await,
            End::Hang => Box::pin(events.chain(stream::pending())),
        }))
    }

    async fn tagger_fetch_entity(
        &self,
        _: Request<FetchEntityRequest>,
    ) -> Result<Response<FetchEntityResponse>, Status> {
        Ok(Response::new(FetchEntityResponse::default()))
    }
}
