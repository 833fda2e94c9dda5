//! A consumer that stays, whatever happens to the server.

mod support;

use std::time::Duration;

use configstream_engine::Engine;
use configstream_engine::settings::{Change, Key, Settings, Source};
use configstream_grpc::{Consumer, ConsumerEvent, Disconnection, Registration, Server, Sessions};
use support::{FakeClock, Host, eventually, within_deadline};
use tokio::net::TcpListener;

fn consumer(host: &Host) -> Consumer {
    let short = Duration::from_millis(1);
    Consumer::builder(host.connector(), Registration::new("watch"))
        .backoff(short, 20 * short)
        .start()
}

async fn next(consumer: &mut Consumer) -> ConsumerEvent {
    within_deadline(consumer.next()).await
}

async fn expect_connected(consumer: &mut Consumer) -> String {
    match next(consumer).await {
        ConsumerEvent::Connected { session_id } => session_id,
        other => panic!("not connected: {other:?}"),
    }
}

async fn expect_sequence(consumer: &mut Consumer, sequence: u64) {
    let found = match next(consumer).await {
        ConsumerEvent::Snapshot(snapshot) => snapshot.sequence,
        ConsumerEvent::Update(update) => update.sequence,
        other => panic!("no event: {other:?}"),
    };
    assert_eq!(found.get(), sequence);
}

#[tokio::test]
async fn events_come_as_from_a_stream() {
    let host = Host::start().await;
    let last = host.set("a", 1);
    let mut consumer = consumer(&host);
    expect_connected(&mut consumer).await;
    expect_sequence(&mut consumer, last).await;
    for value in 2..10 {
        let sequence = host.set("a", value);
        expect_sequence(&mut consumer, sequence).await;
    }
    assert_eq!(host.handle.agents()[0].streams[0].name, "watch");
    drop(consumer);
    eventually("the stream is gone", || host.handle.stats().streams == 0).await;
}

#[tokio::test]
async fn it_outlives_a_server() {
    let host = Host::start().await;
    let engine = host.engine.clone();
    let publish = |value: i64| {
        let change = Change::set(Source::File, Key::parse("a").unwrap(), value);
        engine.publish(&change).unwrap().sequence.get()
    };
    let last = publish(1);
    let mut consumer = consumer(&host);
    let first_session = expect_connected(&mut consumer).await;
    expect_sequence(&mut consumer, last).await;

    within_deadline(host.handle.shutdown(Duration::from_secs(10))).await;
    let ConsumerEvent::Disconnected { cause, .. } = next(&mut consumer).await else {
        panic!("connected")
    };
    assert!(matches!(cause, Disconnection::Stream(_)), "{cause}");
    let missed = publish(2);
    let ConsumerEvent::Disconnected { cause, .. } = next(&mut consumer).await else {
        panic!("connected")
    };
    assert!(matches!(cause, Disconnection::Connect(_)), "{cause}");

    // The new server knows no sessions.
    let listener = TcpListener::bind(host.address).await.unwrap();
    let server = Server::builder(engine.clone(), host.pem.identity(), host.token.clone()).build();
    let handle = server.serve_tcp(listener);
    let second_session = loop {
        match next(&mut consumer).await {
            ConsumerEvent::Connected { session_id } => break session_id,
            ConsumerEvent::Disconnected { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(first_session, second_session);
    expect_sequence(&mut consumer, missed).await;
    let next = publish(3);
    expect_sequence(&mut consumer, next).await;
    within_deadline(handle.shutdown(Duration::from_secs(10))).await;
}

#[tokio::test]
async fn it_refreshes_its_session() {
    let clock = FakeClock::new();
    let sessions = Sessions::default()
        .clock(clock.reader())
        .recommended_refresh_interval(Duration::from_secs(1))
        .sweep_interval(Duration::from_secs(3600));
    let host = Host::start_with(|server| server.sessions(sessions)).await;
    let mut consumer = consumer(&host);
    expect_connected(&mut consumer).await;
    clock.advance(Duration::from_secs(30));
    assert_eq!(host.handle.agents()[0].idle, Duration::from_secs(30));
    eventually("it refreshes", || {
        host.handle.agents()[0].idle == Duration::ZERO
    })
    .await;
}

#[tokio::test]
async fn it_waits_longer_and_longer_for_a_server_that_is_not_there() {
    let engine = Engine::builder(Settings::new()).build().unwrap();
    let host = Host::start_over(engine, |server| server).await;
    let connector = host.connector();
    within_deadline(host.handle.shutdown(Duration::from_secs(10))).await;
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_millis(16));
    let registration = Registration::new("watch");
    let mut consumer = Consumer::builder(connector, registration)
        .backoff(shortest, longest)
        .start();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let ConsumerEvent::Disconnected { cause, retry_in } = next(&mut consumer).await else {
            panic!("connected")
        };
        assert!(matches!(cause, Disconnection::Connect(_)));
        pauses.push(retry_in);
    }
    assert!(
        pauses
            .iter()
            .all(|pause| *pause >= shortest && *pause <= 2 * longest),
        "{pauses:?}"
    );
    assert!(pauses[7] >= longest, "{pauses:?}");
}
