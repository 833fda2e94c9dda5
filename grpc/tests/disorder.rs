//! Peers whose frames come in no order, some right and some wrong, whatever becomes of them.

mod support;

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use configstream_grpc::Limits;
use support::chance::Chance;
use support::peer::{self, Peer};
use support::{Host, eventually, expect_snapshot, expect_update};

const CONNECTIONS: u32 = 300;

const PATHS: [&str; 6] = [
    "/datadog.api.v1.AgentSecure/StreamConfigEvents",
    "/datadog.api.v1.AgentSecure/RefreshRemoteAgent",
    "/datadog.api.v1.Agent/GetHostname",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/configstream.admin.v1.ConfigAdmin/List",
];

/// Some frames, most of which are right, or could be at another time. `next` is the number of the next stream.
fn frames(chance: &mut Chance, session_id: &str, next: &mut u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=chance.below(8) {
        let path = PATHS[chance.below(6) as usize];
        let size = [0, 1, 100, 65_535, 1 << 20, (1 << 31) - 1][chance.below(6) as usize];
        let size = u32::to_be_bytes(size);
        let stream = 2 * chance.below(*next / 2 + 1) + 1;
        let cancel = peer::CANCEL.to_be_bytes();
        let mut frame = |kind, flags, stream, payload: &[u8]| {
            peer::frame(&mut bytes, kind, flags, stream, payload);
        };
        match chance.below(64) {
            0..=15 => {
                peer::request(&mut bytes, *next, path, session_id);
                *next += 2;
            }
            16..=19 => {
                let block = peer::headers(path, session_id);
                frame(peer::HEADERS, peer::END_HEADERS, *next, &block);
                *next += 2;
            }
            20..=35 => frame(peer::RST_STREAM, 0, stream, &cancel),
            36..=39 => frame(peer::DATA, 0, stream, &[0, 0, 0, 0, 2, 0x3a, 0]),
            40 => frame(peer::DATA, peer::END_STREAM, stream, &[]),
            41..=48 => frame(peer::WINDOW_UPDATE, 0, stream, &size),
            49..=52 => frame(peer::WINDOW_UPDATE, 0, 0, &size),
            53..=58 => frame(peer::SETTINGS, 0, 0, &[&[0, 4][..], &size].concat()),
            59..=62 => frame(peer::PING, 0, 0, &[7; 8]),
            _ => {
                let kind = u8::try_from(chance.below(12)).unwrap();
                let payload = vec![0x55; chance.below(20) as usize];
                frame(kind, 0, stream * chance.below(2), &payload);
            }
        }
    }
    bytes
}

#[tokio::test]
async fn nothing_panics_and_nothing_is_left_of_them() {
    let panics = Arc::new(AtomicU64::new(0));
    let counted = panics.clone();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        counted.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    let limits = Limits::default()
        .stall_timeout(Duration::from_millis(500))
        .ring_capacity(4);
    let host = Host::start_with(|server| server.limits(limits)).await;
    host.set("large", "x".repeat(100_000));
    let (client, session) = host.session().await;
    let mut good = client.stream("good", &session.id).await.unwrap();
    expect_snapshot(&mut good).await;
    let mut chance = Chance(11);
    let mut published = 0;
    for _ in 0..CONNECTIONS {
        let mut peer = Peer::speak_with_window(&host, 1 << chance.below(20)).await;
        let mut next = 1;
        for _ in 0..chance.below(30) {
            let frames = frames(&mut chance, &session.id, &mut next);
            if !peer.send(&frames).await {
                break;
            }
            published += 1;
            host.set("small", published);
            expect_update(&mut good).await;
        }
    }
    eventually("only the good one is left", || {
        let stats = host.handle.stats();
        (stats.connections, stats.streams) == (1, 1)
    })
    .await;
    let last = host.set("last", 1);
    assert_eq!(expect_update(&mut good).await.sequence.get(), last);
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}
