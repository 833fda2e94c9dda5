//! Reading and changing the configuration by hand.

mod support;

use std::sync::Arc;
use std::time::Duration;

use configstream_engine::settings::{Change, Key, Provenance, Settings, Source, Value};
use configstream_engine::{Committed, Engine, PublishError};
use configstream_grpc::{AdminBackend, AdminError, Explanation, HostStatus, SourceReport};
use support::{Host, eventually, expect_snapshot, expect_update, told};
use tonic::{Code, async_trait};

/// Applies changes at once, as a host with one thread for them would in turn.
struct Backend(Engine<Settings>);

impl Backend {
    fn publish(&self, change: &Change) -> Result<Committed, AdminError> {
        self.0.publish(change).map_err(|error| match error {
            PublishError::Rejected(rejection) => AdminError::Rejected(rejection.to_string()),
            _ => AdminError::Closed,
        })
    }
}

#[async_trait]
impl AdminBackend for Backend {
    async fn set(
        &self,
        source: Source,
        key: Key,
        value: Value,
        by: String,
    ) -> Result<Committed, AdminError> {
        self.publish(&Change::set(source, key, value).with_provenance(Provenance::runtime(by)))
    }

    async fn unset(&self, source: Source, key: Key, _: String) -> Result<Committed, AdminError> {
        let head = self.0.head();
        let held = head
            .state()
            .explain(&key)
            .iter()
            .any(|layer| layer.setting.source() == source);
        if held {
            self.publish(&Change::unset(source, key))
        } else {
            Err(AdminError::NotHeld)
        }
    }

    async fn explain(&self, key: Key) -> Result<Vec<Explanation>, AdminError> {
        if key.as_str() == "busy" {
            return Err(AdminError::Overloaded);
        }
        let head = self.0.head();
        let layers = head.state().explain(&key);
        Ok(layers
            .into_iter()
            .map(|layer| Explanation {
                source: layer.setting.source(),
                value: layer.setting.value().clone(),
                wins: layer.wins,
                provenance: layer
                    .provenance
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            })
            .collect())
    }

    async fn status(&self) -> HostStatus {
        HostStatus {
            version: "1.2.3".into(),
            uptime: Duration::from_secs(5),
            sources: vec![SourceReport {
                source: Source::File,
                detail: "/etc/agent.yaml".into(),
                error: Some("line 3".into()),
                settings: 7,
            }],
        }
    }
}

async fn host() -> Host {
    let engine = Engine::builder(Settings::new()).build().unwrap();
    let backend = Arc::new(Backend(engine.clone()));
    Host::start_over(engine, |server| server.admin(backend)).await
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

#[tokio::test]
async fn what_wins_can_be_read_one_by_one_and_by_section() {
    let host = host().await;
    for name in ["logs", "metrics.a", "metrics.b", "metrics-x.c"] {
        host.set(name, 1);
    }
    let client = host.client().await;
    let reply = client.get("metrics.a").await.unwrap();
    let setting = reply.setting.unwrap();
    assert_eq!(
        (setting.key.as_str(), setting.source.as_str()),
        ("metrics.a", "file")
    );
    assert_eq!(
        (reply.sequence, reply.epoch),
        (4, host.engine.head().epoch().get())
    );

    for (prefix, names) in [
        ("", &["logs", "metrics-x.c", "metrics.a", "metrics.b"][..]),
        ("metrics", &["metrics.a", "metrics.b"]),
        ("metrics.", &["metrics.a", "metrics.b"]),
        ("logs", &["logs"]),
        ("log", &[]),
    ] {
        let settings = client.list(prefix).await.unwrap().settings;
        assert_eq!(
            settings
                .iter()
                .map(|setting| setting.key.as_str())
                .collect::<Vec<_>>(),
            names,
            "{prefix}"
        );
    }
    let text = "no setting has the key 'nothing'";
    assert_eq!(
        told(client.get("nothing").await),
        (Code::NotFound, text.into())
    );
}

#[tokio::test]
async fn a_change_by_hand_streams_and_explains_itself() {
    let host = host().await;
    host.set("level", "info");
    let (mut events, _) = host.stream().await;
    let client = host.client().await;

    let committed = client
        .set(
            Source::AgentRuntime,
            &key("level"),
            &"debug".into(),
            "alice",
        )
        .await
        .unwrap();
    assert_eq!(
        (
            committed.sequence,
            committed.updates,
            committed.needs_snapshot
        ),
        (2, 1, false)
    );
    let update = expect_update(&mut events).await;
    assert_eq!(update.update.setting().value().as_str(), Some("debug"));

    let layers = client.explain("level").await.unwrap();
    let told: Vec<_> = layers
        .iter()
        .map(|layer| (layer.source.as_str(), layer.wins))
        .collect();
    assert_eq!(told, [("agent-runtime", true), ("file", false)]);
    assert!(
        layers[0].provenance.contains("alice"),
        "{}",
        layers[0].provenance
    );

    client
        .unset(Source::AgentRuntime, &key("level"), "alice")
        .await
        .unwrap();
    assert_eq!(
        expect_update(&mut events).await.update.unset(),
        Some(Source::AgentRuntime)
    );
    let committed = client.unset(Source::File, &key("level"), "").await.unwrap();
    assert!(committed.needs_snapshot);
    assert!(expect_snapshot(&mut events).await.settings.is_empty());
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let host = host().await;
    host.set("a.b", 1);
    let client = host.client().await;
    let parent = client.set(Source::File, &key("a"), &1.into(), "").await;
    assert_eq!(told(parent).0, Code::InvalidArgument);
    let unset = client.unset(Source::Cli, &key("a.b"), "").await;
    assert_eq!(
        told(unset),
        (
            Code::NotFound,
            "layer 'cli' does not hold the key 'a.b'".into()
        )
    );
    assert_eq!(told(client.explain("A B").await).0, Code::InvalidArgument);
    assert_eq!(told(client.explain("nothing").await).0, Code::NotFound);
    assert_eq!(
        told(client.explain("busy").await).0,
        Code::ResourceExhausted
    );
}

#[tokio::test]
async fn a_server_without_a_backend_can_be_read_only() {
    let host = Host::start().await;
    host.set("a", 1);
    let client = host.client().await;
    client.get("a").await.unwrap();
    client.status().await.unwrap();
    let refused = client.set(Source::Cli, &key("a"), &2.into(), "").await;
    assert_eq!(told(refused).0, Code::FailedPrecondition);
    assert_eq!(
        told(client.unset(Source::Cli, &key("a"), "").await).0,
        Code::FailedPrecondition
    );
    assert_eq!(told(client.explain("a").await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn agents_and_status_tell_how_far_everybody_is() {
    let host = host().await;
    let (mut events, _) = host.stream().await;
    let last = host.set("a", 1);
    expect_update(&mut events).await;
    eventually("the update is on its way", || host.handle.stats().caught_up).await;

    let client = host.client().await;
    let agents = client.agents().await.unwrap();
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0].display_name, "remote");
    let stream = &agents[0].streams[0];
    assert_eq!(
        (stream.name.as_str(), stream.last_sequence_sent, stream.lag),
        ("test", Some(last), 0)
    );
    assert_eq!(
        (
            stream.updates_sent,
            stream.snapshots_sent,
            stream.resyncs,
            stream.dropped
        ),
        (1, 1, 0, 0)
    );

    let status = client.status().await.unwrap();
    assert_eq!(
        (status.version.as_str(), status.origin.as_str()),
        ("1.2.3", "agent.yaml")
    );
    assert_eq!(
        (
            status.sequence,
            status.settings,
            status.sessions,
            status.streams
        ),
        (last, 1, 1, 1)
    );
    assert_eq!(
        (
            status.connections,
            status.refused_handshakes,
            status.caught_up
        ),
        (2, 0, true)
    );
    let source = &status.sources[0];
    assert_eq!(
        (
            source.source.as_str(),
            source.error.as_str(),
            source.settings
        ),
        ("file", "line 3", 7)
    );
}
