//! Who may ask, and for how long: a bound for everything that a peer without credentials can take.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// What those who ask are granted.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct Grants {
    /// Connections at a time.
    pub connections: usize,
    /// How long a connection may take from the first byte asked to the last one answered.
    pub patience: Duration,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            connections: 64,
            patience: Duration::from_secs(10),
        }
    }
}

/// Answers until `stopped`, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    grants: Grants,
    stopped: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(grants.connections));
    let connections = GracefulShutdown::new();
    let mut stopped = pin!(stopped);
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(BUFFER_BYTES);
    loop {
        let admit = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            admitted = admit => admitted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(app.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                let connection = connections.watch(connection);
                tokio::spawn(async move {
                    // However it ends: what was to be said has been said, or cannot be.
                    let _ = timeout(grants.patience, connection).await;
                    drop(place);
                });
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

    #[tokio::test]
    async fn those_who_say_nothing_are_cut_and_the_next_one_gets_an_answer() {
        let grants = Grants {
            connections: 2,
            patience: Duration::from_millis(50),
        };
        let (address, _stop) = serving(grants).await;
        let mut silent = Vec::new();
        for _ in 0..5 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            silent.push(stream);
        }
        // Behind five others for two places.
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
        for mut stream in silent {
            let ended = stream.read_u8().await.unwrap_err();
            assert_eq!(ended.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn those_who_do_not_read_their_answer_are_cut() {
        let grants = Grants {
            connections: 1,
            patience: Duration::from_secs(1),
        };
        let (address, _stop) = serving(grants).await;
        let mut deaf = TcpStream::connect(address).await.unwrap();
        let request = b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n";
        deaf.write_all(request).await.unwrap();
        // There is one place, and it becomes free.
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(20), deaf.read_to_end(&mut answer));
        let _ = read.await.expect("an end in time");
        assert!(answer.len() < 64 << 20, "cut in the middle");
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
