//! The process that reads: connections, each with streams, and next to no work per message.

mod connection;
mod socket;

use std::num::NonZero;
use std::sync::Arc;
use std::{io, thread};

use clap::Args;
use configstream_proto::datadog::model::v1::{ConfigEvent, config_event::Event};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use prost::Message;
use prost_types::value::Kind;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, watch};

use self::connection::Connection;
pub use self::socket::Receiver;
use self::socket::connect;
use super::access::Access;
use super::clock::now_ns;
use super::control::{self, ReaderAnswer, ReaderCommand, Received, hear, say};
use super::frames::Windows;

/// What a reading process is told to be.
#[derive(Args, Debug)]
pub struct ReaderOptions {
    /// Where the server listens.
    #[arg(long)]
    address: String,
    /// How many connections.
    #[arg(long)]
    connections: NonZero<usize>,
    /// How many streams, shared out over the connections.
    #[arg(long)]
    streams: usize,
    /// How to wait for what comes.
    #[arg(long, value_enum, default_value_t)]
    receiver: Receiver,
    /// Let the server be ahead by as much as HTTP/2 has numbers for.
    #[arg(long)]
    largest_windows: bool,
    #[command(flatten)]
    access: Access,
}

/// Reads until its input ends.
///
/// # Errors
/// What could not be connected, and how a connection or a stream ended that should not have.
pub fn read(options: &ReaderOptions) -> io::Result<()> {
    let runtime = Runtime::new()?;
    let (phases, phase) = watch::channel(Phase::Connect);
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    let connections = options.connections.get();
    let windows = match options.largest_windows {
        true => Windows::LARGEST,
        false => Windows::USUAL,
    };
    let mut tallies = Vec::new();
    for nth in 0..connections {
        let tally = Arc::new(Mutex::new(Tally::new()));
        tallies.push(tally.clone());
        let share =
            options.streams / connections + usize::from(nth < options.streams % connections);
        let (access, address) = (options.access.clone(), options.address.clone());
        let (phase, arrivals) = (phase.clone(), arrivals.clone());
        let receiver = options.receiver;
        let reading = async move {
            let reading = async {
                let socket = connect(receiver, &access, &address).await?;
                Connection::new(socket, windows, share, tally)
                    .run(phase, arrivals)
                    .await
            };
            if let Err(error) = reading.await {
                eprintln!("a connection of the readers: {error}");
                std::process::exit(1);
            }
        };
        match receiver {
            Receiver::Async => _ = runtime.spawn(reading),
            Receiver::Parked | Receiver::Spinning => {
                let runtime = runtime::Builder::new_current_thread().build()?;
                thread::spawn(move || runtime.block_on(reading));
            }
        }
    }
    let mut all_arrived = || {
        for _ in 0..connections {
            arrived.blocking_recv();
        }
    };
    all_arrived();
    say(&mut io::stdout(), &ReaderAnswer::Connected)?;
    while let Some(command) = hear(&mut io::stdin().lock())? {
        let answer = match command {
            ReaderCommand::Join => {
                let begun = now_ns();
                phases.send_replace(Phase::Read);
                all_arrived();
                ReaderAnswer::Joined {
                    duration_ns: now_ns() - begun,
                }
            }
            ReaderCommand::Stall => {
                phases.send_replace(Phase::Stall);
                ReaderAnswer::Stalled
            }
            ReaderCommand::Report => ReaderAnswer::Received(report(&tallies)),
        };
        say(&mut io::stdout(), &answer)?;
    }
    runtime.shutdown_background();
    Ok(())
}

/// What all connections do now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connect,
    Read,
    Stall,
}

/// What one connection got since the last report.
struct Tally {
    received: Received,
    latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        Self {
            received: Received::default(),
            latency: control::histogram(),
        }
    }
}

fn report(tallies: &[Arc<Mutex<Tally>>]) -> Received {
    let mut all = Tally::new();
    for tally in tallies {
        let tally = std::mem::replace(&mut *tally.lock(), Tally::new());
        all.received.updates += tally.received.updates;
        all.received.snapshots += tally.received.snapshots;
        all.received.last_ns = all.received.last_ns.max(tally.received.last_ns);
        all.latency.add(tally.latency).expect("the same bounds");
    }
    all.received.latency_ns = control::counted(&all.latency);
    all.received
}

impl Tally {
    fn count(&mut self, nth: u64, message: &[u8], now: u64) -> io::Result<()> {
        const UPDATE: u8 = 0x12;
        self.received.last_ns = now;
        let update = message.first() == Some(&UPDATE);
        let Some(due) = message.last_chunk::<8>().filter(|_| update) else {
            self.received.snapshots += 1;
            return Ok(());
        };
        let due = f64::from_le_bytes(*due);
        if nth == 1 && decoded(message) != Some(due) {
            return Err(io::Error::other(
                "an update that does not end in its number",
            ));
        }
        self.received.updates += 1;
        // Sent as a whole number below 2^53.
        #[allow(clippy::cast_possible_truncation)]
        let due = due as u64;
        self.latency.saturating_record(now.saturating_sub(due));
        Ok(())
    }
}

fn decoded(message: &[u8]) -> Option<f64> {
    match ConfigEvent::decode(message).ok()?.event? {
        Event::Update(update) => match update.setting?.value?.kind? {
            Kind::NumberValue(number) => Some(number),
            _ => None,
        },
        Event::Snapshot(_) => None,
    }
}
