//! The bytes of a stream: those that the generated types encode to, on every stream alike.

mod support;

use bytes::Bytes;
use configstream_engine::settings::{Change, Key, Settings, Source, Value};
use configstream_engine::{Engine, Epoch, Sequence};
use configstream_proto::datadog::model::v1::{ConfigEvent, ConfigSetting, config_event};
use prost::Message;
use support::Host;
use support::raw::{self, RawEvents};

#[tokio::test]
async fn events_are_what_the_generated_types_encode_to() {
    let host = Host::start().await;
    host.set("bool", true);
    host.set("float", 0.25);
    host.set("empty", "");
    host.set("zero", 0);
    host.set("list", Value::list([1.into(), "two".into()]).unwrap());
    host.set(
        "map",
        Value::map([
            ("a.b/C", 1.into()),
            ("d", Value::map([("e", false.into())]).unwrap()),
        ])
        .unwrap(),
    );
    let mut events = raw_stream(&host).await;

    let (bytes, snapshot) = next(&mut events).await;
    assert_eq!(snapshot.encode_to_vec(), bytes);
    let Some(config_event::Event::Snapshot(snapshot)) = snapshot.event else {
        panic!("{snapshot:?}")
    };
    assert_eq!(
        (snapshot.origin.as_str(), snapshot.sequence_id),
        ("agent.yaml", 6)
    );
    assert_eq!(snapshot.epoch, host.engine.head().epoch().get());
    let keys: Vec<_> = snapshot
        .settings
        .iter()
        .map(|setting| setting.key.as_str())
        .collect();
    assert_eq!(keys, ["bool", "empty", "float", "list", "map", "zero"]);
    for setting in &snapshot.settings {
        assert_eq!(
            (setting.source.as_str(), &setting.unset_source),
            ("file", &None)
        );
        assert!(setting.value.as_ref().unwrap().kind.is_some());
    }

    let key = Key::parse("zero").unwrap();
    let set = Change::set(Source::Cli, key.clone(), "x");
    host.engine
        .publish_batch(&[set, Change::unset(Source::Cli, key)])
        .unwrap();
    for (sequence_id, batch_remaining, source, unset_source) in
        [(7, 1, "cli", None), (8, 0, "file", Some("cli"))]
    {
        let (bytes, update) = next(&mut events).await;
        assert_eq!(update.encode_to_vec(), bytes);
        let Some(config_event::Event::Update(update)) = update.event else {
            panic!("{update:?}")
        };
        assert_eq!(
            (update.origin.as_str(), update.sequence_id),
            ("agent.yaml", sequence_id)
        );
        assert_eq!(update.batch_remaining, batch_remaining);
        let ConfigSetting {
            key,
            source: winner,
            unset_source: cleared,
            ..
        } = update.setting.unwrap();
        assert_eq!(
            (key.as_str(), winner.as_str(), cleared.as_deref()),
            ("zero", source, unset_source)
        );
    }
}

#[tokio::test]
async fn every_stream_gets_the_same_bytes() {
    let host = Host::start().await;
    host.set("a", "x".repeat(100_000));
    let (mut one, mut two) = (raw_stream(&host).await, raw_stream(&host).await);
    assert_eq!(next(&mut one).await.0, next(&mut two).await.0);
    host.set("b", 1);
    assert_eq!(next(&mut one).await.0, next(&mut two).await.0);
}

#[tokio::test]
async fn equal_states_give_equal_bytes() {
    let settings = [("b.x", 1), ("a", 2), ("c.y.z", 3), ("b.w", 4)];
    let mut snapshots = Vec::new();
    for rotated in 0..settings.len() {
        let engine = Engine::builder(Settings::new())
            .start_at(Epoch::new(7), Sequence::new(100))
            .build()
            .unwrap();
        let host = Host::start_over(engine, |server| server).await;
        for (key, value) in settings.iter().cycle().skip(rotated).take(settings.len()) {
            host.set(key, *value);
        }
        snapshots.push(next(&mut raw_stream(&host).await).await.0);
    }
    for snapshot in &snapshots[1..] {
        assert_eq!(snapshot, &snapshots[0]);
    }
}

#[tokio::test]
async fn an_origin_is_never_empty() {
    let host = Host::start_with(|server| server.origin("")).await;
    let (_, snapshot) = host.stream().await;
    assert_eq!(snapshot.origin, "core-agent");
}

#[tokio::test]
async fn two_servers_over_one_engine_each_have_their_origin() {
    let one = Host::start().await;
    let two = Host::start_over(one.engine.clone(), |server| server.origin("other.yaml")).await;
    one.set("a", 1);
    let ((mut first, first_snapshot), (mut second, second_snapshot)) =
        (one.stream().await, two.stream().await);
    assert_eq!(first_snapshot.origin, "agent.yaml");
    assert_eq!(second_snapshot.origin, "other.yaml");
    one.set("a", 2);
    assert_eq!(
        support::expect_update(&mut first).await.origin,
        "agent.yaml"
    );
    assert_eq!(
        support::expect_update(&mut second).await.origin,
        "other.yaml"
    );
}

async fn raw_stream(host: &Host) -> RawEvents {
    let (_, session) = host.session().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    raw::stream(channel, &session.id).await
}

async fn next(events: &mut RawEvents) -> (Bytes, ConfigEvent) {
    let bytes = events.next().await;
    let event = ConfigEvent::decode(bytes.clone()).unwrap();
    (bytes, event)
}
