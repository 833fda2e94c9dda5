//! Peers that do not read what ends a call lose their connection, and nobody else does.

mod support;

use std::time::Duration;

use configstream_grpc::Limits;
use support::peer::{self, Peer};
use support::{Host, eventually, expect_end, request, within_deadline};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const HOSTNAME: &str = "/datadog.api.v1.Agent/GetHostname";
const LIST: &str = "/configstream.admin.v1.ConfigAdmin/List";

async fn host() -> Host {
    let limits = Limits::default().stall_timeout(Duration::from_millis(300));
    Host::start_with(|server| server.limits(limits)).await
}

#[tokio::test]
async fn a_reply_that_nobody_reads_costs_the_connection() {
    let host = host().await;
    for number in 0..10 {
        host.set(&format!("large.key{number}"), "x".repeat(20_000));
    }
    // Says nothing for longer than all that follows, since nothing happens.
    let tls = host.pem.identity().client_config();
    let mut health = HealthClient::new(host.channel(tls).await.unwrap());
    let bearer = [("authorization", support::BEARER)];
    let watch = request(HealthCheckRequest::default(), &bearer);
    let mut watching = health.watch(watch).await.unwrap().into_inner();
    within_deadline(watching.message()).await.unwrap().unwrap();

    // With no window at all HTTP/2 does not even take the reply, with any it takes some of it.
    for window in [0, 1, 65_535] {
        assert_eq!(until_hung_up_on(&host, LIST, window).await, window as usize);
    }
    assert_eq!(host.handle.stats().connections, 1);

    host.handle.shutdown(Duration::from_secs(10)).await;
    within_deadline(watching.message()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_small_reply_does_as_well() {
    let host = host().await;
    for window in [0, 1] {
        assert_eq!(
            until_hung_up_on(&host, HOSTNAME, window).await,
            window as usize
        );
    }
}

#[tokio::test]
async fn the_rest_of_a_snapshot_does_even_if_nothing_else_happens() {
    let host = host().await;
    let (_, session) = host.session().await;
    for (size, window) in [(30_000, 0), (30_000, 20_000), (1_000, 1), (1_000, 500)] {
        host.set("some", "x".repeat(size));
        let mut peer = Peer::speak_with_window(&host, window).await;
        let mut bytes = Vec::new();
        peer::request(&mut bytes, 1, peer::STREAM_CONFIG_EVENTS, &session.id);
        assert!(peer.send(&bytes).await);
        assert_eq!(received(&mut peer).await, window as usize);
    }
}

#[tokio::test]
async fn the_rest_of_an_update_does_even_if_nothing_else_happens() {
    let host = host().await;
    host.set("small", "x".repeat(100));
    let mut peer = Peer::stream_with_window(&host, 300).await;
    host.set("small", "y".repeat(400));
    assert_eq!(received(&mut peer).await, 300);
}

#[tokio::test]
async fn the_end_of_a_stream_that_nobody_reads_costs_the_connection() {
    let host = host().await;
    host.set("small", "x".repeat(100));
    let (client, session) = host.session().await;
    let mut events = client.stream("good", &session.id).await.unwrap();
    // Room for the snapshot, and then for some of an update, which HTTP/2 takes, and the end after it.
    let mut peer = Peer::speak_with_window(&host, 300).await;
    let mut bytes = Vec::new();
    peer::request(&mut bytes, 1, peer::STREAM_CONFIG_EVENTS, &session.id);
    assert!(peer.send(&bytes).await);
    eventually("both stream", || host.handle.stats().streams == 2).await;
    host.set("small", "y".repeat(400));
    eventually("it is taken, though not sent", || {
        let agents = host.handle.agents();
        let mut streams = agents.iter().flat_map(|agent| &agent.streams);
        streams.all(|stream| stream.figures.lag == 0)
    })
    .await;
    assert!(!host.handle.stats().caught_up);

    host.engine.close();
    let end = expect_end(&mut events).await;
    assert_eq!(end.code(), Code::Unavailable);
    eventually("both have ended", || host.handle.stats().streams == 0).await;
    while peer.next().await.is_some() {}
    // Who has read how it ended is as welcome as before.
    until_hung_up_on(&host, HOSTNAME, 0).await;
    assert_eq!(host.handle.stats().connections, 1);
    client.refresh(&session.id).await.unwrap();
}

/// How much of a reply a peer gets that never makes room for more than `window` bytes.
async fn until_hung_up_on(host: &Host, path: &str, window: u32) -> usize {
    let mut peer = Peer::speak_with_window(host, window).await;
    let mut bytes = Vec::new();
    peer::request(&mut bytes, 1, path, "");
    assert!(peer.send(&bytes).await);
    received(&mut peer).await
}

/// How many bytes of data come until the server hangs up.
async fn received(peer: &mut Peer) -> usize {
    let mut received = 0;
    while let Some(frame) = peer.next().await {
        if frame.kind == peer::DATA {
            received += frame.payload.len();
        }
    }
    received
}
