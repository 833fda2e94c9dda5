//! Bounds that change while the server runs: for whom a change holds.

mod support;

use std::time::Duration;

use configstream_engine::settings::{Change, Key, Source};
use configstream_grpc::{Limits, Registration, Sessions};
use support::peer::{self, Peer};
use support::{FakeClock, Host, eventually, expect_snapshot, expect_update, told, within_deadline};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;

const HOUR: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_shorter_idle_timeout_is_noticed_however_far_the_next_sweep() {
    let clock = FakeClock::new();
    let sessions = Sessions::default().clock(clock.reader());
    let host = Host::start_with(|server| server.sessions(sessions.sweep_interval(HOUR))).await;
    let (client, session) = host.session().await;
    clock.advance(Duration::from_secs(20));
    client.refresh(&session.id).await.unwrap();
    clock.advance(Duration::from_secs(20));
    let bounds = host.handle.bounds();
    bounds.set_sessions(bounds.sessions().idle_timeout(Duration::from_secs(10)));
    // Not looked for: it goes by a sweep, of which there was none for an hour.
    eventually("the session expires", || host.handle.stats().sessions == 0).await;
}

#[tokio::test]
async fn a_shorter_sweep_interval_holds_at_once() {
    let clock = FakeClock::new();
    let sessions = Sessions::default().clock(clock.reader());
    let host = Host::start_with(|server| server.sessions(sessions.sweep_interval(HOUR))).await;
    let _session = host.session().await;
    let bounds = host.handle.bounds();
    // None at all would keep the server from anything else.
    bounds.set_sessions(bounds.sessions().sweep_interval(Duration::ZERO));
    clock.advance(Sessions::DEFAULT_IDLE_TIMEOUT);
    eventually("the session expires", || host.handle.stats().sessions == 0).await;
}

#[tokio::test]
async fn the_refresh_interval_and_the_session_limit_hold_for_the_next_registration() {
    let host = Host::start().await;
    let client = host.client().await;
    let registration = Registration::new("remote");
    let first = client.register(&registration).await.unwrap();
    assert_eq!(first.refresh_interval, Duration::from_secs(10));
    let sessions = Sessions::default()
        .recommended_refresh_interval(Duration::from_secs(7))
        .limit(2);
    host.handle.bounds().set_sessions(sessions);
    let second = client.register(&registration).await.unwrap();
    assert_eq!(second.refresh_interval, Duration::from_secs(7));

    let _events = (
        client.stream("x", &first.id).await.unwrap(),
        client.stream("x", &second.id).await.unwrap(),
    );
    let text = "too many remote agents (at most 2)";
    let refused = (Code::ResourceExhausted, text.to_owned());
    assert_eq!(told(client.register(&registration).await), refused);
    host.handle
        .bounds()
        .set_sessions(Sessions::default().limit(1));
    assert_eq!(
        told(client.register(&registration).await).0,
        Code::ResourceExhausted
    );
    // Who was there stays.
    client.refresh(&first.id).await.unwrap();
    client.refresh(&second.id).await.unwrap();
}

#[tokio::test]
async fn a_registry_can_be_switched_off_and_on_and_its_open_streams_go_on() {
    let host = Host::start().await;
    let (client, session) = host.session().await;
    let mut events = client.stream("x", &session.id).await.unwrap();
    expect_snapshot(&mut events).await;
    host.handle.bounds().set_sessions(Sessions::disabled());
    let text = "remote agent registry not enabled";
    let refused = (Code::Unimplemented, text.to_owned());
    assert_eq!(told(client.refresh(&session.id).await), refused);
    assert_eq!(told(client.stream("x", &session.id).await), refused);
    host.set("a", 1);
    expect_update(&mut events).await;
    host.handle.bounds().set_sessions(Sessions::default());
    client.refresh(&session.id).await.unwrap();
}

#[tokio::test]
async fn a_ring_capacity_holds_for_the_next_stream() {
    let host = Host::start().await;
    let (mut before, _) = host.stream().await;
    host.handle
        .bounds()
        .set_limits(Limits::default().ring_capacity(2));
    let (mut after, _) = host.stream().await;
    // A batch enters a ring whole, or not at all.
    let batch: Vec<_> = (0..3)
        .map(|number| {
            let key = Key::parse(&format!("batch.key{number}")).unwrap();
            Change::set(Source::File, key, number)
        })
        .collect();
    host.engine.publish_batch(&batch).unwrap();
    assert_eq!(expect_snapshot(&mut after).await.settings.len(), 3);
    for sequence in 1..=3 {
        let update = expect_update(&mut before).await;
        assert_eq!(update.sequence.get(), sequence);
    }
}

#[tokio::test]
async fn lower_counts_refuse_the_next_and_throw_nobody_out() {
    let host = Host::start().await;
    let (mut events, _) = host.stream().await;
    let (client, session) = host.session().await;
    let bounds = host.handle.bounds();
    bounds.set_limits(Limits::default().streams(1));
    let refused = told(client.stream("x", &session.id).await);
    let text = "too many config streams (at most 1)";
    assert_eq!(refused, (Code::Unavailable, text.into()));

    client.refresh(&session.id).await.unwrap();
    bounds.set_limits(Limits::default().connections(1));
    assert_eq!(host.handle.stats().connections, 2);
    // The next takes the place of one, of one without a stream.
    host.client().await.hostname().await.unwrap();
    assert_eq!(host.handle.stats().refused_connections, 1);
    host.set("a", 1);
    expect_update(&mut events).await;

    bounds.set_limits(Limits::default());
    let _stream = host.stream().await;
}

#[tokio::test]
async fn connections_live_by_the_limits_of_their_start() {
    let host = Host::start().await;
    let mut old = Peer::speak(&host).await;
    assert_eq!(streams_granted(&mut old).await, 256);
    let limits = Limits::default().streams_per_connection(7);
    host.handle
        .bounds()
        .set_limits(limits.keepalive(SOON / 10, SOON).stall_timeout(SOON));
    let mut new = Peer::speak(&host).await;
    assert_eq!(streams_granted(&mut new).await, 7);
    // It answers no ping, and is hung up on.
    while new.next().await.is_some() {}
    // The older one was not even asked: what it hears next is the answer to what it says now.
    let mut ping = Vec::new();
    peer::frame(&mut ping, peer::PING, 0, 0, &[7; 8]);
    assert!(old.send(&ping).await);
    loop {
        let frame = old.next().await.expect("the connection stays");
        if frame.kind == peer::PING {
            assert_eq!(frame.payload, [7; 8]);
            break;
        }
    }
}

#[tokio::test]
async fn a_handshake_timeout_holds_for_handshakes_that_begin() {
    let host =
        Host::start_with(|server| server.limits(Limits::default().handshake_timeout(HOUR))).await;
    host.handle
        .bounds()
        .set_limits(Limits::default().handshake_timeout(SOON));
    let mut silent = TcpStream::connect(host.address).await.unwrap();
    let _ = within_deadline(silent.read_to_end(&mut Vec::new())).await;
    eventually("it is counted", || {
        host.handle.stats().refused_handshakes == 1
    })
    .await;
}

#[tokio::test]
async fn a_shorter_stall_timeout_holds_for_who_is_stalled_already() {
    let limits = Limits::default().stall_timeout(HOUR);
    let host = Host::start_with(|server| server.limits(limits)).await;
    let (_events, _) = host.stalled_stream().await;
    let bounds = host.handle.bounds();
    bounds.set_sessions(bounds.sessions().sweep_interval(SOON / 10));
    bounds.set_limits(bounds.limits().stall_timeout(SOON));
    eventually("the connection is dropped", || {
        host.handle.stats().connections == 0
    })
    .await;
}

#[tokio::test]
async fn what_cannot_change_is_said_to_be_as_it_was() {
    let limits = Limits::default().request_bytes(10_000).event_bytes(20_000);
    let host = Host::start_with(|server| server.limits(limits.clone())).await;
    let bounds = host.handle.bounds();
    bounds.set_limits(Limits::default());
    assert_eq!(format!("{:?}", bounds.limits()), format!("{limits:?}"));
}

/// How many streams at a time the server's first settings grant.
async fn streams_granted(peer: &mut Peer) -> u32 {
    let settings = peer.next().await.unwrap();
    assert_eq!(settings.kind, peer::SETTINGS);
    let granted = settings
        .payload
        .chunks(6)
        .find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS);
    peer::code(&granted.unwrap()[2..])
}

/// RFC 9113, 6.5.2.
const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
