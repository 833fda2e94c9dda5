//! Metrics and log lines, by their names.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use configstream_engine::settings::{Key, Source, Value};
use configstream_engine::{Epoch, Sequence};
use configstream_grpc::{
    AdminBackend, AdminError, Applied, ChangeRequest, Explanation, HostStatus, Limits,
};
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::ConfigStreamRequest;
use configstream_proto::datadog::remoteagent::v1::remote_agent_client::RemoteAgentClient;
use configstream_proto::datadog::remoteagent::v1::{Event, ReportRemoteAgentEventRequest};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use rustls::client::ResolvesClientCert;
use support::log::Log;
use support::peer::Peer;
use support::{
    BEARER, Host, Nobody, Pem, Shows, eventually, expect_snapshot, expect_update, request,
    within_deadline,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tonic::async_trait;

#[tokio::test]
async fn what_happens_is_counted_and_logged_under_the_documented_names() {
    let log = Log::default();
    let _logging = log.install();
    let (host, snapshotter) = recorded(Limits::default()).await;
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
        "refused_handshakes",
        "refused_connections",
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
    let log = Log::default();
    let _logging = log.install();
    let (host, snapshotter) = recorded(Limits::default()).await;
    let mut stranger = tokio::net::TcpStream::connect(host.address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    eventually("it is refused", || {
        host.handle.stats().refused_handshakes == 1
    })
    .await;
    assert!(has_counted_one(
        &snapshotter,
        "configstream.refused_handshakes"
    ));
    let peer = format!("peer={}", stranger.local_addr().unwrap());
    eventually("it is logged, and who it was", || {
        let text = log.text();
        text.lines()
            .any(|line| line.contains("Refused a handshake: ") && line.contains(&peer))
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_gave_way_is_counted_and_logged() {
    let log = Log::default();
    let _logging = log.install();
    let (host, snapshotter) = recorded(Limits::default().connections(1)).await;
    let begun = Instant::now();
    let mut peers = vec![Peer::speak(&host).await];
    eventually("it is there", || host.handle.stats().connections == 1).await;
    peers.push(Peer::speak(&host).await);
    while peers[0].next().await.is_some() {}
    assert!(has_counted_one(
        &snapshotter,
        "configstream.refused_connections"
    ));
    let line = format!(
        "Hung up on a connection for another: there are 1 already peer={}",
        peers[0].address()
    );
    assert!(log.text().contains(&line), "{}", log.text());
    for _ in 0..200 {
        peers.push(Peer::speak(&host).await);
    }
    eventually("all but the newest have given way", || {
        host.handle.stats().refused_connections == 201
    })
    .await;
    log.demand_few("Hung up on a connection for another: ", begun);
    assert_eq!(host.handle.stats().refused_connections, 201);
}

#[tokio::test]
async fn a_client_that_refuses_the_snapshot_for_its_size_leaves_a_trace() {
    let log = Log::default();
    let _logging = log.install();
    let (host, snapshotter) = recorded(Limits::default()).await;
    host.set("large", "x".repeat(5_000_000));
    let (_client, session) = host.session().await;
    let tls = host.pem.identity().client_config();
    // It takes messages of 4 MiB, as all do by default.
    let mut client = AgentSecureClient::new(host.channel(tls).await.unwrap());
    let metadata = [("authorization", BEARER), ("session_id", &session.id)];
    let message = request(ConfigStreamRequest::default(), &metadata);
    let mut events = client
        .stream_config_events(message)
        .await
        .unwrap()
        .into_inner();
    let refused = within_deadline(events.message()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
    drop(events);
    eventually("it is logged", || {
        log.text()
            .contains("Subscriber 'remote' left at its snapshot of 50000")
    })
    .await;
    assert!(has_counted_one(
        &snapshotter,
        "configstream.unwanted_snapshots"
    ));
}

/// A host whose metrics are recorded: handles to them are taken when its server is built.
async fn recorded(limits: Limits) -> (Host, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let host = Host::start_with(|server| server.limits(limits)).await;
    (host, snapshotter)
}

fn has_counted_one(snapshotter: &Snapshotter, name: &str) -> bool {
    let figures = snapshotter.snapshot().into_vec();
    figures.into_iter().any(|(key, _, _, figure)| {
        key.key().name() == name && matches!(figure, DebugValue::Counter(1))
    })
}

#[tokio::test]
async fn whoever_is_not_trusted_is_logged_with_the_reason() {
    type Shown = fn(&Host) -> Arc<dyn ResolvesClientCert>;
    let other = "invalid peer certificate: ApplicationVerificationFailure";
    let strangers: [(Shown, &str); 4] = [
        (|_| Arc::new(Nobody), "peer sent no certificates"),
        (
            |_| Arc::new(Shows::new(&Pem::generate_for("somebody else"))),
            other,
        ),
        (|_| Arc::new(Shows::new(&Pem::generate())), other),
        (
            |host| Arc::new(Shows::new(&host.pem.with_another_key())),
            "invalid peer certificate: BadSignature",
        ),
    ];
    for (shown, reason) in strangers {
        let log = Log::default();
        let _logging = log.install();
        let host = Host::start().await;
        let mut tls = host.pem.identity().client_config();
        tls.client_auth_cert_resolver = shown(&host);
        // It may learn of it at its first read only, and stays until then.
        let _channel = host.channel(tls).await;
        eventually("it is logged", || {
            log.text().contains("Refused a handshake: ")
        })
        .await;
        let text = log.text();
        let line = text
            .lines()
            .find(|line| line.contains("Refused a handshake: "));
        assert!(line.unwrap().contains(reason), "{text}");
    }
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
    let mut report = async |message: String, times: usize| {
        let details = None;
        let event = Event { message, details };
        let report = ReportRemoteAgentEventRequest {
            session_id: session.id.clone(),
            events: vec![event; times],
        };
        let token = [("authorization", BEARER)];
        let reporting = remote.report_remote_agent_event(request(report, &token));
        reporting.await.unwrap();
    };
    // Nor does a large one: what is said of it ends at a letter.
    report("é".repeat(300_000), 1).await;
    assert!(
        log.text()
            .contains(&format!(" reports: {}", "é".repeat(512)))
    );
    assert!(log.text().len() < 10_000);

    let begun = Instant::now();
    report("all is well".into(), 1_000).await;
    log.demand_few(" reports: all is well", begun);
}

#[tokio::test]
async fn a_flood_of_streams_does_not_flood_the_log() {
    let log = Log::default();
    let _logging = log.install();
    let host = Host::start().await;
    let (client, session) = host.session().await;
    let begun = Instant::now();
    for _ in 0..1_000 {
        drop(client.stream("hasty", &session.id).await.unwrap());
    }
    for what in [
        "Config stream authorized for remote agent 'remote'",
        "New subscriber 'hasty' joining the config stream",
    ] {
        log.demand_at_most(300, what, begun);
    }
}

/// Makes every change, but not before it is told to.
struct Slow {
    asked: Arc<Notify>,
    go: Arc<Notify>,
}

#[async_trait]
impl AdminBackend for Slow {
    async fn apply(&self, _: ChangeRequest) -> Result<Applied, AdminError> {
        self.asked.notify_one();
        self.go.notified().await;
        Ok(Applied {
            epoch: Epoch::new(1),
            sequence: Sequence::new(1),
            updates: 1,
            needs_snapshot: false,
            differences: Vec::new(),
            persisted: false,
        })
    }

    async fn explain(&self, _: Key) -> Result<Vec<Explanation>, AdminError> {
        Ok(Vec::new())
    }

    async fn status(&self) -> HostStatus {
        HostStatus::default()
    }
}

#[tokio::test]
async fn a_change_is_logged_though_whoever_made_it_hangs_up() {
    let log = Log::default();
    let _logging = log.install();
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let backend = Arc::new(Slow {
        asked: asked.clone(),
        go: go.clone(),
    });
    let host = Host::start_with(|server| server.admin(backend)).await;
    let client = host.client().await;
    let key = Key::parse("a").unwrap();
    tokio::select! {
        answer = client.set(Source::Cli, &key, &Value::Bool(true), "mallory") => panic!("{answer:?}"),
        () = within_deadline(asked.notified()) => {}
    }
    drop(client);
    eventually("the connection is gone", || {
        host.handle.stats().connections == 0
    })
    .await;
    go.notify_one();
    eventually("the change is logged", || {
        log.text()
            .contains("Configuration change made: set a in cli")
    })
    .await;
    assert!(log.text().contains("mallory"));
}
