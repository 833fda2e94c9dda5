//! What each verb does, prints and exits with, as a script sees it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use configstream_grpc::ConfigEvent;
use serde_json::{Value as Json, json};

use crate::peer::{Credentials, open, runtime, within};
use crate::support::{Agent, Done, Lines, configstream};
use crate::watching::{until_watched, watch};

/// Every line of output, which is JSON.
fn lines(done: &Done) -> Vec<Json> {
    done.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn apply(agent: &Agent, arguments: &[&str], text: &str) -> Done {
    let mut child = configstream()
        .args(["apply", "-", "--run-dir"])
        .arg(&agent.run_dir)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that has refused its arguments does not read.
    let _ = stdin.write_all(text.as_bytes());
    drop(stdin);
    Done::after(child)
}

#[test]
fn a_setting_can_be_changed_only_if_it_is_still_as_it_was_read() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    agent.verb(&["set", "mine.key", "1"]).json();
    let read = agent.verb(&["get", "mine.key"]).json();
    let changed = read["changed_sequence"].to_string();
    assert_eq!(read["changed_sequence"], read["sequence"]);
    agent.verb(&["set", "mine.other", "1"]).json();

    // Other settings may change meanwhile; the whole configuration may not.
    let whole = agent.verb(&["set", "mine.key", "2", "--if-head", &changed]);
    whole.demand(
        13,
        &["expected it as of sequence", "found it at", "read it again"],
    );
    assert_eq!(whole.out, "");
    agent
        .verb(&["set", "mine.key", "2", "--if-sequence", &changed])
        .json();
    let late = agent.verb(&["unset", "mine.key", "--if-sequence", &changed]);
    late.demand(13, &["`mine.key` has changed", &changed, "read it again"]);
    assert_eq!(agent.verb(&["get", "mine.key"]).json()["value"], 2);

    let epoch = read["epoch"].as_u64().unwrap();
    let other = format!("{}:{}", epoch + 1, agent.sequence());
    agent
        .verb(&["set", "mine.key", "3", "--if-sequence", &other])
        .demand(13, &["started anew", &epoch.to_string()]);
    let same = format!("{epoch}:{}", agent.sequence());
    agent
        .verb(&["set", "mine.key", "3", "--if-head", &same])
        .json();
    agent
        .verb(&["set", "mine.key", "4", "--if-head", "2000000000"])
        .demand(13, &["still to come"]);
}

#[test]
fn what_is_persisted_is_there_after_a_restart_and_nothing_else_of_the_run() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    agent.verb(&["set", "mine.kept", "1", "--persist"]).json();
    agent.verb(&["set", "mine.lost", "1"]).json();
    apply(&agent, &["--persist", "--dry-run"], "mine.tried: 1\n");
    apply(&agent, &["--persist", "--if-head", "1"], "mine.late: 1\n").demand(13, &["sequence"]);
    apply(&agent, &["--persist"], "mine.other: 1\n");
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    let agent = Agent::start(root.path(), &[]);
    let kept = lines(&agent.verb(&["list", "mine"]));
    let keys: Vec<&str> = kept
        .iter()
        .map(|line| line["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["mine.kept", "mine.other"]);
    let layers = lines(&agent.verb(&["explain", "mine.kept"]));
    assert!(layers[0]["requested_at"].is_string(), "{layers:?}");
    agent.verb(&["unset", "mine.kept", "--persist"]).json();
}

#[test]
fn of_two_writers_that_race_exactly_one_wins() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    for round in 0..5 {
        let sequence = agent.sequence().to_string();
        let writers = ["a", "b", "c"].map(|name| {
            configstream()
                .args([
                    "set",
                    "mine.race",
                    &format!("{name}{round}"),
                    "--if-sequence",
                    &sequence,
                ])
                .arg("--run-dir")
                .arg(&agent.run_dir)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let mut codes: Vec<_> = writers.map(Done::after).map(|done| done.code).into();
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(13), Some(13)]);
    }
}

#[test]
fn a_file_is_applied_whole_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    agent.verb(&["set", "mine.old", "1"]).json();
    let watch = watch(&agent, &["--json"]);
    watch.next();
    let before = agent.sequence();
    let text = "log_level: debug\nforwarder_timeout: 90s\nmine:\n  old: null\n  new: [1, 2]\n";

    let tried = lines(&apply(&agent, &["--dry-run"], text));
    assert_eq!(agent.sequence(), before);
    let of = |key: &str| {
        tried
            .iter()
            .find(|line| line["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(
        of("log_level"),
        json!({
            "key": "log_level",
            "before": { "source": "default", "value": "info" },
            "after": { "source": "agent-runtime", "value": "debug" },
            "streams": true,
        })
    );
    assert_eq!(of("mine.old")["after"], Json::Null);
    assert_eq!(of("mine.new")["before"], Json::Null);
    assert_eq!(
        of("forwarder_timeout")["after"]["value"],
        90_000_000_000_u64
    );
    let last = tried.last().unwrap();
    assert_eq!(
        (&last["dry_run"], &last["needs_snapshot"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(last["sequence"], before);

    // One wrong line, in the file or for the agent, and nothing of it is made.
    let wrong = text.replace("debug", "[1]");
    apply(&agent, &[], &wrong).demand(3, &["standard input", "1", "log_level"]);
    apply(
        &agent,
        &[],
        "mine.x: 1\nmine: null\nmine.new.deep: 2\nmine.new: 1\n",
    )
    .demand(3, &["mine.new"]);
    apply(&agent, &[], "mine.x: 1\nmine.old.deep: 2\n").demand(10, &["mine.old"]);
    apply(&agent, &[], "").demand(3, &["nothing in it"]);
    apply(&agent, &["--if-head", "1"], text).demand(13, &["sequence 1"]);
    assert_eq!(agent.sequence(), before);
    watch.assert_nothing_more();

    let made = lines(&apply(&agent, &["--wait", "30s"], text));
    assert_eq!(made.len(), tried.len());
    assert_eq!(made[..made.len() - 1], tried[..tried.len() - 1]);
    assert_eq!(made.last().unwrap()["passed"], 1);
    assert_eq!(watch.next()["event"], "snapshot");
    watch.assert_nothing_more();
    assert_eq!(
        agent.verb(&["get", "mine.new"]).json()["value"],
        json!([1, 2])
    );
    agent.verb(&["get", "mine.old"]).demand(11, &["mine.old"]);

    // Again: it is so already.
    let again = lines(&apply(&agent, &[], text));
    assert_eq!(again.len(), 1);
    assert_eq!(again[0]["updates"], 0);
    drop(watch.stop());
}

#[test]
fn a_diff_is_for_people_on_a_terminal_and_says_what_lies_beneath() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &["--set", "log_level=warn"]);
    agent.verb(&["set", "mine.old", "1"]).json();
    let file = root.path().join("changes.yaml");
    fs::write(
        &file,
        "log_level: debug\nforwarder_timeout: 90s\nmine.old:\nmine.new: 1\n",
    )
    .unwrap();
    let file = file.display().to_string();
    let shown = on_a_terminal(&agent, &["apply", &file, "--dry-run", "--color", "never"]);
    for line in [
        "- mine.old = 1 (source: agent-runtime)",
        "+ mine.new = 1 (source: agent-runtime)",
        "~ forwarder_timeout = 20s (source: default) -> 1m30s (source: agent-runtime)",
        "· log_level changes beneath what wins, \"warn\" (source: cli)",
        "4 of 4 keys would change, 0 are so already; nothing was changed",
    ] {
        assert!(shown.contains(line), "{shown} lacks {line}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let coloured = on_a_terminal(&agent, &["apply", &file, "--dry-run"]);
    assert!(coloured.contains("\u{1b}[31m- "), "{coloured}");
    let elsewhere = agent.verb(&["apply", &file, "--dry-run"]);
    assert!(!elsewhere.out.contains('\u{1b}'));
    assert_eq!(lines(&elsewhere).len(), 5);
}

/// What a person would see, by the help of `script`, which gives a program a terminal.
fn on_a_terminal(agent: &Agent, arguments: &[&str]) -> String {
    let words = [env!("CARGO_BIN_EXE_configstream"), "--run-dir"];
    let run_dir = agent.run_dir.display().to_string();
    let command: Vec<&str> = words
        .into_iter()
        .chain([run_dir.as_str()])
        .chain(arguments.iter().copied())
        .collect();
    let done = Done::of(
        Command::new("script")
            .args(["-qec", &command.join(" "), "/dev/null"])
            .env_remove("NO_COLOR"),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    done.out
}

#[test]
fn who_changed_a_setting_and_when_is_explained_and_in_the_log_without_its_value() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let set = |value| {
        Done::of(
            configstream()
                .args(["set", "mine.key", value, "--run-dir"])
                .arg(root.path())
                .env("USER", "alice"),
        )
    };
    let made = set("hush-hush").json();
    let explained = lines(&agent.verb(&["explain", "mine.key"]));
    assert_eq!(explained[0]["requested_by"], "alice, with configstream");
    let when = explained[0]["requested_at"].as_str().unwrap();
    assert!(when.starts_with("20") && when.ends_with('Z'), "{when}");
    let default = lines(&agent.verb(&["explain", "log_level"]));
    assert_eq!(
        (&default[0]["requested_by"], &default[0]["requested_at"]),
        (&Json::Null, &Json::Null)
    );

    agent
        .verb(&["set", "mine.key.below", "1"])
        .demand(10, &["mine.key"]);
    let made_line = agent.until_said("Configuration change made: set mine.key in agent-runtime");
    assert!(made_line.contains("alice"), "{made_line}");
    assert!(
        made_line.contains(&made["sequence"].to_string()),
        "{made_line}"
    );
    let refused = agent.until_said("Configuration change refused: set mine.key.below");
    assert!(refused.contains("InvalidArgument"), "{refused}");
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let said = agent.said().join("\n");
    assert!(!said.contains("hush-hush"), "{said}");
}

#[test]
fn no_verb_shows_a_secret() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "api_key: hunter2\n").unwrap();
    let config = config.display().to_string();
    let mut agent = Agent::start(&root.path().join("run"), &["--config", &config]);
    let file = root.path().join("changes.yaml");
    fs::write(&file, "api_key: hunter3\nmine.db_password: hunter4\n").unwrap();
    let file = file.display().to_string();

    let changes = watch(
        &agent,
        &[
            "api_key",
            "--only-changes",
            "--exec",
            "echo \"got $CONFIGSTREAM_VALUE\"",
        ],
    );
    until_watched(&agent);
    let client = Lines::of(
        crate::support::client()
            .args(["--max-samples", "1000", "--ipc-address"])
            .arg(
                fs::read_to_string(agent.run_dir.join("address"))
                    .unwrap()
                    .trim(),
            )
            .arg("--agent-auth-token-file")
            .arg(agent.run_dir.join("auth_token"))
            .arg("--agent-cert-file")
            .arg(agent.run_dir.join("ipc_cert.pem")),
    );
    while !client.line().contains("SNAPSHOT received") {}
    let mut seen = String::new();
    for verb in [
        vec!["get", "api_key"],
        vec!["list"],
        vec!["explain", "api_key"],
        vec!["apply", &file, "--dry-run"],
        vec!["apply", &file],
        vec!["watch", "api_key", "--events", "1"],
    ] {
        let done = agent.verb(&verb);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.out.contains("********"), "{done:?}");
        seen += &format!("{}{}", done.out, done.err);
    }
    let event = changes.next();
    assert_eq!(
        (&event["key"], &event["value"]),
        (&json!("api_key"), &json!("********"))
    );
    assert_eq!(changes.line(), "got ********");
    seen += &changes.stop();
    loop {
        let line = client.line();
        seen += &line;
        if line.contains("value: ") {
            assert!(line.contains("********"), "{line}");
            break;
        }
    }
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    seen += &agent.said().join("\n");
    for secret in ["hunter2", "hunter3", "hunter4"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
}

#[test]
fn init_writes_what_a_first_start_needs_and_never_overwrites() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let file = root.path().join("mine.yaml");
    let init = || {
        Done::of(
            configstream()
                .arg("init")
                .arg(&file)
                .arg("--run-dir")
                .arg(&run_dir),
        )
    };
    let made = init().json();
    assert_eq!(made["config"], file.display().to_string());
    let token = fs::read(run_dir.join("auth_token")).unwrap();
    let agent = Agent::start(&run_dir, &["--config", &file.display().to_string()]);
    assert_eq!(fs::read(run_dir.join("auth_token")).unwrap(), token);
    let greeting = agent.verb(&["get", "example.greeting"]).json();
    assert_eq!(
        (&greeting["source"], &greeting["value"]),
        (&json!("file"), &json!("hello"))
    );

    fs::write(&file, "log_level: error\n").unwrap();
    init().demand(14, &["is there already", "nothing is overwritten"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "log_level: error\n");
    let nowhere = root.path().join("no/such/mine.yaml");
    Done::of(
        configstream()
            .arg("init")
            .arg(nowhere)
            .arg("--run-dir")
            .arg(&run_dir),
    )
    .demand(3, &["cannot write", "name a file"]);
}

#[test]
fn every_verb_has_a_manual_page_and_the_exit_codes_are_in_it() {
    let root = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| Done::of(configstream().args(arguments));
    let whole = run(&["man"]);
    assert!(whole.out.contains(".TH configstream 1"), "{}", whole.out);
    assert!(
        whole.out.contains("13 something has changed"),
        "{}",
        whole.out
    );
    let set = run(&["man", "set"]);
    assert!(
        set.out.contains("configstream\\-set") && set.out.contains("if\\-sequence"),
        "{}",
        set.out
    );
    let dir = root.path().display().to_string();
    assert_eq!(run(&["man", "--dir", &dir]).code, Some(0));
    for verb in [
        "",
        "-run",
        "-watch",
        "-get",
        "-list",
        "-set",
        "-unset",
        "-apply",
        "-explain",
        "-agents",
        "-status",
        "-doctor",
        "-init",
        "-completions",
        "-man",
    ] {
        let page = root.path().join(format!("configstream{verb}.1"));
        assert!(
            fs::read_to_string(&page).unwrap().contains("SYNOPSIS"),
            "{}",
            page.display()
        );
    }
    run(&["man", "--dir", "/no/such/folder"]).demand(1, &["/no/such/folder"]);
    let help = run(&["--help"]);
    assert!(help.out.contains("14 it is there already"), "{}", help.out);
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(&["completions", shell]).out.contains("apply"),
            "{shell}"
        );
    }
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_how_to_mend_it() {
    let root = tempfile::tempdir().unwrap();
    let checks = |done: &Done| -> Vec<(String, bool, String)> {
        lines(done)
            .into_iter()
            .map(|line| {
                let text = |field: &str| line[field].as_str().unwrap().to_owned();
                (
                    text("check"),
                    line["good"].as_bool().unwrap(),
                    text("detail"),
                )
            })
            .collect()
    };
    let doctor = |dir: &Path| Done::of(configstream().arg("doctor").arg("--run-dir").arg(dir));
    let gone = doctor(&root.path().join("gone"));
    assert_eq!(gone.code, Some(1));
    assert!(!checks(&gone)[0].1, "{gone:?}");

    let dir = root.path().join("run");
    let mut agent = Agent::start(&dir, &[]);
    let well = doctor(&dir);
    assert_eq!(well.code, Some(0), "{well:?}");
    let names: Vec<String> = checks(&well).into_iter().map(|(name, ..)| name).collect();
    for name in [
        "run directory",
        "certificate",
        "token",
        "agent runs",
        "port",
        "connection",
        "answer",
        "versions",
        "clock",
        "session",
        "streams",
    ] {
        assert!(
            names.iter().any(|found| found == name),
            "{names:?} lack {name}"
        );
    }
    let refused = agent.status()["server"]["refused_handshakes"].clone();
    assert_eq!(
        refused, 0,
        "who looks whether all is well counts as no intruder"
    );

    let bad = |expected: &str, parts: &[&str]| {
        let done = doctor(&dir);
        assert_eq!(done.code, Some(1), "{done:?}");
        let found = checks(&done)
            .into_iter()
            .find(|(name, ..)| name == expected);
        let (_, good, detail) = found.unwrap_or_else(|| panic!("no {expected} in {done:?}"));
        assert!(!good, "{done:?}");
        for part in parts.iter().chain(&["to do:"]) {
            assert!(detail.contains(part), "{detail} lacks {part}");
        }
    };
    let chmod = |path: &Path, mode: u32| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(path, permissions).unwrap();
    };
    chmod(&dir, 0o777);
    bad("run directory", &["other users may write", "chmod 700"]);
    chmod(&dir, 0o700);
    let token = dir.join("auth_token");
    chmod(&token, 0o644);
    bad("token", &["chmod"]);
    chmod(&token, 0o600);
    let good = fs::read_to_string(&token).unwrap();
    fs::write(&token, "0".repeat(64)).unwrap();
    bad("answer", &["token"]);
    fs::write(&token, good).unwrap();
    let certificate = dir.join("ipc_cert.pem");
    let good = fs::read_to_string(&certificate).unwrap();
    fs::write(&certificate, "nothing").unwrap();
    bad("certificate", &["ipc_cert.pem"]);
    fs::write(&certificate, good).unwrap();

    // What keeps a client out, and the setting that does.
    let watching = watch(&agent, &[]);
    watching.next();
    for (key, value, why) in [
        ("remote_agent.registry.enabled", "false", "not enabled"),
        ("config_stream.max_streams", "1", "too many config streams"),
        (
            "remote_agent.registry.max_sessions",
            "1",
            "too many remote agents",
        ),
    ] {
        agent.verb(&["set", key, value]).json();
        agent.until_said(&format!("`{key}` has changed"));
        bad("session", &["a client cannot ", why, key]);
        agent.verb(&["unset", key]).json();
        agent.until_said(&format!("`{key}` has changed"));
        // It comes back by itself.
        agent.until("it watches", |agent| {
            agent.status()["server"]["streams"] == 1
        });
    }
    drop(watching);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    bad("agent runs", &["configstream run"]);
    bad("port", &["nobody listens there"]);
    bad("connection", &["cannot reach"]);
}

#[test]
fn no_verb_shows_a_password_within_a_url_and_the_stream_carries_it() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    let url = "postgres://shop:wonder@db/orders?sslmode=require";
    fs::write(&config, format!("shop.database: {url}\n")).unwrap();
    let config = config.display().to_string();
    let mut agent = Agent::start(&root.path().join("run"), &["--config", &config]);
    let changes = root.path().join("changes.yaml");
    fs::write(&changes, "shop.database: postgres://shop:wonderful@db\n").unwrap();
    let changes = changes.display().to_string();
    let mut seen = String::new();
    for verb in [
        vec!["get", "shop.database"],
        vec!["list", "shop"],
        vec!["explain", "shop.database"],
        vec!["watch", "shop", "--events", "1"],
        vec!["apply", &changes, "--dry-run"],
        vec!["apply", &changes],
    ] {
        let done = agent.verb(&verb);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.out.contains("postgres://shop:********@db"), "{done:?}");
        seen += &format!("{}{}", done.out, done.err);
    }
    agent.verb(&["unset", "shop.database"]).json();
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let (_session, mut events) = open(&client).await;
        let ConfigEvent::Snapshot(snapshot) = within(events.next()).await.unwrap() else {
            panic!("a snapshot first");
        };
        let mut settings = snapshot.settings.iter();
        let setting = settings.find(|setting| setting.key().as_str() == "shop.database");
        assert_eq!(setting.unwrap().value().as_str(), Some(url));
    });
    seen += &agent.page("/status").1;
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    seen += &agent.said().join("\n");
    assert!(!seen.contains("wonder"), "{seen}");
}

#[test]
fn no_verb_shows_a_character_that_hides_moves_or_controls() {
    const EVIL: &str = "a\u{1b}[2Jb\u{7f}c\u{9b}31md\u{202e}e\u{2028}f\u{200b}g\u{feff}h\u{2066}i";
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    std::fs::write(&config, "mine: 1\n").unwrap();
    let arguments = ["--config", &config.display().to_string()];
    let mut agent = Agent::start(&root.path().join("run"), &arguments);
    // As YAML and JSON both write it.
    let letters = EVIL
        .chars()
        .map(|letter| format!("\\u{:04x}", u32::from(letter)));
    let quoted = format!("\"{}\"", letters.collect::<String>());
    agent.verb(&["set", "other.text", &quoted]).json();
    std::fs::write(&config, format!("? {quoted}\n: 1\n? {quoted}\n: 2\n")).unwrap();
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    agent.until_said("last good");
    for verb in [
        &["get", "other.text"][..],
        &["list"],
        &["explain", "other.text"],
        &["agents"],
        &["status"],
        &["doctor"],
        &["unset", EVIL],
        &["get", EVIL],
        &["set", EVIL, EVIL],
        &["apply", EVIL],
        &["watch", "--events", "1"],
    ] {
        for more in [&[][..], &["--json"], &["--color", "always"]] {
            let done = agent.verb(&[verb, more].concat());
            for line in (done.out + &done.err).lines() {
                let plain = ["0", "1", "2", "31", "32", "33"]
                    .iter()
                    .fold(line.to_owned(), |line, code| {
                        line.replace(&format!("\u{1b}[{code}m"), "")
                    });
                let all = plain.chars().all(configstream_grpc::is_printable);
                assert!(all, "{verb:?} {more:?}: {line:?}");
            }
        }
    }
}
