//! The log: the same texts as text, as JSON and for the journal, and nothing in it that is nobody's business.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use configstream_engine::settings::{Key, Source, Value};
use configstream_grpc::{ChangeRequest, Conditions, Edit, Registration, is_printable};
use configstream_proto::configstream::admin::v1 as proto;
use configstream_proto::configstream::admin::v1::config_admin_client::ConfigAdminClient;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde_json::Value as Json;

use crate::peer::{Credentials, request, runtime, set};
use crate::support::{Agent, Done, PATIENCE, configstream};
use crate::view::Watch;

/// Makes an agent say each text that PROTOCOL names, and stops it.
fn all_documented(arguments: &[&str]) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), arguments);
    let watch = Watch::start(&agent);
    watch.next();
    watch.signal(Signal::SIGSTOP);
    let last = runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let mut last = 0;
        // More than the windows of HTTP/2 and the buffers of both sockets, and then more than a ring.
        for change in 0..200 {
            let text = format!("{change} {}", "x".repeat(200_000));
            last = set(&client, "mine.text", text).await;
        }
        last
    });
    watch.signal(Signal::SIGCONT);
    while watch.reached() < last {
        watch.next();
    }
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    agent.said().to_vec()
}

const DOCUMENTED: [(&str, &str, &str); 4] = [
    (
        "INFO",
        "Config stream authorized for remote agent 'configstream-watch'",
        "server::service",
    ),
    (
        "INFO",
        "New subscriber 'configstream-watch' joining the config stream",
        "server::stream",
    ),
    (
        "WARN",
        "Dropping config update for subscriber 'configstream-watch': ",
        "server::stream",
    ),
    (
        "WARN",
        "Discontinuity detected for subscriber 'configstream-watch': ",
        "server::stream",
    ),
];

#[test]
fn who_changed_what_is_logged_at_every_level_and_nothing_beside_it_at_off() {
    for level in ["warn", "error", "off"] {
        let root = tempfile::tempdir().unwrap();
        let level = format!("log_level={level}");
        let mut agent = Agent::start(root.path(), &["--set", &level]);
        agent.verb(&["set", "mine.key", "hush-hush"]).json();
        agent.verb(&["set", "mine.key.below", "1"]).demand(10, &[]);
        agent.signal(Signal::SIGTERM);
        let logged = agent
            .said()
            .iter()
            .filter(|line| line.contains("configstream_grpc::"));
        let logged: Vec<_> = logged.collect();
        assert_eq!(logged.len(), 2, "{logged:?}");
        let made = " INFO configstream_grpc::audit: Configuration change made: set mine.key in agent-runtime requested_by=";
        assert!(logged[0].contains(made), "{logged:?}");
        let refused =
            " WARN configstream_grpc::audit: Configuration change refused: set mine.key.below";
        assert!(logged[1].contains(refused), "{logged:?}");
        assert!(!logged.iter().any(|line| line.contains("hush-hush")));
    }
}

#[test]
fn each_change_that_is_refused_leaves_one_line_wherever_it_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &["--set", "log_level=off"]);
    let credentials = Credentials::of(&agent);
    let bearer = format!("Bearer {}", credentials.token);
    let set = |key: &str, source: &str, value: Option<&str>| proto::SetRequest {
        key: key.to_owned(),
        source: source.to_owned(),
        value: value.map(|value| prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(value.to_owned())),
        }),
        requested_by: "me".to_owned(),
        ..Default::default()
    };
    let unset = |key: &str, source: &str| proto::UnsetRequest {
        key: key.to_owned(),
        source: source.to_owned(),
        ..Default::default()
    };
    let apply = |edits: Vec<proto::Edit>| proto::ApplyRequest {
        edits,
        ..Default::default()
    };
    let edit = |key: &str, source: &str| proto::Edit {
        key: key.to_owned(),
        source: source.to_owned(),
        edit: None,
    };
    let refusals = runtime().block_on(async {
        let mut admin = ConfigAdminClient::new(credentials.channel().await);
        let mut refusals = 0;
        for (token, message) in [
            (&*bearer, set("Bad..key", "cli", Some("hush"))),
            (&bearer, set("a", "nowhere", Some("hush"))),
            (&bearer, set("a", "cli", None)),
            (&bearer, set("a", "cli", Some(&"hush".repeat(2_000_000)))),
            ("Bearer no", set("a", "cli", Some("hush"))),
        ] {
            let request = request(message, &[("authorization", token)]);
            admin.set(request).await.unwrap_err();
            refusals += 1;
        }
        for (token, message) in [
            (&*bearer, unset("Bad..key", "cli")),
            (&bearer, unset("a", "nowhere")),
            ("", unset("a", "cli")),
        ] {
            let request = request(message, &[("authorization", token)]);
            admin.unset(request).await.unwrap_err();
            refusals += 1;
        }
        for message in [
            apply(vec![]),
            apply(vec![edit("a", "cli")]),
            apply(vec![edit("Bad..key", "nowhere")]),
        ] {
            let request = request(message, &[("authorization", &*bearer)]);
            admin.apply(request).await.unwrap_err();
            refusals += 1;
        }
        refusals
    });
    agent.signal(Signal::SIGTERM);
    let said = agent.said();
    let lines: Vec<_> = said
        .iter()
        .filter(|line| {
            line.contains("WARN configstream_grpc::audit: Configuration change refused: ")
        })
        .collect();
    assert_eq!(lines.len(), refusals, "{lines:#?}");
    for (index, part) in [
        (0, "set Bad..key in cli requested_by=\"me\""),
        (1, "set a in nowhere"),
        (2, "set a in cli"),
        (3, "Set was not read"),
        (4, "Set was not read"),
        (5, "unset Bad..key in cli"),
        (7, "Unset was not read"),
        (9, "leave a in cli"),
    ] {
        assert!(lines[index].contains(part), "{part}: {}", lines[index]);
    }
    assert!(!said.iter().any(|line| line.contains("hush")), "{said:?}");
}

#[test]
fn the_documented_texts_are_in_the_text_with_time_level_and_module() {
    let said = all_documented(&[]);
    for (level, text, module) in DOCUMENTED {
        let lines: Vec<&String> = said.iter().filter(|line| line.contains(text)).collect();
        assert_eq!(lines.len(), 1, "{text}: {said:?}");
        let (time, rest) = lines[0].split_once(' ').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        let rest = rest.trim_start().strip_prefix(level).unwrap();
        let start = format!(" configstream_grpc::{module}: {text}");
        assert!(rest.starts_with(&start), "{rest}");
        // No colour, since nobody looks.
        assert!(!lines[0].contains('\u{1b}'));
    }
}

#[test]
fn the_documented_texts_are_in_the_json_and_nothing_else_is_between() {
    let said = all_documented(&["--log-json"]);
    let events: Vec<Json> = said
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for (level, text, module) in DOCUMENTED {
        let says = |event: &&Json| {
            event["fields"]["message"]
                .as_str()
                .unwrap()
                .starts_with(text)
        };
        let found: Vec<&Json> = events.iter().filter(says).collect();
        assert_eq!(found.len(), 1, "{text}: {said:?}");
        assert_eq!(found[0]["level"], level);
        assert_eq!(found[0]["target"], format!("configstream_grpc::{module}"));
        assert!(found[0]["timestamp"].is_string());
    }
    let start = &events[0];
    assert!(
        start["fields"]["message"]
            .as_str()
            .unwrap()
            .starts_with("streaming "),
        "{start}"
    );
}

#[test]
fn an_error_that_ends_the_agent_is_in_the_json_with_its_parts() {
    let root = tempfile::tempdir().unwrap();
    let mut command = configstream();
    command
        .args(["run", "--log-json", "--set", "config_stream.max_streams=0"])
        .arg("--run-dir")
        .arg(root.path());
    let done = Done::of(&mut command);
    assert_eq!(done.code, Some(3), "{done:?}");
    let event: Json = serde_json::from_str(&done.err).unwrap();
    assert_eq!(event["level"], "ERROR");
    let fields = &event["fields"];
    assert_eq!(
        fields["message"],
        "the setting `config_stream.max_streams` is refused"
    );
    assert_eq!(fields["exit_code"], 3);
    assert!(fields["why"].is_string() && fields["to_do"].is_string());
}

#[test]
fn the_journal_gets_priorities_and_no_times() {
    let root = tempfile::tempdir().unwrap();
    let (reader, writer) = pipe().unwrap();
    let owned = writer.as_fd().try_clone_to_owned().unwrap();
    let file = std::fs::File::from(owned).metadata().unwrap();
    let mut command = configstream();
    command
        .args(["run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .arg("--run-dir")
        .arg(root.path())
        .env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()))
        .stderr(Stdio::from(writer));
    let mut agent = command.spawn().unwrap();
    // It holds the other end of the pipe.
    drop(command);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(
        line.starts_with("<6> INFO configstream_agent::run::welcome: streaming "),
        "{line}"
    );
}

#[test]
fn no_peer_can_forge_a_line() {
    const FORGED: &str = "me\n2026-11-25T00:00:00Z ERROR all is lost\r\u{1b}[2K\u{9b}31m\u{7f}\u{202e}\u{2028}\u{200b}";
    for (arguments, escape) in [(&[][..], "\\"), (&["--log-json"], "\\\\")] {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(root.path(), arguments);
        runtime().block_on(async {
            let client = Credentials::of(&agent).connect().await.unwrap();
            let registration = Registration::new(FORGED);
            let session = client.register(&registration).await.unwrap();
            let mut events = client.stream(FORGED, &session.id).await.unwrap();
            events.next().await.unwrap();
        });
        let line = agent.until_said("joining the config stream");
        assert!(
            line.contains(&format!("me{escape}n2026"))
                && line.contains(&format!("lost{escape}r{escape}u")),
            "{line}"
        );
        agent.signal(Signal::SIGTERM);
        for line in agent.said() {
            assert!(!line.starts_with("2026-11-25T00:00:00Z"), "{line}");
            assert!(line.chars().all(is_printable), "{line:?}");
        }
    }
}

#[test]
fn no_level_shows_a_value_the_token_or_the_key() {
    const SECRETS: [&str; 4] = [
        "secret-of-cli",
        "secret-of-file",
        "secret-of-runtime",
        "secret-of-environment",
    ];
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    std::fs::write(&config, "app_key: secret-of-file\nlog_level: trace\n").unwrap();
    let run_dir = root.path().join("run");
    let arguments = [
        "--config",
        &config.display().to_string(),
        "--set",
        "api_key=secret-of-cli",
    ];
    let mut agent = Agent::start_with(&run_dir, &arguments, |command| {
        command.env("DD_PROXY_HTTP", SECRETS[3])
    });
    let watch = Watch::start(&agent);
    watch.next();
    agent
        .verb(&["set", "mine.password", "secret-of-runtime"])
        .json();
    watch.next();
    // Refused, and reported.
    assert_eq!(
        agent.verb(&["set", "api_key.x", "secret-of-runtime"]).code,
        Some(10)
    );
    std::fs::write(
        &config,
        "app_key: secret-of-file\napi_key: {a: secret-of-file}\n",
    )
    .unwrap();
    agent.signal(Signal::SIGHUP);
    agent.until_said("last good");
    let credentials = Credentials::of(&agent);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    let pem = String::from_utf8(credentials.pem.clone()).unwrap();
    let keys = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::to_owned);
    let secrets: Vec<String> = SECRETS
        .map(str::to_owned)
        .into_iter()
        .chain(keys)
        .chain([credentials.token])
        .collect();
    for line in agent.said() {
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "{secret}: {line}");
        }
    }
    assert!(agent.said().iter().any(|line| line.contains("DEBUG")));
}

/// Makes the agent log some megabytes that nothing reads: more than its queue and the pipe take.
fn log_much(agent: &Agent) {
    let long = |number: usize| Key::parse(&format!("{}.k{number}", "x".repeat(1_000))).unwrap();
    let edits = (0..32).map(|number| Edit::Set {
        source: Source::AgentRuntime,
        key: long(number),
        value: Value::Int(7),
    });
    let request = ChangeRequest {
        edits: edits.collect(),
        conditions: Conditions::default(),
        requested_by: "me".to_owned(),
        persist: false,
        dry_run: true,
    };
    runtime().block_on(async {
        let client = Credentials::of(agent).connect().await.unwrap();
        for _ in 0..200 {
            let applied = tokio::time::timeout(PATIENCE, client.apply(&request)).await;
            applied.expect("the agent answers").unwrap();
        }
    });
}

#[test]
fn a_log_that_is_not_read_stops_nothing_and_says_later_what_it_lacks() {
    for arguments in [&[][..], &["--log-json"]] {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(root.path(), arguments);
        let unread = agent.stop_reading();
        log_much(&agent);
        let (healthy, _) = agent.page("/healthz");
        assert!(healthy.contains("200"), "{healthy}");
        let dropped = agent.status()["log_lines_dropped"].as_u64().unwrap();
        assert!((1..200).contains(&dropped), "{dropped}");
        let counted = agent.metric("configstream_log_lines_dropped_total");
        assert_eq!(counted, f64::from(u32::try_from(dropped).unwrap()));
        drop(unread);
        let said = agent.said_until("log lines were dropped here");
        let report = said.last().unwrap();
        assert!(report.contains(&format!("{dropped} log lines")), "{report}");
        // Each is at the place where it was, and no longer than a line may be.
        let made = said
            .iter()
            .filter(|line| line.contains("Configuration change tried"));
        assert_eq!(made.count() as u64, 200 - dropped);
        assert!(said.iter().all(|line| line.len() <= 16 * 1024));
        // There is room again.
        agent.verb(&["set", "mine.key", "1"]).json();
        agent.until_said("set mine.key in agent-runtime");
        assert_eq!(agent.status()["log_lines_dropped"].as_u64(), Some(dropped));
    }
}

#[test]
fn an_agent_whose_log_is_not_read_ends_in_time() {
    for arguments in [&[][..], &["--log-json"]] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let root = tempfile::tempdir().unwrap();
            let mut agent = Agent::start(root.path(), arguments);
            let _unread = agent.stop_reading();
            log_much(&agent);
            agent.signal(signal);
            assert_eq!(agent.wait(), Some(0));
        }
    }
}

/// A pipe that is full, and its reader, which does not read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let has_room = |writer: &PipeWriter| {
        let mut polled = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut polled, PollTimeout::ZERO).unwrap() > 0
    };
    while has_room(&writer) {
        // No more than a pipe takes at once when it takes anything.
        writer.write_all(&[b'.'; 4096]).unwrap();
    }
    (reader, writer)
}

#[test]
fn an_agent_starts_serves_and_ends_with_standard_output_and_error_full() {
    for json in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let (_reader, writer) = full_pipe();
        let mut command = configstream();
        command
            .args(["run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(json.then_some("--log-json"))
            .arg("--run-dir")
            .arg(root.path())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        let mut agent = command.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut status = configstream();
            status.arg("--run-dir").arg(root.path()).arg("status");
            if Done::of(&mut status).code == Some(0) {
                break;
            }
            if Instant::now() > deadline {
                agent.kill().unwrap();
                panic!("it does not serve");
            }
        }
        let pid = nix::unistd::Pid::from_raw(agent.id().try_into().unwrap());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(end(&mut agent), Some(0));
    }
}

#[test]
fn a_start_that_fails_ends_with_its_code_when_standard_error_is_full() {
    for json in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let (_reader, writer) = full_pipe();
        let mut command = configstream();
        command
            .args(["run", "--set", "config_stream.max_streams=0"])
            .args(json.then_some("--log-json"))
            .arg("--run-dir")
            .arg(root.path())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        assert_eq!(end(&mut command.spawn().unwrap()), Some(3));
    }
}

/// Waits for a program to end.
fn end(child: &mut std::process::Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code(),
            None if Instant::now() < deadline => thread::park_timeout(Duration::from_millis(5)),
            None => {
                child.kill().unwrap();
                panic!("the program does not end");
            }
        }
    }
}
