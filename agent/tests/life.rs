//! An agent from start to stop, seen from outside.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use support::{Agent, Done, Lines, client, configstream};

#[test]
fn a_first_start_makes_what_it_needs_and_a_clean_stop_saves_the_exact_sequence() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let mut agent = Agent::start(&run_dir, &[]);
    for (name, mode) in [
        ("ipc_cert.pem", 0o600),
        ("auth_token", 0o600),
        ("sequence", 0o600),
        ("", 0o700),
    ] {
        assert_eq!(
            fs::metadata(run_dir.join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            mode,
            "{name}"
        );
    }
    assert_eq!(agent.sequence(), 1);
    assert!(agent.status()["head"]["settings"].as_u64().unwrap() >= 350);
    for value in ["debug", "warn", "error"] {
        agent.verb(&["set", "log_level", value]).json();
    }
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    assert!(
        fs::read_to_string(run_dir.join("sequence"))
            .unwrap()
            .contains("\nused-up-to 4\n")
    );
    // A start without a publish spends one.
    let mut agent = Agent::start(&run_dir, &[]);
    assert_eq!(agent.sequence(), 5);
    agent.signal(Signal::SIGINT);
    assert_eq!(agent.wait(), Some(0));
    assert!(
        fs::read_to_string(run_dir.join("sequence"))
            .unwrap()
            .contains("\nused-up-to 5\n")
    );
}

#[test]
fn after_a_kill_the_sequence_goes_on_beyond_what_was_used() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let before = agent.verb(&["set", "log_level", "debug"]).json();
    agent.signal(Signal::SIGKILL);
    assert_eq!(agent.wait(), None);
    let agent = Agent::start(root.path(), &[]);
    let after = agent.status();
    assert_eq!(after["head"]["epoch"], before["epoch"]);
    assert!(
        after["head"]["sequence"].as_u64() > before["sequence"].as_u64(),
        "{after}"
    );
}

#[test]
fn layers_stand_in_their_order_and_explain_where_they_come_from() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "# a comment\nlog_level: from-file\n").unwrap();
    let config = config.display().to_string();
    let arguments = ["--config", &config, "--set", "log_level=from-cli"];
    let agent = Agent::start_with(&root.path().join("run"), &arguments, |command| {
        command.env("DD_LOG_LEVEL", "from-env")
    });
    agent.verb(&["set", "log_level", "debug"]).json();
    let explained = agent.verb(&["explain", "log_level"]);
    let layers: Vec<serde_json::Value> = explained
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown: Vec<(&str, &str, bool)> = layers
        .iter()
        .map(|layer| {
            (
                layer["source"].as_str().unwrap(),
                layer["value"].as_str().unwrap(),
                layer["wins"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("default", "info", false),
            ("file", "from-file", false),
            ("environment-variable", "from-env", false),
            ("agent-runtime", "debug", false),
            ("cli", "from-cli", true),
        ]
    );
    for (layer, place) in layers.iter().zip([
        "built in, line",
        "core.yaml:2",
        "DD_LOG_LEVEL",
        "at run time by",
        "command line",
    ]) {
        assert!(
            layer["provenance"].as_str().unwrap().contains(place),
            "{layer} lacks {place}"
        );
    }
    assert_eq!(agent.status()["origin"], "core.yaml");
}

#[test]
fn variables_start_with_the_prefix_that_is_asked_for() {
    for (arguments, level) in [
        (&[][..], "of-dd"),
        (&["--env-prefix", "MY"][..], "of-my"),
        (&["--env-prefix", "MY_"], "of-my"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let agent = Agent::start_with(root.path(), arguments, |command| {
            let command = command.env("DD_LOG_LEVEL", "of-dd");
            command.env("MY_LOG_LEVEL", "of-my")
        });
        let won = agent.verb(&["get", "log_level"]).json();
        assert_eq!(won["value"], level, "{arguments:?}");
        assert_eq!(won["source"], "environment-variable", "{arguments:?}");
    }
}

#[test]
fn set_and_unset_stream_what_wins() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let set = agent.verb(&["set", "forwarder_timeout", "1m30s"]).json();
    assert_eq!(
        (set["updates"].as_u64(), set["sequence"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(
        agent.verb(&["get", "forwarder_timeout"]).json()["value"],
        90_000_000_000_u64
    );
    let again = agent.verb(&["set", "forwarder_timeout", "90s"]).json();
    assert_eq!(
        (again["updates"].as_u64(), again["sequence"].as_u64()),
        (Some(0), Some(2))
    );
    let shadowed = agent
        .verb(&["set", "forwarder_timeout", "5s", "--source", "file"])
        .json();
    assert_eq!(
        (shadowed["updates"].as_u64(), shadowed["sequence"].as_u64()),
        (Some(0), Some(2))
    );
    agent.verb(&["unset", "forwarder_timeout"]).json();
    let revealed = agent.verb(&["get", "forwarder_timeout"]).json();
    assert_eq!(
        (revealed["value"].as_u64(), revealed["source"].as_str()),
        (Some(5_000_000_000), Some("file"))
    );
    agent.verb(&["set", "mine.new", "[1, {A: b}]"]).json();
    let got = agent.verb(&["get", "mine.new"]).out;
    let start = "{\"key\":\"mine.new\",\"source\":\"agent-runtime\",\"value\":[1,{\"A\":\"b\"}],";
    assert!(got.starts_with(start) && got.ends_with("}\n"), "{got}");
    assert_eq!(
        agent.verb(&["unset", "mine.new"]).json()["needs_snapshot"],
        true
    );
    let listed = agent.verb(&["list", "apm_config.obfuscation"]).out;
    assert!(
        listed.lines().count() > 15
            && listed
                .lines()
                .all(|line| line.contains("\"apm_config.obfuscation.")),
        "{listed}"
    );
}

#[test]
fn tools_say_what_is_wrong_with_an_exit_code() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let alone = |arguments: &[&str]| {
        Done::of(
            configstream()
                .arg("--run-dir")
                .arg(&run_dir)
                .args(arguments),
        )
    };
    alone(&["status"]).demand(6, &["ipc_cert.pem", "start the agent once"]);
    let mut agent = Agent::start(&run_dir, &[]);
    agent
        .verb(&["get", "nothing.here"])
        .demand(11, &["nothing.here", "to do:"]);
    agent
        .verb(&["get", "logs_config"])
        .demand(11, &["is a section", "configstream list logs_config"]);
    agent
        .verb(&["list", "nothing"])
        .demand(11, &["nothing", "configstream list"]);
    agent
        .verb(&["unset", "log_level"])
        .demand(11, &["log_level", "configstream explain"]);
    agent
        .verb(&["set", "apm_config.enabled", "5"])
        .demand(10, &["is a boolean", "true or false"]);
    agent
        .verb(&["set", "mine", "null"])
        .demand(10, &["null", "give a value"]);
    agent.verb(&["set", "mine.below", "1"]).json();
    agent
        .verb(&["set", "mine", "1"])
        .demand(10, &["mine.below"]);
    agent.verb(&["get", "Upper"]).demand(2, &["lower-case"]);
    let other = root.path().join("other");
    let stranger = Agent::start(&other, &[]);
    let theirs = fs::read_to_string(run_dir.join("address")).unwrap();
    let wrong = stranger.verb(&["--address", theirs.trim(), "status"]);
    wrong.demand(6, &["to do:", "--run-dir"]);
    fs::copy(run_dir.join("ipc_cert.pem"), other.join("ipc_cert.pem")).unwrap();
    stranger
        .verb(&["--address", theirs.trim(), "status"])
        .demand(10, &["Unauthenticated", "--run-dir"]);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    alone(&["status"]).demand(9, &["cannot reach the agent", "configstream run"]);
    alone(&["completions", "bash"]).demand(0, &[]);
}

#[test]
fn a_broken_file_shows_in_metrics_status_and_doctor_until_it_is_mended() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "mine: 1\n").unwrap();
    let mut agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    agent.until("a good start", |agent| {
        agent.metric("configstream_file_healthy") > 0.5
    });
    assert_eq!(agent.verb(&["doctor"]).code, Some(0));
    let before = agent.sequence();
    fs::write(root.path().join("new"), "mine: [\n").unwrap();
    fs::rename(root.path().join("new"), &config).unwrap();
    let line = agent.until_said("core.yaml:1:7");
    assert!(
        line.contains("ERROR") && line.contains("last good"),
        "{line}"
    );
    agent.until("the metric", |agent| {
        agent.metric("configstream_file_reload_errors_total") > 0.5
    });
    assert!(agent.metric("configstream_file_healthy") < 0.5);
    assert_eq!(agent.sequence(), before);
    let status = agent.status();
    let file = status["sources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|source| source["source"] == "file")
        .unwrap();
    assert_eq!(file["healthy"], false);
    assert!(
        file["error"].as_str().unwrap().contains("core.yaml:1:7"),
        "{file}"
    );
    let doctor = agent.verb(&["doctor"]);
    assert_eq!(doctor.code, Some(1));
    assert!(doctor.out.contains("core.yaml:1:7"), "{doctor:?}");
    fs::write(root.path().join("new"), "mine: 2\n").unwrap();
    fs::rename(root.path().join("new"), &config).unwrap();
    agent.until_said("good again");
    assert_eq!(agent.verb(&["get", "mine"]).json()["value"], 2);
    assert!(agent.metric("configstream_file_healthy") > 0.5);
}

#[test]
fn a_hangup_reloads() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "mine: 1\n").unwrap();
    let agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    let reloads = |agent: &Agent| agent.metric("configstream_file_reloads_total");
    agent.until("the first look", |agent| reloads(agent) > 0.5);
    let before = reloads(&agent);
    agent.signal(Signal::SIGHUP);
    agent.until("a reload", |agent| reloads(agent) > before + 0.5);
}

#[test]
fn the_names_of_all_metrics_are_there_from_the_start() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    for name in [
        "subscribers",
        "snapshots_sent",
        "updates_sent",
        "discontinuities",
        "dropped_updates",
        "refused_handshakes",
        "refused_connections",
    ] {
        assert!(
            agent.metric(&format!("configstream_{name}")).abs() < 0.5,
            "{name}"
        );
    }
    assert!(agent.metric("configstream_settings") >= 350.0);
    assert!(
        agent
            .page("/metrics")
            .1
            .contains("# TYPE configstream_subscribers gauge")
    );
    assert_eq!(
        agent.page("/healthz"),
        ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned())
    );
    assert_eq!(agent.page("/nothing").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn watch_shows_a_snapshot_then_updates_of_what_was_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut watch = configstream();
    watch
        .arg("--run-dir")
        .arg(root.path())
        .args(["watch", "log_level", "dogstatsd_stats_port"]);
    let watch = Lines::of(&mut watch);
    let first = watch.next();
    assert_eq!(first["event"], "snapshot");
    assert_eq!(first["settings"].as_array().unwrap().len(), 2);
    for (key, value) in [
        ("log_level", "debug"),
        ("log_file", "else.log"),
        ("dogstatsd_stats_port", "5555"),
    ] {
        agent.verb(&["set", key, value]).json();
    }
    let update = watch.next();
    assert_eq!(
        (&update["key"], &update["sequence"]),
        (&"log_level".into(), &2.into())
    );
    let update = watch.next();
    assert_eq!(
        (&update["key"], &update["sequence"]),
        (&"dogstatsd_stats_port".into(), &4.into())
    );
}

#[test]
fn watch_comes_back_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let mut agent = Agent::start(&run_dir, &[]);
    let watch = Lines::of(
        configstream()
            .arg("--run-dir")
            .arg(&run_dir)
            .args(["watch", "log_level"]),
    );
    let before = watch.next();
    agent.signal(Signal::SIGKILL);
    agent.wait();
    let _agent = Agent::start(&run_dir, &[]);
    let after = watch.next();
    assert_eq!(after["event"], "snapshot");
    assert!(
        after["sequence"].as_u64() > before["sequence"].as_u64(),
        "{before} {after}"
    );
}

#[test]
fn the_test_client_prints_and_judges_as_documented() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let agent = Agent::start(
        &run_dir,
        &[
            "--listen",
            &format!("unix:{}", root.path().join("sock").display()),
        ],
    );
    let address = fs::read_to_string(run_dir.join("address")).unwrap();
    let files = |command: &mut Command| {
        command
            .arg("--agent-cert-file")
            .arg(run_dir.join("ipc_cert.pem"));
        command
            .arg("--agent-auth-token-file")
            .arg(run_dir.join("auth_token"));
    };
    let mut command = client();
    files(&mut command);
    command.args([
        "--ipc-address",
        address.trim(),
        "-duration",
        "3s",
        "--max-samples",
        "2",
        "--name",
        "tester",
    ]);
    let running = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    agent.until("the stream", |agent| {
        agent.metric("configstream_snapshots_sent") > 0.5
    });
    agent.verb(&["set", "log_level", "debug"]).json();
    let done = Done::after(running);
    assert_eq!(done.code, Some(0), "{done:?}");
    let text = done.out;
    assert!(
        text.contains("✓ SNAPSHOT received (seq_id=1, settings="),
        "{text}"
    );
    assert_eq!(text.matches(" (source: default)").count(), 2, "{text}");
    assert!(text.contains("✓ UPDATE #1 received (seq_id=2)\n  key: log_level\n  value: \"debug\"\n  source: agent-runtime\n"), "{text}");

    // Over the Unix socket, with a wrong token that wins over the right file.
    let mut command = client();
    files(&mut command);
    command
        .arg("--ipc-address")
        .arg(format!("unix:{}", root.path().join("sock").display()));
    command.args(["--auth-token", &"ab".repeat(32), "--duration", "5s"]);
    Done::of(&mut command).demand(1, &["cannot register", "Unauthenticated"]);
    let mut command = client();
    files(&mut command);
    command
        .arg("--ipc-address")
        .arg(format!("unix:{}", root.path().join("sock").display()))
        .args(["--duration", "500ms"]);
    assert_eq!(Done::of(&mut command).code, Some(0));
    // Nobody there, no files, and a duration that is none.
    let mut command = client();
    files(&mut command);
    command.args(["--ipc-address", "127.0.0.1:1"]);
    Done::of(&mut command).demand(1, &["cannot reach the agent"]);
    Done::of(client().args(["--agent-cert-file", "nowhere.pem"])).demand(1, &["nowhere.pem"]);
    Done::of(client().args(["--duration", "soon"])).demand(2, &["a number is missing"]);
}
