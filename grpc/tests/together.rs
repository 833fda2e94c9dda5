//! Streams of one connection that come, go, stop reading and read on while much is published, each on its own account.

mod support;

use std::sync::Arc;

use configstream_grpc::{Client, Events, Limits, Session};
use support::chance::Chance;
use support::{Host, eventually, expect_snapshot, within_deadline};

const STREAMS: u32 = 24;
const ROUNDS: i64 = 200;

struct Stream {
    name: String,
    events: Events,
    /// Of its first snapshot.
    first: u64,
}

impl Stream {
    async fn open(client: &Client, session: &Session, number: u32) -> Self {
        let name = number.to_string();
        let mut events = client.stream(&name, &session.id).await.unwrap();
        let first = expect_snapshot(&mut events).await.sequence.get();
        Self {
            name,
            events,
            first,
        }
    }

    /// Reads until it has got `sequence`: in order and without a gap, as the client checks.
    async fn reach(&mut self, sequence: u64) {
        let mut reached = self.first;
        while reached < sequence {
            let event = within_deadline(self.events.next()).await.unwrap();
            reached = event.sequence().get();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn each_stream_gets_everything_whatever_becomes_of_the_others() {
    // So little that streams lag often.
    let limits = Limits::default().ring_capacity(8);
    let host = Arc::new(Host::start_with(|server| server.limits(limits)).await);
    let (client, session) = host.session().await;
    let mut opened = 0;
    let mut streams = Vec::new();
    while opened < STREAMS {
        streams.push(Stream::open(&client, &session, opened).await);
        opened += 1;
    }
    let mut chance = Chance(7);
    for round in 0..ROUNDS {
        // From another thread, while streams come and go.
        let (publisher, burst) = (host.clone(), chance.below(30) + 1);
        let publishing = tokio::task::spawn_blocking(move || {
            let keys = (0..burst).map(|key| format!("key{key}"));
            keys.fold(0, |_, key| publisher.set(&key, round))
        });
        for _ in 0..chance.below(4) {
            let place = chance.below(STREAMS) as usize;
            streams[place] = Stream::open(&client, &session, opened).await;
            opened += 1;
        }
        let head = publishing.await.unwrap();
        // A third of them do not read just now.
        for stream in &mut streams {
            if chance.below(3) > 0 {
                stream.reach(head).await;
            }
        }
    }
    let last = host.set("last", 1);
    for stream in &mut streams {
        stream.reach(last).await;
    }

    // What was not sent as an update was counted as dropped, once.
    let reports = || host.handle.agents().remove(0).streams;
    eventually("who has left is gone", || {
        reports().len() == STREAMS as usize
    })
    .await;
    for stream in &streams {
        let reports = reports();
        let report = reports.iter().find(|report| report.name == stream.name);
        let figures = &report.unwrap().figures;
        let accounted = stream.first + figures.delivered + figures.dropped;
        assert_eq!(accounted, last, "{figures:?}");
    }
}

#[tokio::test]
async fn a_publisher_serves_connections_whatever_the_number_of_their_streams() {
    let host = Host::start().await;
    let mut connections = Vec::new();
    for _ in 0..2 {
        let (client, session) = host.session().await;
        let mut streams = Vec::new();
        for number in 0..3 {
            streams.push(Stream::open(&client, &session, number).await);
        }
        connections.push((client, streams));
    }
    assert_eq!(host.engine.stats().subscriptions, 2);
    assert_eq!(host.handle.lags(), [0; 6]);
    let sequence = host.set("key", 1);
    for stream in connections.iter_mut().flat_map(|(_, streams)| streams) {
        stream.reach(sequence).await;
    }
    // With the last of its streams, though it stays.
    let (_client, streams) = connections.remove(0);
    drop(streams);
    eventually("one connection is served", || {
        host.engine.stats().subscriptions == 1
    })
    .await;
    assert_eq!(host.handle.lags(), [0; 3]);
}
