//! A hundred streams that stop reading while 200,000 updates pass: what they cost, and how they come back. In a process
//! of its own, whose memory is looked at.

mod support;

use std::collections::BTreeMap;
use std::fs;

use configstream_engine::SubscriptionStats;
use configstream_engine::settings::{Change, Key, Source};
use configstream_grpc::Limits;
use configstream_proto::datadog::model::v1::{ConfigEvent, config_event::Event};
use prost::Message;
use support::gate::Gate;
use support::raw::{self, RawEvents};
use support::{DEFAULT_WINDOW_BYTES, Host, eventually, within_deadline};
use tokio::task::JoinSet;

/// As the documentation of `Limits` states it.
const BOUND_BYTES: u64 = Limits::STALLED_STREAM_BYTES as u64;
const STREAMS: usize = 100;
const UPDATES: usize = 200_000;
const SETTINGS: usize = 350;
/// The largest that HTTP/2 knows.
const HUGE_WINDOW_BYTES: u32 = (1 << 31) - 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_stop_reading_cost_no_more_than_their_bound_and_come_back_by_one_snapshot() {
    let host = Host::start().await;
    let keys: Vec<Key> = (0..SETTINGS)
        .map(|number| Key::parse(&format!("section.key{number}")).unwrap())
        .collect();
    let set = |number: usize, text: String| {
        Change::set(Source::File, keys[number % SETTINGS].clone(), text)
    };
    let all: Vec<_> = (0..SETTINGS)
        .map(|number| set(number, "x".repeat(100)))
        .collect();
    host.engine.publish_batch(&all).unwrap();

    // One half does not take from the stream, the other does not even take from its socket.
    let (gate, mut stalled) = (Gate::default(), Vec::new());
    for number in 0..STREAMS {
        let (_, session) = host.session().await;
        let window = if number % 2 == 0 {
            DEFAULT_WINDOW_BYTES
        } else {
            HUGE_WINDOW_BYTES
        };
        let gate = if number % 2 == 0 {
            Gate::default()
        } else {
            gate.clone()
        };
        let channel = host.gated_channel(&gate, window).await;
        let mut events = raw::stream(channel, &session.id).await;
        assert!(matches!(
            decode(&mut events).await,
            (Event::Snapshot(_), SETTINGS_SEQUENCE)
        ));
        stalled.push(events);
    }
    gate.close();
    let (_, session) = host.session().await;
    let good = raw::stream(
        host.gated_channel(&Gate::default(), HUGE_WINDOW_BYTES)
            .await,
        &session.id,
    )
    .await;
    let good = tokio::spawn(reach(good, (SETTINGS + UPDATES) as u64));

    let before = resident_bytes();
    let engine = host.engine.clone();
    let changes = keys.clone();
    tokio::task::spawn_blocking(move || {
        for number in 0..UPDATES {
            let text = format!("{number:0100}");
            let change = Change::set(Source::File, changes[number % SETTINGS].clone(), text);
            engine.publish(&change).unwrap();
        }
    })
    .await
    .unwrap();
    // The good one was held up by nobody.
    within_deadline(good).await.unwrap();
    let grown = resident_bytes().saturating_sub(before) / STREAMS as u64;
    eprintln!("{} KiB of memory per stalled stream", grown / 1024);
    assert!(grown <= BOUND_BYTES, "{grown} bytes per stream");
    let before = snapshots(&host, |stream| stream.lagging);
    assert_eq!(before.len(), STREAMS);

    gate.open();
    let mut readers = JoinSet::new();
    for events in stalled {
        readers.spawn(reach(events, (SETTINGS + UPDATES) as u64));
    }
    let mut heads = Vec::new();
    while let Some(reached) = within_deadline(readers.join_next()).await {
        heads.push(reached.unwrap().expect("a snapshot"));
    }
    heads.dedup();
    assert_eq!(heads.len(), 1, "all have the same head");
    eventually("the books are closed", || host.handle.stats().caught_up).await;
    let after = snapshots(&host, |stream| before.contains_key(&stream.id));
    let by_one = |(id, count): (&u64, &u64)| before[id] + 1 == *count;
    assert!(after.iter().all(by_one), "{before:?} {after:?}");
}

/// How many snapshots each of some streams was sent, by the number of its subscription.
fn snapshots(host: &Host, wanted: impl Fn(&SubscriptionStats) -> bool) -> BTreeMap<u64, u64> {
    let agents = host.handle.agents();
    let streams = agents.iter().flat_map(|agent| &agent.streams);
    streams
        .map(|stream| &stream.figures)
        .filter(|figures| wanted(figures))
        .map(|figures| (figures.id, figures.snapshots))
        .collect()
}

/// Reads up to `sequence`, checking the order, and gives the last snapshot.
async fn reach(mut events: RawEvents, sequence: u64) -> Option<Vec<u8>> {
    let (mut last, mut reached) = (None, None);
    while reached != Some(sequence) {
        let (event, now) = decode(&mut events).await;
        match event {
            Event::Snapshot(snapshot) => {
                assert!(reached.is_none_or(|reached| now > reached));
                last = Some(snapshot.encode_to_vec());
            }
            Event::Update(_) => assert!(reached.is_none_or(|reached| now == reached + 1)),
        }
        reached = Some(now);
    }
    last
}

async fn decode(events: &mut RawEvents) -> (Event, u64) {
    let event = ConfigEvent::decode(events.next().await)
        .unwrap()
        .event
        .unwrap();
    let sequence = match &event {
        Event::Snapshot(snapshot) => snapshot.sequence_id,
        Event::Update(update) => update.sequence_id,
    };
    (event, u64::try_from(sequence).unwrap())
}

/// What this process holds in memory.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

const SETTINGS_SEQUENCE: u64 = SETTINGS as u64;
