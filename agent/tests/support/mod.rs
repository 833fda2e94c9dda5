//! Runs the real programs.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `configstream` with an empty environment of its own.
pub(crate) fn configstream() -> Command {
    program(env!("CARGO_BIN_EXE_configstream"))
}

/// `config-stream-client` with an empty environment of its own.
pub(crate) fn client() -> Command {
    program(env!("CARGO_BIN_EXE_config-stream-client"))
}

/// A program without what this environment says to ours.
pub(crate) fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("DD_")
            || shown.starts_with("CONFIGSTREAM_")
            || shown.starts_with("RUST_")
        {
            command.env_remove(name);
        }
    }
    command
}

/// A running agent. Dropping it kills it.
pub(crate) struct Agent {
    child: Child,
    errors: Receiver<String>,
    said: Vec<String>,
    /// Held by a test as long as nothing is to be read from standard error.
    reading: Arc<tokio::sync::Mutex<()>>,
    pub(crate) run_dir: PathBuf,
    pub(crate) http: String,
}

impl Agent {
    /// Starts an agent on ports of its own, and waits until it serves.
    pub(crate) fn start(run_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(run_dir, arguments, |command| command)
    }

    /// The same at an address that is given.
    pub(crate) fn start_at(run_dir: &Path, listen: &str, arguments: &[&str]) -> Self {
        Self::spawn(run_dir, listen, arguments, |command| command)
    }

    pub(crate) fn start_with(
        run_dir: &Path,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        Self::spawn(run_dir, "127.0.0.1:0", arguments, prepare)
    }

    fn spawn(
        run_dir: &Path,
        listen: &str,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let mut command = configstream();
        command
            .args(["run", "--listen", listen, "--run-dir"])
            .arg(run_dir);
        if !arguments.contains(&"--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = prepare(&mut command).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, errors) = channel();
        let reading = Arc::new(tokio::sync::Mutex::new(()));
        let gate = reading.clone();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| {
                drop(gate.blocking_lock());
                sender.send(line)
            })
        });
        let mut agent = Self {
            child,
            errors,
            said: Vec::new(),
            reading,
            run_dir: run_dir.to_owned(),
            http: String::new(),
        };
        // What is said to people ends with a hint; in a log that programs read it is one line.
        if arguments.contains(&"--log-json") {
            let line = agent.until_said("\"http\":");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            line["fields"]["http"]
                .as_str()
                .unwrap()
                .clone_into(&mut agent.http);
        } else {
            let line = agent.until_said("status, health and metrics: http://");
            agent.http = line
                .split("http://")
                .nth(1)
                .and_then(|rest| rest.split('/').next())
                .unwrap()
                .to_owned();
            agent.until_said("in a third");
        }
        agent
    }

    /// All lines from now on up to one, which is the last.
    pub(crate) fn said_until(&mut self, what: &str) -> &[String] {
        let from = self.said.len();
        self.until_said(what);
        &self.said[from..]
    }

    /// All that has been said on standard error, once the agent has ended.
    pub(crate) fn said(&mut self) -> &[String] {
        self.wait();
        self.said.extend(self.errors.iter());
        &self.said
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads nothing from standard error until the guard goes, so that its pipe fills up.
    pub(crate) fn stop_reading(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.reading.clone().blocking_lock_owned()
    }

    /// Waits for a line on standard error.
    pub(crate) fn until_said(&mut self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.errors.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(_) => panic!("nobody said {what:?}; said was\n{}", self.said.join("\n")),
            }
        }
    }

    /// A line on standard error that may have come already: what a start says is in no order.
    pub(crate) fn once_said(&mut self, what: &str) -> String {
        let said = self.said.iter().find(|line| line.contains(what)).cloned();
        said.unwrap_or_else(|| self.until_said(what))
    }

    /// Whether a line on standard error so far contains this.
    pub(crate) fn has_said(&self, what: &str) -> bool {
        self.said.iter().any(|line| line.contains(what))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// Waits for the end and gives the exit code; `None` if a signal ended it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if Instant::now() < deadline => thread::park_timeout(Duration::from_millis(5)),
                None => panic!("the agent does not end; said was\n{}", self.said.join("\n")),
            }
        }
    }

    /// The body of an HTTP page, and its status line.
    pub(crate) fn page(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.http
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let (_, body) = self.page("/status");
        serde_json::from_str(&body).unwrap()
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.page("/metrics");
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{body}"))
            .parse()
            .unwrap()
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.status()["head"]["sequence"].as_u64().unwrap()
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not in time; {}",
                self.status()
            );
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Runs a verb against this agent.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Done {
        Done::of(
            configstream()
                .arg("--run-dir")
                .arg(&self.run_dir)
                .args(arguments),
        )
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.said.extend(self.errors.iter());
            eprintln!("the agent said\n{}", self.said.join("\n"));
        }
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_string(&mut text).unwrap();
        }
        text
    })
}

/// A program whose lines are read as they come. Dropping it kills it.
pub(crate) struct Lines {
    child: Child,
    lines: Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Lines {
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = Some(collect(child.stderr.take()));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            lines,
            errors,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// The next line, within [`PATIENCE`].
    pub(crate) fn line(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("no line came: {error}"))
    }

    /// The next line, which is JSON.
    pub(crate) fn next(&self) -> serde_json::Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Shows that nothing has come so far.
    pub(crate) fn assert_nothing_more(&self) {
        if let Ok(line) = self.lines.try_recv() {
            panic!("one too many: {line}");
        }
    }

    /// Waits for the program to end by itself and gives what it said on standard error.
    pub(crate) fn wait(mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the program does not end");
            thread::park_timeout(Duration::from_millis(5));
        }
        self.end()
    }

    /// Kills the program and gives what it said on standard error.
    pub(crate) fn stop(mut self) -> String {
        self.end()
    }

    fn end(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let errors = self.errors.take().map(thread::JoinHandle::join);
        errors.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let errors = self.end();
        if thread::panicking() {
            eprintln!("the program said\n{errors}");
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn of(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self::after(child)
    }

    /// Waits for a program whose output is piped.
    pub(crate) fn after(mut child: Child) -> Self {
        let out = collect(child.stdout.take());
        let err = collect(child.stderr.take());
        let deadline = Instant::now() + PATIENCE;
        let code = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status.code(),
                None if Instant::now() < deadline => thread::park_timeout(Duration::from_millis(2)),
                None => {
                    child.kill().unwrap();
                    panic!("a program does not end: {:?} {:?}", out.join(), err.join());
                }
            }
        };
        Self {
            code,
            out: out.join().unwrap(),
            err: err.join().unwrap(),
        }
    }

    /// The one JSON object on standard output.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Demands an exit code, and parts of what was said.
    pub(crate) fn demand(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "lacks {part:?}: {self:?}");
        }
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}
