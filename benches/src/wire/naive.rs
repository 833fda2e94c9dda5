//! What one writes with tonic and tokio's broadcast channel at hand: generated service, stock server, every event
//! encoded for every stream, a snapshot built for each that asks or lags.

use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::sync::Arc;

use configstream_engine::settings::{self, Settings};
use configstream_proto::datadog::api::v1::agent_secure_server::{AgentSecure, AgentSecureServer};
use configstream_proto::datadog::model::v1::{
    ConfigEvent, ConfigSetting, ConfigSnapshot, ConfigStreamRequest, ConfigUpdate,
    FetchEntityRequest, FetchEntityResponse, config_event::Event,
};
use configstream_proto::datadog::remoteagent::v1::{
    RefreshRemoteAgentRequest, RefreshRemoteAgentResponse, RegisterRemoteAgentRequest,
    RegisterRemoteAgentResponse,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use prost_types::{Value, value::Kind};
use tokio::sync::broadcast;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, async_trait};

use super::server::{RING_CAPACITY, Service, Socket, nth_of, update_keys};

pub(super) struct Naive {
    shared: Shared,
    connections: UnboundedSender<io::Result<Socket>>,
    keys: Vec<String>,
}

#[derive(Clone)]
struct Shared {
    updates: broadcast::Sender<ConfigEvent>,
    state: Arc<Mutex<State>>,
}

struct State {
    sequence: i32,
    settings: BTreeMap<String, ConfigSetting>,
}

impl Naive {
    /// On the current runtime.
    pub(super) fn start(settings: &Settings) -> Self {
        let settings = settings.resolved().iter().map(|setting| {
            let key = setting.key().to_string();
            let setting = ConfigSetting {
                source: setting.source().as_str().to_owned(),
                key: key.clone(),
                value: Some(to_proto(setting.value())),
                unset_source: None,
            };
            (key, setting)
        });
        let state = State {
            sequence: 0,
            settings: settings.collect(),
        };
        let shared = Shared {
            updates: broadcast::Sender::new(RING_CAPACITY),
            state: Arc::new(Mutex::new(state)),
        };
        let (connections, incoming) = unbounded_channel();
        let serving = tonic::transport::Server::builder()
            .add_service(AgentSecureServer::new(shared.clone()))
            .serve_with_incoming(UnboundedReceiverStream::new(incoming));
        tokio::spawn(serving);
        Self {
            shared,
            connections,
            keys: update_keys().map(|key| key.to_string()).collect(),
        }
    }
}

impl Service for Naive {
    fn serve_connection(&self, socket: Socket) {
        self.connections.send(Ok(socket)).expect("the server runs");
    }

    fn publish(&self, nth: u64, due_ns: u64) {
        let mut state = self.shared.state.lock();
        state.sequence += 1;
        let setting = ConfigSetting {
            source: "file".to_owned(),
            key: nth_of(&self.keys, nth).clone(),
            value: Some(Value {
                kind: Some(Kind::NumberValue(due_ns as f64)),
            }),
            unset_source: None,
        };
        state.settings.insert(setting.key.clone(), setting.clone());
        let update = ConfigUpdate {
            origin: ORIGIN.to_owned(),
            sequence_id: state.sequence,
            setting: Some(setting),
            ..ConfigUpdate::default()
        };
        // An error says that nobody listens.
        let _ = self.shared.updates.send(ConfigEvent {
            event: Some(Event::Update(update)),
        });
    }

    fn slowest_lag(&self) -> u64 {
        self.shared.updates.len() as u64
    }
}

impl State {
    fn snapshot(&self) -> ConfigEvent {
        let snapshot = ConfigSnapshot {
            origin: ORIGIN.to_owned(),
            sequence_id: self.sequence,
            settings: self.settings.values().cloned().collect(),
            ..ConfigSnapshot::default()
        };
        ConfigEvent {
            event: Some(Event::Snapshot(snapshot)),
        }
    }
}

#[async_trait]
impl AgentSecure for Shared {
    async fn register_remote_agent(
        &self,
        _: Request<RegisterRemoteAgentRequest>,
    ) -> Result<Response<RegisterRemoteAgentResponse>, Status> {
        Ok(Response::new(RegisterRemoteAgentResponse {
            session_id: "none".to_owned(),
            ..RegisterRemoteAgentResponse::default()
        }))
    }

    async fn refresh_remote_agent(
        &self,
        _: Request<RefreshRemoteAgentRequest>,
    ) -> Result<Response<RefreshRemoteAgentResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    type StreamConfigEventsStream = BoxStream<'static, Result<ConfigEvent, Status>>;

    async fn stream_config_events(
        &self,
        _: Request<ConfigStreamRequest>,
    ) -> Result<Response<Self::StreamConfigEventsStream>, Status> {
        // Nothing gets lost between the snapshot and the first update.
        let (snapshot, updates) = {
            let state = self.state.lock();
            (state.snapshot(), self.updates.subscribe())
        };
        let state = self.state.clone();
        let updates = BroadcastStream::new(updates).map(move |update| match update {
            Ok(update) => Ok(update),
            Err(BroadcastStreamRecvError::Lagged(_)) => Ok(state.lock().snapshot()),
        });
        Ok(Response::new(
            stream::once(ready(Ok(snapshot))).chain(updates).boxed(),
        ))
    }

    async fn tagger_fetch_entity(
        &self,
        _: Request<FetchEntityRequest>,
    ) -> Result<Response<FetchEntityResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

/// The kinds of the workload.
fn to_proto(value: &settings::Value) -> Value {
    let kind = match value {
        settings::Value::Bool(flag) => Kind::BoolValue(*flag),
        settings::Value::Int(number) => Kind::NumberValue(*number as f64),
        settings::Value::Float(number) => Kind::NumberValue(*number),
        settings::Value::String(text) => Kind::StringValue(text.to_string()),
        other => unreachable!("the workload has no {other:?}"),
    };
    Value { kind: Some(kind) }
}

const ORIGIN: &str = "core-agent";

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[tokio::test]
    async fn an_update_takes_123_bytes_and_ends_in_the_moment_it_was_due() {
        let naive = Naive::start(&Settings::new());
        let mut updates = naive.shared.updates.subscribe();
        naive.publish(7, 1 << 40);
        let message = updates.try_recv().unwrap().encode_to_vec();
        assert_eq!(message.len(), 123);
        assert!(message.ends_with(&((1_u64 << 40) as f64).to_le_bytes()));
    }
}
