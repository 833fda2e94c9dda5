//! Scenarios, each measured at one server at a time.

use std::io;
use std::num::NonZero;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::access::prepare;
use super::control::{self, Peer, ReaderAnswer, ReaderCommand, ServerAnswer, ServerCommand};
use super::go;
use super::readers::Receiver;
use super::server::{Implementation, workload};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// How many streams read.
    pub streams: usize,
    /// Over how many connections.
    pub connections: usize,
    /// With TLS.
    pub tls: bool,
    /// Over a Unix socket instead of TCP.
    pub unix: bool,
    /// How they wait for what comes.
    pub receiver: Receiver,
    /// Updates per second; none: as many as go through.
    pub rate: Option<NonZero<u32>>,
    /// How long is published.
    pub duration: Duration,
    /// [`STALLED`] streams beside that have stopped reading, and let the server be ahead by as much as HTTP/2 has numbers for.
    pub stalled: bool,
    /// How many updates pass the stalled ones, as fast as the server can, before anything is measured. It takes some ten thousand to
    /// fill the buffers of their sockets; before that, who publishes as fast as the slowest follows would wait for them.
    pub passing: u64,
}

/// As many as were asked for; see [`Scenario::passing`].
pub const PASSING: u64 = 200_000;

/// What one run showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From the first request to the last of the streams' snapshots.
    pub join_ns: f64,
    /// What the server's resident memory grew by, per stream, connections included.
    pub bytes_per_stream: f64,
    /// What it grew by while updates passed the stalled streams, per stalled stream; 0 without any.
    pub bytes_per_stalled: f64,
    /// Updates read per second, all streams together.
    pub delivered_per_second: f64,
    /// Processor time of the server per update read, without the publisher's pauses.
    pub cpu_ns: f64,
    /// Processor time of the publisher's pauses per update read.
    pub pauses_ns: f64,
    /// Socket writes per update published.
    pub writes: f64,
    /// Snapshots that repaired a stream which had fallen behind.
    pub resyncs: u64,
    /// How long publishing took.
    pub publish_ns: Histogram<u64>,
    /// From when an update was due to when it was read.
    pub latency_ns: Histogram<u64>,
}

impl Scenario {
    /// As it stands in identifiers.
    #[must_use]
    pub fn name(&self) -> String {
        let load = match self.rate {
            Some(rate) => format!("paced_{rate}"),
            None => "saturated".to_owned(),
        };
        let socket = if self.unix { "unix" } else { "tcp" };
        let tls = if self.tls { "_tls" } else { "" };
        let receiver = match self.receiver {
            Receiver::Async => String::new(),
            other => format!("_{}", other.name()),
        };
        let stalled = if self.stalled { "_stalled" } else { "" };
        format!(
            "{load}_{}x{}_{socket}{tls}{receiver}{stalled}",
            self.streams, self.connections
        )
    }

    /// Whether it can be measured there. A saturating publisher follows the slowest stream that reads, and the naive
    /// server's channel cannot tell that from one which has stopped.
    #[must_use]
    pub fn suits(&self, implementation: Implementation) -> bool {
        !(self.stalled && self.rate.is_none() && implementation == Implementation::NaiveTonic)
    }

    /// Starts a server and its readers, and publishes.
    ///
    /// # Errors
    /// What did not start, and that a process of the measurement has ended.
    pub fn run(&self, implementation: Implementation) -> io::Result<Outcome> {
        let folder = tempfile::tempdir()?;
        prepare(folder.path())?;
        let folder = folder
            .path()
            .to_str()
            .ok_or_else(|| io::Error::other("a folder with an odd name"))?;
        let mut server = match implementation {
            Implementation::Engine => {
                self.start(&["serve", "--implementation", "engine", "--folder", folder])?
            }
            Implementation::NaiveTonic => self.start(&[
                "serve",
                "--implementation",
                "naive-tonic",
                "--folder",
                folder,
            ])?,
            Implementation::Go => {
                go::prepare(Path::new(folder), &workload())?;
                self.start_program(&go::program(), &["--folder", folder])?
            }
        };
        let ServerAnswer::Listening(address) = server.hear()? else {
            return Err(out_of_turn());
        };
        let memory = resident(&mut server)?;
        let read = |streams: usize, connections: usize, receiver: Receiver, more: &[&str]| {
            let (streams, connections) = (streams.to_string(), connections.to_string());
            let arguments = [
                "read",
                "--folder",
                folder,
                "--address",
                &address,
                "--streams",
                &streams,
                "--connections",
                &connections,
                "--receiver",
                receiver.name(),
            ];
            self.start(&[&arguments, more].concat())
        };
        let mut readers = read(self.streams, self.connections, self.receiver, &[])?;
        let join_ns = join(&mut readers)? as f64;
        sleep(SETTLE);
        let joined = resident(&mut server)?;
        let grown = joined.saturating_sub(memory);
        let mut bytes_per_stalled = 0.0;
        let _stalled = if self.stalled {
            let windows = ["--largest-windows"];
            let mut stalled = read(STALLED, STALLED_CONNECTIONS, Receiver::Async, &windows)?;
            join(&mut stalled)?;
            stalled.tell(&ReaderCommand::Stall)?;
            let ReaderAnswer::Stalled = stalled.hear()? else {
                return Err(out_of_turn());
            };
            // Their windows never close, so it is the kernel's buffers that fill, of some MiB for each connection.
            let passing = ServerCommand::Paced {
                updates: self.passing,
                interval_ns: PASSING_INTERVAL_NS,
            };
            published(&mut server, &passing)?;
            let grown = resident(&mut server)?.saturating_sub(joined);
            bytes_per_stalled = grown as f64 / STALLED as f64;
            Some(stalled)
        } else {
            None
        };
        published(&mut server, &self.load(WARM_UP))?;
        received(&mut readers)?;
        let published = published(&mut server, &self.load(self.duration))?;
        let received = received(&mut readers)?;
        if published.updates == 0 || received.updates == 0 {
            let name = implementation.name();
            return Err(io::Error::other(format!(
                "{name} published {} updates, and {} were read: nothing to measure",
                published.updates, received.updates
            )));
        }
        let elapsed = received.last_ns.saturating_sub(published.started_ns);
        Ok(Outcome {
            join_ns,
            bytes_per_stream: grown as f64 / self.streams as f64,
            bytes_per_stalled,
            delivered_per_second: received.updates as f64 / (elapsed as f64 / 1e9),
            cpu_ns: published.cpu_ns as f64 / received.updates as f64,
            pauses_ns: published.pauses_ns as f64 / received.updates as f64,
            writes: published.writes as f64 / published.updates as f64,
            resyncs: received.snapshots,
            publish_ns: control::uncounted(&published.publish_ns),
            latency_ns: control::uncounted(&received.latency_ns),
        })
    }

    /// This program, in another part.
    fn start(&self, arguments: &[&str]) -> io::Result<Peer> {
        self.start_program(&std::env::current_exe()?, arguments)
    }

    fn start_program(&self, program: &Path, arguments: &[&str]) -> io::Result<Peer> {
        let mut arguments = arguments.to_vec();
        arguments.extend(self.tls.then_some("--tls"));
        arguments.extend(self.unix.then_some("--unix"));
        Peer::start(program, &arguments)
    }

    fn load(&self, duration: Duration) -> ServerCommand {
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        match self.rate {
            Some(rate) => {
                let interval_ns = (1_000_000_000 / u64::from(rate.get())).max(1);
                ServerCommand::Paced {
                    updates: duration_ns / interval_ns,
                    interval_ns,
                }
            }
            None => ServerCommand::Saturated { duration_ns },
        }
    }
}

fn resident(server: &mut Peer) -> io::Result<u64> {
    server.tell(&ServerCommand::Memory)?;
    match server.hear()? {
        ServerAnswer::Memory { resident_bytes } => Ok(resident_bytes),
        _ => Err(out_of_turn()),
    }
}

fn published(server: &mut Peer, command: &ServerCommand) -> io::Result<control::Published> {
    server.tell(command)?;
    match server.hear()? {
        ServerAnswer::Published(published) => Ok(published),
        _ => Err(out_of_turn()),
    }
}

fn join(readers: &mut Peer) -> io::Result<u64> {
    let ReaderAnswer::Connected = readers.hear()? else {
        return Err(out_of_turn());
    };
    readers.tell(&ReaderCommand::Join)?;
    match readers.hear()? {
        ReaderAnswer::Joined { duration_ns } => Ok(duration_ns),
        _ => Err(out_of_turn()),
    }
}

fn received(readers: &mut Peer) -> io::Result<control::Received> {
    readers.tell(&ReaderCommand::Report)?;
    match readers.hear()? {
        ReaderAnswer::Received(received) => Ok(received),
        _ => Err(out_of_turn()),
    }
}

fn out_of_turn() -> io::Error {
    io::Error::other("a process of the measurement spoke out of turn")
}

/// How many streams stop reading, where some do.
pub const STALLED: usize = 100;
const STALLED_CONNECTIONS: usize = 10;
/// Some hundred nanoseconds a stream: slow enough for a server that drops what finds a channel full, which otherwise never
/// gets to the sockets.
const PASSING_INTERVAL_NS: u64 = 10_000;
const SETTLE: Duration = Duration::from_millis(300);
const WARM_UP: Duration = Duration::from_millis(500);
