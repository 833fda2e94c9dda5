//! Metrics and log lines, by their names.

mod support;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use configstream_proto::datadog::remoteagent::v1::remote_agent_client::RemoteAgentClient;
use configstream_proto::datadog::remoteagent::v1::{Event, ReportRemoteAgentEventRequest};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use support::{BEARER, Host, eventually, expect_snapshot, expect_update, request, within_deadline};
use tokio::io::AsyncWriteExt;
use tracing_subscriber::fmt::MakeWriter;

#[tokio::test]
async fn what_happens_is_counted_and_logged_under_the_documented_names() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let log = Log::default();
    let _logging = log.install();
    let host = {
        let _recording = metrics::set_default_local_recorder(&recorder);
        Host::start().await
    };
    let mut totals = BTreeMap::new();
    let mut read = move |name: &str| {
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            // The recorder starts over at each look.
            let moved = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(_) => continue,
            };
            *totals.entry(key.key().name().to_owned()).or_insert(0.0) += moved;
        }
        totals.get(name).copied()
    };
    for name in [
        "subscribers",
        "snapshots_sent",
        "updates_sent",
        "discontinuities",
        "dropped_updates",
    ] {
        assert_eq!(read(&format!("configstream.{name}")), Some(0.0), "{name}");
    }

    let (mut events, _) = host.narrow_stream("slow").await;
    expect_snapshot(&mut events).await;
    host.set("a", 1);
    expect_update(&mut events).await;
    assert_eq!(read("configstream.subscribers"), Some(1.0));
    assert_eq!(read("configstream.snapshots_sent"), Some(1.0));
    assert_eq!(read("configstream.updates_sent"), Some(1.0));
    assert_eq!(read("configstream.discontinuities"), Some(0.0));

    let mut last = 0;
    eventually("the stream lags", || {
        last = host.set("filler", format!("{last}{}", "x".repeat(30_000)));
        host.handle.agents()[0].streams[0].figures.lagging
    })
    .await;
    while within_deadline(events.next())
        .await
        .unwrap()
        .sequence()
        .get()
        < last
    {}
    let figures = host.handle.agents()[0].streams[0].figures.clone();
    assert!(figures.dropped > 0);
    let resyncs = (figures.snapshots - 1) as f64;
    assert_eq!(read("configstream.discontinuities"), Some(resyncs));
    assert_eq!(
        read("configstream.snapshots_sent"),
        Some(figures.snapshots as f64)
    );
    assert_eq!(
        read("configstream.updates_sent"),
        Some(figures.delivered as f64)
    );
    assert_eq!(
        read("configstream.dropped_updates"),
        Some(figures.dropped as f64)
    );

    drop(events);
    eventually("the stream is gone", || host.handle.stats().streams == 0).await;
    assert_eq!(read("configstream.subscribers"), Some(0.0));

    let log = log.text();
    for (line, times) in [
        ("Config stream authorized for remote agent 'slow'", 1.0),
        ("New subscriber 'slow' joining the config stream", 1.0),
        ("Discontinuity detected for subscriber 'slow'", resyncs),
        ("Dropping config update for subscriber 'slow'", resyncs),
    ] {
        assert_eq!(log.matches(line).count() as f64, times, "{line} in\n{log}");
    }
    // Once per lag, with the count.
    let counts = log.split("Dropping config update for subscriber 'slow': ");
    let dropped: u64 = counts
        .skip(1)
        .map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(dropped, figures.dropped);
}

#[tokio::test]
async fn a_refused_handshake_is_counted_and_logged() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let log = Log::default();
    let _logging = log.install();
    let host = {
        let _recording = metrics::set_default_local_recorder(&recorder);
        Host::start().await
    };
    let mut stranger = tokio::net::TcpStream::connect(host.address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    eventually("it is refused", || {
        host.handle.stats().refused_handshakes == 1
    })
    .await;
    let counted = snapshotter.snapshot().into_vec().into_iter().any(|entry| {
        entry.0.key().name() == "configstream.refused_handshakes"
            && matches!(entry.3, DebugValue::Counter(1))
    });
    assert!(counted);
    eventually("it is logged", || {
        log.text().contains("Refused a handshake: ")
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_strangers_does_not_flood_the_log() {
    let log = Log::default();
    let _logging = log.install();
    let host = Host::start().await;
    let begun = Instant::now();
    for _ in 0..200 {
        let mut stranger = tokio::net::TcpStream::connect(host.address).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    }
    eventually("all are refused", || {
        host.handle.stats().refused_handshakes == 200
    })
    .await;
    log.demand_few("Refused a handshake: ", begun);
}

#[tokio::test]
async fn a_flood_of_reports_does_not_flood_the_log() {
    let log = Log::default();
    let _logging = log.install();
    let host = Host::start().await;
    let (_, session) = host.session().await;
    let channel = host.channel(host.pem.identity().client_config()).await;
    let mut remote = RemoteAgentClient::new(channel.unwrap());
    let event = Event {
        message: "all is well".into(),
        details: None,
    };
    let report = ReportRemoteAgentEventRequest {
        session_id: session.id.clone(),
        events: vec![event; 1_000],
    };
    let begun = Instant::now();
    let token = [("authorization", BEARER)];
    let reporting = remote.report_remote_agent_event(request(report, &token));
    reporting.await.unwrap();
    log.demand_few(" reports: all is well", begun);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Writes down what this thread logs: a test runs on one, and so does its server.
    fn install(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Ten lines a second that say so, however long it took, and one at least.
    fn demand_few(&self, what: &str, begun: Instant) {
        let lines = self.text().matches(what).count();
        let most = 10 * (begun.elapsed().as_secs() + 1);
        assert!((1..=most).contains(&(lines as u64)), "{lines} of {most}");
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
