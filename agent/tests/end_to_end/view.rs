//! What `configstream watch --json` shows of a stream, and whether it is in order.

use std::cell::Cell;
use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};

use crate::support::{Agent, Lines, configstream};

/// A `configstream watch --json` that checks what it sees: a snapshot first, then each update at the sequence after the
/// one before, and each later snapshot beyond.
pub(crate) struct Watch {
    lines: Lines,
    reached: Cell<Option<(u64, u64)>>,
}

impl Watch {
    pub(crate) fn start(agent: &Agent) -> Self {
        let mut command = configstream();
        command
            .args(["watch", "--json", "--run-dir"])
            .arg(&agent.run_dir);
        Self {
            lines: Lines::of(&mut command),
            reached: Cell::new(None),
        }
    }

    /// The next event.
    pub(crate) fn next(&self) -> Json {
        let event = self.lines.next();
        let sequence = event["sequence"].as_u64().unwrap();
        let now = match (self.reached.get(), event["event"].as_str()) {
            (None, Some("snapshot")) => (event["epoch"].as_u64().unwrap(), sequence),
            (Some((epoch, reached)), Some("snapshot")) => {
                assert_eq!(event["epoch"], epoch);
                assert!(sequence > reached, "a snapshot after {reached}: {event}");
                (epoch, sequence)
            }
            (Some((epoch, reached)), Some("update")) => {
                assert_eq!(sequence, reached + 1, "{event}");
                (epoch, sequence)
            }
            other => panic!("after {other:?} comes {event}"),
        };
        self.reached.set(Some(now));
        event
    }

    /// The next event, which is a snapshot: its settings.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, Json> {
        settings(&self.next())
    }

    /// The next event, which is an update: key, source and value.
    pub(crate) fn update(&self) -> Json {
        said(&self.next())
    }

    /// The sequence of the last event.
    pub(crate) fn reached(&self) -> u64 {
        self.reached.get().expect("an event has come").1
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.lines.signal(signal);
    }

    /// Shows that no event has come that was not looked at, and that none is on its way: the next change is the next
    /// event.
    pub(crate) fn assert_quiet(&self, agent: &Agent) {
        let marker = format!("quiet at {}", self.reached());
        agent.verb(&["set", "log_file", &marker]).json();
        assert_eq!(self.update(), json!(["log_file", "agent-runtime", marker]));
        self.lines.assert_nothing_more();
    }
}

/// The settings of a snapshot by key, each with source and value.
pub(crate) fn settings(snapshot: &Json) -> BTreeMap<String, Json> {
    assert_eq!(snapshot["event"], "snapshot", "{snapshot}");
    let settings = snapshot["settings"].as_array().unwrap();
    settings.iter().map(keyed).collect()
}

/// What `configstream list` says now, in the same form.
pub(crate) fn listed(agent: &Agent) -> BTreeMap<String, Json> {
    let done = agent.verb(&["list"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let settings = done
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    settings.map(|setting: Json| keyed(&setting)).collect()
}

fn keyed(setting: &Json) -> (String, Json) {
    let key = setting["key"].as_str().unwrap().to_owned();
    (key, json!([setting["source"], setting["value"]]))
}

/// What an update says, without its sequence.
pub(crate) fn said(update: &Json) -> Json {
    assert_eq!(update["event"], "update", "{update}");
    json!([update["key"], update["source"], update["value"]])
}
