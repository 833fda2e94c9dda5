//! Attackers: connections that say what no library would.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::frames::{SETTINGS, call_headers, frame};
use crate::harness::Target;

/// How attackers reach an agent, with certificate and token.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    tls: TlsConnector,
    bearer: String,
}

/// Both halves of a connection of HTTP/2, of which the preface is said.
pub(crate) type Halves = (
    ReadHalf<TlsStream<TcpStream>>,
    WriteHalf<TlsStream<TcpStream>>,
);

impl Way {
    pub(crate) fn to(target: &Target) -> Self {
        Self {
            grpc: target.grpc,
            http: target.http,
            tls: TlsConnector::from(Arc::new(target.identity.client_config())),
            bearer: target.bearer.clone(),
        }
    }

    /// A connection that has shaken hands and says nothing yet; `None` when it is hung up on.
    pub(crate) async fn shake(&self) -> Option<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.grpc).await.ok()?;
        let name = ServerName::try_from("localhost").unwrap();
        self.tls.connect(name, stream).await.ok()
    }

    /// The same with the preface said, and these settings.
    pub(crate) async fn speak(&self, settings: &[u8]) -> Option<Halves> {
        let (read, mut write) = tokio::io::split(self.shake().await?);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut bytes, SETTINGS, 0, 0, settings);
        write.write_all(&bytes).await.ok()?;
        write.flush().await.ok()?;
        Some((read, write))
    }

    /// The headers of a call of this method.
    pub(crate) fn headers(&self, path: &str, session_id: &str) -> Vec<u8> {
        call_headers(path, &self.bearer, session_id)
    }
}

/// What a flood got through.
#[derive(Default)]
pub(crate) struct Spent {
    pub(crate) bytes: AtomicU64,
    pub(crate) connections: AtomicU64,
}

/// Whether a flood reads what the agent answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    Read,
    Unread,
}

/// Connections that send what `next` gives, over and over, and connect again when they are hung up
/// on. `start` makes a `next` for each connection, since streams have numbers.
pub(crate) fn flood<N: FnMut(&mut Vec<u8>) + Send>(
    target: &Target,
    connections: usize,
    answers: Answers,
    start: impl Fn(&Way) -> N + Send + Sync + 'static,
) {
    let start = Arc::new(start);
    let spent = Arc::new(Spent::default());
    each(target, connections, |way, until, _| {
        let (start, spent) = (start.clone(), spent.clone());
        async move {
            while Instant::now() < until {
                let Some((mut read, mut write)) = way.speak(&[]).await else {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                spent.connections.fetch_add(1, Ordering::Relaxed);
                let mut next = start(&way);
                let writing = async {
                    let mut bytes = Vec::new();
                    loop {
                        bytes.clear();
                        next(&mut bytes);
                        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                            return;
                        }
                        spent.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    }
                };
                let reading = async {
                    let mut sink = vec![0; 16 * 1024];
                    if answers == Answers::Unread {
                        std::future::pending::<()>().await;
                    }
                    while read.read(&mut sink).await.is_ok_and(|count| count > 0) {}
                };
                tokio::select! {
                    () = writing => {}
                    () = reading => {}
                    () = tokio::time::sleep_until(until) => {}
                }
            }
        }
    });
    let (bytes, connections) = (
        spent.bytes.load(Ordering::Relaxed),
        spent.connections.load(Ordering::Relaxed),
    );
    println!("the flood sent {bytes} bytes over {connections} connections");
    assert!(bytes > 0 && connections > 0, "the flood never began");
}

/// Attackers at the same time, numbered, each told until when, all gone when this returns.
pub(crate) fn each<F: Future<Output = ()> + Send + 'static>(
    target: &Target,
    count: usize,
    attacker: impl Fn(Way, Instant, usize) -> F,
) {
    let way = Way::to(target);
    target.runtime.block_on(async {
        let until = Instant::now() + target.lasting();
        let mut attackers = tokio::task::JoinSet::new();
        for number in 0..count {
            attackers.spawn(timeout_at(until, attacker(way.clone(), until, number)));
        }
        while let Some(ended) = attackers.join_next().await {
            // Out of time is how most of them end.
            let _ = ended.expect("no attacker panics");
        }
    });
}
