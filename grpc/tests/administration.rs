//! Reading and changing the configuration by hand.

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::{Change, Key, Layered, Provenance, Settings, Source};
use configstream_engine::{Engine, Epoch, PublishError, Sequence};
use configstream_grpc::{
    AdminBackend, AdminError, Applied, ChangeRequest, Conditions, Difference, Edit, Explanation,
    HostStatus, SourceReport,
};
use configstream_proto::configstream::admin::v1 as admin;
use support::{Host, eventually, expect_snapshot, expect_update, told};
use tonic::{Code, async_trait};

/// Applies changes at once, as a host with one thread for them would in turn.
struct Backend(Engine<Settings>);

const WHEN: SystemTime = SystemTime::UNIX_EPOCH;

#[async_trait]
impl AdminBackend for Backend {
    async fn apply(&self, request: ChangeRequest) -> Result<Applied, AdminError> {
        if request.persist {
            return Err(AdminError::Unsupported("nothing is kept here".into()));
        }
        let before = self.0.head();
        if request
            .conditions
            .head
            .is_some_and(|head| head != before.sequence())
        {
            return Err(AdminError::Conflict("the head has moved on".into()));
        }
        let keys: Vec<Key> = request
            .edits
            .iter()
            .map(|edit| edit.key().clone())
            .collect();
        let change = Change::batch(request.edits.into_iter().map(|edit| {
            match edit {
                Edit::Set { source, key, value } => Change::set(source, key, value)
                    .with_provenance(Provenance::runtime_at(request.requested_by.as_str(), WHEN)),
                Edit::Unset { source, key } => Change::unset(source, key),
            }
        }));
        let committed = self.0.publish(&change).map_err(|error| match error {
            PublishError::Rejected(rejection) => AdminError::Rejected(rejection.to_string()),
            _ => AdminError::Closed,
        })?;
        let after = self.0.head();
        let differences = keys.into_iter().filter_map(|key| {
            let (before, after) = (before.state().explain(&key), after.state().explain(&key));
            let winner = |layers: &[Layered]| layers.first().map(|layer| layer.setting.clone());
            (before != after).then(|| Difference {
                key,
                before: winner(&before),
                after: winner(&after),
            })
        });
        Ok(Applied::new(committed, differences.collect()))
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
                requested_by: match &layer.provenance {
                    Some(Provenance::Runtime { who, .. }) => who.to_string(),
                    _ => String::new(),
                },
                requested_at: match layer.provenance {
                    Some(Provenance::Runtime { when, .. }) => when,
                    _ => None,
                },
            })
            .collect())
    }

    fn changed_at(&self, key: &str) -> Option<(Epoch, Sequence)> {
        let head = self.0.head();
        match key {
            "unknown" => None,
            "later" => Some((head.epoch(), head.sequence().next())),
            _ => Some((head.epoch(), Sequence::new(1))),
        }
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
                loaded_at: Some(WHEN),
                failing_since: None,
                last_error: Some(("line 2".into(), WHEN)),
                loads: 3,
                failures: 2,
            }],
            problems: vec!["run directory: it is gone".to_owned()],
            queued_changes: 4,
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
    assert_eq!(
        (
            source.last_error.as_str(),
            source.loads,
            source.failures,
            status.queued_changes,
            status.pid
        ),
        ("line 2", 3, 2, 4, std::process::id())
    );
    assert_eq!(
        (source.loaded_at, source.last_error_at),
        (Some(WHEN.into()), Some(WHEN.into()))
    );
    assert_eq!(source.failing_since, None);
    assert_eq!(status.problems, ["run directory: it is gone"]);
}

#[tokio::test]
async fn a_setting_says_since_when_it_is_so_and_never_later_than_its_head() {
    let host = host().await;
    for name in ["a", "later", "unknown"] {
        host.set(name, 1);
    }
    let client = host.client().await;
    let settings = client.list("").await.unwrap().settings;
    let changed: Vec<_> = settings
        .iter()
        .map(|setting| setting.changed_sequence)
        .collect();
    assert_eq!(changed, [Some(1), Some(3), None]);
    let setting = client.get("a").await.unwrap().setting.unwrap();
    assert_eq!(setting.changed_sequence, Some(1));
}

#[tokio::test]
async fn a_batch_is_applied_whole_and_tells_what_differs() {
    let host = host().await;
    host.set("a", 1);
    host.set("b", 1);
    let (mut events, _) = host.stream().await;
    let client = host.client().await;
    let edits = vec![
        Edit::Set {
            source: Source::Cli,
            key: key("a"),
            value: 2.into(),
        },
        Edit::Set {
            source: Source::Default,
            key: key("b"),
            value: 0.into(),
        },
        Edit::Unset {
            source: Source::Cli,
            key: key("c"),
        },
    ];
    let request = ChangeRequest {
        edits,
        requested_by: "bob".into(),
        ..Default::default()
    };
    let reply = client.apply(&request).await.unwrap();
    let committed = reply.committed.unwrap();
    assert_eq!((committed.sequence, committed.updates), (3, 1));
    let told: Vec<_> = reply
        .differences
        .iter()
        .map(|difference| {
            let source =
                |setting: &Option<admin::Setting>| setting.clone().map(|setting| setting.source);
            (
                difference.key.as_str(),
                source(&difference.before),
                source(&difference.after),
                difference.streams,
            )
        })
        .collect();
    let (file, cli) = (Some("file".to_owned()), Some("cli".to_owned()));
    assert_eq!(
        told,
        [
            ("a", file.clone(), cli, true),
            ("b", file.clone(), file, false)
        ]
    );
    assert_eq!(
        expect_update(&mut events)
            .await
            .update
            .setting()
            .value()
            .as_i64(),
        Some(2)
    );
    let layers = client.explain("a").await.unwrap();
    assert_eq!(layers[0].requested_by, "bob");
    assert_eq!(layers[0].requested_at, Some(WHEN.into()));
    assert_eq!(
        (layers[1].requested_by.as_str(), layers[1].requested_at),
        ("", None)
    );
}

#[tokio::test]
async fn what_a_host_cannot_do_or_a_condition_forbids_has_a_code_of_its_own() {
    let host = host().await;
    host.set("a", 1);
    let client = host.client().await;
    let edits = vec![Edit::Unset {
        source: Source::File,
        key: key("a"),
    }];
    let conditions = Conditions {
        head: Some(Sequence::new(0)),
        ..Default::default()
    };
    for (request, refused) in [
        (
            ChangeRequest {
                edits: edits.clone(),
                persist: true,
                ..Default::default()
            },
            (Code::Unimplemented, "nothing is kept here"),
        ),
        (
            ChangeRequest {
                edits,
                conditions,
                ..Default::default()
            },
            (Code::Aborted, "the head has moved on"),
        ),
        (
            ChangeRequest::default(),
            (
                Code::InvalidArgument,
                "nothing to apply: there are no edits",
            ),
        ),
    ] {
        assert_eq!(
            told(client.apply(&request).await),
            (refused.0, refused.1.into())
        );
    }
    client.get("a").await.unwrap();
}
