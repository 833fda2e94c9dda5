//! A replica of a server's configuration, read in every way there is.

mod support;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use configstream_engine::settings::{Change, Key, Resolved, Settings, Source, Value};
use configstream_engine::{Event, SnapshotReason, Subscription, TryNextError};
use configstream_grpc::consumer::{
    Consumer, ConsumerBuilder, ConsumerState, Disconnection, SectionSubscription, States,
};
use configstream_grpc::{Address, Connector, Registration, Server, ServerHandle, Sessions, Token};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use support::{FakeClock, Host, Pem, eventually, within_deadline};
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(20);

fn builder(host: &Host) -> ConsumerBuilder {
    let short = Duration::from_millis(1);
    Consumer::builder(host.connector(), Registration::new("replica")).backoff(short, 20 * short)
}

async fn ready(host: &Host) -> Consumer {
    let consumer = builder(host).start();
    consumer.wait_ready(LONG).await.unwrap();
    consumer
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

async fn next(subscription: &mut Subscription<Resolved>) -> Event<Resolved> {
    let event = within_deadline(poll_fn(|cx| subscription.poll_next(cx))).await;
    event.expect("the replica lives")
}

fn reached(consumer: &Consumer) -> u64 {
    consumer.head().map_or(0, |head| head.sequence().get())
}

async fn until_sequence(consumer: &Consumer, sequence: u64) {
    eventually("the replica gets there", || reached(consumer) == sequence).await;
}

#[tokio::test]
async fn when_it_is_ready_its_head_is_the_servers() {
    let host = Host::start().await;
    host.set("a.b", 1);
    host.set("a.c", "text");
    let consumer = builder(&host).start();
    let head = consumer.wait_ready(LONG).await.unwrap();
    let server = host.engine.head();
    assert_eq!(head.state(), server.state().resolved());
    assert_eq!(head.sequence(), server.sequence());
    assert_eq!(head.epoch(), server.epoch());
    assert_eq!(&*consumer.origin(), "agent.yaml");
    assert_eq!(host.handle.agents()[0].streams[0].name, "replica");
    let last = host.set("a.b", 2);
    until_sequence(&consumer, last).await;
    assert_eq!(consumer.get::<i64>("a.b").unwrap(), 2);
}

#[tokio::test]
async fn nothing_can_be_read_before_the_first_snapshot() {
    let host = Host::start().await;
    let builder = builder(&host);
    within_deadline(host.handle.shutdown(LONG)).await;
    let consumer = builder.start();
    assert!(matches!(consumer.state(), ConsumerState::Connecting { .. }));
    assert!(consumer.head().is_none());
    let error = consumer.get::<bool>("a").unwrap_err().to_string();
    assert!(
        error.contains("the configuration is not ready: connecting"),
        "{error}"
    );
    consumer.subscribe().unwrap_err();
    consumer.subscribe_section("a").unwrap_err();
    consumer.subscription().unwrap_err();
    let pem = Pem::generate();
    let token = Token::parse(&"a".repeat(64)).unwrap();
    consumer.serve(pem.identity(), token).unwrap_err();
    let mut states = consumer.states();
    while states.next().await.unwrap().cause().is_none() {}
    let error = consumer.wait_ready(Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(error.state().cause(), Some(Disconnection::Connect(_))),
        "{error}"
    );
    assert!(
        error.to_string().contains("cannot connect to 127.0.0.1"),
        "{error}"
    );
}

#[tokio::test]
async fn getters_are_typed_and_say_what_is_wrong() {
    let host = Host::start().await;
    host.set("apm_config.enabled", true);
    host.set("apm_config.rate", 0.5);
    host.set("names", Value::list(["x".into(), "y".into()]).unwrap());
    let consumer = ready(&host).await;
    assert!(consumer.get::<bool>("apm_config.enabled").unwrap());
    assert_eq!(consumer.get::<f64>("apm_config.rate").unwrap(), 0.5);
    assert_eq!(consumer.get::<Vec<String>>("names").unwrap(), ["x", "y"]);
    assert_eq!(
        consumer
            .get::<i64>("apm_config.enabled")
            .unwrap_err()
            .to_string(),
        "'apm_config.enabled' was asked for as integer, but file sets a value of type bool that is none"
    );
    assert_eq!(
        consumer.get::<bool>("apm_config").unwrap_err().to_string(),
        "no setting has the key 'apm_config'"
    );
}

#[tokio::test]
async fn a_subscription_gets_a_snapshot_and_then_each_sequence() {
    let host = Host::start().await;
    let first = host.set("a", 0);
    let consumer = ready(&host).await;
    let mut subscription = consumer.subscribe().unwrap();
    let Event::Snapshot(snapshot) = next(&mut subscription).await else {
        panic!("not a snapshot")
    };
    assert_eq!(snapshot.sequence().get(), first);
    assert_eq!(snapshot.reason(), SnapshotReason::First);
    for value in 1..50 {
        let sequence = host.set("a", value);
        let Event::Update(update) = next(&mut subscription).await else {
            panic!("not an update")
        };
        assert_eq!(update.sequence().get(), sequence);
        assert_eq!(update.setting().value().as_i64(), Some(value));
    }
}

#[tokio::test]
async fn a_batch_is_one_version_here_too() {
    let host = Host::start().await;
    host.set("a", 0);
    let consumer = ready(&host).await;
    let mut versions = consumer.subscribe().unwrap();
    next(&mut versions).await;
    let mut section = consumer.subscribe_section("").unwrap();
    within_deadline(section.next()).await.unwrap();
    for value in 1..20 {
        // What is read is always both or neither.
        let set = |name: &str| Change::set(Source::File, key(name), value);
        host.engine
            .publish_batch(&[set("a"), set("b"), set("c")])
            .unwrap();
        let change = within_deadline(section.next()).await.unwrap();
        assert_eq!(change.set.len(), 3);
        for remaining in [2, 1, 0] {
            let Event::Update(update) = next(&mut versions).await else {
                panic!("not an update")
            };
            assert_eq!(update.batch_remaining(), remaining);
        }
        let state = consumer.head().unwrap().state().clone();
        for name in ["a", "b", "c"] {
            assert_eq!(state.get(name).unwrap().value().as_i64(), Some(value));
        }
    }
}

#[tokio::test]
async fn a_section_sees_its_own_changes_only() {
    let host = Host::start().await;
    host.set("apm_config.enabled", true);
    host.set("log_level", "info");
    let consumer = ready(&host).await;
    let mut section = consumer.subscribe_section("apm_config").unwrap();
    let first = within_deadline(section.next()).await.unwrap();
    assert_eq!(first.set.len(), 1);
    host.set("log_level", "debug");
    let sequence = host.set("apm_config.enabled", false);
    let change = within_deadline(section.next()).await.unwrap();
    assert_eq!((change.sequence.get(), change.set.len()), (sequence, 1));
    assert_eq!(change.set[0].value().as_bool(), Some(false));
    // A key that vanishes travels as a snapshot, and arrives as what it is.
    let unset = Change::unset(Source::File, key("apm_config.enabled"));
    host.engine.publish(&unset).unwrap();
    let change = within_deadline(section.next()).await.unwrap();
    assert_eq!(
        (change.set.len(), change.removed),
        (0, vec![key("apm_config.enabled")])
    );
    let unset = Change::unset(Source::File, key("log_level"));
    let last = host.engine.publish(&unset).unwrap().sequence.get();
    until_sequence(&consumer, last).await;
    assert_eq!(section.try_next(), Err(TryNextError::Empty));
}

#[tokio::test]
async fn a_stalled_subscriber_does_not_stall_the_replica() {
    let host = Host::start().await;
    host.set("a", 0);
    let consumer = builder(&host).ring_capacity(4).start();
    consumer.wait_ready(LONG).await.unwrap();
    let mut stalled = consumer.subscribe().unwrap();
    next(&mut stalled).await;
    for value in 1..=200 {
        let last = host.set("a", value);
        // One by one, so that none is lost on the way and all arrive as updates.
        until_sequence(&consumer, last).await;
    }
    let mut last = None;
    for _ in 0..4 {
        let Event::Update(update) = next(&mut stalled).await else {
            panic!("the ring held the first four")
        };
        last = Some(update.sequence());
    }
    let Event::Snapshot(repair) = next(&mut stalled).await else {
        panic!("not a repair")
    };
    assert_eq!(repair.reason(), SnapshotReason::Lagged);
    assert_eq!(
        repair.missed(),
        repair.sequence().get() - last.unwrap().get()
    );
    assert_eq!(repair.sequence().get(), reached(&consumer));
}

#[tokio::test]
async fn its_states_tell_why_and_since_when() {
    let host = Host::start().await;
    let (address, pem, token) = (host.address, host.pem.clone(), host.token.clone());
    host.set("a", 1);
    let consumer = ready(&host).await;
    let mut states = consumer.states();
    assert!(states.next().await.unwrap().is_ready());
    let before = SystemTime::now();
    let engine = host.engine.clone();
    within_deadline(host.handle.shutdown(LONG)).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let ConsumerState::Stale { cause, since, .. } =
            within_deadline(states.next()).await.unwrap()
        else {
            panic!("not stale: {told:?}")
        };
        assert!(since >= before && since <= SystemTime::now());
        told.push((cause.to_string(), since));
    }
    assert!(
        told.iter().all(|(_, since)| *since == told[0].1),
        "{told:?}"
    );
    assert!(
        told[0].0.contains("the server is shutting down"),
        "{told:?}"
    );
    assert!(told[2].0.contains("cannot connect to"), "{told:?}");
    // What was read can be read on.
    assert_eq!(consumer.get::<i64>("a").unwrap(), 1);
    assert!(consumer.state().to_string().contains("stale for 0 s: "));

    let listener = TcpListener::bind(address).await.unwrap();
    let server = Server::builder(engine, pem.identity(), token).build();
    let handle = server.serve_tcp(listener);
    consumer.wait_ready(LONG).await.unwrap();
    within_deadline(handle.shutdown(LONG)).await;
}

#[tokio::test]
async fn it_refreshes_its_session() {
    let clock = FakeClock::new();
    let sessions = Sessions::default()
        .clock(clock.reader())
        .recommended_refresh_interval(Duration::from_secs(1))
        .sweep_interval(Duration::from_secs(3600));
    let host = Host::start_with(|server| server.sessions(sessions)).await;
    let _consumer = ready(&host).await;
    clock.advance(Duration::from_secs(30));
    assert_eq!(host.handle.agents()[0].idle, Duration::from_secs(30));
    eventually("it refreshes", || {
        host.handle.agents()[0].idle == Duration::ZERO
    })
    .await;
}

/// The pauses after the first attempts of a consumer that never gets through.
async fn pauses(builder: ConsumerBuilder, count: usize) -> Vec<Duration> {
    let consumer = builder.start();
    let mut states = consumer.states();
    let mut pauses = Vec::new();
    while pauses.len() < count {
        if let Some(ConsumerState::Connecting {
            cause: Some(cause),
            retry_in,
        }) = within_deadline(states.next()).await
        {
            assert!(matches!(cause, Disconnection::Connect(_)), "{cause}");
            pauses.push(retry_in);
        }
    }
    pauses
}

#[tokio::test]
async fn it_waits_longer_and_longer_for_a_server_that_is_not_there() {
    let host = Host::start().await;
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_millis(16));
    let builder = builder(&host).backoff(shortest, longest);
    within_deadline(host.handle.shutdown(LONG)).await;
    let pauses = pauses(builder, 8).await;
    let within_bounds = |pause: &Duration| *pause >= shortest && *pause <= 2 * longest;
    assert!(pauses.iter().all(within_bounds), "{pauses:?}");
    assert!(pauses[7] >= longest, "{pauses:?}");
}

#[tokio::test]
async fn pauses_stay_short_while_nobody_answers_and_grow_when_somebody_does() {
    let host = Host::start().await;
    let bind = || TcpListener::bind("127.0.0.1:0");
    let (nobody, hangs_up, silent) = (
        bind().await.unwrap(),
        bind().await.unwrap(),
        bind().await.unwrap(),
    );
    let tcp = |listener: &TcpListener| Address::Tcp(listener.local_addr().unwrap().to_string());
    let dir = tempfile::tempdir().unwrap();
    let unanswered = [
        tcp(&nobody),
        Address::Unix(dir.path().join("no socket")),
        tcp(&hangs_up),
    ];
    drop(nobody);
    tokio::spawn(async move {
        loop {
            drop(hangs_up.accept().await);
        }
    });
    let builder = |connector: Connector| {
        let connector = connector.connect_timeout(Duration::from_millis(50));
        let builder = Consumer::builder(connector, Registration::new("replica"));
        let short = Duration::from_millis(1);
        builder
            .backoff(short, Duration::from_secs(3_600))
            .max_unanswered_delay(4 * short)
    };
    for address in unanswered {
        let connector = Connector::new(address.clone(), &host.pem.identity(), host.token.clone());
        let pauses = pauses(builder(connector), 12).await;
        let longest = pauses.iter().max().unwrap();
        assert!(
            *longest <= Duration::from_millis(8),
            "{address}: {pauses:?}"
        );
    }
    let stranger = Pem::generate().identity();
    for (address, identity) in [
        (Address::Tcp(host.address.to_string()), &stranger),
        (tcp(&silent), &host.pem.identity()),
    ] {
        let connector = Connector::new(address.clone(), identity, host.token.clone());
        let pauses = pauses(builder(connector), 6).await;
        assert!(
            pauses[5] >= Duration::from_millis(32),
            "{address}: {pauses:?}"
        );
    }
}

#[tokio::test]
async fn shutting_down_disconnects_and_ends_what_hangs_on_it() {
    let host = Host::start().await;
    host.set("a", 1);
    let consumer = ready(&host).await;
    let mut subscription = consumer.subscribe().unwrap();
    let mut states = consumer.states();
    next(&mut subscription).await;
    within_deadline(consumer.shutdown()).await;
    assert!(matches!(subscription.try_next(), Err(TryNextError::Closed)));
    assert!(matches!(states.next().await, Some(ConsumerState::Stopped)));
    assert!(states.next().await.is_none());
    eventually("the stream is gone", || host.handle.stats().streams == 0).await;
}

#[tokio::test]
async fn dropping_it_disconnects() {
    let host = Host::start().await;
    host.set("a", 1);
    let consumer = ready(&host).await;
    drop(consumer);
    eventually("the stream is gone", || host.handle.stats().streams == 0).await;
}

#[test]
fn a_program_without_a_runtime_has_all_of_it() {
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let host = Host::start().await;
            host.set("a.b", 1);
            sender.send((builder(&host), host.engine.clone())).unwrap();
            stopped.await.unwrap();
            let handle: ServerHandle<Settings> = host.handle;
            handle.shutdown(LONG).await;
        });
    });
    let (builder, engine) = receiver.recv().unwrap();
    let consumer = builder.start_thread().unwrap();
    let head = consumer.wait_ready_blocking(LONG).unwrap();
    assert_eq!(head.state().len(), 1);
    let mut subscription = consumer.subscribe().unwrap();
    assert!(matches!(
        subscription.next_timeout(LONG),
        Ok(Event::Snapshot(_))
    ));
    let mut section = consumer.subscribe_section("a").unwrap();
    assert_eq!(section.next_timeout(LONG).unwrap().set.len(), 1);
    engine
        .publish(&Change::set(Source::File, key("a.b"), 2))
        .unwrap();
    assert!(matches!(
        subscription.next_timeout(LONG),
        Ok(Event::Update(_))
    ));
    assert_eq!(
        section.next_timeout(LONG).unwrap().set[0].value(),
        &Value::Int(2)
    );
    assert_eq!(consumer.get::<i64>("a.b").unwrap(), 2);
    let mut states = consumer.states();
    assert!(states.next_timeout(LONG).unwrap().is_ready());
    consumer.shutdown_blocking();
    assert!(matches!(
        states.next_timeout(LONG),
        Ok(ConsumerState::Stopped)
    ));
    assert!(subscription.next().is_none());
    stop.send(()).unwrap();
    server.join().unwrap();
}

#[test]
fn without_a_runtime_waiting_ends_in_time_too() {
    // Nobody listens where somebody did.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    drop(listener);
    let token = Token::parse(&"a".repeat(64)).unwrap();
    let connector = Connector::new(address, &Pem::generate().identity(), token);
    let consumer = Consumer::builder(connector, Registration::new("replica"))
        .start_thread()
        .unwrap();
    let mut states = consumer.states();
    while states.next_timeout(LONG).unwrap().cause().is_none() {}
    let limit = Duration::from_millis(50);
    let begun = Instant::now();
    let error = consumer.wait_ready_blocking(limit).unwrap_err();
    assert!(begun.elapsed() >= limit);
    assert!(
        matches!(error.state().cause(), Some(Disconnection::Connect(_))),
        "{error}"
    );
    consumer.shutdown_blocking();
}

#[test]
fn everything_travels_between_threads() {
    fn travels<T: Send + Sync>() {}
    travels::<Consumer>();
    travels::<ConsumerBuilder>();
    travels::<ConsumerState>();
    fn moves<T: Send>() {}
    moves::<SectionSubscription>();
    moves::<States>();
}

#[test]
fn it_says_that_it_went_with_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let consumer = runtime.block_on(async {
        let host = Host::start().await;
        ready(&host).await
    });
    drop(runtime);
    let error = consumer.wait_ready_blocking(LONG).unwrap_err();
    assert!(matches!(error.state(), ConsumerState::Stopped), "{error}");
    assert!(consumer.head().is_some());
}

#[tokio::test]
async fn the_consumers_metrics_have_the_documented_names() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let host = Host::start().await;
    let last = host.set("a", 1);
    let consumer = {
        let _recording = metrics::set_default_local_recorder(&recorder);
        builder(&host).start()
    };
    consumer.wait_ready(LONG).await.unwrap();
    let read: BTreeMap<_, _> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let value = match value {
                DebugValue::Counter(count) => format!("counter {count}"),
                DebugValue::Gauge(value) => format!("gauge {value}"),
                DebugValue::Histogram(samples) => format!("histogram of {}", samples.len()),
            };
            (key.key().name().to_owned(), value)
        })
        .collect();
    let told = |name: &str, value: String| (format!("configstream_consumer.{name}"), value);
    let documented = [
        told("dropped_stale_updates", "counter 0".into()),
        told("last_sequence_id", format!("gauge {last}")),
        told("reconnect_count", "counter 0".into()),
        told("time_to_first_snapshot_seconds", "histogram of 1".into()),
    ];
    assert_eq!(read, BTreeMap::from(documented));
}
