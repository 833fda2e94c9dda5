//! The agent lives by its own configuration at once, and by the last good one where a change cannot be.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tonic::Code;

use crate::peer::{Credentials, open, refused, registration, runtime, set, within};
use crate::support::Agent;
use crate::view::Watch;

/// Replaces a file at once.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Sets one of the agent's own settings, and waits until the agent says that it lives by it.
fn change(agent: &mut Agent, key: &str, value: &str) {
    agent.verb(&["set", key, value]).json();
    agent.until_said(&format!("`{key}` has changed: the new value holds"));
}

#[test]
fn the_log_gets_louder_and_quieter_while_the_agent_runs() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start_with(root.path(), &[], |command| {
        command.env("DD_LOG_LEVEL", "loud")
    });
    // What the agent says of a change, once all that it said before has been read.
    let says = |agent: &mut Agent| {
        agent.signal(Signal::SIGHUP);
        agent.until_said("nothing to reload");
        agent.verb(&["set", "log_file", "x"]).json();
        agent.verb(&["unset", "log_file"]).json();
        agent.signal(Signal::SIGHUP);
        let said = agent.said_until("nothing to reload");
        let committed = said
            .iter()
            .filter(|line| line.contains("committed a change"));
        committed.filter(|line| line.contains("DEBUG")).count()
    };
    assert_eq!(says(&mut agent), 0);
    change(&mut agent, "log_level", "debug");
    assert_eq!(says(&mut agent), 2);
    change(&mut agent, "log_level", "INFO");
    assert_eq!(says(&mut agent), 0);

    // What is no level is refused, and said to be: at the start, and when it comes to light again.
    agent.verb(&["unset", "log_level"]).json();
    let line = agent.until_said("`log_level` of environment-variable");
    assert!(
        line.contains(" WARN ") && line.contains("critical, error, warn"),
        "{line}"
    );
    assert_eq!(says(&mut agent), 0);
    let status = agent.verb(&["status"]).out;
    assert!(
        status.contains("`log_level` of environment-variable"),
        "{status}"
    );
    agent.verb(&["set", "log_level", "error"]).json();
    agent.until("it is in force", |agent| {
        agent.status()["refused_settings"] == json!([])
    });
    agent.signal(Signal::SIGTERM);
    let said = agent.said();
    let count = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count("`log_level` of environment-variable"), 2);
    assert_eq!(count("SIGTERM: stopping"), 0);
}

#[test]
fn where_rust_log_says_what_is_logged_the_setting_does_not() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start_with(root.path(), &["--set", "log_level=off"], |command| {
        command.env("RUST_LOG", "configstream=debug")
    });
    let said = "`log_level` is not followed: RUST_LOG";
    agent.verb(&["set", "log_file", "x"]).json();
    agent.until_said("committed a change");
    agent
        .verb(&["set", "log_level", "error", "--source", "cli"])
        .json();
    agent.until_said(said);
    agent.verb(&["set", "log_file", "y"]).json();
    agent.until_said("committed a change");
    agent.signal(Signal::SIGTERM);
    // At the start, and at the change.
    let times = agent
        .said()
        .iter()
        .filter(|line| line.contains(said))
        .count();
    assert_eq!(times, 2, "{:?}", agent.said());
}

#[test]
fn a_rust_log_that_is_wrong_or_empty_leaves_it_to_the_setting() {
    for (text, warns) in [("configstream=loud", true), ("", false)] {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start_with(root.path(), &["--set", "log_level=debug"], |command| {
            command.env("RUST_LOG", text)
        });
        agent.verb(&["set", "log_file", "x"]).json();
        agent.until_said("committed a change");
        agent.signal(Signal::SIGTERM);
        let warned = agent
            .said()
            .iter()
            .any(|line| line.contains("RUST_LOG is ignored"));
        assert_eq!(warned, warns);
    }
}

#[test]
fn sessions_follow_the_registry_s_settings() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let credentials = Credentials::of(&agent);
    runtime().block_on(async {
        let client = credentials.connect().await.unwrap();
        let first = client.register(&registration()).await.unwrap();
        assert_eq!(first.refresh_interval, Duration::from_secs(10));

        change(
            &mut agent,
            "remote_agent.registry.recommended_refresh_interval",
            "3s",
        );
        let second = client.register(&registration()).await.unwrap();
        assert_eq!(second.refresh_interval, Duration::from_secs(3));

        change(&mut agent, "remote_agent.registry.max_sessions", "2");
        let streams = (
            client.stream("x", &first.id).await.unwrap(),
            client.stream("x", &second.id).await.unwrap(),
        );
        let status = client.register(&registration()).await.unwrap_err();
        refused(
            &status,
            Code::ResourceExhausted,
            "too many remote agents (at most 2)",
        );
        drop(streams);

        // Neither shows a sign of life, and a minute has not gone by.
        change(&mut agent, "remote_agent.registry.idle_timeout", "300ms");
        within(async {
            while !client.agents().await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let status = client.refresh(&first.id).await.unwrap_err();
        refused(
            &status,
            Code::NotFound,
            "no remote agent found with session ID",
        );

        change(&mut agent, "remote_agent.registry.enabled", "false");
        let status = client.register(&registration()).await.unwrap_err();
        refused(
            &status,
            Code::Unimplemented,
            "remote agent registry not enabled",
        );
    });
}

#[test]
fn streams_and_connections_follow_the_limits() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let credentials = Credentials::of(&agent);
    runtime().block_on(async {
        let client = credentials.connect().await.unwrap();
        let (session, mut events) = open(&client).await;
        within(events.next()).await.unwrap();

        change(&mut agent, "config_stream.max_streams", "1");
        let status = client.stream("x", &session.id).await.unwrap_err();
        refused(
            &status,
            Code::Unavailable,
            "too many config streams (at most 1)",
        );
        change(&mut agent, "config_stream.max_streams", "2");
        drop(client.stream("x", &session.id).await.unwrap());

        // The verb that sets it has a connection of its own, which ends with it.
        change(&mut agent, "config_stream.max_connections", "1");
        let comes = async || {
            let client = credentials.connect().await.ok()?;
            client.get("log_level").await.ok()
        };
        assert!(comes().await.is_none(), "one connection too many");
        // Who is there stays, and may raise the limit again.
        set(&client, "config_stream.max_connections", 8).await;
        agent.until_said("`config_stream.max_connections` has changed");
        assert!(comes().await.is_some());
        while within(events.next()).await.unwrap().sequence().get() < agent.sequence() {}
    });
}

#[test]
fn the_next_stream_gets_the_ring_that_is_set() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    replace(&config, "{}");
    let mut agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    let before = Watch::start(&agent);
    before.next();
    change(&mut agent, "config_stream.ring_capacity", "3");
    before.next();
    let after = Watch::start(&agent);
    after.next();
    // What does not fit into a ring at once comes as a snapshot, however fast somebody reads.
    replace(&config, "mine: {a: 1, b: 2, c: 3, d: 4}");
    assert_eq!(after.snapshot()["mine.d"], json!(["file", 4]));
    for key in ["a", "b", "c", "d"] {
        assert_eq!(before.update()[0], format!("mine.{key}"));
    }
}

#[test]
fn bad_values_keep_what_was_and_show_until_they_are_mended() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    replace(&config, "remote_agent: {registry: {max_sessions: 1}}");
    let mut agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    replace(
        &config,
        "log_level: loud\nremote_agent: {registry: {max_sessions: 0, idle_timeout: 0s}}",
    );
    for key in ["log_level", "idle_timeout", "max_sessions"] {
        let line = agent.until_said(&format!("{key}` of file ("));
        assert!(
            line.contains("core.yaml:") && line.contains("what was in force stays"),
            "{line}"
        );
    }
    let shown = agent.status()["refused_settings"].clone();
    let keys: Vec<&str> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| setting["key"].as_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "log_level",
            "remote_agent.registry.idle_timeout",
            "remote_agent.registry.max_sessions"
        ]
    );
    assert_eq!(shown[2]["why"], "a number above zero");
    assert_eq!(shown[2]["source"], "file");
    assert!(agent.metric("configstream_refused_settings") > 2.5);
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let session = client.register(&registration()).await.unwrap();
        let _events = client.stream("x", &session.id).await.unwrap();
        let status = client.register(&registration()).await.unwrap_err();
        refused(
            &status,
            Code::ResourceExhausted,
            "too many remote agents (at most 1)",
        );
        client.refresh(&session.id).await.unwrap();
    });
    // Afterwards, since its session takes a place.
    let doctor = agent.verb(&["doctor"]);
    assert_eq!(doctor.code, Some(1));
    assert!(
        doctor.out.contains("it has to be one of off, critical"),
        "{doctor:?}"
    );
    // The stream carries them all the same: others may make sense of them.
    assert_eq!(agent.verb(&["get", "log_level"]).json()["value"], "loud");

    replace(&config, "remote_agent: {registry: {max_sessions: 2}}");
    agent.until_said("`remote_agent.registry.max_sessions` has changed");
    agent.until("they are mended", |agent| {
        agent.status()["refused_settings"] == json!([])
    });
    assert!(agent.metric("configstream_refused_settings") < 0.5);
}

#[test]
fn a_list_of_secrets_that_is_wrong_is_told_and_hides_more() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start_with(root.path(), &[], |command| {
        command.env("DD_SECRET_KEYS", "mine,a..b")
    });
    agent.verb(&["set", "api_key", "hunter2"]).json();
    let line = agent.once_said("item 2 of `secret_keys` is no pattern");
    assert!(
        line.contains("WARN") && line.contains("the known defaults hide as well"),
        "{line}"
    );
    let shown = agent.verb(&["get", "api_key"]);
    assert!(!shown.out.contains("hunter2"), "{shown:?}");
}

#[test]
fn a_value_that_the_agent_cannot_live_by_is_refused_to_whoever_sets_it() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let before = agent.sequence();
    let file = root.path().join("changes.yaml");
    fs::write(&file, "mine.other: 1\nlog_level: bananas\n").unwrap();
    let file = file.display().to_string();
    for (arguments, parts) in [
        (
            &["set", "log_level", "bananas"][..],
            [
                "`log_level` is a setting of the agent itself",
                "to do: write one of off,",
            ],
        ),
        (
            &[
                "set",
                "log_level",
                "bananas",
                "--source",
                "default",
                "--persist",
            ],
            ["InvalidArgument", "to do: write one of off,"],
        ),
        (
            &["set", "config_stream.ring_capacity", "0"],
            [
                "`config_stream.ring_capacity`",
                "to do: write a number above zero",
            ],
        ),
        (
            &["set", "secret_keys", "['a..b']"],
            [
                "item 1 of `secret_keys` is no pattern",
                "to do: write patterns",
            ],
        ),
        (
            &["apply", &file],
            [
                "`log_level` is a setting of the agent itself",
                "to do: write one of off,",
            ],
        ),
        (
            &["apply", &file, "--dry-run"],
            [
                "`log_level` is a setting of the agent itself",
                "to do: write one of off,",
            ],
        ),
    ] {
        let said = agent.verb(arguments);
        assert_eq!(said.code, Some(10), "{arguments:?}: {said:?}");
        for part in parts {
            assert!(
                said.err.contains(part),
                "{arguments:?}: {said:?} lacks {part}"
            );
        }
    }
    assert_eq!(agent.sequence(), before);
    assert_eq!(agent.status()["refused_settings"], json!([]));
    assert_eq!(agent.verb(&["get", "mine.other"]).code, Some(11));
}
