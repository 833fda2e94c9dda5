//! Peers that mean harm meet a limit, and a good client goes on beside them.

mod support;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use configstream_grpc::{Client, Events, Limits, Registration, Session, Sessions};
use configstream_proto::datadog::api::v1::agent_client::AgentClient;
use configstream_proto::datadog::model::v1::HostnameRequest;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use support::peer::{self, Peer};
use support::{BEARER, Host, eventually, expect_end, expect_update, told, within_deadline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::{Code, Request, Status};
use tower::ServiceExt;

const STREAM: &str = peer::STREAM_CONFIG_EVENTS;
const REFRESH: &str = "/datadog.api.v1.AgentSecure/RefreshRemoteAgent";
const HOSTNAME: &str = "/datadog.api.v1.Agent/GetHostname";
const LIST: &str = "/configstream.admin.v1.ConfigAdmin/List";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// So many frames may go on with headers that fit in one.
const CONTINUATIONS: usize = 5;

/// Long enough for a good handshake on a busy machine.
const HANDSHAKE: Duration = Duration::from_millis(800);

/// A client that was there before, and one that comes later.
struct Good {
    client: Client,
    session: Session,
    events: Events,
}

impl Good {
    async fn on(host: &Host) -> Self {
        let (client, session) = host.session().await;
        let mut events = client.stream("good", &session.id).await.unwrap();
        support::expect_snapshot(&mut events).await;
        Self {
            client,
            session,
            events,
        }
    }

    /// Gets the next change, is refreshed, and is not alone in that.
    async fn goes_on(&mut self, host: &Host) {
        let sequence = host.set("good", host.engine.head().sequence().get().to_string());
        let update = expect_update(&mut self.events).await;
        assert_eq!(update.sequence.get(), sequence);
        self.client.refresh(&self.session.id).await.unwrap();
    }
}

async fn host_with(limits: Limits) -> Host {
    Host::start_with(|server| server.limits(limits)).await
}

#[tokio::test]
async fn connections_that_never_finish_tls_are_cut() {
    let host = host_with(Limits::default().handshake_timeout(HANDSHAKE)).await;
    let mut good = Good::on(&host).await;
    let mut strangers = Vec::new();
    // Nothing, the start of a hello that does not go on, and one byte.
    for said in [&[][..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc], &[0x16]] {
        let mut stranger = TcpStream::connect(host.address).await.unwrap();
        stranger.write_all(said).await.unwrap();
        strangers.push(stranger);
    }
    good.goes_on(&host).await;
    for mut stranger in strangers {
        let mut answer = Vec::new();
        // Hung up on, in whatever way.
        let _ = within_deadline(stranger.read_to_end(&mut answer)).await;
    }
    eventually("they are counted and gone", || {
        let stats = host.handle.stats();
        (
            stats.refused_handshakes,
            stats.handshakes,
            stats.connections,
        ) == (3, 0, 1)
    })
    .await;
    good.goes_on(&host).await;
    Good::on(&host).await.goes_on(&host).await;
}

#[tokio::test]
async fn connections_that_never_send_the_preface_are_cut() {
    let host = host_with(Limits::default().handshake_timeout(HANDSHAKE)).await;
    let mut good = Good::on(&host).await;
    let mut silent = Peer::connect(&host).await;
    let mut slow = Peer::connect(&host).await;
    slow.send(b"PRI * HTTP/2.0\r\n").await;
    good.goes_on(&host).await;
    for peer in [&mut silent, &mut slow] {
        assert!(peer.next().await.is_none());
    }
    // Who says something else is not waited for.
    let mut other = Peer::connect(&host).await;
    other
        .send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert!(other.next().await.is_none());
    eventually("they are counted and gone", || {
        let stats = host.handle.stats();
        (
            stats.refused_handshakes,
            stats.handshakes,
            stats.connections,
        ) == (3, 0, 1)
    })
    .await;
    good.goes_on(&host).await;
}

#[tokio::test]
async fn connections_without_end_give_way_to_each_other() {
    let host = host_with(Limits::default().connections(8)).await;
    let mut good = Good::on(&host).await;
    let mut greedy = Vec::new();
    for _ in 0..50 {
        greedy.push(Peer::speak(&host).await);
    }
    eventually("all but the newest were hung up on", || {
        let stats = host.handle.stats();
        (stats.connections, stats.refused_connections) == (8, 43)
    })
    .await;
    let mut ends: FuturesUnordered<_> = greedy
        .iter_mut()
        .map(async |peer| while peer.next().await.is_some() {})
        .collect();
    for _ in 0..43 {
        ends.next().await.unwrap();
    }
    drop(ends);
    good.goes_on(&host).await;
    // One more agent gets in, and both stay.
    let mut next = Good::on(&host).await;
    for _ in 0..20 {
        greedy.push(Peer::speak(&host).await);
    }
    good.goes_on(&host).await;
    expect_update(&mut next.events).await;
    next.goes_on(&host).await;
    drop(greedy);
    eventually("there is room again", || {
        host.handle.stats().connections == 2
    })
    .await;
}

#[tokio::test]
async fn peers_that_never_shake_hands_take_no_connection_and_keep_nobody_out() {
    let limits = Limits::default().connections(3).handshakes(4);
    let host = host_with(limits.handshake_timeout(Duration::from_secs(3_600))).await;
    let mut good = Good::on(&host).await;
    let mut silent = VecDeque::new();
    for _ in 0..4 {
        silent.push_back(TcpStream::connect(host.address).await.unwrap());
    }
    eventually("they hold every place", || {
        host.handle.stats().handshakes == 4
    })
    .await;
    good.goes_on(&host).await;

    // Who comes next takes the place of the oldest, which is hung up on and counted.
    let next = Good::on(&host).await;
    let mut oldest = silent.pop_front().unwrap();
    let _ = within_deadline(oldest.read_to_end(&mut Vec::new())).await;
    let stats = host.handle.stats();
    assert_eq!((stats.handshakes, stats.connections), (3, 2));
    assert_eq!(
        (stats.refused_handshakes, stats.refused_connections),
        (1, 0)
    );

    // However many they are.
    for _ in 0..50 {
        silent.push_back(TcpStream::connect(host.address).await.unwrap());
    }
    eventually("the oldest have given way", || {
        host.handle.stats().refused_handshakes == 50
    })
    .await;
    assert_eq!(host.handle.stats().handshakes, 4);
    good.goes_on(&host).await;
    next.client.refresh(&next.session.id).await.unwrap();
}

#[tokio::test]
async fn a_thousand_streams_on_one_connection_are_too_many() {
    let host = host_with(Limits::default().streams_per_connection(64)).await;
    let mut good = Good::on(&host).await;
    let (_, session) = host.session().await;
    let mut peer = Peer::speak(&host).await;
    let mut requests = Vec::new();
    for number in 0..1_000 {
        let stream = 2 * number + 1;
        if number < 64 {
            peer::request(&mut requests, stream, STREAM, &session.id);
        } else {
            // What follows on a stream that was refused would be an error of its own.
            let flags = peer::END_HEADERS | peer::END_STREAM;
            let block = peer::headers(STREAM, &session.id);
            peer::frame(&mut requests, peer::HEADERS, flags, stream, &block);
        }
    }
    assert!(peer.send(&requests).await);
    let (mut refused, mut begun) = (0, 0);
    while refused + begun < 1_000 {
        let frame = peer.next().await.expect("the connection stays");
        match frame.kind {
            peer::RST_STREAM => {
                assert_eq!(peer::code(&frame.payload), peer::REFUSED_STREAM);
                refused += 1;
            }
            peer::HEADERS => begun += 1,
            _ => {}
        }
    }
    assert_eq!((refused, begun), (936, 64));
    assert_eq!(host.handle.stats().streams, 65);
    good.goes_on(&host).await;
    drop(peer);
    eventually("they are gone", || host.handle.stats().streams == 1).await;
}

#[tokio::test]
async fn streams_without_end_are_refused_where_no_connection_has_more() {
    let host = host_with(Limits::default().streams(10)).await;
    let mut good = Good::on(&host).await;
    let (mut begun, mut refused) = (Vec::new(), 0);
    for _ in 0..20 {
        let (client, session) = host.session().await;
        match client.stream("x", &session.id).await {
            Ok(events) => begun.push(events),
            Err(status) => {
                let text = "too many config streams (at most 10)";
                assert_eq!((status.code(), status.message()), (Code::Unavailable, text));
                refused += 1;
            }
        }
    }
    assert_eq!((begun.len(), refused), (9, 11));
    good.goes_on(&host).await;
    drop(begun);
    eventually("there is room again", || host.handle.stats().streams == 1).await;
    Good::on(&host).await.goes_on(&host).await;
}

#[tokio::test]
async fn requests_that_do_not_end_are_told_so() {
    let limits = Limits::default().request_timeout(Duration::from_millis(400));
    let host = host_with(limits).await;
    let mut good = Good::on(&host).await;
    let tls = host.pem.identity().client_config();
    let channel = host.channel(tls).await.unwrap();
    let ask = async |path: &str, said: &'static [u8]| {
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("authorization", BEARER)
            .header("session_id", &good.session.id)
            .body(unended(said))
            .unwrap();
        let response = within_deadline(channel.clone().oneshot(request)).await;
        response.unwrap().into_parts()
    };
    // Nothing, the start of a message, and one after which there might be more: a question to reflection, nothing to others.
    let begun = [&[][..], &[0, 0, 0, 0, 9, 10], &[0, 0, 0, 0, 2, 0x3a, 0]];
    let cases = [STREAM, REFRESH, HOSTNAME, HEALTH, REFLECTION]
        .into_iter()
        .flat_map(|path| begun.map(|said| (path, said)))
        // One message is all that a stream of events needs.
        .filter(|case| *case != (STREAM, begun[2]));
    join_all(cases.map(async |(path, said)| {
        let (head, body) = ask(path, said).await;
        let body = within_deadline(body.collect()).await.unwrap();
        let status = Status::from_header_map(body.trailers().unwrap_or(&head.headers));
        let status = status.expect(path);
        assert_eq!(status.code(), Code::DeadlineExceeded, "{path} {said:?}");
        assert_eq!(status.message(), "the request did not end within 400ms");
    }))
    .await;
    let (head, _stream) = ask(STREAM, begun[2]).await;
    assert!(!head.headers.contains_key("grpc-status"));
    good.goes_on(&host).await;
}

#[tokio::test]
async fn replies_that_are_not_read_hold_so_much_in_all_and_no_more() {
    let host = Host::start().await;
    host.set("large", "x".repeat(2_000_000));
    let mut good = Good::on(&host).await;
    // No window, so that none of it leaves; and twice as much as there is room for.
    let mut peers = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::speak_with_window(&host, 0).await;
        let mut bytes = Vec::new();
        for number in 0..8 {
            peer::request(&mut bytes, 2 * number + 1, LIST, "");
        }
        assert!(peer.send(&bytes).await);
        peers.push(peer);
    }
    let mut ends: FuturesUnordered<_> = peers
        .iter_mut()
        .map(async |peer| while peer.next().await.is_some() {})
        .collect();
    for _ in 0..2 {
        ends.next().await.unwrap();
    }
    good.goes_on(&host).await;
    let settings = good.client.list("").await.unwrap();
    assert_eq!(settings.settings.len(), 2);
}

#[tokio::test]
async fn requests_that_do_not_end_hold_so_much_in_all_and_no_more() {
    let host = Host::start().await;
    let mut good = Good::on(&host).await;
    // Each begins a message of almost a megabyte, which its last bytes do not follow.
    let mut said = vec![0, 0, 15, 0, 0];
    said.resize(950_000, 0);
    let said: &'static [u8] = said.leak();
    let tls = host.pem.identity().client_config();
    let channel = host.channel(tls).await.unwrap();
    let asked = join_all((0..40).map(async |_| {
        let request = http::Request::post(format!("http://localhost{LIST}"))
            .header("content-type", "application/grpc")
            .header("authorization", BEARER)
            .body(unended(said))
            .unwrap();
        within_deadline(channel.clone().oneshot(request)).await
    }));
    let asked = asked.await;
    let hung_up = asked.iter().filter(|asked| asked.is_err()).count();
    assert!(hung_up > 30, "{hung_up}");
    good.goes_on(&host).await;
}

/// A request body of which nothing comes after `said`, not even the end.
fn unended(said: &'static [u8]) -> Body {
    let said = (!said.is_empty()).then(|| Ok::<_, Status>(Frame::data(Bytes::from_static(said))));
    Body::new(StreamBody::new(stream::iter(said).chain(stream::pending())))
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let host = Host::start().await;
    let mut good = Good::on(&host).await;
    let tls = host.pem.identity().client_config();
    let mut client = AgentClient::new(host.channel(tls).await.unwrap());
    let call = |size: usize| {
        let mut message = Request::new(HostnameRequest {});
        let metadata = message.metadata_mut();
        metadata.insert("x", "x".repeat(size).parse().unwrap());
        message
    };
    client.get_hostname(call(12_000)).await.unwrap();
    // HTTP's own status: no call has begun that could have one of gRPC's.
    let (code, text) = told(client.get_hostname(call(20_000)).await);
    assert_eq!(code, Code::Unknown, "{text}");
    let mapped = "grpc-status header missing, mapped from HTTP status code 431";
    assert_eq!(text, mapped);
    // The connection is none the worse.
    client.get_hostname(call(0)).await.unwrap();
    good.goes_on(&host).await;
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let host = Host::start().await;
    let mut good = Good::on(&host).await;
    // Headers one after another, one that says it has a megabyte, and frames that add nothing (RFC 7541, 5.1 and 6.2.2).
    let starting = |head: &[u8]| [head, &[b'x'; 16_000][head.len()..]].concat();
    let whole = starting(&[0, 1, b'x', 0x7f, 0xfb, 0x7b]);
    let endless = starting(&[0, 1, b'x', 0x7f, 0x81, 0xff, 0x3f]);
    for (first, next) in [
        (&whole[..], &whole[..]),
        (&endless, &[b'x'; 16_000]),
        (&[], &[]),
    ] {
        let mut peer = Peer::speak(&host).await;
        let headers = peer::headers(STREAM, "x");
        // The one that is too many is the last, so that nothing is left unread, which would take the server's last word along.
        for number in 0..=CONTINUATIONS + 1 {
            let (kind, flags, block) = match number {
                0 => (peer::HEADERS, peer::END_STREAM, &headers[..]),
                1 => (peer::CONTINUATION, 0, first),
                _ => (peer::CONTINUATION, 0, next),
            };
            let mut bytes = Vec::new();
            peer::frame(&mut bytes, kind, flags, 1, block);
            assert!(peer.send(&bytes).await);
        }
        assert_eq!(peer.goodbye().await, Some(peer::ENHANCE_YOUR_CALM));
        assert_eq!(host.handle.stats().streams, 1);
        good.goes_on(&host).await;
    }
}

#[tokio::test]
async fn a_storm_of_resets_is_told_to_calm_down() {
    let host = Host::start().await;
    let mut good = Good::on(&host).await;
    let (_, session) = host.session().await;
    let storm = |resets| {
        let mut storm = Vec::new();
        for number in 0..resets {
            let stream = 2 * number + 1;
            let block = peer::headers(STREAM, &session.id);
            peer::frame(&mut storm, peer::HEADERS, peer::END_HEADERS, stream, &block);
            let cancel = peer::CANCEL.to_be_bytes();
            peer::frame(&mut storm, peer::RST_STREAM, 0, stream, &cancel);
        }
        storm
    };
    // As many at once as may be, and one more.
    for (resets, reason) in [(20, None), (21, Some(peer::ENHANCE_YOUR_CALM))] {
        let mut peer = Peer::speak(&host).await;
        assert_eq!(peer.send_whole(&storm(resets)).await, reason);
    }
    // Who goes on whatever it is told is hung up on.
    let mut peer = Peer::speak(&host).await;
    peer.send(&storm(10_000)).await;
    while peer.next().await.is_some() {}
    eventually("the connections are gone", || {
        let stats = host.handle.stats();
        (stats.streams, stats.connections) == (1, 1)
    })
    .await;
    good.goes_on(&host).await;
}

#[tokio::test]
async fn sessions_without_end_make_room_for_each_other() {
    let sessions = Sessions::default().limit(50);
    let host = Host::start_with(|server| server.sessions(sessions)).await;
    let mut good = Good::on(&host).await;
    let client = host.client().await;
    for number in 0..500 {
        let registration = Registration::new(format!("hostile-{number}"));
        client.register(&registration).await.unwrap();
    }
    assert_eq!(host.handle.stats().sessions, 50);
    good.goes_on(&host).await;
    let _next = Good::on(&host).await;
    // More than a connection may register at once.
    let registration = Registration::new("hostile");
    let refused = loop {
        if let Err(status) = client.register(&registration).await {
            break status;
        }
    };
    let text = "too many registrations on one connection (at most 100 a second)";
    let refused = (refused.code(), refused.message());
    assert_eq!(refused, (Code::ResourceExhausted, text));
    good.goes_on(&host).await;

    // Nor may one session be large, or one name.
    let registration = Registration::new("x".repeat(10_000));
    let code = told(client.register(&registration).await).0;
    assert_eq!(code, Code::InvalidArgument);
    let name = "x".repeat(10_000);
    let (code, text) = told(client.stream(&name, &good.session.id).await);
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(
        text,
        "subscriber name of 10000 bytes exceeds the limit of 1024"
    );
}

#[tokio::test]
async fn a_refusal_says_no_more_than_headers_hold() {
    let host = Host::start().await;
    let mut good = Good::on(&host).await;
    let client = host.client().await;
    // Each letter takes three in a header.
    for letter in ["x", "\u{1}", "é"] {
        let (code, text) = told(client.get(&letter.repeat(300_000)).await);
        assert_eq!(code, Code::NotFound);
        let start = format!("no setting has the key '{letter}{letter}");
        assert!(text.starts_with(&start), "{text}");
    }
    let (code, text) = told(client.stream("x", &"x".repeat(15_000)).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.starts_with("session_id 'xx"), "{text}");
    // What is of a usual length is said whole, and letter for letter.
    let odd = "50% of 'it', \"%20\", ~ and +";
    let (_, text) = told(client.stream("x", odd).await);
    assert_eq!(
        text,
        format!("session_id '{odd}' not found: {}", support::REGISTER_FIRST)
    );
    let (_, text) = told(client.get("ä\n\t%41\u{0}").await);
    assert_eq!(text, "no setting has the key 'ä\n\t%41\u{0}'");
    let (_, text) = told(client.get(&"x".repeat(1_000)).await);
    assert_eq!(
        text,
        format!("no setting has the key '{}'", "x".repeat(1_000))
    );
    good.goes_on(&host).await;
}

#[tokio::test]
async fn who_floods_and_does_not_read_is_held_back_and_hung_up_on() {
    let host = host_with(Limits::default().stall_timeout(Duration::from_secs(1))).await;
    let mut good = Good::on(&host).await;
    let mut pings = Vec::new();
    let mut settings = Vec::new();
    for _ in 0..1_000 {
        peer::frame(&mut pings, peer::PING, 0, 0, &[7; 8]);
        peer::frame(&mut settings, peer::SETTINGS, 0, 0, &[]);
    }
    for flood in [pings, settings] {
        let mut peer = Peer::speak(&host).await;
        let mut sent = 0;
        while peer.send(&flood).await {
            sent += flood.len();
            // Each of these asks for an answer that is as long; sockets hold some megabytes.
            assert!(sent < 128 * 1024 * 1024, "{sent} bytes, and no end");
        }
        eventually("it is gone", || host.handle.stats().connections == 1).await;
        good.goes_on(&host).await;
    }
}

#[tokio::test]
async fn a_request_in_pieces_without_end_that_nobody_takes_is_told_to_calm_down() {
    let host = Host::start().await;
    let mut good = Good::on(&host).await;
    for piece in [&[][..], &[0]] {
        // No window for the first answer, so nobody looks for the next question.
        let mut peer = Peer::speak_with_window(&host, 0).await;
        let mut bytes = Vec::new();
        let block = peer::headers(REFLECTION, "");
        peer::frame(&mut bytes, peer::HEADERS, peer::END_HEADERS, 1, &block);
        peer::frame(&mut bytes, peer::DATA, 0, 1, &[0, 0, 0, 0, 2, 0x3a, 0]);
        assert_eq!(peer.send_whole(&bytes).await, None);
        // What holds next to nothing is no less of a burden: each is kept for itself.
        let mut pieces = Vec::new();
        for _ in 0..1_000 {
            peer::frame(&mut pieces, peer::DATA, 0, 1, piece);
        }
        let mut sent = 0;
        let told = loop {
            assert!(sent < 10, "{sent} thousand pieces, and no end");
            if let Some(reason) = peer.send_whole(&pieces).await {
                break reason;
            }
            sent += 1;
        };
        assert_eq!(told, peer::ENHANCE_YOUR_CALM);
        eventually("it is gone", || host.handle.stats().connections == 1).await;
        good.goes_on(&host).await;
    }
}

#[tokio::test]
async fn nobody_makes_the_server_remember_more_headers_than_by_default() {
    let host = Host::start().await;
    let mut peer = Peer::speak_with_header_table(&host, u32::MAX).await;
    let mut bytes = Vec::new();
    peer::request(&mut bytes, 1, HOSTNAME, "");
    assert!(peer.send(&bytes).await);
    let head = loop {
        let frame = peer.next().await.expect("an answer");
        if frame.kind == peer::HEADERS {
            break frame.payload;
        }
    };
    // RFC 7541, 6.3: a larger table would be announced first.
    assert_ne!(head[0] & 0b1110_0000, 0b0010_0000, "{head:?}");
}

#[tokio::test]
async fn a_server_shuts_down_in_time_whatever_its_peers_are_at() {
    let limits = Limits::default().handshake_timeout(Duration::from_secs(3_600));
    let host = host_with(limits.request_timeout(Duration::from_secs(3_600))).await;
    host.set("large", "x".repeat(100_000));
    let (_, session) = host.session().await;
    let mut good = Good::on(&host).await;

    let stranger = TcpStream::connect(host.address).await.unwrap();
    let unspoken = Peer::connect(&host).await;
    let idle = Peer::speak(&host).await;
    let mut peers = Vec::new();
    for (window, path) in [(0, STREAM), (1, STREAM), (0, HEALTH), (0, REFLECTION)] {
        let mut peer = Peer::speak_with_window(&host, window).await;
        let mut bytes = Vec::new();
        peer::request(&mut bytes, 1, path, &session.id);
        assert!(peer.send(&bytes).await);
        peers.push(peer);
    }
    // A request that does not end, and headers that do not.
    for flags in [peer::END_HEADERS, 0] {
        let mut peer = Peer::speak(&host).await;
        let mut bytes = Vec::new();
        let block = peer::headers(STREAM, &session.id);
        peer::frame(&mut bytes, peer::HEADERS, flags, 1, &block);
        assert!(peer.send(&bytes).await);
        peers.push(peer);
    }
    eventually("all are at it", || {
        let stats = host.handle.stats();
        (stats.handshakes, stats.streams) == (2, 3)
    })
    .await;

    within_deadline(host.handle.shutdown(Duration::from_millis(300))).await;
    let end = expect_end(&mut good.events).await;
    assert_eq!(end.code(), Code::Unavailable);
    for mut peer in peers.into_iter().chain([unspoken, idle]) {
        while peer.next().await.is_some() {}
    }
    drop(stranger);
}
