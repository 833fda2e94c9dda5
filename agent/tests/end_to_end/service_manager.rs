//! What systemd hears of an agent, from a socket in its place.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use configstream_agent::exit::Exit;
use configstream_agent::run::SHUTDOWN_DEADLINE;
use configstream_engine::settings::{Key, Source};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::peer::{Credentials, runtime};
use crate::support::{Agent, Done, PATIENCE, configstream};

/// A socket that hears what services tell.
struct Systemd {
    socket: UnixDatagram,
    root: tempfile::TempDir,
}

impl Systemd {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(root.path().join("notify")).unwrap();
        Self { socket, root }
    }

    /// Starts an agent as a service would be.
    fn start(&self, arguments: &[&str], watchdog: Option<Duration>) -> Agent {
        let notify = self.root.path().join("notify");
        Agent::start_with(&self.run_dir(), arguments, |command| {
            let command = command.env("NOTIFY_SOCKET", notify);
            match watchdog {
                Some(time) => command.env("WATCHDOG_USEC", time.as_micros().to_string()),
                None => command.env_remove("WATCHDOG_USEC"),
            }
        })
    }

    fn run_dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// The next message within a time, in its lines.
    fn heard_within(&self, time: Duration) -> Option<Vec<String>> {
        let mut bytes = [0; 4096];
        self.socket.set_read_timeout(Some(time)).unwrap();
        let length = self.socket.recv(&mut bytes).ok()?;
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        Some(text.lines().map(str::to_owned).collect())
    }

    fn heard(&self) -> Vec<String> {
        self.heard_within(PATIENCE).expect("a message in time")
    }

    /// The next message that has a line which starts so.
    fn until(&self, line: &str) -> Vec<String> {
        loop {
            let message = self.heard();
            if message.iter().any(|heard| heard.starts_with(line)) {
                return message;
            }
        }
    }
}

#[test]
fn the_service_manager_hears_start_reload_and_stop_in_this_order() {
    let systemd = Systemd::new();
    let config = systemd.root.path().join("core.yaml");
    fs::write(&config, "mine: 1\n").unwrap();
    let mut agent = systemd.start(&["--config", &config.display().to_string()], None);
    let ready = systemd.heard();
    assert_eq!(ready.len(), 2, "{ready:?}");
    assert_eq!(ready[0], "READY=1");
    assert!(
        ready[1].starts_with("STATUS=") && ready[1].contains(" settings at sequence 1; 0 agents"),
        "{ready:?}"
    );

    // A good file, the same again, and a bad one: a reload is over once it is decided what came of it.
    for (text, status, said) in [
        ("mine: 2\n", "at sequence 2", "files reloaded"),
        (
            "mine: 2\n",
            "at sequence 2",
            "files reloaded: nothing has changed",
        ),
        (
            "mine: [\n",
            "file: the last good content stays in force:",
            "last good configuration stays",
        ),
    ] {
        fs::write(systemd.root.path().join("new"), text).unwrap();
        fs::rename(systemd.root.path().join("new"), &config).unwrap();
        agent.signal(Signal::SIGHUP);
        agent.until_said("SIGHUP: reloading");
        let reloading = systemd.until("RELOADING=1");
        let monotonic = reloading[2].strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(monotonic.parse::<u64>().unwrap() > 0);
        let ready = systemd.until("READY=1");
        assert!(ready[1].contains(status), "{ready:?}");
        agent.until_said(said);
    }

    agent.signal(Signal::SIGTERM);
    let stopping = systemd.until("STOPPING=1");
    assert_eq!(stopping, ["STOPPING=1", "STATUS=stopping"]);
    assert_eq!(agent.wait(), Some(0));
    assert_eq!(systemd.heard_within(Duration::from_millis(1)), None);
}

#[test]
fn the_watchdog_is_fed_as_long_as_the_resolver_answers() {
    let systemd = Systemd::new();
    let watchdog = Duration::from_millis(200);
    let mut agent = systemd.start(&[], Some(watchdog));
    for _ in 0..5 {
        systemd.until("WATCHDOG=1");
    }
    // The status follows, on the same beat.
    agent.verb(&["set", "log_file", "x.log"]).json();
    while !systemd.until("STATUS=")[1].contains("at sequence 2;") {}

    // A disk that hangs stops the resolver's thread; so does this.
    let resolver = HeldThread::of(&agent, "resolver");
    let credentials = Credentials::of(&agent);
    let change = thread::spawn(move || {
        runtime().block_on(async {
            let client = credentials.connect().await.unwrap();
            let key = Key::parse("mine.number").unwrap();
            let value = 1_i64.into();
            client
                .set(Source::AgentRuntime, &key, &value, "a test")
                .await
        })
    });
    agent.until_said("the resolver has not answered");
    // What was said before; then nothing, however long it lasts.
    while systemd.heard_within(10 * watchdog).is_some() {}
    assert_eq!(systemd.heard_within(5 * watchdog), None);
    // The rest of the agent is well, and says so to whoever asks.
    assert_eq!(agent.page("/healthz").1, "ok\n");

    drop(resolver);
    change.join().unwrap().unwrap();
    agent.until_said("the resolver answers again");
    systemd.until("WATCHDOG=1");
    agent.verb(&["set", "log_file", "y.log"]).json();
}

/// The sequences of a fresh run directory that need no further write.
/// A thread of an agent that stands still until this is dropped, by the thread that made it.
struct HeldThread(Pid);

impl HeldThread {
    fn of(agent: &Agent, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
        let is_it = |task: &PathBuf| {
            let found = fs::read_to_string(task.join("comm"));
            found.is_ok_and(|found| found.trim() == name)
        };
        let task = tasks.map(|task| task.unwrap().path()).find(is_it).unwrap();
        let id = task.file_name().unwrap().to_str().unwrap();
        let thread = Pid::from_raw(id.parse().unwrap());
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self(thread)
    }
}

impl Drop for HeldThread {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

#[test]
fn without_a_service_manager_nothing_is_told_and_nothing_differs() {
    let root = tempfile::tempdir().unwrap();
    // Nobody there, a socket that is not, and one that nobody reads any more.
    let gone = root.path().join("gone");
    drop(UnixDatagram::bind(&gone).unwrap());
    for (socket, warned) in [
        (None, false),
        (Some(root.path().join("never")), true),
        (Some(gone), true),
    ] {
        let mut agent = Agent::start_with(&root.path().join("run"), &[], |command| {
            let command = command.env("WATCHDOG_USEC", "20000");
            match socket {
                Some(socket) => command.env("NOTIFY_SOCKET", socket),
                None => command.env_remove("NOTIFY_SOCKET"),
            }
        });
        agent.signal(Signal::SIGHUP);
        agent.until_said("nothing to reload");
        agent.signal(Signal::SIGTERM);
        assert_eq!(agent.wait(), Some(0));
        let warnings = agent
            .said()
            .iter()
            .filter(|line| line.contains("NOTIFY_SOCKET"));
        assert_eq!(warnings.count(), usize::from(warned));
    }
}

/// What the unit says for a key, each time that it says it.
fn unit(key: &str) -> Vec<String> {
    let unit = include_str!("../../systemd/configstream.service").replace("\\\n", " ");
    let values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

#[test]
fn the_unit_fits_the_program() {
    // A clean stop is over before it is cut short.
    let seconds = unit("TimeoutStopSec")[0].parse().unwrap();
    assert!(Duration::from_secs(seconds) > SHUTDOWN_DEADLINE);
    assert_eq!(unit("Type"), ["notify"]);
    assert!(unit("WatchdogSec")[0].parse::<u64>().unwrap() > 0);
    let stays = [
        Exit::Usage,
        Exit::Configuration,
        Exit::Credentials,
        Exit::Sequence,
    ];
    let stays = stays.map(|exit| (exit as u8).to_string());
    assert_eq!(unit("RestartPreventExitStatus"), [stays.join(" ")]);
}

#[test]
fn secrets_in_the_memory_of_a_service_go_to_no_core_file() {
    assert_eq!(unit("LimitCORE"), ["0"]);
}

#[test]
fn the_unit_s_command_line_starts_an_agent_in_the_directories_it_is_given() {
    let systemd = Systemd::new();
    let state = systemd.root.path().join("state");
    let runtime = systemd.root.path().join("configstream");
    let config = systemd.root.path().join("core.yaml");
    fs::create_dir(&state).unwrap();
    fs::create_dir(&runtime).unwrap();
    fs::write(&config, "mine: 1\n").unwrap();

    let command_line = unit("ExecStart")[0]
        .replace("/etc/configstream/core.yaml", &config.display().to_string())
        .replace("%t", &systemd.root.path().display().to_string())
        .replace(":5001", ":0");
    let mut words = command_line.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/configstream"));
    let mut command = configstream();
    command
        .args(words)
        .args(["--http", "127.0.0.1:0"])
        .env("STATE_DIRECTORY", &state)
        .env("NOTIFY_SOCKET", systemd.root.path().join("notify"))
        .env_remove("HOME")
        .stderr(Stdio::null());
    let mut agent = command.spawn().unwrap();
    let ready = systemd.until("READY=1");
    assert!(ready[1].contains("settings at sequence 1"), "{ready:?}");
    let got = Done::of(
        configstream()
            .args(["get", "mine", "--run-dir"])
            .arg(&state)
            .arg("--address")
            .arg(format!("unix:{}", runtime.join("agent.sock").display())),
    );
    assert_eq!(got.json()["value"], 1);
    let pid = Pid::from_raw(i32::try_from(agent.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(0));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("configstream.service");
    // It looks whether the program is there.
    let program = env!("CARGO_BIN_EXE_configstream");
    let unit = include_str!("../../systemd/configstream.service");
    fs::write(&path, unit.replace("/usr/bin/configstream", program)).unwrap();
    let verify = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output();
    let Ok(verified) = verify else {
        eprintln!("there is no systemd-analyze here to ask");
        return;
    };
    let said = String::from_utf8(verified.stderr).unwrap();
    // Only those who are asked about: it looks at other units of the machine as well.
    let about = said.lines().filter(|line| line.contains("configstream"));
    // systemd 254 brought them; who does not know them says so and goes on.
    let wrong =
        about.filter(|line| !line.contains("RestartSteps") && !line.contains("RestartMaxDelaySec"));
    assert_eq!(wrong.collect::<Vec<_>>(), [""; 0], "{said}");
    assert!(verified.status.success(), "{said}");
}
