//! One connection and its streams, in as much of HTTP/2 as it takes to read them.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use configstream_proto::datadog::model::v1::ConfigStreamRequest;
use configstream_proto::datadog::remoteagent::v1::{
    RegisterRemoteAgentRequest, RegisterRemoteAgentResponse,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::socket::Stream;
use super::{Phase, Tally};
use crate::wire::access::TOKEN;
use crate::wire::clock::now_ns;
use crate::wire::frames::{self, Head, Windows};

/// One connection; its stream 1 registers, the others are read.
pub(super) struct Connection {
    socket: Box<dyn Stream>,
    input: BytesMut,
    output: Vec<u8>,
    tally: Arc<Mutex<Tally>>,
    windows: Windows,
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
    pub(super) fn new(
        socket: Box<dyn Stream>,
        windows: Windows,
        streams: usize,
        tally: Arc<Mutex<Tally>>,
    ) -> Self {
        Self {
            socket,
            input: BytesMut::with_capacity(READ_BYTES),
            output: Vec::new(),
            tally,
            windows,
            taken: 0,
            session: None,
            streams: (0..=streams).map(|_| Incoming::default()).collect(),
            waiting: streams,
        }
    }

    /// Says when it is connected, and when all streams have a snapshot.
    pub(super) async fn run(
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
        frames::preface(self.windows, &mut self.output);
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
        if self.taken > self.windows.connection / 2 {
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
                if stream.taken > self.windows.stream / 2 {
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

fn path(method: &str) -> String {
    format!("/datadog.api.v1.AgentSecure/{method}")
}

const READ_BYTES: usize = 256 * 1024;
