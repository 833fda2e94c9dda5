//! What a stream says, and how it ends.

mod support;

use std::time::Duration;

use configstream_engine::settings::{Change, Key, Settings, Source, Value};
use configstream_engine::{Engine, Epoch, Sequence, State};
use configstream_grpc::Limits;
use support::{
    Host, eventually, expect_end, expect_snapshot, expect_update, told, within_deadline,
};
use tonic::Code;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

#[tokio::test]
async fn a_snapshot_comes_first_and_then_each_sequence() {
    let host = Host::start().await;
    host.set("b.number", 2);
    let reached = host.set("a.text", "one");
    let (mut events, snapshot) = host.stream().await;
    assert_eq!(snapshot.origin, "agent.yaml");
    assert_eq!(snapshot.sequence.get(), reached);
    assert_eq!(snapshot.epoch, host.engine.head().epoch());
    let keys: Vec<_> = snapshot
        .settings
        .iter()
        .map(|setting| setting.key().as_str())
        .collect();
    assert_eq!(keys, ["a.text", "b.number"]);
    assert_eq!(snapshot.settings[1].value(), &Value::Int(2));
    assert_eq!(snapshot.settings[1].source(), Source::File);

    for number in 0..500 {
        let sequence = host.set("b.number", number + 1000);
        let update = expect_update(&mut events).await;
        assert_eq!(update.sequence.get(), sequence);
        assert_eq!(update.origin, "agent.yaml");
        assert_eq!(update.update.setting().value(), &Value::Int(number + 1000));
        assert_eq!((update.batch_remaining, update.update.unset()), (0, None));
    }
}

#[tokio::test]
async fn a_stream_over_nothing_starts_with_an_empty_snapshot() {
    let host = Host::start().await;
    let (mut events, snapshot) = host.stream().await;
    assert!(snapshot.settings.is_empty());
    host.set("a", true);
    assert_eq!(
        expect_update(&mut events).await.sequence,
        snapshot.sequence.next()
    );
}

#[tokio::test]
async fn unset_says_what_now_wins_and_a_vanished_key_takes_a_snapshot() {
    let host = Host::start().await;
    host.set("a", "file");
    host.engine
        .publish(&Change::set(Source::AgentRuntime, key("a"), "runtime"))
        .unwrap();
    let (mut events, _) = host.stream().await;

    host.engine
        .publish(&Change::unset(Source::AgentRuntime, key("a")))
        .unwrap();
    let update = expect_update(&mut events).await;
    assert_eq!(update.update.unset(), Some(Source::AgentRuntime));
    assert_eq!(update.update.setting().source(), Source::File);
    assert_eq!(update.update.setting().value().as_str(), Some("file"));

    host.engine
        .publish(&Change::unset(Source::File, key("a")))
        .unwrap();
    let snapshot = expect_snapshot(&mut events).await;
    assert_eq!(snapshot.sequence, update.sequence.next());
    assert!(snapshot.settings.is_empty());
}

#[tokio::test]
async fn a_batch_says_how_much_of_it_follows() {
    let host = Host::start().await;
    let (mut events, _) = host.stream().await;
    let names = ["a", "b", "c"];
    let changes = names.map(|name| Change::set(Source::File, key(name), 1));
    host.engine.publish_batch(&changes).unwrap();
    for (remaining, name) in (0..3).rev().zip(names) {
        let update = expect_update(&mut events).await;
        assert_eq!(
            (
                update.batch_remaining,
                update.update.setting().key().as_str()
            ),
            (remaining, name)
        );
    }
}

#[tokio::test]
async fn a_snapshot_of_many_pieces_arrives_whole() {
    let host = Host::start().await;
    let text = "0123456789".repeat(5_000);
    for number in 0..40 {
        host.set(&format!("large.number-{number:02}"), text.as_str());
    }
    let (mut events, snapshot) = host.stream().await;
    assert_eq!(snapshot.settings.len(), 40);
    assert!(
        snapshot
            .settings
            .iter()
            .all(|setting| setting.value().as_str() == Some(&text))
    );
    host.set("small", 1);
    expect_update(&mut events).await;
}

#[tokio::test]
async fn each_event_is_encoded_once_however_many_streams_send_it() {
    let host = Host::start().await;
    host.set("a", 0);
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(host.stream().await.0);
    }
    for value in 1..=20 {
        host.set("a", value);
        for events in &mut streams {
            expect_update(events).await;
        }
    }
    let stats = host.handle.stats();
    assert_eq!((stats.snapshots_encoded, stats.updates_encoded), (1, 20));
    let sent: u64 = host
        .handle
        .agents()
        .iter()
        .map(|agent| agent.streams[0].figures.delivered)
        .sum();
    assert_eq!(sent, 160);
}

#[tokio::test]
async fn a_reader_that_stops_is_repaired_by_a_snapshot_when_it_reads_on() {
    let host = Host::start().await;
    let (mut slow, _) = host.narrow_stream("slow").await;
    expect_snapshot(&mut slow).await;
    let (mut quick, _) = host.stream().await;

    let mut last = 0;
    eventually("the slow one lags", || {
        last = host.set("filler", format!("{last}{}", "x".repeat(30_000)));
        let agents = host.handle.agents();
        let streams = agents.iter().flat_map(|agent| &agent.streams);
        streams
            .clone()
            .any(|stream| stream.name == "slow" && stream.figures.lagging)
    })
    .await;
    // The other one was not held up: it gets each and every update, or its own repair, and reaches the end.
    let mut reached = 0;
    while reached < last {
        reached = within_deadline(quick.next())
            .await
            .unwrap()
            .sequence()
            .get();
    }

    // `Events` checks that nothing is skipped; without another publish the slow one gets to the head.
    let (mut reached, mut snapshots) = (0, 0);
    while reached < last {
        let event = within_deadline(slow.next()).await.unwrap();
        snapshots += u64::from(matches!(event, configstream_grpc::ConfigEvent::Snapshot(_)));
        reached = event.sequence().get();
    }
    assert!(snapshots >= 1);
    let agents = host.handle.agents();
    let slow = agents
        .iter()
        .flat_map(|agent| &agent.streams)
        .find(|stream| stream.name == "slow")
        .unwrap();
    assert_eq!(slow.figures.snapshots, snapshots + 1);
    assert!(slow.figures.dropped > 0);
    assert_eq!(slow.figures.delivered + slow.figures.dropped, last);
    assert!(host.handle.stats().caught_up);
}

#[tokio::test]
async fn shutting_down_tells_every_stream() {
    let host = Host::start().await;
    let (mut first, _) = host.stream().await;
    let (mut second, _) = host.stream().await;
    let client = host.client().await;
    within_deadline(host.handle.shutdown(Duration::from_secs(10))).await;
    for events in [&mut first, &mut second] {
        let status = expect_end(events).await;
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "the server is shutting down")
        );
    }
    client.hostname().await.unwrap_err();
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_those_who_do_not_listen() {
    let host = Host::start().await;
    // Has shaken hands with nobody.
    let _silent = tokio::net::TcpStream::connect(host.address).await.unwrap();
    // Reads nothing any more.
    let (mut events, _) = host.narrow_stream("deaf").await;
    expect_snapshot(&mut events).await;
    eventually("the stream stalls", || {
        host.set("filler", "x".repeat(60_000));
        host.set("filler", "y".repeat(60_000));
        host.handle.agents()[0].streams[0].figures.lagging
    })
    .await;
    within_deadline(host.handle.shutdown(Duration::from_millis(100))).await;
}

#[tokio::test]
async fn a_closed_engine_ends_streams() {
    let host = Host::start().await;
    let (mut events, _) = host.stream().await;
    let last = host.set("a", 1);
    host.engine.close();
    assert_eq!(expect_update(&mut events).await.sequence.get(), last);
    let status = expect_end(&mut events).await;
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn sequences_end_where_the_wire_does() {
    let limit = u64::try_from(i32::MAX).unwrap();
    let start = Sequence::new(limit - 1);
    let engine = Engine::builder(Settings::new())
        .start_at(Epoch::new(1), start)
        .build()
        .unwrap();
    let host = Host::start_over(engine, |server| server).await;
    let (mut events, _) = host.stream().await;
    assert_eq!(host.set("a", 1), limit);
    assert_eq!(expect_update(&mut events).await.sequence.get(), limit);
    host.set("a", 2);
    let status = expect_end(&mut events).await;
    assert_eq!(status.code(), Code::Unavailable);

    let (client, session) = host.session().await;
    let mut events = client.stream("late", &session.id).await.unwrap();
    assert_eq!(expect_end(&mut events).await.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_new_epoch_ends_the_streams_of_the_old() {
    let host = Host::start().await;
    host.set("a", 1);
    let (mut events, snapshot) = host.stream().await;
    let state = host.engine.head().state().clone();
    let epoch = snapshot.epoch.next();
    host.engine.adopt(state, epoch, Sequence::new(0)).unwrap();
    let status = expect_end(&mut events).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "a new epoch has begun")
    );

    let (_, snapshot) = host.stream().await;
    assert_eq!(
        (snapshot.epoch, snapshot.sequence),
        (epoch, Sequence::new(0))
    );
}

#[tokio::test]
async fn without_epochs_a_step_back_ends_the_streams_too() {
    let host = Host::start().await;
    host.set("a", 1);
    host.set("a", 2);
    // As a replica does whose upstream has begun anew.
    for (sequence, value) in [(1, 7), (1, 8)] {
        let (mut events, snapshot) = host.stream().await;
        assert_eq!(snapshot.epoch, Epoch::NONE);
        let change = Change::set(Source::File, key("a"), value);
        let next = host.engine.head().state().apply(&change).unwrap();
        let sequence = Sequence::new(sequence);
        let state = next.state;
        host.engine.adopt(state, Epoch::NONE, sequence).unwrap();
        let status = expect_end(&mut events).await;
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "a new epoch has begun")
        );
        let (mut events, snapshot) = host.stream().await;
        assert_eq!((snapshot.epoch, snapshot.sequence), (Epoch::NONE, sequence));
        assert_eq!(snapshot.settings[0].value().as_i64(), Some(value));
        // A higher one is a repair like any other.
        let state = host.engine.head().state().clone();
        let next = sequence.next();
        host.engine.adopt(state, Epoch::NONE, next).unwrap();
        assert_eq!(expect_snapshot(&mut events).await.sequence, next);
    }
}

#[tokio::test]
async fn an_event_beyond_the_limit_ends_the_stream() {
    let host = Host::start_with(|server| server.limits(Limits::default().event_bytes(1_000))).await;
    let (mut events, _) = host.stream().await;
    host.set("a", "x".repeat(2_000));
    assert_eq!(
        expect_end(&mut events).await.code(),
        Code::ResourceExhausted
    );
    let (client, session) = host.session().await;
    let stream = client.stream("x", &session.id).await;
    let code = match stream {
        Ok(mut events) => expect_end(&mut events).await.code(),
        refused => told(refused).0,
    };
    assert_eq!(code, Code::ResourceExhausted);
}
