//! The process that reads: connections, each with streams, and next to no work per message.

use std::io;
use std::num::NonZero;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use clap::Args;
use configstream_proto::datadog::model::v1::{
    ConfigEvent, ConfigStreamRequest, config_event::Event,
};
use configstream_proto::datadog::remoteagent::v1::{
    RegisterRemoteAgentRequest, RegisterRemoteAgentResponse,
};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use prost::Message;
use prost_types::value::Kind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;

use super::access::{Access, TOKEN};
use super::clock::now_ns;
use super::control::{self, ReaderAnswer, ReaderCommand, Received, hear, say};
use super::frames::{self, Head};

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
    #[command(flatten)]
    access: Access,
}

/// Reads until its input ends.
///
/// # Errors
/// What could not be connected, and how a connection or a stream ended that should not have.
pub fn read(options: &ReaderOptions) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (phases, phase) = watch::channel(Phase::Connect);
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    let connections = options.connections.get();
    let mut tallies = Vec::new();
    for nth in 0..connections {
        let tally = Arc::new(Mutex::new(Tally::new()));
        tallies.push(tally.clone());
        let share =
            options.streams / connections + usize::from(nth < options.streams % connections);
        let (access, address) = (options.access.clone(), options.address.clone());
        let (phase, arrivals) = (phase.clone(), arrivals.clone());
        runtime.spawn(async move {
            let reading = async {
                let socket = connect(&access, &address).await?;
                Connection::new(socket, share, tally)
                    .run(phase, arrivals)
                    .await
            };
            if let Err(error) = reading.await {
                eprintln!("a connection of the readers: {error}");
                std::process::exit(1);
            }
        });
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

async fn connect(access: &Access, address: &str) -> io::Result<Box<dyn Stream>> {
    let socket: Box<dyn Stream> = if access.unix {
        Box::new(UnixStream::connect(address).await?)
    } else {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Box::new(socket)
    };
    if !access.tls {
        return Ok(socket);
    }
    let tls = TlsConnector::from(Arc::new(access.identity()?.client_config()));
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    Ok(Box::new(tls.connect(name, socket).await?))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection; its stream 1 registers, the others are read.
struct Connection {
    socket: Box<dyn Stream>,
    input: BytesMut,
    output: Vec<u8>,
    tally: Arc<Mutex<Tally>>,
    /// Received, and not yet granted again.
    taken: u32,
    session: Option<String>,
    /// In the order of their numbers: 1, 3, 5, …
    streams: Vec<Incoming>,
    /// Streams that have no snapshot yet.
    waiting: usize,
}

/// One stream.
#[derive(Default)]
struct Incoming {
    /// Of a message that came in part.
    partial: Vec<u8>,
    taken: u32,
    messages: u64,
}

impl Connection {
    fn new(socket: Box<dyn Stream>, streams: usize, tally: Arc<Mutex<Tally>>) -> Self {
        Self {
            socket,
            input: BytesMut::with_capacity(READ_BYTES),
            output: Vec::new(),
            tally,
            taken: 0,
            session: None,
            streams: (0..=streams).map(|_| Incoming::default()).collect(),
            waiting: streams,
        }
    }

    /// Says when it is connected, and when all streams have a snapshot.
    async fn run(
        mut self,
        mut phase: watch::Receiver<Phase>,
        arrivals: mpsc::UnboundedSender<()>,
    ) -> io::Result<()> {
        let authorization = format!("Bearer {TOKEN}");
        let authorization = ("authorization", authorization.as_str());
        let register = RegisterRemoteAgentRequest {
            display_name: "load".to_owned(),
            ..RegisterRemoteAgentRequest::default()
        };
        frames::preface(&mut self.output);
        let message = register.encode_to_vec();
        frames::request(
            1,
            &path("RegisterRemoteAgent"),
            &[authorization],
            &message,
            &mut self.output,
        );
        let session = loop {
            self.exchange().await?;
            if let Some(session) = self.session.take() {
                break session;
            }
        };
        let _ = arrivals.send(());
        let _ = phase.wait_for(|phase| *phase != Phase::Connect).await;
        let metadata = [authorization, ("session_id", session.as_str())];
        let message = ConfigStreamRequest {
            name: "load".to_owned(),
        };
        let message = message.encode_to_vec();
        for nth in 1..self.streams.len() {
            let stream = u32::try_from(2 * nth + 1).map_err(io::Error::other)?;
            frames::request(
                stream,
                &path("StreamConfigEvents"),
                &metadata,
                &message,
                &mut self.output,
            );
        }
        while self.waiting > 0 {
            self.exchange().await?;
        }
        let _ = arrivals.send(());
        loop {
            tokio::select! {
                exchanged = self.exchange() => exchanged?,
                _ = phase.wait_for(|phase| *phase == Phase::Stall) => break,
            }
        }
        std::future::pending().await
    }

    /// Sends what there is to send, and takes what comes. Nothing is lost when it is dropped half-way, since it is
    /// dropped for good.
    async fn exchange(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.socket.write_all(&self.output).await?;
            self.output.clear();
        }
        self.input.reserve(READ_BYTES);
        if self.socket.read_buf(&mut self.input).await? == 0 {
            return Err(io::Error::other("the server hung up"));
        }
        let now = now_ns();
        let tally = self.tally.clone();
        let mut tally = tally.lock();
        while let Some(head) = Head::read(&self.input) {
            if self.input.len() < Head::LENGTH + head.length {
                break;
            }
            self.input.advance(Head::LENGTH);
            let payload = self.input.split_to(head.length);
            self.take(head, &payload, now, &mut tally)?;
        }
        if self.taken > frames::CONNECTION_WINDOW / 2 {
            frames::window_update(0, std::mem::take(&mut self.taken), &mut self.output);
        }
        Ok(())
    }

    fn take(&mut self, head: Head, payload: &[u8], now: u64, tally: &mut Tally) -> io::Result<()> {
        match head.kind {
            frames::DATA => {
                let Some(stream) = self.streams.get_mut(head.stream as usize / 2) else {
                    return Err(io::Error::other("data on a stream that nobody opened"));
                };
                let length = u32::try_from(head.length).map_err(io::Error::other)?;
                self.taken += length;
                stream.taken += length;
                if stream.taken > frames::STREAM_WINDOW / 2 {
                    let taken = std::mem::take(&mut stream.taken);
                    frames::window_update(head.stream, taken, &mut self.output);
                }
                if head.stream == 1 {
                    stream.each(payload, |_, message| {
                        let response = RegisterRemoteAgentResponse::decode(message)?;
                        self.session = Some(response.session_id);
                        Ok(())
                    })?;
                    return Ok(());
                }
                stream.each(payload, |nth, message| {
                    self.waiting -= usize::from(nth == 0);
                    tally.count(nth, message, now)
                })
            }
            frames::HEADERS if head.flags & frames::END_STREAM != 0 && head.stream != 1 => {
                Err(io::Error::other("the server ended a stream"))
            }
            frames::RST_STREAM => Err(io::Error::other("the server reset a stream")),
            frames::GOAWAY => Err(io::Error::other("the server says good-bye")),
            frames::SETTINGS | frames::PING if head.flags & frames::ACK == 0 => {
                let echo = if head.kind == frames::PING {
                    payload
                } else {
                    &[]
                };
                frames::acknowledge(head.kind, echo, &mut self.output);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Incoming {
    /// Calls `take` with each message that is complete, and its number.
    fn each(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            let whole = std::mem::take(&mut self.partial);
            return self.each(&whole, take);
        }
        while let Some((prefix, rest)) = bytes.split_first_chunk::<5>() {
            let [_, length @ ..] = *prefix;
            let Some((message, rest)) = rest.split_at_checked(u32::from_be_bytes(length) as usize)
            else {
                break;
            };
            take(self.messages, message)?;
            self.messages += 1;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
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

fn path(method: &str) -> String {
    format!("/datadog.api.v1.AgentSecure/{method}")
}

const READ_BYTES: usize = 256 * 1024;
