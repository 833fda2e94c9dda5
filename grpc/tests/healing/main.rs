//! Whatever happens to a consumer, it comes back by itself: a test per cause.

mod credentials;
#[path = "../support/proxy.rs"]
mod proxy;
mod scripted;
mod silence;
mod slow;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use configstream_engine::Engine;
use configstream_engine::settings::{Change, Key, Settings, Source};
use configstream_grpc::consumer::{
    Access, Consumer, ConsumerBuilder, ConsumerState, Disconnection, States,
};
use configstream_grpc::{
    Address, Connector, Limits, Registration, Server, ServerHandle, StreamError, Token,
};
use metrics_util::CompositeKey;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use proxy::{Half, Mode, Proxy};
use scripted::{End, Script, Scripted, snapshot, update};
use support::{Host, Pem, eventually, within_deadline};
use tokio::net::TcpListener;
use tonic::{Code, Status};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(1);

fn builder(access: impl Into<Access>) -> ConsumerBuilder {
    Consumer::builder(access, Registration::new("replica")).backoff(SHORT, 20 * SHORT)
}

/// The cause of the next time that it is not ready.
async fn next_cause(states: &mut States) -> Disconnection {
    loop {
        let state = within_deadline(states.next()).await.unwrap();
        if let Some(cause) = state.cause() {
            return cause.clone();
        }
    }
}

async fn until_value(consumer: &Consumer, value: i64) {
    eventually("the replica has the value", || {
        consumer.get::<i64>("a").is_ok_and(|found| found == value)
    })
    .await;
}

fn publish(engine: &Engine<Settings>, value: i64) {
    let change = Change::set(Source::File, Key::parse("a").unwrap(), value);
    engine.publish(&change).unwrap();
}

async fn serve(
    engine: &Engine<Settings>,
    address: std::net::SocketAddr,
    pem: &Pem,
    token: &Token,
) -> ServerHandle<Settings> {
    let listener = TcpListener::bind(address).await.unwrap();
    Server::builder(engine.clone(), pem.identity(), token.clone())
        .build()
        .serve_tcp(listener)
}

fn hang(events: impl Into<Vec<configstream_proto::datadog::model::v1::ConfigEvent>>) -> Script {
    Script {
        events: events.into(),
        end: End::Hang,
    }
}

#[tokio::test]
async fn a_server_that_restarts() {
    let host = Host::start().await;
    publish(&host.engine, 1);
    let consumer = builder(host.connector()).start();
    consumer.wait_ready(LONG).await.unwrap();
    let mut states = consumer.states();
    within_deadline(host.handle.shutdown(LONG)).await;
    publish(&host.engine, 2);
    let cause = next_cause(&mut states).await;
    assert!(matches!(cause, Disconnection::Stream(_)), "{cause}");
    // The new server knows no sessions.
    let handle = serve(&host.engine, host.address, &host.pem, &host.token).await;
    until_value(&consumer, 2).await;
    assert_eq!(handle.agents().len(), 1);
    publish(&host.engine, 3);
    until_value(&consumer, 3).await;
}

#[tokio::test]
async fn a_session_that_the_stream_finds_lost() {
    let lost = Status::permission_denied("session_id 'session-1' not found");
    let server = Scripted::start([
        Script {
            events: vec![snapshot(1, 1)],
            end: End::With(Some(lost)),
        },
        hang([snapshot(2, 2)]),
    ])
    .await;
    let pause = Duration::from_secs(3600);
    let consumer = builder(server.connector.clone())
        .backoff(pause, pause)
        .start();
    // At once, or it would take an hour.
    until_value(&consumer, 2).await;
    assert_eq!(server.registered(), 2);
}

#[tokio::test]
async fn a_session_that_a_restarted_server_does_not_know_takes_one_connection() {
    let end = |events, end| Script { events, end };
    let gone = Status::unavailable("the server is shutting down");
    let unknown = Status::permission_denied("session_id 'session-1' not found");
    let server = Scripted::start([
        end(vec![snapshot(1, 1)], End::With(Some(gone))),
        end(vec![], End::Refused(unknown)),
        hang([snapshot(2, 2)]),
    ])
    .await;
    let consumer = builder(server.connector.clone()).start();
    until_value(&consumer, 2).await;
    // A handshake is what costs: the second connection is the last.
    assert_eq!((server.connections(), server.registered()), (2, 2));
}

#[tokio::test]
async fn a_session_that_refreshing_finds_lost() {
    let server = Scripted::start([hang([snapshot(1, 1)]), hang([snapshot(2, 2)])]).await;
    server.told.forget.store(2, Ordering::Relaxed);
    let pause = Duration::from_secs(3600);
    let consumer = builder(server.connector.clone())
        .backoff(pause, pause)
        .start();
    until_value(&consumer, 2).await;
    assert_eq!((server.registered(), server.streams()), (2, 2));
}

#[tokio::test]
async fn a_session_that_no_stream_can_be_opened_with() {
    let empty = Status::unauthenticated("session_id cannot be empty");
    let refused = Script {
        events: vec![],
        end: End::Refused(empty),
    };
    let server = Scripted::start([refused, hang([snapshot(1, 1)])]).await;
    // The first cannot even be sent.
    let sessions = ["two\nlines", ""].map(str::to_owned);
    server.told.sessions.lock().unwrap().extend(sessions);
    let consumer = builder(server.connector.clone()).start();
    until_value(&consumer, 1).await;
    assert_eq!((server.registered(), server.streams()), (3, 2));
}

#[tokio::test]
async fn two_sides_that_disagree_about_sessions_do_not_keep_each_other_busy() {
    let refusals = (0..50).map(|_| Script {
        events: vec![],
        end: End::With(Some(Status::permission_denied("no"))),
    });
    let server = Scripted::start(refusals).await;
    let pause = Duration::from_secs(3600);
    let consumer = builder(server.connector.clone())
        .backoff(pause, pause)
        .start();
    let mut states = consumer.states();
    let mut pauses = Vec::new();
    while pauses.len() < 2 {
        if let Some(ConsumerState::Connecting {
            cause: Some(_),
            retry_in,
        }) = states.next().await
        {
            pauses.push(retry_in);
        }
    }
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(pauses[1] >= pause);
    assert_eq!(server.streams(), 2);
}

#[tokio::test]
async fn a_stream_that_ends_with_any_status() {
    let codes = (0..=16).map(Code::from);
    let scripts = codes.clone().enumerate().map(|(number, code)| {
        let number = i32::try_from(number).unwrap() + 1;
        Script {
            events: vec![snapshot(number, number)],
            end: End::With((code != Code::Ok).then(|| Status::new(code, "over"))),
        }
    });
    let server = Scripted::start(scripts.chain([hang([snapshot(100, 100)])])).await;
    let consumer = builder(server.connector.clone()).start();
    until_value(&consumer, 100).await;
    assert_eq!(server.streams(), 18);
    assert!(consumer.state().is_ready());
    // Once, and after the two that tell that the session is lost.
    assert_eq!(server.registered(), 3);
}

#[tokio::test]
async fn a_gap() {
    let server = Scripted::start([
        hang([snapshot(5, 5), update(6, 6, 0), update(8, 8, 0)]),
        hang([snapshot(9, 9)]),
    ])
    .await;
    let consumer = builder(server.connector.clone()).start();
    let mut states = consumer.states();
    let cause = next_cause(&mut states).await;
    assert!(
        matches!(
            cause,
            Disconnection::Stream(StreamError::Discontinuity { .. })
        ),
        "{cause}"
    );
    until_value(&consumer, 9).await;
}

#[tokio::test]
async fn what_is_overtaken_is_dropped_and_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // The test runs on one thread, and so does the consumer.
    let _recording = metrics::set_default_local_recorder(&recorder);
    let server = Scripted::start([
        // An update twice, a snapshot that leads back, and a stream that begins before the last one ended.
        hang([snapshot(5, 5), update(6, 6, 0), update(6, 66, 0)]),
        hang([snapshot(7, 7), snapshot(6, 66)]),
        hang([snapshot(6, 66)]),
        hang([snapshot(8, 8)]),
    ])
    .await;
    let consumer = builder(server.connector.clone()).start();
    consumer.wait_ready(LONG).await.unwrap();
    let mut values = consumer.subscribe_section("a").unwrap();
    let mut last = 0;
    while last < 8 {
        let change = within_deadline(values.next()).await.unwrap();
        let value = change.set[0].value().as_i64().unwrap();
        assert!(value > last && value != 66, "{value} after {last}");
        last = value;
    }
    let counted: Vec<_> = snapshotter.snapshot().into_vec();
    let read = |name: &str| counted_for("replica", &counted, name);
    assert_eq!(read("dropped_stale_updates"), &DebugValue::Counter(3));
    assert_eq!(read("reconnect_count"), &DebugValue::Counter(3));
    assert_eq!(read("last_sequence_id"), &DebugValue::Gauge(8.0.into()));
    let DebugValue::Histogram(times) = read("time_to_first_snapshot_seconds") else {
        panic!("not a histogram")
    };
    assert_eq!(
        times.len(),
        3,
        "of the streams that began with a snapshot of use"
    );
}

type Counted = (
    CompositeKey,
    Option<metrics::Unit>,
    Option<metrics::SharedString>,
    DebugValue,
);

fn counted_for<'a>(consumer: &str, counted: &'a [Counted], name: &str) -> &'a DebugValue {
    let found = counted.iter().find(|(key, ..)| {
        let mut labels = key.key().labels();
        key.key().name() == format!("configstream_consumer.{name}")
            && labels.any(|label| (label.key(), label.value()) == ("consumer", consumer))
    });
    &found.unwrap_or_else(|| panic!("no {name}")).3
}

#[tokio::test]
async fn consumers_of_one_process_are_counted_apart() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let gap = [snapshot(5, 5), update(7, 7, 0)];
    let servers = [
        Scripted::start([hang([snapshot(3, 3)])]).await,
        Scripted::start([hang(gap), hang([snapshot(9, 9)])]).await,
    ];
    let names = ["upstream", "other"];
    let consumers = [0, 1].map(|number| {
        let builder = builder(servers[number].connector.clone());
        builder.name(names[number]).start()
    });
    until_value(&consumers[0], 3).await;
    until_value(&consumers[1], 9).await;
    let counted = snapshotter.snapshot().into_vec();
    for (name, last, reconnects) in [(names[0], 3.0, 0), (names[1], 9.0, 1)] {
        let read = |metric: &str| counted_for(name, &counted, metric);
        assert_eq!(read("last_sequence_id"), &DebugValue::Gauge(last.into()));
        assert_eq!(read("reconnect_count"), &DebugValue::Counter(reconnects));
    }
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_snapshot() {
    let server = Scripted::start([hang([update(1, 1, 0)]), hang([snapshot(2, 2)])]).await;
    let consumer = builder(server.connector.clone()).start();
    let cause = next_cause(&mut consumer.states()).await;
    assert!(
        matches!(cause, Disconnection::Stream(StreamError::NoSnapshot)),
        "{cause}"
    );
    until_value(&consumer, 2).await;
}

#[tokio::test]
async fn a_stream_that_ends_within_a_batch() {
    let server = Scripted::start([
        Script {
            events: vec![snapshot(1, 1), update(2, 2, 1)],
            end: End::With(Some(Status::unavailable("gone"))),
        },
        hang([snapshot(3, 3), update(4, 4, 0)]),
    ])
    .await;
    let consumer = builder(server.connector.clone()).start();
    until_value(&consumer, 4).await;
    assert_eq!(consumer.head().unwrap().sequence().get(), 4);
}

#[tokio::test]
async fn a_batch_that_does_not_count_down() {
    let server = Scripted::start([
        hang([snapshot(1, 1), update(2, 2, 2), update(3, 3, 0)]),
        hang([snapshot(4, 4)]),
    ])
    .await;
    let consumer = builder(server.connector.clone()).start();
    let cause = next_cause(&mut consumer.states()).await;
    assert!(matches!(cause, Disconnection::Batch { .. }), "{cause}");
    until_value(&consumer, 4).await;
}

#[tokio::test]
async fn a_setting_that_is_none() {
    let server = Scripted::start([
        hang([
            snapshot(1, 1),
            configstream_proto::datadog::model::v1::ConfigEvent { event: None },
        ]),
        hang([snapshot(2, 2)]),
    ])
    .await;
    let consumer = builder(server.connector.clone()).start();
    until_value(&consumer, 2).await;
}

#[tokio::test]
async fn another_epoch() {
    let host = Host::start().await;
    publish(&host.engine, 1);
    let consumer = builder(host.connector()).start();
    consumer.wait_ready(LONG).await.unwrap();
    let head = host.engine.head();
    let next = head.epoch().next();
    let low = configstream_engine::Sequence::new(0);
    host.engine.adopt(head.state().clone(), next, low).unwrap();
    publish(&host.engine, 2);
    until_value(&consumer, 2).await;
    assert_eq!(consumer.head().unwrap().epoch(), next);
}

#[tokio::test]
async fn a_connection_that_is_cut_or_half_closed() {
    let host = Host::start().await;
    publish(&host.engine, 0);
    let proxy = Proxy::start(host.address).await;
    let address = Address::Tcp(proxy.address.to_string());
    let connector = Connector::new(address, &host.pem.identity(), host.token.clone());
    let consumer = builder(connector).start();
    consumer.wait_ready(LONG).await.unwrap();
    let faults: [&dyn Fn(); 3] = [
        &|| proxy.cut(),
        &|| proxy.half_close(Half::ToClient),
        &|| proxy.half_close(Half::ToServer),
    ];
    for (fault, value) in faults.into_iter().zip(1..) {
        let mut states = consumer.states();
        fault();
        publish(&host.engine, value);
        next_cause(&mut states).await;
        until_value(&consumer, value).await;
        consumer.wait_ready(LONG).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_is_dead_without_a_word() {
    let short = Duration::from_millis(100);
    // An answer may take as long as a stall.
    let limits = Limits::default()
        .keepalive(short, short)
        .stall_timeout(short);
    let host = Host::start_with(|server| server.limits(limits)).await;
    publish(&host.engine, 1);
    let proxy = Proxy::start(host.address).await;
    let address = Address::Tcp(proxy.address.to_string());
    let connector = Connector::new(address, &host.pem.identity(), host.token.clone())
        .connect_timeout(2 * short)
        .keepalive(short, short);
    let consumer = builder(connector).start();
    consumer.wait_ready(LONG).await.unwrap();
    let mut states = consumer.states();
    proxy.set(Mode::Freeze);
    publish(&host.engine, 2);
    next_cause(&mut states).await;
    // The server finds out by itself too.
    eventually("the server lets go", || host.handle.stats().streams == 0).await;
    proxy.set(Mode::Pass);
    until_value(&consumer, 2).await;
}

#[tokio::test]
async fn pauses_start_over_only_after_a_stream_that_lasted() {
    let broken = |sequence| Script {
        events: vec![snapshot(sequence, sequence)],
        end: End::With(Some(Status::unavailable("gone"))),
    };
    for (healthy_after, starts_over) in [(Duration::ZERO, true), (LONG, false)] {
        let server = Scripted::start((1..9).map(broken).chain([hang([snapshot(9, 9)])])).await;
        let consumer = builder(server.connector.clone())
            .backoff(SHORT, 64 * SHORT)
            .healthy_after(healthy_after)
            .start();
        let mut states = consumer.states();
        let mut longest = Duration::ZERO;
        while consumer.get::<i64>("a").ok() != Some(9) {
            if let Some(ConsumerState::Stale { retry_in, .. }) =
                within_deadline(states.next()).await
            {
                longest = longest.max(retry_in);
            }
        }
        // With jitter, the shortest is less than twice as long; the eighth is the longest.
        assert_eq!(longest <= 2 * SHORT, starts_over, "{longest:?}");
        assert_eq!(longest >= 64 * SHORT, !starts_over, "{longest:?}");
    }
}
