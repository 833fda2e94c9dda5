//! From the first start to the last word: what a client gets, and how a stop looks from its side.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use configstream_grpc::{ConfigEvent, StreamError};
use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};
use tonic::Code;

use crate::peer::{Credentials, open, refused, runtime, set, within};
use crate::support::{Agent, Done, configstream};
use crate::view::{Watch, listed, settings};

#[test]
fn without_a_file_the_embedded_configuration_streams() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let watch = Watch::start(&agent);
    let snapshot = watch.next();
    assert_eq!(snapshot["origin"], "core-agent");
    let settings = settings(&snapshot);
    assert!(settings.len() >= 350, "{} settings", settings.len());
    assert_eq!(settings, listed(&agent));
    let kinds = settings.values().map(|setting| match &setting[1] {
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float",
        Json::Number(_) => "integer",
        Json::String(_) => "string",
        Json::Array(_) => "list",
        Json::Object(_) => "map",
        Json::Null => panic!("a snapshot never holds a null"),
    });
    let kinds: std::collections::BTreeSet<&str> = kinds.collect();
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    assert!(settings.values().all(|setting| setting[0] == "default"));
    assert_eq!(settings["log_level"], json!(["default", "info"]));
    watch.assert_quiet(&agent);
}

#[test]
fn a_unix_socket_serves_the_same_and_goes_with_the_agent() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("agent.sock");
    let listen = format!("unix:{}", socket.display());
    let run_dir = root.path().join("run");
    let start = || Agent::start(&run_dir, &["--listen", &listen]);
    let over = |address: &str| {
        let done = Done::of(
            configstream()
                .args(["watch", "--json", "--events", "1", "--address", address])
                .arg("--run-dir")
                .arg(&run_dir),
        );
        settings(&done.json())
    };
    let mut agent = start();
    let announced = fs::read_to_string(run_dir.join("address")).unwrap();
    assert_eq!(over(announced.trim()), over(&listen));

    // One that could not clean up leaves its socket, and the next one takes it over.
    agent.signal(Signal::SIGKILL);
    agent.wait();
    assert!(socket.exists());
    let mut agent = start();
    over(&listen);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_stop_tells_every_stream_and_is_quick() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(root.path(), &[]);
        let last = runtime().block_on(async {
            let client = Credentials::of(&agent).connect().await.unwrap();
            let (_, mut events) = open(&client).await;
            let (_, mut others) = open(&client).await;
            let last = set(&client, "log_level", "debug").await;
            for events in [&mut events, &mut others] {
                while within(events.next()).await.unwrap().sequence().get() < last {}
            }
            agent.signal(signal);
            for events in [&mut events, &mut others] {
                let end = within(events.next()).await.unwrap_err();
                let StreamError::Status(status) = end else {
                    panic!("{end:?}");
                };
                refused(&status, Code::Unavailable, "the server is shutting down");
            }
            last
        });
        let asked = Instant::now();
        assert_eq!(agent.wait(), Some(0));
        assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
        assert_eq!(saved(root.path()), last);
    }
}

#[test]
fn a_client_that_does_not_read_cannot_hold_up_a_stop() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let last = with_a_stuck_client(&agent);
    let asked = Instant::now();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
    assert_eq!(saved(root.path()), last.1);
}

#[test]
fn a_stop_tells_those_who_read_and_does_not_wait_for_those_who_do_not() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let stuck = [(); 3].map(|()| with_a_stuck_client(&agent));
    let last = stuck.iter().map(|(_, last)| *last).max().unwrap();
    let asked = runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let (_, mut events) = open(&client).await;
        while within(events.next()).await.unwrap().sequence().get() < last {}
        agent.signal(Signal::SIGTERM);
        let asked = Instant::now();
        let StreamError::Status(status) = within(events.next()).await.unwrap_err() else {
            panic!("the stream ends with a status");
        };
        refused(&status, Code::Unavailable, "the server is shutting down");
        asked
    });
    assert_eq!(agent.wait(), Some(0));
    assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
    assert_eq!(saved(root.path()), last);
}

#[test]
fn a_second_signal_means_now_and_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let last = with_a_stuck_client(&agent);
    agent.signal(Signal::SIGTERM);
    agent.until_said("SIGTERM: stopping");
    // Those that come at once are the same again; the first after that counts.
    let first = Instant::now();
    while first.elapsed() < 2 * REPEAT {
        agent.signal(Signal::SIGTERM);
        std::thread::park_timeout(REPEAT / 10);
    }
    assert_eq!(agent.wait(), Some(1));
    let agent = Agent::start(root.path(), &[]);
    assert!(agent.sequence() > last.1);
}

#[test]
fn an_agent_that_is_open_to_the_network_says_where_it_is_bound_and_warns() {
    for (listen, bound, is_open) in [
        ("0.0.0.0:0", "0.0.0.0:", true),
        ("[::]:0", "[::]:", true),
        ("127.0.0.1:0", "127.0.0.1:", false),
    ] {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start_at(root.path(), listen, &[]);
        // Tools reach it all the same.
        assert_eq!(agent.verb(&["status"]).code, Some(0), "{listen}");
        agent.signal(Signal::SIGTERM);
        agent.said();
        assert!(agent.has_said(&format!("settings on {bound}")), "{listen}");
        let warning = format!("gRPC at {bound}");
        assert_eq!(agent.has_said(&warning), is_open, "{listen}");
        assert_eq!(
            agent.has_said("is open to the network"),
            is_open,
            "{listen}"
        );
    }
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let last = with_a_stuck_client(&agent);
    // Two kinds, since the system makes one of two that are the same and wait.
    agent.signal(Signal::SIGTERM);
    agent.signal(Signal::SIGINT);
    agent.until_said(": stopping");
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    assert_eq!(saved(root.path()), last.1);
}

/// A client that has been stopped while there was more for it than any buffer holds, and the last sequence.
fn with_a_stuck_client(agent: &Agent) -> (Watch, u64) {
    let watch = Watch::start(agent);
    watch.next();
    watch.signal(Signal::SIGSTOP);
    let last = runtime().block_on(async {
        let client = Credentials::of(agent).connect().await.unwrap();
        let mut last = 0;
        // More than the windows of HTTP/2 and the buffers of both sockets, and then more than a ring.
        for change in 0..200 {
            let text = format!("{change} {}", "x".repeat(200_000));
            last = set(&client, "mine.text", text).await;
        }
        last
    });
    agent.until("the client is behind", |agent| {
        agent.status()["agents"][0]["lag"].as_u64() > Some(0)
    });
    (watch, last)
}

/// The sequence that a clean stop has saved.
fn saved(run_dir: &Path) -> u64 {
    let text = fs::read_to_string(run_dir.join("sequence")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("used-up-to "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_stream_starts_with_a_snapshot_however_many_begin_at_once() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let starting = (0..40).map(|_| async {
            let (_, mut events) = open(&client).await;
            let mut last = within(events.next()).await.unwrap();
            assert!(matches!(last, ConfigEvent::Snapshot(_)));
            // Whatever came before or after its snapshot: all end at the last change. Order is checked on the way.
            while last.sequence().get() < 41 {
                last = within(events.next()).await.unwrap();
            }
        });
        let changing = async {
            for change in 0..40 {
                set(&client, "mine.number", change).await;
            }
        };
        tokio::join!(futures_util::future::join_all(starting), changing);
    });
    assert_eq!(agent.sequence(), 41);
}

/// Within this time a repeated signal is the same one.
const REPEAT: Duration = Duration::from_millis(500);

/// The deadline of a clean stop, and some more for a machine that is busy.
const STOP: Duration = Duration::from_secs(8);
