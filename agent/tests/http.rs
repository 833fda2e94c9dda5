//! What the HTTP port answers, to whom, and what it never tells.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};
use support::{Agent, Lines, PATIENCE, client, configstream};

/// Each path, with the type of what it answers.
const PATHS: [(&str, &str); 8] = [
    ("/", "text/html; charset=utf-8"),
    ("/page.css", "text/css; charset=utf-8"),
    ("/page.js", "text/javascript; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
    ("/status", "application/json"),
    ("/healthz", "text/plain; charset=utf-8"),
    ("/readyz", "text/plain; charset=utf-8"),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
];

/// What each answer has to carry, refusals included.
const HEADERS: [&str; 7] = [
    "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options: nosniff",
    "referrer-policy: no-referrer",
    "cache-control: no-store",
    "x-frame-options: DENY",
    "cross-origin-resource-policy: same-origin",
    "cross-origin-opener-policy: same-origin",
];

/// An answer in its parts.
struct Answer {
    code: u16,
    head: Vec<String>,
    body: String,
}

impl Answer {
    fn has(&self, header: &str) -> bool {
        self.head.iter().any(|line| line == header)
    }
}

/// Sends the head of a request, as it is given but for the end of each line.
fn ask(agent: &Agent, request: &str) -> Answer {
    let port = agent.http.rsplit_once(':').unwrap().1;
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let request = format!("{}\r\n\r\n", request.replace('\n', "\r\n"));
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut head = head.lines().map(str::to_owned);
    let first = head.next().unwrap();
    Answer {
        code: first.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.collect(),
        body: body.to_owned(),
    }
}

fn get(agent: &Agent, path: &str) -> Answer {
    ask(agent, &format!("GET {path} HTTP/1.1\nHost: localhost"))
}

fn watch(agent: &Agent) -> Lines {
    let mut watch = configstream();
    watch.arg("--run-dir").arg(&agent.run_dir).arg("watch");
    Lines::of(&mut watch)
}

fn remote_agent(agent: &Agent, name: &str) -> Lines {
    let address = fs::read_to_string(agent.run_dir.join("address")).unwrap();
    let mut client = client();
    client
        .args([
            "--ipc-address",
            address.trim(),
            "--name",
            name,
            "--duration",
            "1h",
        ])
        .arg("--agent-auth-token-file")
        .arg(agent.run_dir.join("auth_token"))
        .arg("--agent-cert-file")
        .arg(agent.run_dir.join("ipc_cert.pem"));
    Lines::of(&mut client)
}

fn start_with_file(root: &Path, text: &str) -> (Agent, std::path::PathBuf) {
    let config = root.join("core.yaml");
    fs::write(&config, text).unwrap();
    let agent = Agent::start(
        &root.join("run"),
        &["--config", &config.display().to_string()],
    );
    (agent, config)
}

/// The recent changes as (change, key, source, cleared layer).
fn changes(status: &Json) -> Vec<(&str, &str, &str, Option<&str>)> {
    let changes = status["recent_changes"].as_array().unwrap().iter();
    changes
        .map(|change| {
            (
                change["change"].as_str().unwrap(),
                change["key"].as_str().unwrap(),
                change["source"].as_str().unwrap(),
                change
                    .get("unset_source")
                    .map(|layer| layer.as_str().unwrap()),
            )
        })
        .collect()
}

#[test]
fn every_path_answers_get_and_head_with_its_type_and_every_header() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    for (path, kind) in PATHS {
        let got = get(&agent, path);
        let head = ask(&agent, &format!("HEAD {path} HTTP/1.1\nHost: localhost"));
        for answer in [&got, &head] {
            assert_eq!(answer.code, 200, "{path}");
            for header in HEADERS {
                assert!(
                    answer.has(header),
                    "{path} lacks {header}: {:?}",
                    answer.head
                );
            }
            assert!(
                answer.has(&format!("content-type: {kind}")),
                "{:?}",
                answer.head
            );
        }
        let length = format!("content-length: {}", got.body.len());
        assert!(!got.body.is_empty() && got.has(&length), "{path}");
        assert_eq!(head.body, "", "{path}");
    }
}

#[test]
fn nothing_but_get_and_head_is_answered_and_nothing_changes() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE",
    ] {
        for (path, _) in PATHS.into_iter().chain([("/elsewhere", "")]) {
            let answer = ask(
                &agent,
                &format!("{method} {path} HTTP/1.1\nHost: localhost"),
            );
            assert_eq!(answer.code, 405, "{method} {path}");
            assert!(
                answer.has("allow: GET, HEAD") && HEADERS.iter().all(|header| answer.has(header))
            );
            assert_eq!(
                answer.body,
                "nothing can be changed here: use GET or HEAD\n"
            );
        }
    }
    assert_eq!(get(&agent, "/elsewhere").code, 404);
    assert_eq!(agent.sequence(), 1);
}

#[test]
fn on_loopback_a_request_under_a_strange_name_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    for (path, _) in PATHS {
        let answer = ask(
            &agent,
            &format!("GET {path} HTTP/1.1\nHost: evil.example:5002"),
        );
        assert_eq!(answer.code, 421, "{path}");
        assert!(
            answer
                .body
                .contains("ask for localhost, 127.0.0.1 or [::1]")
        );
        assert!(HEADERS.iter().all(|header| answer.has(header)), "{path}");
    }
    for request in [
        "GET http://evil.example/status HTTP/1.1\nHost: localhost",
        "GET /status HTTP/1.1\nHost: localhost\nHost: evil.example",
        "GET /status HTTP/1.1\nHost: ",
    ] {
        assert_eq!(ask(&agent, request).code, 421, "{request}");
    }
    // A tunnel may lead here from any port, and what is old sends no name.
    for request in [
        "GET /status HTTP/1.1\nHost: 127.0.0.1:8080",
        "GET /status HTTP/1.1\nHost: [::1]:8080",
        "GET /status HTTP/1.0",
    ] {
        assert_eq!(ask(&agent, request).code, 200, "{request}");
    }
}

#[test]
fn who_listens_for_other_machines_is_warned_and_answers_to_any_name() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &["--http", "0.0.0.0:0"]);
    let answer = ask(&agent, "GET /healthz HTTP/1.1\nHost: metrics.example:5002");
    assert_eq!((answer.code, answer.body.as_str()), (200, "ok\n"));
    assert!(agent.has_said("HTTP at 0.0.0.0:0 can be reached from other machines"));
    drop(agent);
    agent = Agent::start(root.path(), &["--http", "localhost:0"]);
    assert_eq!(get(&agent, "/healthz").code, 200);
    assert!(!agent.has_said("can be reached from other machines"));
}

#[test]
fn recent_changes_are_told_newest_first_and_without_values() {
    let root = tempfile::tempdir().unwrap();
    let (agent, config) = start_with_file(root.path(), "site: secret-one\n");
    let before = agent.status();
    assert_eq!(before["recent_changes"], json!([]));
    agent.verb(&["set", "site", "secret-two"]).json();
    agent.verb(&["set", "mine.text", "secret-three"]).json();
    agent.verb(&["unset", "site"]).json();
    agent.verb(&["unset", "mine.text"]).json();
    let told = |agent: &Agent, total: u64| agent.status()["changes_total"] == total;
    agent.until("four changes", |agent| told(agent, 4));
    fs::write(&config, "site: secret-four\n").unwrap();
    agent.until("five changes", |agent| told(agent, 5));
    let status = agent.status();
    assert_eq!(
        changes(&status),
        [
            ("set", "site", "file", None),
            ("vanished", "mine.text", "agent-runtime", None),
            ("unset", "site", "file", Some("agent-runtime")),
            ("set", "mine.text", "agent-runtime", None),
            ("set", "site", "agent-runtime", None),
        ]
    );
    let sequences: Vec<_> = status["recent_changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["sequence"].as_u64().unwrap(), &change["exact"]))
        .collect();
    let head = status["head"]["sequence"].as_u64().unwrap();
    assert_eq!(sequences[0].0, head);
    assert!(sequences.is_sorted_by(|newer, older| newer.0 >= older.0));
    for change in status["recent_changes"].as_array().unwrap() {
        let (at, now) = (
            change["at"].as_str().unwrap(),
            status["now"].as_str().unwrap(),
        );
        assert!(
            at.ends_with('Z') && at.len() == now.len() && at <= now,
            "{at} {now}"
        );
    }
    for (path, _) in PATHS {
        assert!(!get(&agent, path).body.contains("secret-"), "{path}");
    }
}

#[test]
fn recent_changes_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    let text = |value: u32| -> String {
        (0..120)
            .map(|key| format!("mine{key}: {value}\n"))
            .collect()
    };
    let (agent, config) = start_with_file(root.path(), &text(0));
    for round in 1..=2_u64 {
        fs::write(&config, text(u32::try_from(round).unwrap())).unwrap();
        agent.until("all of it", |agent| {
            agent.status()["changes_total"] == 120 * round
        });
    }
    assert_eq!(
        agent.status()["recent_changes"].as_array().unwrap().len(),
        100
    );
}

#[test]
fn a_refused_file_leaves_the_agent_ready_and_shows_why_without_the_value() {
    let root = tempfile::tempdir().unwrap();
    let (agent, config) = start_with_file(root.path(), "apm_config:\n  enabled: true\n");
    assert_eq!(get(&agent, "/readyz").body, "ready\n");
    fs::write(&config, "apm_config:\n  enabled: hunter2\n").unwrap();
    let file = |status: &Json| status["sources"][1].clone();
    agent.until("it is refused", |agent| {
        file(&agent.status())["healthy"] == false
    });
    let status = agent.status();
    let shown = file(&status);
    let error = shown["error"].as_str().unwrap();
    assert!(
        error.contains("core.yaml:2:12: `apm_config.enabled` is a boolean, but its value is not")
    );
    assert_eq!(
        (&shown["failures"], &status["ready"]),
        (&json!(1), &json!(true))
    );
    assert!(shown["failing_since"].as_str() > shown["loaded_at"].as_str());
    let ready = get(&agent, "/readyz");
    let line = format!("ready\nfile: the last good content stays in force: {error}\n");
    assert_eq!((ready.code, ready.body), (200, line));
    for (path, _) in PATHS {
        assert!(!get(&agent, path).body.contains("hunter2"), "{path}");
    }
    fs::write(&config, "apm_config:\n  enabled: false\n").unwrap();
    agent.until("it is good again", |agent| {
        file(&agent.status())["healthy"] == true
    });
    let mended = file(&agent.status());
    assert!(mended.get("error").is_none() && mended.get("failing_since").is_none());
    // What was wrong the last time stays to be seen.
    assert_eq!(mended["last_error"], shown["error"]);
    assert!(mended["last_error_at"].as_str() < mended["loaded_at"].as_str());
    assert_eq!(get(&agent, "/readyz").body, "ready\n");
    let own = "remote_agent.registry.idle_timeout";
    fs::write(
        &config,
        "apm_config:\n  enabled: false\nremote_agent:\n  registry:\n    idle_timeout: 0s\n",
    )
    .unwrap();
    let line = format!("\n{own}: the last good value stays in force: it has to be ");
    agent.until("the value is refused", |agent| {
        get(agent, "/readyz").body.contains(&line)
    });
    assert_eq!(get(&agent, "/readyz").code, 200);
}

#[test]
fn while_the_agent_shuts_down_it_says_that_it_is_not_ready() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    // Who does not read holds up the stop, though not for long.
    let stopped = watch(&agent);
    stopped.line();
    stopped.signal(Signal::SIGSTOP);
    agent.signal(Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(&agent, "/readyz");
        if answer.code == 503 {
            assert_eq!(answer.body, "shutting down\n");
            break;
        }
        assert!(Instant::now() < deadline);
    }
    assert_eq!(get(&agent, "/healthz").code, 503);
    assert_eq!(agent.status()["ready"], false);
    assert_eq!(agent.wait(), Some(0));
}

#[test]
fn of_many_agents_those_furthest_behind_are_shown_first() {
    let root = tempfile::tempdir().unwrap();
    let idle_timeout = "remote_agent.registry.idle_timeout=1h";
    let agent = Agent::start(root.path(), &["--set", idle_timeout]);
    let names = ["one", "two", "three"];
    let remotes = names.map(|name| remote_agent(&agent, name));
    agent.until("all are current", |agent| {
        let status = agent.status();
        status["server"]["streams"] == 3 && status["agents_behind"] == 0
    });
    remotes[1].signal(Signal::SIGSTOP);
    let lagging = |status: &Json| -> Vec<String> {
        let agents = status["agents"].as_array().unwrap().iter();
        let lagging = agents.filter(|agent| agent["lagging"] == true);
        lagging
            .map(|agent| agent["display_name"].as_str().unwrap().to_owned())
            .collect()
    };
    // More than every buffer on the way takes.
    let mut number = 0;
    agent.until("one lags", |agent| {
        number += 1;
        let text = format!("{number}{}", "x".repeat(100_000));
        agent.verb(&["set", "mine.text", &text]).json();
        lagging(&agent.status()) == ["two"]
    });
    agent.until("the others have got it all", |agent| {
        agent.status()["agents_behind"] == 1
    });
    let worst: Json = serde_json::from_str(&get(&agent, "/status?agents=1").body).unwrap();
    assert_eq!(worst["agents"].as_array().unwrap().len(), 1);
    assert_eq!(lagging(&worst), ["two"]);
    assert_eq!(
        (&worst["agents_total"], &worst["agents_behind"]),
        (&json!(3), &json!(1))
    );
    for bad in ["/status?agents=x", "/status?agents=-1", "/status?other=1"] {
        assert_eq!(get(&agent, bad).code, 400, "{bad}");
    }
}

#[test]
fn who_takes_every_place_and_says_nothing_keeps_nobody_out_and_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let silent: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(&agent.http).unwrap();
            stream.write_all(b"GET /status HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    // One more than there are places.
    assert_eq!(get(&agent, "/healthz").code, 200);
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut nothing = String::new();
        match stream.read_to_string(&mut nothing) {
            Ok(length) => assert_eq!(length, 0, "cut"),
            // Cut before what it said was read.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn a_name_that_is_markup_stays_text() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let name = "<script>alert(1)</script>";
    let remote = remote_agent(&agent, name);
    agent.until("it is there", |agent| {
        agent.status()["agents"][0]["display_name"] == name
    });
    // It is told in JSON only, which nothing takes for a page; the page makes text of it (see the browser's tests).
    assert!(get(&agent, "/status").has("content-type: application/json"));
    assert!(!get(&agent, "/").body.contains(name));
    let long = remote_agent(&agent, &"n".repeat(4_000));
    agent.until("so is the other", |agent| {
        agent.status()["agents"][1].is_object()
    });
    let shown = agent.status()["agents"][1]["display_name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(shown, "n".repeat(200) + "…");
    drop((remote, long));
}

#[test]
fn no_text_of_a_peer_or_a_file_hides_moves_or_controls() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core\u{202e}.yaml");
    fs::write(&config, "mine: 1\n").unwrap();
    let config = config.display().to_string();
    let agent = Agent::start(&root.path().join("run"), &["--config", &config]);
    let remote = remote_agent(&agent, "a\u{9b}2J\u{202e}\u{200b}b");
    agent.until("it is there", |agent| {
        agent.status()["agents"][0].is_object()
    });
    // The page shows what it reads of this.
    let status = agent.status();
    let name = status["agents"][0]["display_name"].as_str().unwrap();
    assert_eq!(name, r"a\u{9b}2J\u{202e}\u{200b}b");
    let shown = status.to_string();
    assert!(shown.contains(r"core\\u{202e}.yaml"), "{shown}");
    assert!(
        shown.chars().all(configstream_grpc::is_printable),
        "{shown}"
    );
    drop(remote);
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_nothing_that_its_policy_forbids() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let page = get(&agent, "/").body;
    let style = get(&agent, "/page.css").body;
    let script = get(&agent, "/page.js").body;
    for part in [&page, &style, &script] {
        for elsewhere in ["http://", "https://", "url(", "@import", "data:"] {
            assert!(!part.contains(elsewhere), "{elsewhere}");
        }
    }
    for inline in ["<style", " style=", "<script>", " onload=", " onclick="] {
        assert!(!page.contains(inline), "{inline}");
    }
    // Nothing that would read text as markup or as a program.
    for maker in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ] {
        assert!(!script.contains(maker), "{maker}");
    }
    // What it asks for is there.
    for asked in [
        "page.css", "page.js", "icon.svg", "status", "metrics", "healthz", "readyz",
    ] {
        let quoted = format!("\"{asked}\"");
        assert!(page.contains(&quoted), "{asked}");
        assert_eq!(get(&agent, &format!("/{asked}")).code, 200);
    }
}
