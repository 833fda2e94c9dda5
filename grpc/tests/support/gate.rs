//! A socket whose reader can be stopped, as a process that is stopped stops.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

/// Lets bytes in, or not, on all sockets that it was given to.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Closed>>);

#[derive(Default)]
struct Closed {
    closed: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    pub fn close(&self) {
        self.0.lock().unwrap().closed = true;
    }

    pub fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.closed = false;
        gate.waiting.drain(..).for_each(Waker::wake);
    }

    pub fn over(&self, stream: TcpStream) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        let (reader, writer) = stream.into_split();
        let gate = self.clone();
        tokio::io::join(Gated { gate, reader }, writer)
    }
}

/// What comes in through a gate.
struct Gated {
    gate: Gate,
    reader: OwnedReadHalf,
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut gate = self.gate.0.lock().unwrap();
            if gate.closed {
                gate.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}
