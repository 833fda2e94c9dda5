//! Changes that are to survive, and an agent that is killed between any two steps of keeping them.

use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};

use configstream_engine::settings::{Key, Source, Value};
use configstream_grpc::{ChangeRequest, Client, ConfigEvent, Edit};
use nix::sys::signal::Signal;
use serde_json::json;
use tonic::{Code, Status};

use crate::peer::{Credentials, open, runtime, within};
use crate::support::Agent;
use crate::view::Watch;

async fn persist(client: &Client, key: &str, value: i64) -> Result<(), Status> {
    let request = ChangeRequest {
        edits: vec![Edit::Set {
            source: Source::AgentRuntime,
            key: Key::parse(key).unwrap(),
            value: value.into(),
        }],
        persist: true,
        ..ChangeRequest::default()
    };
    client.apply(&request).await.map(drop)
}

/// The number that an event shows for a key.
fn number(event: &ConfigEvent, key: &str) -> Option<i64> {
    let of = |value: &Value| value.as_i64().unwrap();
    match event {
        ConfigEvent::Snapshot(snapshot) => {
            let mut settings = snapshot.settings.iter();
            let setting = settings.find(|setting| setting.key().as_str() == key)?;
            Some(of(setting.value()))
        }
        ConfigEvent::Update(update) => {
            let setting = update.update.setting();
            (setting.key().as_str() == key).then(|| of(setting.value()))
        }
        _ => None,
    }
}

#[test]
fn after_a_kill_nothing_is_gone_that_was_answered_or_streamed() {
    let root = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 1..=9 {
        let mut agent = Agent::start(root.path(), &[]);
        let (asked, answered, shown) = (
            AtomicI64::new(last),
            AtomicI64::new(last),
            AtomicI64::new(last),
        );
        let at_start = runtime().block_on(async {
            let client = Credentials::of(&agent).connect().await.unwrap();
            let (_, mut events) = open(&client).await;
            let first = within(events.next()).await.unwrap();
            let at_start = number(&first, "mine.number").unwrap_or(0);
            // As soon as a stream shows it, before it is answered; or in the midst of the changes after an answer.
            let killing = async {
                let seen = if round % 3 == 0 { &answered } else { &shown };
                while seen.load(Ordering::Relaxed) < last + round {
                    tokio::task::yield_now().await;
                }
                agent.signal(Signal::SIGKILL);
            };
            let changing = async {
                for value in last + 1.. {
                    asked.store(value, Ordering::Relaxed);
                    match persist(&client, "mine.number", value).await {
                        Ok(()) => answered.store(value, Ordering::Relaxed),
                        Err(_) => break,
                    }
                }
            };
            let following = async {
                while let Ok(event) = events.next().await {
                    if let Some(value) = number(&event, "mine.number") {
                        shown.store(value, Ordering::Relaxed);
                    }
                }
            };
            within(async { tokio::join!(killing, changing, following) }).await;
            at_start
        });
        assert_eq!(agent.wait(), None);
        assert_eq!(at_start, last, "round {round}");
        let (asked, answered, shown) = (
            asked.into_inner(),
            answered.into_inner(),
            shown.into_inner(),
        );
        drop(agent);

        let agent = Agent::start(root.path(), &[]);
        last = agent.verb(&["get", "mine.number"]).json()["value"]
            .as_i64()
            .unwrap();
        assert!(
            last >= answered,
            "{answered} was answered, {last} came back"
        );
        assert!(last >= shown, "{shown} was streamed, {last} came back");
        assert!(last <= asked, "{asked} was asked for, {last} came back");
    }
}

#[test]
fn what_cannot_be_kept_is_neither_answered_well_nor_streamed() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let watch = Watch::start(&agent);
    watch.next();
    let blocked = root.path().join("persisted.new");
    fs::create_dir(&blocked).unwrap();
    let refused = runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        within(persist(&client, "mine.number", 1))
            .await
            .unwrap_err()
    });
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused
            .message()
            .contains("cannot write the persisted changes"),
        "{refused}"
    );
    let done = agent.verb(&["set", "mine.number", "1", "--persist"]);
    assert_ne!(done.code, Some(0));
    assert!(done.err.contains("writable"), "{done:?}");
    assert!(agent.metric("configstream_persist_errors_total") > 1.5);
    watch.assert_quiet(&agent);
    fs::remove_dir(&blocked).unwrap();
    agent.verb(&["set", "mine.number", "2", "--persist"]).json();
    assert_eq!(watch.update(), json!(["mine.number", "agent-runtime", 2]));
    assert!(agent.metric("configstream_persisted_changes") > 0.5);
}

#[test]
fn explain_tells_what_a_restart_brings_back() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let explain = |agent: &Agent, key: &str| agent.verb(&["explain", key]).out;
    agent.verb(&["set", "mine.number", "1", "--persist"]).json();
    assert!(explain(&agent, "mine.number").contains(", persisted by "));
    agent.verb(&["set", "mine.number", "2"]).json();
    let over = explain(&agent, "mine.number");
    assert!(
        over.contains("; a restart brings back the value persisted by "),
        "{over}"
    );
    drop(agent);
    let agent = Agent::start(root.path(), &[]);
    assert_eq!(agent.verb(&["get", "mine.number"]).json()["value"], 1);
    assert!(explain(&agent, "mine.number").contains(", persisted by "));
    // Unset for now, and then for good, when no layer holds it any more.
    agent.verb(&["unset", "mine.number"]).json();
    agent.verb(&["unset", "mine.number", "--persist"]).json();
    let again = agent.verb(&["unset", "mine.number", "--persist"]);
    assert_eq!(again.code, Some(11), "{again:?}");
    drop(agent);
    let agent = Agent::start(root.path(), &[]);
    assert_eq!(agent.verb(&["get", "mine.number"]).code, Some(11));
}

#[test]
fn a_disk_that_takes_nothing_refuses_changes_with_the_mend_until_it_does() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let agent = Agent::start(&run_dir, &[]);
    let batch = root.path().join("batch.yaml");
    // More than are reserved.
    let many: String = (0..1_100)
        .map(|number| format!("mine.k{number}: {number}\n"))
        .collect();
    fs::write(&batch, many).unwrap();
    let batch = batch.display().to_string();
    let persist = ["set", "mine.number", "1", "--persist"];
    let apply = ["apply", &batch];
    let before = agent.sequence();
    // Whose place is taken by a directory cannot be written.
    for (file, verb, why) in [
        (
            "persisted.new",
            &persist[..],
            "cannot write the persisted changes ",
        ),
        (
            "sequence.new",
            &apply[..],
            "no sequence can be reserved: cannot write the saved sequence ",
        ),
    ] {
        let blocked = run_dir.join(file);
        fs::create_dir(&blocked).unwrap();
        let refused = agent.verb(verb);
        refused.demand(
            10,
            &[
                why,
                "\n  to do: make the run directory writable for this user",
            ],
        );
        fs::remove_dir(&blocked).unwrap();
    }
    assert_eq!(agent.sequence(), before);
    for verb in [&persist[..], &apply[..]] {
        assert_eq!(agent.verb(verb).code, Some(0));
    }
}
