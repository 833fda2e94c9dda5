//! `configstream watch` as a script sees it, and verbs whose output nobody reads any more.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Agent, Done, Lines, configstream};

pub(crate) fn watch(agent: &Agent, arguments: &[&str]) -> Lines {
    let mut command = configstream();
    command.arg("watch").arg("--run-dir").arg(&agent.run_dir);
    Lines::of(command.args(arguments))
}

/// Returns when a stream of the agent has been handed its first event.
pub(crate) fn until_watched(agent: &Agent) {
    agent.until("the watch is there", |agent| {
        agent.status()["agents"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["last_sequence_sent"].is_u64())
    });
}

#[test]
fn a_watch_of_changes_shows_no_snapshot_and_runs_a_command_for_each_change() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    agent.verb(&["set", "mine.key", "0"]).json();
    let log = root.path().join("log");
    let command = format!(
        "echo \"$CONFIGSTREAM_KEY=${{CONFIGSTREAM_VALUE-gone}} $CONFIGSTREAM_SOURCE $CONFIGSTREAM_SEQUENCE\" >> {}; exit 3",
        log.display()
    );
    let watch = watch(
        &agent,
        &[
            "mine",
            "--only-changes",
            "--exec",
            &command,
            "--events",
            "3",
        ],
    );
    until_watched(&agent);
    let mut sequences = Vec::new();
    for verb in [
        vec!["set", "mine.key", "a b"],
        vec!["set", "log_level", "debug"],
        vec!["set", "mine.list", "[1, x]"],
        vec!["unset", "mine.key"],
    ] {
        sequences.push(agent.verb(&verb).json()["sequence"].clone());
    }
    assert_eq!(
        watch.next(),
        json!({ "event": "update", "sequence": sequences[0], "key": "mine.key", "source": "agent-runtime", "value": "a b" })
    );
    assert_eq!(watch.next()["value"], json!([1, "x"]));
    assert_eq!(
        watch.next(),
        json!({ "event": "vanished", "sequence": sequences[3], "key": "mine.key" })
    );
    let said = watch.wait();
    assert!(
        said.contains("the command for mine.list ended: exit status: 3"),
        "{said}"
    );
    let log = fs::read_to_string(log).unwrap();
    let ran: Vec<&str> = log.lines().collect();
    // The command may be slower than the changes; what a key ended in is never missed.
    assert!(
        ran.contains(&format!("mine.list=[1,\"x\"] agent-runtime {}", sequences[2]).as_str()),
        "{log}"
    );
    assert!(
        ran.contains(&format!("mine.key=gone  {}", sequences[3]).as_str()),
        "{log}"
    );
}

#[test]
fn an_empty_section_is_all_settings_for_every_verb() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let all = agent.status()["head"]["settings"].as_u64();
    for empty in ["", "."] {
        let listed = agent.verb(&["list", empty]);
        assert_eq!(Some(listed.out.lines().count() as u64), all, "{listed:?}");
        let watched = agent.verb(&["watch", empty, "--events", "1"]).json();
        let watched = watched["settings"].as_array().map(|all| all.len() as u64);
        assert_eq!(watched, all);
    }
}

#[test]
fn a_watch_of_no_events_ends_with_the_first_snapshot_and_shows_none() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let marker = root.path().join("ran");
    let command = format!("touch {}", marker.display());
    let done = agent.verb(&["watch", "--events", "0", "--exec", &command]);
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""), "{done:?}");
    assert!(!marker.exists(), "nothing has changed");
}

#[test]
fn a_reader_that_has_gone_ends_a_verb_quietly() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let program = env!("CARGO_BIN_EXE_configstream");
    for verb in [
        "list",
        "watch --events 1",
        "watch",
        "man",
        "completions bash",
    ] {
        let script = format!(
            "set -o pipefail; {program} --run-dir {} {verb} | head -c 1 >&2",
            root.path().display()
        );
        let piped = Done::of(
            Command::new("bash")
                .args(["-c", &script])
                .env("RUST_LOG", "off"),
        );
        assert_eq!(piped.code, Some(0), "{verb}: {piped:?}");
        assert!(
            !piped.err.contains("error") && !piped.err.contains("panicked"),
            "{piped:?}"
        );
    }
    drop(agent);
}

#[test]
fn a_program_whose_narration_nobody_reads_ends_with_its_own_exit_code() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let here = root.path().display().to_string();
    for (arguments, code) in [
        (vec!["list", "--run-dir", &here], 0),
        (
            vec![
                "watch",
                "--only-changes",
                "--events",
                "0",
                "--run-dir",
                &here,
            ],
            0,
        ),
        (vec!["get", "mine.none", "--run-dir", &here], 11),
        (vec!["run", "--run-dir", &here], 5),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = configstream();
        command
            .args(&arguments)
            .stdout(Stdio::null())
            .stderr(writer);
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
    drop(agent);
}
