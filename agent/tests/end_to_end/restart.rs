//! Agents go and come back; sequences never go back, and clients find their way.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use configstream_engine::settings::{Key, Source};
use configstream_grpc::ConfigEvent;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::peer::{Credentials, open, runtime, set, within};
use crate::support::Agent;
use crate::view::Watch;

#[test]
fn after_a_kill_a_watch_comes_back_to_a_higher_sequence() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let address = fs::read_to_string(root.path().join("address")).unwrap();
    let watch = Watch::start(&agent);
    watch.next();
    // At the same address, and then at others, where it is told by the run directory.
    for listen in [address.trim(), "127.0.0.1:0", "127.0.0.1:0"] {
        for value in ["debug", "warn", "error"] {
            agent.verb(&["set", "log_level", value]).json();
            assert_eq!(watch.update(), json!(["log_level", "agent-runtime", value]));
        }
        agent.signal(Signal::SIGKILL);
        assert_eq!(agent.wait(), None);
        drop(agent);
        agent = Agent::start_at(root.path(), listen, &[]);
        // In order means: beyond what came before, in the same epoch.
        assert_eq!(watch.snapshot()["log_level"], json!(["default", "info"]));
    }
    watch.assert_quiet(&agent);
}

#[test]
fn a_kill_in_the_midst_of_changes_never_leads_back() {
    let root = tempfile::tempdir().unwrap();
    let mut highest = 0;
    for round in 1..4_u64 {
        let mut agent = Agent::start(root.path(), &[]);
        let committed = AtomicU64::new(0);
        let seen = runtime().block_on(async {
            let client = Credentials::of(&agent).connect().await.unwrap();
            let (_, mut events) = open(&client).await;
            let first = within(events.next()).await.unwrap();
            assert!(matches!(first, ConfigEvent::Snapshot(_)));
            let mut seen = first.sequence().get();
            assert!(seen > highest, "round {round}: {seen} after {highest}");
            let key = Key::parse("mine.number").unwrap();
            let changing = async {
                for change in 0_u64.. {
                    let value = change.into();
                    match client
                        .set(Source::AgentRuntime, &key, &value, "a test")
                        .await
                    {
                        Ok(reply) => committed.store(reply.sequence, Ordering::Relaxed),
                        Err(_) => break,
                    }
                    // Past the end of the block of sequences that was reserved first, in one of the rounds.
                    if change == round * 500 {
                        agent.signal(Signal::SIGKILL);
                    }
                }
            };
            let following = async {
                while let Ok(event) = events.next().await {
                    seen = event.sequence().get();
                }
            };
            within(async { tokio::join!(changing, following) }).await;
            seen
        });
        assert_eq!(agent.wait(), None);
        let committed = committed.into_inner();
        assert!(committed > highest && seen > highest);
        highest = committed.max(seen);
    }
    let agent = Agent::start(root.path(), &[]);
    assert!(agent.sequence() > highest);
}

#[test]
fn a_clean_restart_goes_on_with_the_next_sequence() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let watch = Watch::start(&agent);
    watch.next();
    for value in 0..5 {
        agent
            .verb(&["set", "mine.number", &value.to_string()])
            .json();
        watch.update();
    }
    let before = watch.reached();
    let credentials = Credentials::of(&agent);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    drop(agent);
    let agent = Agent::start(root.path(), &[]);
    watch.snapshot();
    assert_eq!(watch.reached(), before + 1, "no sequence is skipped");
    let again = Credentials::of(&agent);
    assert_eq!(
        (again.pem, again.token),
        (credentials.pem, credentials.token)
    );
    watch.assert_quiet(&agent);
}

#[test]
fn a_watch_waits_for_an_agent_that_is_not_there_yet() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    agent.signal(Signal::SIGTERM);
    agent.wait();
    let watch = Watch::start(&agent);
    drop(agent);
    // It has nobody to talk to; there is nothing to wait for but its first attempts.
    let agent = Agent::start(root.path(), &[]);
    watch.next();
    assert_eq!(watch.reached(), agent.sequence());
}

#[test]
fn a_connection_that_breaks_is_made_again_by_the_next_call() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let address = fs::read_to_string(root.path().join("address")).unwrap();
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let (_, mut events) = open(&client).await;
        within(events.next()).await.unwrap();
        agent.signal(Signal::SIGKILL);
        agent.wait();
        within(events.next()).await.unwrap_err();
        let _again = Agent::start_at(root.path(), address.trim(), &[]);
        within(async {
            while client.hostname().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(set(&client, "mine.number", 1).await > 1);
    });
}
