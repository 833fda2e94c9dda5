//! Links that are slow, and proxies that send connections away: nothing that is wrong with a
//! stream.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use configstream_engine::settings::{Change, Key, Source};
use configstream_grpc::consumer::States;
use configstream_grpc::{Address, Connector};

use crate::proxy::{Mode, Proxy};
use crate::scripted::{Scripted, snapshot};
use crate::support::{Host, eventually};
use crate::{LONG, builder, hang, next_cause};

const LIMIT: Duration = Duration::from_secs(2);
const SNAPSHOT_BYTES: usize = 4 << 20;
/// For at most 64 KiB, so that the snapshot takes more than three times the limit.
const DELAY: Duration = Duration::from_millis(100);

/// A host with a snapshot of `SNAPSHOT_BYTES`, and a way to it.
async fn large() -> (Host, Proxy, Connector) {
    let host = Host::start().await;
    let key = Key::parse("large").unwrap();
    let text = "x".repeat(SNAPSHOT_BYTES);
    let change = Change::set(Source::File, key, text.as_str());
    host.engine.publish(&change).unwrap();
    let proxy = Proxy::start(host.address).await;
    let address = Address::Tcp(proxy.address.to_string());
    let connector = Connector::new(address, &host.pem.identity(), host.token.clone());
    (host, proxy, connector)
}

fn causes(states: &mut States) -> Vec<String> {
    std::iter::from_fn(|| states.next_timeout(Duration::ZERO).ok())
        .filter_map(|state| Some(state.cause()?.to_string()))
        .collect()
}

#[tokio::test]
async fn a_snapshot_whose_bytes_keep_arriving_may_take_longer_than_the_answer_timeout() {
    let (host, proxy, connector) = large().await;
    proxy.set(Mode::Delay(DELAY));
    let begun = Instant::now();
    let consumer = builder(connector).answer_timeout(LIMIT).start();
    let ready = consumer.wait_ready(3 * LONG).await;
    ready.expect("bytes keep arriving");
    assert!(begun.elapsed() > 2 * LIMIT, "the link is not slow");
    assert_eq!(host.handle.agents().len(), 1, "one attempt is enough");
}

#[tokio::test]
async fn a_snapshot_whose_bytes_stop_is_given_up_and_comes_over_another_connection() {
    let (_host, proxy, connector) = large().await;
    proxy.set(Mode::Delay(DELAY));
    let consumer = builder(connector).answer_timeout(LIMIT).start();
    let mut states = consumer.states();
    let part = SNAPSHOT_BYTES as u64 / 8;
    eventually("a part is there", || proxy.bytes_to_clients() > part).await;
    proxy.set(Mode::Freeze);
    let cause = next_cause(&mut states).await.to_string();
    let expected = "the server is silent: no first snapshot within 2s";
    assert_eq!(cause, expected);
    proxy.set(Mode::Pass);
    consumer.wait_ready(LONG).await.unwrap();
}

#[tokio::test]
async fn a_goaway_leaves_the_stream_alone_and_the_session_is_refreshed_over_another_connection() {
    let server = Scripted::start([hang([snapshot(1, 1)])]).await;
    let consumer = builder(server.connector.clone()).start();
    consumer.wait_ready(LONG).await.unwrap();
    let mut states = consumer.states();
    for count in 1..=2 {
        let refreshed = || server.told.refreshed.load(Ordering::Relaxed);
        let before = refreshed();
        server.told.go_away.send_modify(|count| *count += 1);
        eventually("it is refreshed", || refreshed() > before + 1).await;
        assert_eq!(server.connections(), 1 + count);
    }
    assert_eq!(causes(&mut states), [""; 0]);
    assert_eq!((server.registered(), server.streams()), (1, 1));
}

#[tokio::test]
async fn a_refresh_that_one_connection_refuses_or_swallows_is_tried_over_another() {
    let server = Scripted::start([hang([snapshot(1, 1)])]).await;
    let consumer = builder(server.connector.clone())
        .answer_timeout(Duration::from_millis(500))
        .start();
    consumer.wait_ready(LONG).await.unwrap();
    let mut states = consumer.states();
    for counter in [&server.told.forget, &server.told.ignore_refreshes] {
        let refreshed = || server.told.refreshed.load(Ordering::Relaxed);
        let before = refreshed();
        counter.store(1, Ordering::Relaxed);
        eventually("it is refreshed", || {
            counter.load(Ordering::Relaxed) == 0 && refreshed() > before
        })
        .await;
    }
    assert_eq!(causes(&mut states), [""; 0]);
    assert_eq!((server.registered(), server.streams()), (1, 1));
}
