//! What is wrong is said with the place and what to do, at the start and while the agent runs; nothing panics, and
//! nothing is lost. (What else keeps an agent from starting: `start.rs`.)

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use configstream_engine::settings::{Key, Source};
use nix::sys::signal::Signal;
use serde_json::json;
use tonic::Code;

use crate::peer::{Credentials, runtime, within};
use crate::support::{Agent, Done, configstream};
use crate::view::{Watch, listed};

/// A file that is refused: its content, where it is wrong, why, and what to do.
struct Bad {
    content: Vec<u8>,
    parts: [&'static str; 3],
}

fn bad_files() -> Vec<Bad> {
    let deep = format!("mine: {}1{}\n", "[".repeat(49), "]".repeat(49));
    let cases: [(&[u8], [&'static str; 3]); 17] = [
        (
            b"a: 1\nb: [1,\nc: 2\n",
            ["core.yaml:2:4", "no valid YAML", "correct it"],
        ),
        (
            b"a:\n\tb: 1\n",
            ["core.yaml:2:", "no valid YAML", "correct it"],
        ),
        (
            b"a: \"x\nb: 1\n",
            ["core.yaml:1:4", "no valid YAML", "correct it"],
        ),
        (
            b"a: 1\nb: 2\na: 3\n",
            [
                "core.yaml:3:1",
                "`a` is given twice, first at line 1",
                "remove one",
            ],
        ),
        (
            b"a.b: 1\na:\n  b: 2\n",
            ["core.yaml:3:3", "`a.b` is given twice", "remove one"],
        ),
        (
            b"a: 1\na.b: 2\n",
            ["core.yaml:2:1", "`a` and `a.b`", "remove one"],
        ),
        (b"a:\n", ["core.yaml:1:1", "null", "remove the line"]),
        (
            b"a: 1\nb: [1, ~]\n",
            ["core.yaml:2:", "`b` has no value", "remove the line"],
        ),
        (
            b"a: .nan\n",
            ["core.yaml:1:4", "not a finite number", "finite"],
        ),
        (
            b"a: {B: -.inf}\n",
            ["core.yaml:1:", "not a finite number", "finite"],
        ),
        (
            b"a: 9007199254740993\n",
            ["core.yaml:1:4", "2^53", "quote it"],
        ),
        (b"a: 1\nb: \xff\n", ["core.yaml:2:4", "not UTF-8", "UTF-8"]),
        (b"- a\n", ["core.yaml:1:1", "no mapping", "key: value"]),
        (
            b"Log_Level: info\n",
            ["core.yaml:1:1", "upper-case", "log_level"],
        ),
        (
            b"expvar_port: many\n",
            ["core.yaml:1:14", "is an integer", "whole number"],
        ),
        (
            b"log_level: [info]\n",
            ["core.yaml:1:12", "is a string", "text"],
        ),
        (
            b"apm_config: true\n",
            ["core.yaml:1:1", "is a section", "inside"],
        ),
    ];
    let cases = cases.map(|(content, parts)| Bad {
        content: content.to_vec(),
        parts,
    });
    let deep = Bad {
        content: deep.into_bytes(),
        parts: ["core.yaml:1:1", "too deep", "flatten"],
    };
    cases.into_iter().chain([deep]).collect()
}

fn start(run_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = configstream();
    command
        .args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--run-dir",
        ])
        .arg(run_dir)
        .args(arguments);
    command
}

#[test]
fn each_bad_file_keeps_an_agent_from_starting() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    let config_argument = config.display().to_string();
    let run_dir = root.path().join("run");
    for bad in bad_files() {
        fs::write(&config, &bad.content).unwrap();
        let done = Done::of(&mut start(&run_dir, &["--config", &config_argument]));
        done.demand(3, &["configuration file is refused", "why: ", "to do: "]);
        done.demand(3, &bad.parts);
    }
    // Longer than anything is read.
    fs::File::create(&config)
        .unwrap()
        .set_len(65 << 20)
        .unwrap();
    Done::of(&mut start(&run_dir, &["--config", &config_argument]))
        .demand(3, &["core.yaml", "is longer than", "split it"]);
    assert!(
        !run_dir.exists(),
        "nothing is spent before everything is good"
    );
}

#[test]
fn each_bad_file_leaves_a_running_agent_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "mine: 0\nlog_file: y.log\n").unwrap();
    let mut agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    let watch = Watch::start(&agent);
    let before = watch.snapshot();
    let replace = |content: &[u8]| {
        let new = root.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, &config).unwrap();
    };
    let report = |agent: &Agent| {
        let status = agent.status();
        let sources = status["sources"].as_array().unwrap();
        let file = sources.iter().find(|source| source["source"] == "file");
        file.unwrap().clone()
    };
    let mut errors = 0.0;
    for bad in bad_files() {
        replace(&bad.content);
        errors += 1.0;
        agent.until("the error counts", |agent| {
            agent.metric("configstream_file_reload_errors_total") >= errors
        });
        assert_eq!(agent.metric("configstream_file_healthy"), 0.0);
        let file = report(&agent);
        assert_eq!(file["healthy"], false);
        for part in bad.parts {
            assert!(
                file["error"].as_str().unwrap().contains(part),
                "lacks {part:?}: {file}"
            );
        }
        let line = agent.until_said(bad.parts[0]);
        assert!(
            line.contains("ERROR") && line.contains("last good"),
            "{line}"
        );
    }
    assert_eq!(
        agent.metric("configstream_file_reload_errors_total"),
        errors
    );
    assert_eq!(listed(&agent), before);

    // Changes from elsewhere still stream, and so does the file when it is good again: nothing else in between.
    agent.verb(&["set", "mine", "5"]).json();
    assert_eq!(watch.update(), json!(["mine", "agent-runtime", 5]));
    replace(b"mine: 1\nlog_file: x.log\n");
    assert_eq!(watch.update(), json!(["log_file", "file", "x.log"]));
    agent.until("it is healthy", |agent| {
        agent.metric("configstream_file_healthy") > 0.5
    });
    assert_eq!(report(&agent)["healthy"], true);
    agent.until_said("good again");
    watch.assert_quiet(&agent);
}

#[test]
fn a_good_file_that_does_not_fit_what_was_set_is_refused_whole() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "ours: 1\n").unwrap();
    let agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    let watch = Watch::start(&agent);
    watch.next();
    agent.verb(&["set", "mine.below", "1"]).json();
    watch.update();
    fs::write(&config, "ours: 2\nmine: 1\n").unwrap();
    agent.until("it is refused", |agent| {
        agent.metric("configstream_file_healthy") < 0.5
    });
    let status = agent.status().to_string();
    assert!(status.contains("mine.below"), "{status}");
    assert_eq!(agent.verb(&["get", "ours"]).json()["value"], 1);
    watch.assert_quiet(&agent);
}

#[test]
fn a_refused_value_is_quoted_nowhere_whatever_hides_it() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "forwarder_timeout: 1s\n").unwrap();
    let mut agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    let hide = "secret_keys: [forwarder_timeout]\n";
    fs::write(&config, format!("{hide}forwarder_timeout: hunter2\n")).unwrap();
    agent.until("it is refused", |agent| {
        agent.metric("configstream_file_healthy") < 0.5
    });
    let place = "core.yaml:2:20: `forwarder_timeout` is a duration, but its value is not";
    agent.until_said(place);
    assert!(agent.status().to_string().contains(place));
    let set = agent.verb(&["set", "forwarder_timeout", "hunter2"]);
    set.demand(10, &["is a duration, but its value is not"]);
    let told = format!("{set:?} {}", agent.status());
    fs::write(&config, format!("{hide}forwarder_timeout: 2s\n")).unwrap();
    agent.until_said("good again");
    let shown = agent.verb(&["get", "forwarder_timeout"]).json();
    assert_eq!(shown["value"], "********");
    agent.signal(Signal::SIGTERM);
    let told = format!("{told} {:?}", agent.said());
    assert!(!told.contains("hunter2"), "{told}");
    // Nor where the agent cannot start.
    let mut command = start(
        &root.path().join("other"),
        &["--set", "forwarder_timeout=hunter2"],
    );
    let done = Done::of(&mut command);
    done.demand(3, &["forwarder_timeout"]);
    assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "a: 1\n").unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    if fs::metadata(root.path()).unwrap().uid() == 0 {
        // Who runs this may read everything; nobody may not. Where nobody may not even run the program, nothing shows.
        if !nobody_can_run() {
            return;
        }
        command.uid(NOBODY);
    }
    Done::of(&mut command).demand(3, &["core.yaml", "cannot be read", "to do: let the user"]);
}

#[test]
fn credentials_that_are_wrong_or_open_are_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for run_dir in [root.path(), elsewhere.path()] {
        drop(Agent::start(run_dir, &[]));
    }
    let certificate = root.path().join("ipc_cert.pem");
    let token = root.path().join("auth_token");
    let good = fs::read_to_string(&certificate).unwrap();
    let other = fs::read_to_string(elsewhere.path().join("ipc_cert.pem")).unwrap();
    let good_token = fs::read_to_string(&token).unwrap();
    let key_at = |pem: &str| pem.find("-----BEGIN EC PRIVATE KEY").unwrap();
    let mixed = format!("{}{}", &good[..key_at(&good)], &other[key_at(&other)..]);
    let alone = &good[..key_at(&good)];
    let cut = &good[..good.len() - 40];
    let try_start = || Done::of(&mut start(root.path(), &[]));
    let sequence = fs::read(root.path().join("sequence")).unwrap();
    for content in ["", "hello\n", &mixed, alone, cut] {
        fs::write(&certificate, content).unwrap();
        try_start().demand(6, &["ipc_cert.pem", "why: ", "to do: "]);
        assert_eq!(fs::read_to_string(&certificate).unwrap(), content);
        // Clients that find it say so too.
        let mut command = configstream();
        command.arg("--run-dir").arg(root.path()).arg("status");
        Done::of(&mut command).demand(6, &["ipc_cert.pem"]);
    }
    fs::write(&certificate, &good).unwrap();
    for content in ["", "abc", &"g".repeat(64), &format!("{good_token}\n\nmore")] {
        fs::write(&token, content).unwrap();
        try_start().demand(6, &["auth_token", "why: ", "to do: "]);
        assert_eq!(fs::read_to_string(&token).unwrap(), *content);
    }
    fs::write(&token, &good_token).unwrap();
    for path in [&certificate, &token] {
        for mode in [0o644, 0o640, 0o602] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            try_start().demand(6, &[name, "open to others", "chmod 600"]);
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(fs::read(root.path().join("sequence")).unwrap(), sequence);
    // All is as before, so all is well again.
    Agent::start(root.path(), &[])
        .verb(&["get", "log_level"])
        .json();
}

#[test]
fn a_damaged_sequence_is_refused_until_it_is_mended() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    agent.verb(&["set", "log_level", "debug"]).json();
    let epoch = agent.status()["head"]["epoch"].as_u64().unwrap();
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    agent.wait();
    drop(agent);
    let path = root.path().join("sequence");
    let good = fs::read(&path).unwrap();
    for damaged in [
        Vec::new(),
        b"hello\n".to_vec(),
        good[..good.len() - 3].to_vec(),
        good.iter()
            .map(|byte| if *byte == b'2' { b'3' } else { *byte })
            .collect(),
        [good.as_slice(), b"\0"].concat(),
    ] {
        assert_ne!(damaged, good);
        fs::write(&path, &damaged).unwrap();
        Done::of(&mut start(root.path(), &[])).demand(7, &["sequence", "damaged", "to do: "]);
        assert_eq!(
            fs::read(&path).unwrap(),
            damaged,
            "it is left for those who look"
        );
    }
    fs::write(&path, &good).unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    assert_eq!(agent.status()["head"]["epoch"], epoch);
    assert_eq!(agent.sequence(), 3);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    agent.wait();
    drop(agent);
    // The mend it names: without the file a new epoch begins, beyond the old one.
    fs::remove_file(&path).unwrap();
    let agent = Agent::start(root.path(), &[]);
    assert!(agent.status()["head"]["epoch"].as_u64() > Some(epoch));
}

#[test]
fn a_run_directory_of_somebody_else_is_no_place_to_write() {
    let root = tempfile::tempdir().unwrap();
    if fs::metadata(root.path()).unwrap().uid() != 0 || !nobody_can_run() {
        // Only who may act for others can try this.
        return;
    }
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run_dir = root.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    let mut command = start(&run_dir, &[]);
    command.uid(NOBODY);
    Done::of(&mut command).demand(4, &["run", "why: ", "to do: "]);
    // Its own is.
    chown(&run_dir, Some(NOBODY), None).unwrap();
    Agent::start_with(&run_dir, &[], |command| command.uid(NOBODY));
}

#[test]
fn values_that_cannot_be_are_refused_at_run_time_and_nothing_streams() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let watch = Watch::start(&agent);
    let before = watch.snapshot();
    let deep = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    for (key, text, parts) in [
        ("mine", "null", ["null", "give a value"]),
        ("mine", ".nan", ["finite", "to do:"]),
        ("mine", "[1, .inf]", ["finite", "to do:"]),
        ("mine", "9007199254740993", ["2^53", "to do:"]),
        ("mine", "[1, 2", ["mine", "to do:"]),
        ("mine", &deep, ["deep", "to do:"]),
        ("log_level.below", "1", ["log_level", "to do:"]),
        ("apm_config", "1", ["apm_config", "to do:"]),
        (
            "apm_config.enabled",
            "maybe",
            ["is a boolean", "true or false"],
        ),
        ("forwarder_timeout", "soon", ["duration", "to do:"]),
    ] {
        agent.verb(&["set", key, text]).demand(10, &parts);
    }
    agent.verb(&["set", "Mine", "1"]).demand(2, &["lower-case"]);
    agent
        .verb(&["set", "mine", "1", "--source", "me"])
        .demand(2, &["agent-runtime"]);
    runtime().block_on(async {
        // What our own tool would not even send.
        let client = Credentials::of(&agent).connect().await.unwrap();
        let key = Key::parse("mine").unwrap();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let value = value.into();
            let set = client.set(Source::AgentRuntime, &key, &value, "a test");
            let status = within(set).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(status.message().contains("mine"), "{status}");
        }
        let large = "x".repeat(2 << 20).into();
        let set = client.set(Source::AgentRuntime, &key, &large, "a test");
        assert_eq!(within(set).await.unwrap_err().code(), Code::OutOfRange);
    });
    assert_eq!(listed(&agent), before);
    assert_eq!(agent.sequence(), 1);
    watch.assert_quiet(&agent);
}

/// Whether the program lies where everybody may run it.
fn nobody_can_run() -> bool {
    configstream()
        .arg("--version")
        .stdout(Stdio::null())
        .uid(NOBODY)
        .status()
        .is_ok()
}

/// The user that owns nothing.
const NOBODY: u32 = 65_534;
