//! What is encoded how often: each thing once, however many streams send it.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use configstream_engine::settings::{Change, Key, Source};
use support::{Host, eventually, expect_snapshot, expect_update, raw, within_deadline};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 10;
const STREAMS_EACH: usize = 100;
const UPDATES: usize = 100;
const SETTINGS: usize = 350;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_cost_one_snapshot_and_one_encoding_per_update() {
    let host = Host::start().await;
    let key = |number: usize| Key::parse(&format!("section.key{number}")).unwrap();
    let settings: Vec<_> = (0..SETTINGS)
        .map(|number| Change::set(Source::File, key(number), "a value of a usual length"))
        .collect();
    host.engine.publish_batch(&settings).unwrap();

    let everybody = Arc::new(Barrier::new(CONNECTIONS * STREAMS_EACH));
    let mut readers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (_, session) = host.session().await;
        let tls = host.pem.identity().client_config();
        let channel = host.channel(tls).await.unwrap();
        for _ in 0..STREAMS_EACH {
            let (channel, session, everybody) =
                (channel.clone(), session.id.clone(), everybody.clone());
            readers.spawn(async move {
                // All at once.
                everybody.wait().await;
                let mut events = raw::stream(channel, &session).await;
                let mut seen = Vec::with_capacity(1 + UPDATES);
                for _ in 0..=UPDATES {
                    seen.push(events.next().await);
                }
                seen
            });
        }
    }
    eventually("all have a snapshot", || {
        let stats = host.handle.stats();
        stats.streams == CONNECTIONS * STREAMS_EACH && stats.caught_up
    })
    .await;
    let stats = host.handle.stats();
    assert_eq!(stats.snapshots_encoded, 1, "at most 3 are allowed");
    assert_eq!(stats.settings_encoded, SETTINGS as u64);

    for number in 0..UPDATES {
        host.set(key(number).as_str(), "another value");
    }
    let mut first: Option<Vec<Bytes>> = None;
    while let Some(seen) = within_deadline(readers.join_next()).await {
        let seen = seen.unwrap();
        assert_eq!(first.get_or_insert_with(|| seen.clone()), &seen);
    }
    let stats = host.handle.stats();
    assert_eq!(stats.updates_encoded, UPDATES as u64);
    assert_eq!(stats.snapshots_encoded, 1);
    assert_eq!(stats.settings_encoded, (SETTINGS + UPDATES) as u64);
}

#[tokio::test]
async fn a_setting_is_encoded_once_in_its_life() {
    let host = Host::start().await;
    let key = Key::parse("a").unwrap();
    host.set("a", "file");
    host.set("b", "file");
    let (mut events, _) = host.stream().await;
    assert_eq!(host.handle.stats().settings_encoded, 2);

    // Covered by a higher layer and revealed again, it is what it was.
    let covered = Change::set(Source::Cli, key.clone(), "cli");
    host.engine.publish(&covered).unwrap();
    expect_update(&mut events).await;
    host.engine
        .publish(&Change::unset(Source::Cli, key))
        .unwrap();
    expect_update(&mut events).await;
    assert_eq!(host.handle.stats().settings_encoded, 3);

    // New snapshots are made of what was encoded before.
    for _ in 0..3 {
        drop(host.stream().await);
    }
    let gone = Change::unset(Source::File, Key::parse("b").unwrap());
    host.engine.publish(&gone).unwrap();
    expect_snapshot(&mut events).await;
    let stats = host.handle.stats();
    assert_eq!((stats.snapshots_encoded, stats.settings_encoded), (3, 3));
}

#[tokio::test]
async fn a_write_that_streams_nothing_encodes_nothing() {
    let host = Host::start().await;
    host.set("a", 1);
    drop(host.stream().await);
    let before = host.handle.stats();
    // Shadowed: the head is another version, and says the same.
    let shadowed = Change::set(Source::Default, Key::parse("a").unwrap(), 2);
    host.engine.publish(&shadowed).unwrap();
    host.set("a", 1);
    drop(host.stream().await);
    let after = host.handle.stats();
    assert_eq!(after.snapshots_encoded, before.snapshots_encoded);
    assert_eq!(after.settings_encoded, before.settings_encoded);
}
