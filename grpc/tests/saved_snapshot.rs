//! A process that starts while its server is down, with what it knew before.

mod support;

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use configstream_engine::Event;
use configstream_engine::settings::Settings;
use configstream_grpc::consumer::{
    Consumer, ConsumerBuilder, ConsumerState, Disconnection, SavedErrorReason,
};
use configstream_grpc::{Registration, Server};
use support::log::Log;
use support::{Host, eventually, within_deadline};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

const LONG: Duration = Duration::from_secs(20);

fn builder(host: &Host, path: &Path) -> ConsumerBuilder {
    let short = Duration::from_millis(1);
    Consumer::builder(host.connector(), Registration::new("replica"))
        .backoff(short, 20 * short)
        .snapshot_path(path)
}

#[tokio::test]
async fn what_was_known_is_there_at_once_and_stale_until_the_server_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let host = Host::start().await;
    host.set("a", 1);
    let again = builder(&host, &path);
    let consumer = again.clone().start();
    let before = SystemTime::now();
    consumer.wait_ready(LONG).await.unwrap();
    let known = consumer.head().unwrap();
    within_deadline(consumer.shutdown()).await;
    let (engine, pem, token, address) = (host.engine, host.pem, host.token, host.address);
    within_deadline(host.handle.shutdown(LONG)).await;

    let consumer = again.start();
    // Nothing has been awaited: this is the very first moment.
    assert_eq!(consumer.get::<i64>("a").unwrap(), 1);
    let head = consumer.head().unwrap();
    assert_eq!(
        (head.epoch(), head.sequence()),
        (known.epoch(), known.sequence())
    );
    assert_eq!(&*consumer.origin(), "agent.yaml");
    let ConsumerState::Stale { cause, since, .. } = consumer.state() else {
        panic!("{:?}", consumer.state())
    };
    assert!(matches!(cause, Disconnection::Starting), "{cause}");
    // Saved in whole milliseconds.
    assert!(since + Duration::from_millis(2) > before && since <= SystemTime::now());
    consumer
        .wait_ready(Duration::from_millis(50))
        .await
        .unwrap_err();
    let mut subscription = consumer.subscribe().unwrap();
    assert!(matches!(subscription.try_next(), Ok(Event::Snapshot(_))));

    let set = configstream_engine::settings::Change::set(
        configstream_engine::settings::Source::File,
        configstream_engine::settings::Key::parse("a").unwrap(),
        2,
    );
    engine.publish(&set).unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let server = Server::<Settings>::builder(engine, pem.identity(), token).build();
    let handle = server.serve_tcp(listener);
    consumer.wait_ready(LONG).await.unwrap();
    assert_eq!(consumer.get::<i64>("a").unwrap(), 2);
    within_deadline(handle.shutdown(LONG)).await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_is_wrong_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let host = Host::start().await;
    host.set("a", 1);
    let consumer = builder(&host, &path).start();
    consumer.wait_ready(LONG).await.unwrap();
    within_deadline(consumer.shutdown()).await;
    let whole = fs::read(&path).unwrap();
    // What comes before the message.
    let message = whole.len() - 40;

    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let damages = [
        (
            "foreign",
            b"not a snapshot".as_slice(),
            "was not written by this program, or by another version of it".to_owned(),
        ),
        (
            "truncated",
            &whole[..whole.len() - 1],
            format!(
                "is damaged: {} bytes where {message} should be",
                message - 1
            ),
        ),
        (
            "corrupt",
            &flipped,
            "is damaged: its checksum does not fit".to_owned(),
        ),
    ];
    for (kind, bytes, what) in damages {
        fs::write(&path, bytes).unwrap();
        let consumer = builder(&host, &path).start();
        let refused = consumer.refused_snapshot().unwrap();
        let is_told = match refused.reason() {
            SavedErrorReason::Foreign => kind == "foreign",
            SavedErrorReason::Length { .. } => kind == "truncated",
            SavedErrorReason::Corrupt => kind == "corrupt",
            _ => false,
        };
        assert!(is_told, "{kind}: {refused:?}");
        assert_eq!(
            refused.to_string(),
            format!(
                "the saved snapshot {} {what}; the next snapshot from the server replaces it",
                path.display()
            )
        );
        assert!(consumer.head().is_none(), "{kind}");
        // And that is so.
        consumer.wait_ready(LONG).await.unwrap();
        assert_eq!(consumer.get::<i64>("a").unwrap(), 1);
        within_deadline(consumer.shutdown()).await;
        let consumer = builder(&host, &path).start();
        assert!(consumer.refused_snapshot().is_none(), "{kind}");
        assert!(consumer.head().is_some(), "{kind}");
        within_deadline(consumer.shutdown()).await;
    }
}

#[tokio::test]
async fn what_a_killed_process_has_half_written_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let left = dir.path().join(".configstream-saved-Ab12cd.tmp");
    fs::write(&left, "configstream repl").unwrap();
    let host = Host::start().await;
    let consumer = builder(&host, &path).start();
    eventually("it is gone", || !left.exists()).await;
    assert!(consumer.refused_snapshot().is_none());
    within_deadline(consumer.shutdown()).await;
}

#[tokio::test]
async fn it_is_saved_at_once_then_at_intervals_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let host = Host::start().await;
    host.set("a", 1);
    let consumer = builder(&host, &path)
        .snapshot_interval(Duration::from_secs(3600))
        .start();
    eventually("it is saved", || path.exists()).await;
    let first = fs::read(&path).unwrap();
    // Within the interval nothing is written, whatever happens …
    for value in 2..100 {
        host.set("a", value);
    }
    eventually("the replica has it", || {
        consumer.get::<i64>("a").is_ok_and(|value| value == 99)
    })
    .await;
    assert_eq!(fs::read(&path).unwrap(), first);
    // … but at the end.
    within_deadline(consumer.shutdown()).await;
    assert_ne!(fs::read(&path).unwrap(), first);
    let again = builder(&host, &path).start();
    assert_eq!(again.get::<i64>("a").unwrap(), 99);
}

#[tokio::test]
async fn what_changes_is_saved_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let host = Host::start().await;
    host.set("a", 1);
    let consumer = builder(&host, &path)
        .snapshot_interval(Duration::from_millis(10))
        .start();
    eventually("it is saved", || path.exists()).await;
    for value in 2..5 {
        let before = fs::read(&path).unwrap();
        host.set("a", value);
        eventually("it is saved again", || fs::read(&path).unwrap() != before).await;
    }
    assert!(consumer.state().is_ready());
}

#[tokio::test]
async fn a_disk_that_takes_nothing_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start().await;
    host.set("a", 1);
    let nowhere = dir.path().join("nowhere").join("replica");
    let consumer = builder(&host, &nowhere)
        .snapshot_interval(Duration::from_millis(1))
        .start();
    consumer.wait_ready(LONG).await.unwrap();
    assert!(consumer.refused_snapshot().is_none());
    let last = host.set("a", 2);
    eventually("the replica goes on", || {
        consumer.head().unwrap().sequence().get() == last
    })
    .await;
    within_deadline(consumer.shutdown()).await;
}

#[test]
fn a_disk_that_hangs_holds_up_neither_a_consumer_that_stops_nor_its_runtime() {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let log = Log::default();
        let _logging = log.install();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replica");
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let saved = runtime.block_on(async {
            let host = Host::start().await;
            host.set("a", 1);
            let consumer = builder(&host, &path)
                .snapshot_interval(Duration::from_secs(3_600))
                .start();
            eventually("it is saved", || path.exists()).await;
            let saved = fs::read(&path).unwrap();
            host.set("a", 2);
            eventually("the replica has it", || {
                consumer.get::<i64>("a").is_ok_and(|value| value == 2)
            })
            .await;
            // Whoever encodes this setting, as the next write does, hangs for good.
            let (hung, hangs) = mpsc::channel();
            let head = consumer.head().unwrap();
            thread::spawn(move || {
                let setting = head.state().get("a").unwrap();
                setting.memo().get_or_init::<Bytes>(|| {
                    hung.send(()).unwrap();
                    loop {
                        thread::park();
                    }
                });
            });
            hangs.recv().unwrap();
            within_deadline(consumer.shutdown()).await;
            saved
        });
        drop(runtime);
        let warning = "stopping without having saved the configuration";
        assert!(log.text().contains(warning), "{}", log.text());
        assert_eq!(fs::read(&path).unwrap(), saved);
        done.send(()).unwrap();
    });
    ended.recv_timeout(3 * LONG).expect("it ends");
}

#[tokio::test]
async fn one_that_is_too_old_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let host = Host::start().await;
    host.set("a", 1);
    let consumer = builder(&host, &path).start();
    consumer.wait_ready(LONG).await.unwrap();
    within_deadline(consumer.shutdown()).await;
    let consumer = builder(&host, &path)
        .snapshot_max_age(Duration::ZERO)
        .start();
    let refused = consumer.refused_snapshot().unwrap();
    assert!(matches!(refused.reason(), SavedErrorReason::TooOld { .. }));
    assert!(consumer.head().is_none());
}

#[tokio::test]
async fn what_is_still_true_does_not_grow_old() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let host = Host::start().await;
    host.set("a", 1);
    let consumer = builder(&host, &path)
        .snapshot_interval(Duration::from_millis(1))
        .snapshot_max_age(Duration::from_millis(40))
        .start();
    eventually("it is saved", || path.exists()).await;
    let first = fs::read(&path).unwrap();
    // Nothing changes but the time.
    eventually("it is saved again", || fs::read(&path).unwrap() != first).await;
    assert!(consumer.state().is_ready());
}

#[tokio::test]
async fn what_is_stale_stays_as_old_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let host = Host::start().await;
    host.set("a", 1);
    let again = builder(&host, &path);
    let consumer = again.clone().start();
    consumer.wait_ready(LONG).await.unwrap();
    within_deadline(consumer.shutdown()).await;
    within_deadline(host.handle.shutdown(LONG)).await;

    let since = |consumer: &Consumer| match consumer.state() {
        ConsumerState::Stale { since, .. } => since,
        other => panic!("{other}"),
    };
    let consumer = again.clone().start();
    let known_at = since(&consumer);
    let mut states = consumer.states();
    while !matches!(
        within_deadline(states.next()).await.unwrap().cause(),
        Some(Disconnection::Connect(_))
    ) {}
    assert_eq!(since(&consumer), known_at);
    within_deadline(consumer.shutdown()).await;
    assert_eq!(since(&again.start()), known_at);
}
