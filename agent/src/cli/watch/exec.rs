//! `configstream watch --exec`: a command for each change.
//!
//! The command is run by `sh -c` as it was written. What changed is in its environment and nowhere else, so that no
//! value is ever read as a command. One runs at a time. While it does, changes wait, for each key only the newest: a
//! command that is slow misses what came between, never the state it ended in. So no more can wait than there are keys.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::io;
use std::process::{ExitStatus, Stdio};

use configstream_engine::settings::Value;
use serde_json::Value as Json;
use tokio::process::{Child, Command};

use crate::json;
use crate::narration::say;

/// One change, as the command gets it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Changed {
    pub(super) key: String,
    /// None: the key is in no layer any more.
    pub(super) now: Option<(String, Value)>,
    pub(super) sequence: u64,
    /// The same as a line of `--json`.
    pub(super) event: Json,
}

/// Runs the command.
#[derive(Debug)]
pub(super) struct Exec {
    command: String,
    running: Option<(String, Child)>,
    /// The keys that wait, longest first.
    order: VecDeque<String>,
    waiting: BTreeMap<String, Changed>,
}

impl Exec {
    pub(super) fn new(command: String) -> Self {
        Self {
            command,
            running: None,
            order: VecDeque::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Lets the command run for a change: now, or when it is its turn.
    pub(super) fn put(&mut self, changed: Changed) {
        let key = changed.key.clone();
        if self.waiting.insert(key.clone(), changed).is_none() {
            self.order.push_back(key);
        }
        self.start_next();
    }

    /// Waits until the command that runs has ended, and starts the next. Never returns if none runs. Can be left at any
    /// time.
    pub(super) async fn turn(&mut self) {
        let Some((key, child)) = &mut self.running else {
            return pending().await;
        };
        let ended = child.wait().await;
        tell(key, ended);
        self.running = None;
        self.start_next();
    }

    /// Waits until all that waits has run.
    pub(super) async fn finish(&mut self) {
        while self.running.is_some() {
            self.turn().await;
        }
    }

    fn start_next(&mut self) {
        while self.running.is_none()
            && let Some(key) = self.order.pop_front()
        {
            let Some(changed) = self.waiting.remove(&key) else {
                continue;
            };
            match self.spawn(&changed) {
                Ok(child) => self.running = Some((key, child)),
                Err(error) => tell(&key, Err(error)),
            }
        }
    }

    fn spawn(&self, changed: &Changed) -> io::Result<Child> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            .env("CONFIGSTREAM_KEY", &changed.key)
            .env("CONFIGSTREAM_SEQUENCE", changed.sequence.to_string())
            .env("CONFIGSTREAM_EVENT", changed.event.to_string());
        for name in ["CONFIGSTREAM_SOURCE", "CONFIGSTREAM_VALUE"] {
            command.env_remove(name);
        }
        if let Some((source, value)) = &changed.now {
            let value = match value {
                Value::String(text) => text.to_string(),
                other => json::of(other).to_string(),
            };
            command
                .env("CONFIGSTREAM_SOURCE", source)
                .env("CONFIGSTREAM_VALUE", value);
        }
        command.kill_on_drop(true).spawn()
    }
}

/// Says how a run ended.
fn tell(key: &str, ended: io::Result<ExitStatus>) {
    match ended {
        Ok(status) => say(format_args!("the command for {key} ended: {status}")),
        Err(error) => say(format_args!("the command for {key} could not run: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(key: &str, value: &str, sequence: u64) -> Changed {
        Changed {
            key: key.to_owned(),
            now: Some(("file".to_owned(), value.into())),
            sequence,
            event: Json::Null,
        }
    }

    #[tokio::test]
    async fn of_the_changes_that_wait_only_the_newest_of_each_key_runs() {
        let root = tempfile::tempdir().unwrap();
        let (gate, log) = (root.path().join("gate"), root.path().join("log"));
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let command = format!(
            "read line < {}; echo \"$CONFIGSTREAM_KEY $CONFIGSTREAM_SEQUENCE $CONFIGSTREAM_VALUE\" >> {}",
            gate.display(),
            log.display()
        );
        let mut exec = Exec::new(command);
        for (key, value, sequence) in [
            ("a", "1", 1),
            ("b", "1", 2),
            ("a", "2", 3),
            ("b", "2", 4),
            ("a", "3", 5),
        ] {
            exec.put(changed(key, value, sequence));
        }
        assert_eq!(exec.order, ["b", "a"]);
        for _ in 0..3 {
            let gate = gate.clone();
            // Opening it waits for the command that reads it.
            let opened = tokio::task::spawn_blocking(move || std::fs::write(gate, "go\n"));
            opened.await.unwrap().unwrap();
            exec.turn().await;
        }
        exec.finish().await;
        let log = std::fs::read_to_string(log).unwrap();
        assert_eq!(log, "a 1 1\nb 4 2\na 5 3\n");
    }

    #[tokio::test]
    async fn a_value_is_never_read_as_a_command() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let evil = format!(
            "$(touch {0}/x); `touch {0}/x`; ' \" \n touch {0}/x",
            root.path().display()
        );
        let mut exec = Exec::new(format!(
            "printf %s \"$CONFIGSTREAM_VALUE\" > {}",
            out.display()
        ));
        exec.put(changed("a", &evil, 1));
        exec.finish().await;
        assert_eq!(std::fs::read_to_string(out).unwrap(), evil);
        assert!(!root.path().join("x").exists());
    }

    #[tokio::test]
    async fn what_cannot_be_handed_over_does_not_stop_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("log");
        let mut exec = Exec::new(format!("echo $CONFIGSTREAM_KEY >> {}", log.display()));
        exec.put(changed("a", "a nul \0 in it", 1));
        exec.put(changed("b", &"x".repeat(1 << 20), 2));
        exec.put(changed("c", "good", 3));
        exec.finish().await;
        assert_eq!(std::fs::read_to_string(log).unwrap(), "c\n");
    }
}
