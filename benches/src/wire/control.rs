//! What the processes of one measurement say to each other: one JSON document a line.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hdrhistogram::Histogram;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// To a server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ServerCommand {
    /// How much memory the process has resident.
    Memory,
    /// Publish so many updates at equal distances.
    Paced { updates: u64, interval_ns: u64 },
    /// Publish for so long, as fast as the slowest stream follows.
    Saturated { duration_ns: u64 },
}

/// From a server: first where it listens, then an answer to each command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ServerAnswer {
    Listening(String),
    Memory { resident_bytes: u64 },
    Published(Published),
}

/// What it took to publish.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Published {
    pub(super) updates: u64,
    /// When the first was due.
    pub(super) started_ns: u64,
    /// Processor time of the server until everything was delivered, without that of the publisher's pauses.
    pub(super) cpu_ns: u64,
    /// Processor time that the publishing thread took to fall asleep and to wake.
    pub(super) pauses_ns: u64,
    /// Socket writes until then.
    pub(super) writes: u64,
    /// How long publishing one took.
    pub(super) publish_ns: Counts,
}

/// To the readers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ReaderCommand {
    /// Open the streams, all at once.
    Join,
    /// Read no more.
    Stall,
    /// What arrived since the last report.
    Report,
}

/// From the readers: first that they are connected, then an answer to each command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ReaderAnswer {
    Connected,
    /// From the first request to the last snapshot.
    Joined {
        duration_ns: u64,
    },
    Stalled,
    Received(Received),
}

/// What readers got.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Received {
    pub(super) updates: u64,
    pub(super) snapshots: u64,
    /// When the last message came.
    pub(super) last_ns: u64,
    /// From when an update was due to when it was read.
    pub(super) latency_ns: Counts,
}

/// A histogram: values, and how often each was met.
pub(super) type Counts = Vec<(u64, u64)>;

/// An empty histogram of nanoseconds: a minute at most, to three figures.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds in order")
}

/// What a histogram holds.
pub(super) fn counted(histogram: &Histogram<u64>) -> Counts {
    let recorded = histogram.iter_recorded();
    recorded
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect()
}

/// The histogram that held these.
pub(super) fn uncounted(counts: &Counts) -> Histogram<u64> {
    let mut histogram = histogram();
    for (value, count) in counts {
        histogram.saturating_record_n(*value, *count);
    }
    histogram
}

/// A child that answers.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a program.
    pub(super) fn start(program: &Path, arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a child without pipes");
        let commands = Some(child.stdin.take().ok_or_else(missing)?);
        let answers = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Self {
            child,
            commands,
            answers,
        })
    }

    pub(super) fn tell(&mut self, command: &impl Serialize) -> io::Result<()> {
        let commands = self.commands.as_mut();
        say(commands.expect("there until dropped"), command)
    }

    pub(super) fn hear<A: DeserializeOwned>(&mut self) -> io::Result<A> {
        match hear(&mut self.answers)? {
            Some(answer) => Ok(answer),
            None => Err(io::Error::other(
                "a process of the measurement ended; it says why above",
            )),
        }
    }
}

/// A child ends with its input.
impl Drop for Peer {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.child.wait();
    }
}

/// Writes a line.
pub(super) fn say(to: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads a line; none at the end.
pub(super) fn hear<D: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<D>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}
