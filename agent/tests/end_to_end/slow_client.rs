//! Who does not read is repaired, and slows nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value as Json;
use tokio::sync::Semaphore;

use crate::peer::{Credentials, runtime, set};
use crate::support::Agent;
use crate::view::{Watch, listed, settings};

/// Room for changes, of which there is no more when this is dropped: the writers are not to wait for a reader that failed.
struct Room(Arc<Semaphore>);

impl Drop for Room {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
        }
    }
}

/// What the agent knows of the stream of each `watch`, by process.
fn streams(agent: &Agent) -> BTreeMap<String, Json> {
    let report = agent.verb(&["agents"]);
    let agents = report.out.lines().map(|line| {
        let agent: Json = serde_json::from_str(line).unwrap();
        let pid = agent["pid"].as_str().unwrap().to_owned();
        (pid, agent["streams"][0].clone())
    });
    agents.collect()
}

#[test]
fn a_client_that_was_stopped_converges_and_slows_nobody() {
    const CHANGES: usize = 10_000;
    const WRITERS: usize = 16;
    // How far changes may be ahead of the client that keeps up: less than a ring holds, so that it has to miss nothing.
    const AHEAD: usize = 64;
    let root = tempfile::tempdir().unwrap();
    // However long this takes on a machine that is busy, the session of the one that is stopped shall not expire.
    let agent = Agent::start(
        root.path(),
        &["--set", "remote_agent.registry.idle_timeout=1h"],
    );
    let stopped = Watch::start(&agent);
    stopped.next();
    stopped.signal(Signal::SIGSTOP);

    let room = Arc::new(Semaphore::new(AHEAD));
    let follower = Watch::start(&agent);
    let mut now = follower.snapshot();
    let reader = thread::spawn({
        let room = Room(room.clone());
        move || {
            let mut last = [None::<usize>; WRITERS];
            // The view checks that each update follows the one before; this, that each says what was written.
            for _ in 0..CHANGES {
                let update = follower.next();
                assert_eq!(update["event"], "update", "a snapshot for one who keeps up");
                let key = update["key"].as_str().unwrap();
                let writer: usize = key.trim_start_matches("mine.text").parse().unwrap();
                let text = update["value"].as_str().unwrap();
                let change: usize = text.split(' ').next().unwrap().parse().unwrap();
                assert_eq!(change, last[writer].map_or(0, |last| last + 1));
                last[writer] = Some(change);
                now.insert(
                    key.to_owned(),
                    serde_json::json!([update["source"], update["value"]]),
                );
                room.0.add_permits(1);
            }
            (follower, now)
        }
    });
    let last = runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let writing = (0..WRITERS).map(|writer| {
            let (client, room) = (client.clone(), room.clone());
            async move {
                let mut last = 0;
                for change in 0..CHANGES / WRITERS {
                    room.acquire()
                        .await
                        .expect("the client that keeps up is there")
                        .forget();
                    // Large enough to fill every buffer between the agent and the client that was stopped.
                    let text = format!("{change} {}", "x".repeat(2_000));
                    last = set(&client, &format!("mine.text{writer}"), text).await;
                }
                last
            }
        });
        let last = futures_util::future::join_all(writing).await;
        last.into_iter().max().unwrap()
    });
    let (follower, gathered) = reader.join().unwrap();
    assert_eq!(follower.reached(), last);
    assert_eq!(gathered, listed(&agent));

    let before: Vec<Json> = streams(&agent).into_values().collect();
    let behind: Vec<&Json> = before.iter().filter(|stream| stream["lag"] != 0).collect();
    assert_eq!((before.len(), behind.len()), (2, 1), "{before:?}");
    assert_eq!(behind[0]["resyncs"], 0);

    // It goes on: what was under way, then one snapshot, and it is at the head, without a further change.
    stopped.signal(Signal::SIGCONT);
    let mut snapshots = Vec::new();
    while stopped.reached() < last {
        let event = stopped.next();
        if event["event"] == "snapshot" {
            snapshots.push(settings(&event));
        }
    }
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0], gathered, "the snapshot is the head");
    agent.until("the books are closed", |agent| {
        streams(agent).values().all(|stream| stream["lag"] == 0)
    });
    let (mut dropped, mut resyncs) = (0, 0);
    for stream in streams(&agent).values() {
        let figure = |name: &str| stream[name].as_u64().unwrap();
        assert_eq!(figure("last_sequence_sent"), last);
        // Nothing disappears uncounted: each change was an update, or dropped.
        assert_eq!(figure("updates_sent") + figure("dropped"), CHANGES as u64);
        assert_eq!(figure("resyncs") > 0, figure("dropped") > 0);
        dropped += figure("dropped");
        resyncs += figure("resyncs");
    }
    assert_eq!(resyncs, 1);
    assert!(dropped > CHANGES as u64 / 10, "{dropped}");
    agent.until("the metrics say the same", |agent| {
        let metric = |name: &str| agent.metric(name).to_string();
        metric("configstream_dropped_updates") == dropped.to_string()
            && metric("configstream_discontinuities") == "1"
    });
    stopped.assert_quiet(&agent);
}

#[test]
fn a_client_that_was_stopped_beyond_its_session_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(
        root.path(),
        &["--set", "remote_agent.registry.idle_timeout=1s"],
    );
    let stopped = Watch::start(&agent);
    stopped.next();
    stopped.signal(Signal::SIGSTOP);
    let last = runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let mut last = 0;
        for change in 0..100 {
            let text = format!("{change} {}", "x".repeat(200_000));
            last = set(&client, "mine.text", text).await;
        }
        last
    });
    // Something waits for it, and it takes nothing: that is no life.
    agent.until("the session is gone", |agent| streams(agent).is_empty());
    stopped.signal(Signal::SIGCONT);
    while stopped.reached() < last {
        stopped.next();
    }
    stopped.assert_quiet(&agent);
}
