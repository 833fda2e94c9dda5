//! Changes made while the agent runs, as every client sees them.

use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};

use crate::peer::{Credentials, runtime, within};
use crate::support::{Agent, Done, configstream};
use crate::view::{Watch, listed};

#[test]
fn set_streams_one_update_with_the_type_of_the_known_default() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let watches = [Watch::start(&agent), Watch::start(&agent)];
    for watch in &watches {
        watch.next();
    }
    for (key, text, value) in [
        ("log_level", "debug", json!("debug")),
        ("site", "5", json!("5")),
        ("apm_config.enabled", "false", json!(false)),
        ("check_runners", "7", json!(7)),
        ("check_runner_utilization_threshold", "1", json!(1)),
        ("forwarder_timeout", "1m30s", json!(90_000_000_000_u64)),
        ("tags", "[a:b, c]", json!(["a:b", "c"])),
        ("tag_value_split_separator", "{x: ','}", json!({"x": ","})),
        ("mine.text", "'5'", json!("5")),
        ("mine.empty", "", json!("")),
        ("mine.number", "-5.5", json!(-5.5)),
        (
            "mine.map",
            "{Upper: [1, {x: true}]}",
            json!({"Upper": [1, {"x": true}]}),
        ),
        (
            "mine.unicode",
            "\"\u{1f980} \\u0000 \\n\"",
            json!("\u{1f980} \0 \n"),
        ),
        (
            "mine.largest",
            "9007199254740992",
            json!(9_007_199_254_740_992_u64),
        ),
    ] {
        let committed = agent.verb(&["set", key, text]).json();
        for watch in &watches {
            assert_eq!(watch.update(), json!([key, "agent-runtime", value]));
            assert_eq!(committed["sequence"], watch.reached());
        }
        assert_eq!(agent.verb(&["get", key]).json()["value"], value);
    }
    watches[0].assert_quiet(&agent);
}

#[test]
fn unset_reveals_layer_after_layer_and_the_last_one_a_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let watch = Watch::start(&agent);
    let before = watch.snapshot();
    let change = |arguments: &[&str]| agent.verb(arguments).json();

    // From below: the higher one wins each time.
    for (source, value) in [("file", 1), ("agent-runtime", 2), ("remote-config", 3)] {
        change(&["set", "mine.key", &value.to_string(), "--source", source]);
        assert_eq!(watch.update(), json!(["mine.key", source, value]));
    }
    // Shadowed: neither a write nor its removal streams.
    let shadowed = change(&["set", "mine.key", "9", "--source", "infra-mode"]);
    assert_eq!(shadowed["updates"], 0);
    let shadowed = change(&["unset", "mine.key", "--source", "infra-mode"]);
    assert_eq!(shadowed["updates"], 0);
    // The same again is no change.
    let again = change(&["set", "mine.key", "3", "--source", "remote-config"]);
    assert_eq!(
        (again["updates"].clone(), again["sequence"].as_u64()),
        (json!(0), Some(watch.reached()))
    );
    // From above: the next one shows, and the update names what was cleared.
    for (cleared, source, value) in [
        ("remote-config", "agent-runtime", 2),
        ("agent-runtime", "file", 1),
    ] {
        change(&["unset", "mine.key", "--source", cleared]);
        let update = watch.next();
        assert_eq!(update["unset_source"], cleared);
        assert_eq!(
            crate::view::said(&update),
            json!(["mine.key", source, value])
        );
    }
    let reached = watch.reached();
    let vanished = change(&["unset", "mine.key", "--source", "file"]);
    assert_eq!(vanished["needs_snapshot"], true);
    assert_eq!(watch.snapshot(), before);
    assert_eq!(watch.reached(), reached + 1);
    // Where it is not held there is nothing to unset, and nothing streams.
    agent
        .verb(&["unset", "mine.key", "--source", "file"])
        .demand(11, &["mine.key"]);
    watch.assert_quiet(&agent);
}

#[test]
fn changes_made_at_once_each_get_a_sequence_of_their_own() {
    const WRITERS: u64 = 8;
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let watch = Watch::start(&agent);
    watch.next();
    let before = watch.reached();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut command = configstream();
            command.arg("--run-dir").arg(root.path()).args([
                "set".to_owned(),
                format!("mine.writer{writer}"),
                writer.to_string(),
            ]);
            std::thread::spawn(move || Done::of(&mut command).json())
        })
        .collect();
    let committed = writers.into_iter().map(|writer| writer.join().unwrap());
    let mut sequences: Vec<u64> = committed
        .map(|committed| committed["sequence"].as_u64().unwrap())
        .collect();
    sequences.sort_unstable();
    let expected: Vec<u64> = (before + 1..=before + WRITERS).collect();
    assert_eq!(sequences, expected);
    let mut keys: Vec<Json> = (0..WRITERS).map(|_| watch.update()[0].clone()).collect();
    keys.sort_by_key(Json::to_string);
    let expected: Vec<Json> = (0..WRITERS)
        .map(|writer| json!(format!("mine.writer{writer}")))
        .collect();
    assert_eq!(keys, expected);
    watch.assert_quiet(&agent);
}

#[test]
fn what_a_client_has_gathered_is_what_the_agent_lists() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let watch = Watch::start(&agent);
    let mut gathered = watch.snapshot();
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let keys: Vec<String> = gathered.keys().take(40).cloned().collect();
        // A mixture that vanishes, appears, shadows and reveals; refused where the known type disagrees.
        for step in 0..400_usize {
            let own = format!("mine.k{}", step % 7);
            let key = if step % 3 == 0 {
                &own
            } else {
                &keys[step * 13 % keys.len()]
            };
            let key = configstream_engine::settings::Key::parse(key).unwrap();
            let source: configstream_engine::settings::Source =
                ["file", "agent-runtime", "remote-config"][step % 5 % 3]
                    .parse()
                    .unwrap();
            // Refusals are part of it: what was refused must not show.
            if step % 4 == 3 {
                let _ = within(client.unset(source, &key, "a test")).await;
            } else {
                let value = i32::try_from(step % 11).unwrap().into();
                let _ = within(client.set(source, &key, &value, "a test")).await;
            }
        }
    });
    let head = agent.sequence();
    assert!(head > 100, "{head}");
    while watch.reached() < head {
        let event = watch.next();
        if event["event"] == "snapshot" {
            gathered = crate::view::settings(&event);
        } else {
            let key = event["key"].as_str().unwrap().to_owned();
            gathered.insert(key, json!([event["source"], event["value"]]));
        }
    }
    assert_eq!(gathered, listed(&agent));
    watch.assert_quiet(&agent);
}

#[test]
fn what_was_set_at_run_time_is_gone_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let before = listed(&agent);
    agent.verb(&["set", "log_level", "debug"]).json();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    let agent = Agent::start(root.path(), &[]);
    assert_eq!(listed(&agent), before);
}
