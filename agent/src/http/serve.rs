//! Who may ask, and for how long: a bound for everything that a peer without credentials can take.
//!
//! Probes ask here whether the agent lives, so nobody must be able to keep them out. When every place is taken, the one who
//! has been here longest makes room: an answer takes milliseconds, and who needs longer than 64 others do is in no hurry.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// What those who ask are granted.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct Grants {
    /// Connections at a time. One more cuts the oldest.
    pub connections: usize,
    /// Connections are served on file descriptors below this number. One beyond it is hung up on,
    /// and the oldest with it.
    pub descriptors: usize,
    /// How long a connection may take from the first byte asked to the last one answered.
    pub patience: Duration,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            descriptors: usize::MAX,
            patience: Duration::from_secs(10),
        }
    }
}

/// How many connections there may be by default.
pub(crate) const CONNECTIONS: usize = 64;

/// Answers until `stopped`, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    grants: Grants,
    stopped: impl Future<Output = ()>,
) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let connections = GracefulShutdown::new();
    let mut stopped = pin!(stopped);
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(BUFFER_BYTES);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                let descriptor = usize::try_from(stream.as_raw_fd());
                let fits = descriptor.is_ok_and(|number| number < grants.descriptors);
                if (open.len() >= grants.connections || !fits)
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                if !fits {
                    continue;
                }
                let service = TowerToHyperService::new(app.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                let connection = connections.watch(connection);
                let connection = tokio::spawn(async move {
                    // However it ends: what was to be said has been said, or cannot be.
                    let _ = timeout(grants.patience, connection).await;
                });
                open.push_back(connection.abort_handle());
            }
            Err(error) => {
                // Out of descriptors, mostly. Trying again at once would only burn the processor.
                tracing::warn!("cannot accept an HTTP connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// More than the head of any request to these pages takes.
const BUFFER_BYTES: usize = 16 * 1024;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;
    use axum::routing::get;

    async fn serving(grants: Grants) -> (std::net::SocketAddr, oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let app = Router::new()
            .route("/", get(async || "hello\n"))
            .route("/much", get(async || "x".repeat(64 << 20)));
        tokio::spawn(serve(listener, app, grants, async {
            let _ = stopped.await;
        }));
        (address, stop)
    }

    /// Asks for the index and gives the answer up to its end.
    async fn ask(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(Duration::from_secs(20), read)
            .await
            .expect("an answer in time")
            .unwrap();
        answer
    }

    /// Somebody who begins to ask, and says no more.
    async fn silent(address: std::net::SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        stream
    }

    async fn is_cut(stream: &mut TcpStream) {
        let read = timeout(Duration::from_secs(20), stream.read_u8());
        // An end, or a reset if something was not read.
        read.await.expect("an end in time").unwrap_err();
    }

    #[tokio::test]
    async fn those_who_say_nothing_are_cut() {
        let grants = Grants {
            connections: 64,
            descriptors: usize::MAX,
            patience: Duration::from_millis(50),
        };
        let (address, _stop) = serving(grants).await;
        let mut silent = silent(address).await;
        is_cut(&mut silent).await;
    }

    #[tokio::test]
    async fn who_takes_every_place_keeps_nobody_out() {
        let grants = Grants {
            connections: 2,
            descriptors: usize::MAX,
            patience: Duration::from_secs(3600),
        };
        let (address, _stop) = serving(grants).await;
        let mut others = Vec::new();
        for _ in 0..5 {
            others.push(silent(address).await);
        }
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
        // The oldest have made room; the newest is still there.
        for oldest in &mut others[..4] {
            is_cut(oldest).await;
        }
        others[4].write_all(b"Host: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        others[4].read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }

    #[tokio::test]
    async fn no_connection_takes_a_descriptor_that_is_not_granted() {
        let probe = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grants = Grants {
            connections: 1_000,
            // Some beyond those that this process has open, whatever the other tests open
            // meanwhile.
            descriptors: usize::try_from(probe.as_raw_fd()).unwrap() + 40,
            patience: Duration::from_secs(3600),
        };
        let (address, _stop) = serving(grants).await;
        let mut taken = Vec::new();
        // Each is one here, too, so that these alone are more than there may be.
        for _ in 0..60 {
            taken.push(silent(address).await);
        }
        let newest = taken.last_mut().unwrap();
        is_cut(newest).await;
        drop(taken);
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn those_who_do_not_read_their_answer_are_cut() {
        let grants = Grants {
            connections: 64,
            descriptors: usize::MAX,
            patience: Duration::from_millis(200),
        };
        let (address, _stop) = serving(grants).await;
        let mut deaf = TcpStream::connect(address).await.unwrap();
        let request = b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n";
        deaf.write_all(request).await.unwrap();
        // Nothing is read. That the other side has gone shows when more is said to it.
        let gone = async {
            while deaf.write_all(b"?").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let gone = timeout(Duration::from_secs(20), gone);
        gone.await.expect("an end in time");
    }

    #[tokio::test]
    async fn a_connection_is_for_one_request() {
        let (address, stop) = serving(Grants::default()).await;
        let answer = ask(address).await;
        assert!(answer.contains("connection: close") && answer.ends_with("hello\n"));
        drop(stop);
    }

    #[tokio::test]
    async fn huge_heads_are_refused() {
        let (address, _stop) = serving(Grants::default()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(60_000));
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
}
