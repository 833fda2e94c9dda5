//! A fan-out tree: a replica of one server's configuration, served again to as many as like.
//!
//! ```text
//! core ──▶ relay ──▶ consumer
//!              └───▶ relay ──▶ …
//! ```
//!
//! With an agent running (`cargo run --bin configstream -- run`):
//!
//! ```sh
//! cargo run -p configstream-grpc --example relay -- 127.0.0.1:5001 127.0.0.1:5003 ~/.local/state/configstream
//! cargo run --bin configstream -- watch --address 127.0.0.1:5003
//! ```
//!
//! Downstream everything holds that holds upstream: epochs and sequences are the core's, the first event is a snapshot,
//! updates come in order, batches whole, and who falls behind gets a snapshot from the relay, without the core's
//! noticing. While the core is away the relay serves what it has, and goes on when the core is back. Nothing can be set
//! through it. It shares the core's certificate and token; when those are changed it has to be started again.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use configstream_engine::settings::Resolved;
use configstream_grpc::consumer::{Access, Consumer, NotReady};
use configstream_grpc::{Identity, Registration, ServerHandle, Token};
use tokio::net::TcpListener;

#[tokio::main]
#[allow(
    dead_code,
    reason = "a test includes this file, to test the relay itself"
)]
async fn main() -> Result<(), Box<dyn Error>> {
    let [_, upstream, listen, run_dir] = env::args().collect::<Vec<_>>().try_into().map_err(
        |_| "relay UPSTREAM LISTEN RUN_DIR, for example: relay 127.0.0.1:5001 127.0.0.1:5003 run",
    )?;
    let run_dir = PathBuf::from(run_dir);
    let (certificate, token) = (run_dir.join("ipc_cert.pem"), run_dir.join("auth_token"));
    let identity = Identity::from_pem(&std::fs::read(&certificate)?)?;
    let shared = Token::parse(&std::fs::read_to_string(&token)?)?;
    let upstream = Access::files(upstream.parse()?, certificate, token);
    let listener = TcpListener::bind(listen).await?;
    let relay = Relay::start(upstream, listener, identity, shared).await?;
    println!("serving the configuration {:?}", relay.consumer.origin());
    let mut states = relay.consumer.states();
    while let Some(state) = states.next().await {
        println!("upstream: {state}");
    }
    relay.shutdown().await;
    Ok(())
}

/// A replica and a server over it.
pub(crate) struct Relay {
    pub(crate) consumer: Consumer,
    pub(crate) server: ServerHandle<Resolved>,
}

impl Relay {
    /// Waits until there is something to serve: who connects meanwhile waits too, and is never told that there is
    /// nothing.
    pub(crate) async fn start(
        upstream: impl Into<Access>,
        listener: TcpListener,
        identity: Identity,
        token: Token,
    ) -> Result<Self, NotReady> {
        let consumer = Consumer::builder(upstream, Registration::new("relay")).start();
        consumer.wait_ready(Duration::MAX).await?;
        let server = consumer.serve(identity, token)?.build().serve_tcp(listener);
        Ok(Self { consumer, server })
    }

    /// Takes leave of those downstream first.
    pub(crate) async fn shutdown(self) {
        self.server.shutdown(Duration::from_secs(5)).await;
        self.consumer.shutdown().await;
    }
}
