//! The status page in a real browser: `.ci/run page`, where there is a chromium.
//!
//! Between the browser and the agent stands a relay that counts what is asked for, and decides what happens before each
//! answer, so that nothing here depends on how fast anything is. The browser's clock stands still while it waits for an
//! answer. The window is narrow, and the relay puts a [`PROBE`] behind the script of the page.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use configstream_grpc::Registration;
use configstream_grpc::consumer::{Access, Consumer};
use nix::sys::signal::Signal;
use support::{Agent, Done, Lines, client};

/// What a browser shows after some seconds of its own time, and how often it asked for each path.
struct Shown {
    page: String,
    asked: BTreeMap<String, usize>,
}

/// Looks at the page. `before` is told of each request for the status, counted from 1, and says whether to answer it.
fn look(agent: &Agent, before: impl Fn(usize) -> bool) -> Shown {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = channel();
    // Ends with the process. A browser also opens connections on which it asks for nothing.
    thread::spawn(move || {
        for mut browser in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            thread::spawn(move || {
                let (path, head) = request(&mut browser)?;
                sender.send((path, head, browser)).ok()
            });
        }
    });
    let browser = thread::spawn(move || {
        let profile = tempfile::tempdir().unwrap();
        Done::of(
            Command::new("chromium")
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
                .args(["--virtual-time-budget=6500", "--window-size=500,900"])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg(format!("http://{address}/")),
        )
    });
    let mut asked = BTreeMap::new();
    while !browser.is_finished() {
        let Ok((path, head, browser)) = requests.recv_timeout(Duration::from_millis(20)) else {
            continue;
        };
        let times = asked.entry(path.clone()).or_insert(0);
        *times += 1;
        if path != "/status" || before(*times) {
            let agent = agent.http.clone();
            let behind = if path == "/page.js" { PROBE } else { "" };
            thread::spawn(move || relay(browser, &agent, &head, behind));
        }
    }
    let done = browser.join().unwrap();
    assert_eq!(done.code, Some(0), "{done:?}");
    Shown {
        page: done.out,
        asked,
    }
}

/// The path that is asked for, without its query, and the whole head; `None` if nothing comes.
fn request(browser: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if browser.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head);
    let target = text.split(' ').nth(1)?;
    let path = target.split('?').next()?.to_owned();
    Some((path, head))
}

/// Says in the page how much wider it is than the window, in a narrow one and as if in one that is narrower than a browser
/// makes them, with the longest times there are.
const PROBE: &str = r#"
setInterval(() => {
  const root = document.documentElement;
  const times = [...document.querySelectorAll("time")].map((time) => [time, time.textContent]);
  for (const [time] of times) time.textContent = "2026-11-25 05:00:00 UTC";
  const wider = [500, 280].map((width) => {
    root.style.zoom = innerWidth / width;
    return root.scrollWidth - root.clientWidth;
  });
  root.style.zoom = "";
  for (const [time, text] of times) time.textContent = text;
  document.body.dataset.wider = Math.max(...wider);
}, 300);
"#;

/// Passes on what an agent answers, with something behind it.
fn relay(mut browser: TcpStream, agent: &str, head: &[u8], behind: &str) {
    let mut agent = TcpStream::connect(agent).unwrap();
    agent.write_all(head).unwrap();
    let mut answer = Vec::new();
    agent.read_to_end(&mut answer).unwrap();
    if !behind.is_empty() {
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = format!("content-length: {}", body.len());
        let longer = format!("content-length: {}", body.len() + behind.len());
        let head = head.replace(&length, &longer);
        answer = format!("{head}\r\n\r\n{body}{behind}").into_bytes();
    }
    // A browser may go before it has read all.
    let _ = browser.write_all(&answer);
}

fn remote_agent(agent: &Agent, name: &str) -> Lines {
    let address = std::fs::read_to_string(agent.run_dir.join("address")).unwrap();
    Lines::of(
        client()
            .args(["--ipc-address", address.trim(), "--duration", "1h"])
            .args(["--name", name])
            .arg("--agent-auth-token-file")
            .arg(agent.run_dir.join("auth_token"))
            .arg("--agent-cert-file")
            .arg(agent.run_dir.join("ipc_cert.pem")),
    )
}

impl Shown {
    /// Demands parts of the page, and that nothing is missing in what it was made of.
    fn demand(&self, parts: &[&str]) {
        for hole in ["undefined", "NaN", "[object", "Invalid"] {
            assert!(!self.page.contains(hole), "{hole}: {}", self.page);
        }
        for part in parts {
            assert!(self.page.contains(part), "lacks {part:?}: {}", self.page);
        }
        let wider = self.page.split_once("data-wider=\"").expect("the probe").1;
        let wider: i64 = wider.split('"').next().unwrap().parse().unwrap();
        assert!(wider <= 0, "wider than the window by {wider}");
    }
}

#[test]
#[ignore = "needs chromium: .ci/run page"]
fn a_change_shows_without_a_reload_and_names_stay_text() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &["--set", "api_key=hunter2"]);
    let remote = remote_agent(&agent, "<script>document.title = 1</script>");
    agent.until("it follows", |agent| {
        agent.status()["server"]["streams"] == 1
    });
    let shown = look(&agent, |times| {
        if times == 2 {
            agent
                .verb(&["set", "mine.number", "a-value-of-mine"])
                .json();
            agent.until("it is told", |agent| agent.status()["changes_total"] == 1);
        }
        true
    });
    assert_eq!(shown.asked["/"], 1, "no reload");
    assert!(shown.asked["/status"] > 2, "{:?}", shown.asked);
    shown.demand(&[
        ">Live</p>",
        "All is well",
        "<title>core-agent · configstream</title>",
        ">mine.number</code>",
        "<bdi>&lt;script&gt;document.title = 1&lt;/script&gt;</bdi>",
    ]);
    for value in ["a-value-of-mine", "hunter2"] {
        assert!(!shown.page.contains(value), "{value}: {}", shown.page);
    }
    drop(remote);
}

#[test]
#[ignore = "needs chromium: .ci/run page"]
fn a_lost_connection_shows_and_what_was_known_stays() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let shown = look(&agent, |times| times == 1);
    assert_eq!(shown.asked["/"], 1, "no reload");
    shown.demand(&[
        ">Connection lost</p>",
        "No connection to the agent",
        "configstream run",
        "What is shown below is as of",
        "embedded example",
        "<title>(1) core-agent · configstream</title>",
    ]);
}

#[test]
#[ignore = "needs chromium: .ci/run page"]
fn a_connection_that_comes_back_is_taken_up_again() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let shown = look(&agent, |times| times != 2 && times != 3);
    assert_eq!(shown.asked["/"], 1, "no reload");
    assert!(shown.asked["/status"] > 3, "{:?}", shown.asked);
    shown.demand(&[">Live</p>", "All is well"]);
}

#[test]
#[ignore = "needs chromium: .ci/run page"]
fn what_is_refused_shows_without_the_value() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    std::fs::write(&config, "log_level: info\n").unwrap();
    let arguments = ["--config", &config.display().to_string()];
    let agent = Agent::start(&root.path().join("run"), &arguments);
    let own = "remote_agent.registry.idle_timeout";
    std::fs::write(&config, format!("log_level: info\n{own}: 0s\n")).unwrap();
    agent.until("the setting is refused", |agent| {
        agent.status()["refused_settings"][0]["key"] == own
    });
    std::fs::write(&config, "forwarder_timeout: hunter2\n").unwrap();
    agent.until("so is the file", |agent| {
        agent.status()["sources"][1]["healthy"] == false
    });
    let shown = look(&agent, |_| true);
    shown.demand(&[
        "<strong>The newest content of file is refused</strong>",
        "core.yaml:1:20: `forwarder_timeout` is a duration, but its value is not",
        "<strong>The value of remote_agent.registry.idle_timeout is refused</strong>: it has to be ",
        "It is set by file (",
        "<title>(2) core.yaml · configstream</title>",
    ]);
    assert!(!shown.page.contains("hunter2"), "{}", shown.page);
}

#[test]
#[ignore = "needs chromium: .ci/run page"]
fn who_lags_shows_first_and_in_the_verdict() {
    let root = tempfile::tempdir().unwrap();
    let idle_timeout = "remote_agent.registry.idle_timeout=1h";
    let agent = Agent::start(root.path(), &["--set", idle_timeout]);
    let remotes = ["quick", "stuck"].map(|name| remote_agent(&agent, name));
    agent.until("both follow", |agent| {
        agent.status()["server"]["streams"] == 2
    });
    remotes[1].signal(Signal::SIGSTOP);
    // More than every buffer on the way takes.
    let mut number = 0;
    agent.until("one lags", |agent| {
        number += 1;
        let text = format!("{number}{}", "x".repeat(100_000));
        agent.verb(&["set", "mine.text", &text]).json();
        let status = agent.status();
        let mut agents = status["agents"].as_array().unwrap().iter();
        agents.any(|agent| agent["display_name"] == "stuck" && agent["lagging"] == true)
    });
    agent.until("the other has got it all", |agent| {
        agent.status()["agents_behind"] == 1
    });
    let shown = look(&agent, |_| true);
    shown.demand(&[
        "<strong>1 of 2 remote agents behind</strong>: <bdi>stuck</bdi> by ",
        ">lagging</span>",
        ">current</span>",
        r#"<p id="announcement" role="status">1 of 2 remote agents behind</p>"#,
    ]);
    let place = |name: &str| shown.page.find(&format!("<bdi>{name}</bdi></b>"));
    assert!(
        place("stuck").is_some() && place("stuck") < place("quick"),
        "{}",
        shown.page
    );
}

#[test]
#[ignore = "needs chromium: .ci/run page"]
fn long_names_do_not_make_the_page_wider_than_the_window() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let long = "n".repeat(200);
    let mut registration = Registration::new(long.clone());
    registration.flavor.clone_from(&long);
    registration.pid.clone_from(&long);
    let address = std::fs::read_to_string(agent.run_dir.join("address")).unwrap();
    let access = Access::files(
        address.trim().parse().unwrap(),
        agent.run_dir.join("ipc_cert.pem"),
        agent.run_dir.join("auth_token"),
    );
    let remote = Consumer::builder(access, registration)
        .start_thread()
        .unwrap();
    let key = format!("mine.{}", "k".repeat(200));
    agent.verb(&["set", &key, "1"]).json();
    agent.until("it follows", |agent| {
        agent.status()["server"]["streams"] == 1 && agent.status()["changes_total"] == 1
    });
    let shown = look(&agent, |_| true);
    shown.demand(&[
        &format!("<bdi>{long}</bdi>"),
        &format!("<bdi>{long}, process {long}</bdi>"),
        &format!(">{key}</code>"),
    ]);
    drop(remote);
}
