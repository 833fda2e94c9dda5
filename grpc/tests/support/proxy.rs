//! A TCP proxy that does to connections what networks do.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards from a port of its own. Its task goes with the runtime.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are forwarded.
    Pass,
    /// They are forwarded later, in order.
    Delay(Duration),
    /// They are not forwarded, on any connection, old or new; nobody is told.
    Freeze,
}

/// Which half of each connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    ToClient,
    ToServer,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
    closed: [watch::Sender<u64>; 2],
    to_client: AtomicU64,
}

impl Proxy {
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            mode: watch::Sender::new(Mode::Pass),
            cuts: watch::Sender::new(0),
            closed: [watch::Sender::new(0), watch::Sender::new(0)],
            to_client: AtomicU64::new(0),
        });
        tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared }
    }

    /// Where new connections lead.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Bytes that clients have been sent, on all connections.
    pub fn bytes_to_clients(&self) -> u64 {
        self.shared.to_client.load(Ordering::Relaxed)
    }

    /// Closes all connections that there are.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// Closes one direction of all connections that there are; the other stays.
    pub fn half_close(&self, half: Half) {
        self.shared.closed[half as usize].send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut cuts = shared.cuts.subscribe();
            tokio::select! {
                _ = forward(client, &shared) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn forward(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let closed = |half: Half| shared.closed[half as usize].subscribe();
    let (to_client, to_server) = (closed(Half::ToClient), closed(Half::ToServer));
    let upstream = *shared.upstream.lock().unwrap();
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let mode = || shared.mode.subscribe();
    let uncounted = AtomicU64::new(0);
    let count = &shared.to_client;
    tokio::try_join!(
        pump(client_read, server_write, mode(), to_server, &uncounted),
        pump(server_read, client_write, mode(), to_client, count),
    )?;
    Ok(())
}

/// One direction, to its end.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    mut closed: watch::Receiver<u64>,
    forwarded: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = tokio::select! {
            count = from.read(&mut buffer) => count?,
            _ = closed.changed() => 0,
        };
        let now = *mode.borrow_and_update();
        if let Mode::Delay(duration) = now {
            tokio::time::sleep(duration).await;
        }
        let _ = mode.wait_for(|mode| *mode != Mode::Freeze).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        forwarded.fetch_add(count as u64, Ordering::Relaxed);
    }
}
