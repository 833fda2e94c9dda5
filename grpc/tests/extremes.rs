//! Whatever bounds a host or a client asks for: it is served, and nothing panics.

mod support;

use std::time::Duration;

use configstream_grpc::consumer::{Consumer, ConsumerBuilder};
use configstream_grpc::{Connector, Limits, Registration, Sessions};
use support::peer::{self, Peer};
use support::{Host, expect_snapshot, expect_update, within_deadline};

const NONE: Duration = Duration::ZERO;
const ALL: Duration = Duration::MAX;

/// A client gets a snapshot and an update from such a server.
async fn is_served(
    limits: Limits,
    sessions: Sessions,
    configure: impl FnOnce(Connector) -> Connector,
) {
    let host = Host::start_with(|server| server.limits(limits).sessions(sessions)).await;
    host.set("a", "x".repeat(100_000));
    let connector = configure(host.connector());
    let client = within_deadline(connector.connect()).await.unwrap();
    let registration = Registration::new("x");
    let session = within_deadline(client.register(&registration)).await;
    let session = session.unwrap();
    let events = within_deadline(client.stream("x", &session.id)).await;
    let mut events = events.unwrap();
    expect_snapshot(&mut events).await;
    host.set("b", 1);
    expect_update(&mut events).await;
}

#[tokio::test]
async fn a_server_with_any_limits_serves() {
    let limits = Limits::default;
    for limits in [
        limits().send_buffer_bytes(0),
        limits().send_buffer_bytes(usize::MAX),
        limits().keepalive(NONE, NONE),
        limits().keepalive(ALL, ALL),
        limits().handshake_timeout(ALL).request_timeout(ALL),
        limits().header_bytes(u32::MAX).request_bytes(usize::MAX),
        limits().event_bytes(usize::MAX),
        limits().ring_capacity(0).handshakes(0),
        limits().ring_capacity(usize::MAX).handshakes(usize::MAX),
        limits().connections(usize::MAX).streams(usize::MAX),
        limits().streams_per_connection(u32::MAX),
    ] {
        eprintln!("{limits:?}");
        is_served(limits, Sessions::default(), |connector| connector).await;
    }
}

#[tokio::test]
async fn a_server_that_treats_sessions_in_any_way_serves() {
    let sessions = Sessions::default;
    for sessions in [
        sessions().idle_timeout(ALL).sweep_interval(ALL),
        sessions().sweep_interval(NONE),
        sessions().recommended_refresh_interval(NONE),
        sessions().recommended_refresh_interval(ALL),
        sessions().limit(usize::MAX),
    ] {
        eprintln!("{sessions:?}");
        is_served(Limits::default(), sessions, |connector| connector).await;
    }
}

#[tokio::test]
async fn a_connection_that_may_be_silent_for_ever_is_pinged() {
    let often = Duration::from_millis(10);
    let limits = Limits::default().keepalive(often, often).stall_timeout(ALL);
    let host = Host::start_with(|server| server.limits(limits)).await;
    let mut peer = Peer::speak(&host).await;
    while peer.next().await.expect("it stays").kind != peer::PING {}
}

#[tokio::test]
async fn a_client_with_any_options_is_served() {
    let options: [fn(Connector) -> Connector; 3] = [
        |connector| connector.window_bytes(u32::MAX),
        |connector| connector.keepalive(ALL, ALL),
        |connector| connector.connect_timeout(ALL),
    ];
    for option in options {
        is_served(Limits::default(), Sessions::default(), option).await;
    }
}

#[tokio::test]
async fn a_consumer_with_any_options_follows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let options: [fn(ConsumerBuilder) -> ConsumerBuilder; 6] = [
        |consumer| consumer.backoff(NONE, NONE).max_unanswered_delay(NONE),
        |consumer| consumer.backoff(ALL, ALL).max_unanswered_delay(ALL),
        |consumer| consumer.healthy_after(ALL).answer_timeout(ALL),
        |consumer| consumer.healthy_after(NONE),
        |consumer| consumer.ring_capacity(0).snapshot_interval(ALL),
        |consumer| consumer.snapshot_max_age(NONE).snapshot_interval(NONE),
    ];
    for option in options {
        let host = Host::start().await;
        let registration = Registration::new("x");
        let consumer = Consumer::builder(host.connector(), registration).snapshot_path(&path);
        let consumer = option(consumer).start();
        consumer.wait_ready(ALL).await.unwrap();
        let last = host.set("a", 1);
        support::eventually("the replica has it", || {
            consumer.head().unwrap().sequence().get() == last
        })
        .await;
        // And goes on to wait, without a server.
        let mut states = consumer.states();
        within_deadline(host.handle.shutdown(NONE)).await;
        let mut state = consumer.state();
        while state.cause().is_none() {
            state = within_deadline(states.next()).await.unwrap();
        }
        within_deadline(consumer.shutdown()).await;
    }
}
