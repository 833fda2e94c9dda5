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
//! through it. It shares the core's certificate and token, and looks once a second whether they were changed: then those
//! downstream lose their streams once, and come back with what the files hold now.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use configstream_engine::settings::Resolved;
use configstream_grpc::consumer::{Access, Consumer};
use configstream_grpc::{Address, Identity, Registration, ServerHandle, Token};
use tokio::net::TcpListener;
use tokio::time::interval;

#[tokio::main]
#[allow(
    dead_code,
    reason = "a test includes this file, to test the relay itself"
)]
async fn main() -> Result<(), Box<dyn Error>> {
    let [_, upstream, listen, run_dir] = env::args().collect::<Vec<_>>().try_into().map_err(
        |_| "relay UPSTREAM LISTEN RUN_DIR, for example: relay 127.0.0.1:5001 127.0.0.1:5003 run",
    )?;
    let listener = TcpListener::bind(listen).await?;
    let mut relay = Relay::start(upstream.parse()?, listener, run_dir.into()).await?;
    println!("serving the configuration {:?}", relay.consumer.origin());
    let mut states = relay.consumer.states();
    let mut looks = interval(Duration::from_secs(1));
    let mut trouble = String::new();
    loop {
        tokio::select! {
            state = states.next() => match state {
                Some(state) => println!("upstream: {state}"),
                None => break,
            },
            _ = looks.tick() => match relay.renew().await {
                Ok(true) => println!("serving with another certificate or token"),
                Ok(false) => trouble.clear(),
                Err(error) if error.to_string() == trouble => {}
                Err(error) => {
                    eprintln!("serving with the credentials from before: {error}");
                    trouble = error.to_string();
                }
            },
        }
    }
    relay.shutdown().await;
    Ok(())
}

/// A replica and a server over it.
pub(crate) struct Relay {
    pub(crate) consumer: Consumer,
    pub(crate) server: ServerHandle<Resolved>,
    /// Outlives each server, so that nobody is turned away between two.
    listener: std::net::TcpListener,
    run_dir: PathBuf,
    credentials: Credentials,
}

impl Relay {
    /// Waits until there is something to serve: who connects meanwhile waits too, and is never told that there is
    /// nothing.
    pub(crate) async fn start(
        upstream: Address,
        listener: TcpListener,
        run_dir: PathBuf,
    ) -> Result<Self, Box<dyn Error>> {
        let access = Access::files(upstream, certificate(&run_dir), token(&run_dir));
        let consumer = Consumer::builder(access, Registration::new("relay")).start();
        consumer.wait_ready(Duration::MAX).await?;
        let listener = listener.into_std()?;
        let credentials = Credentials::read(&run_dir)?;
        Ok(Self {
            server: serve(&consumer, &listener, &credentials)?,
            consumer,
            listener,
            run_dir,
            credentials,
        })
    }

    /// Serves with what the files hold now, if that is something else.
    pub(crate) async fn renew(&mut self) -> Result<bool, Box<dyn Error>> {
        let credentials = Credentials::read(&self.run_dir)?;
        if credentials == self.credentials {
            return Ok(false);
        }
        // Begun before the other one ends: what cannot be served with leaves that in place.
        let next = serve(&self.consumer, &self.listener, &credentials)?;
        let last = std::mem::replace(&mut self.server, next);
        self.credentials = credentials;
        last.shutdown(LEAVE).await;
        Ok(true)
    }

    /// Takes leave of those downstream first.
    pub(crate) async fn shutdown(self) {
        self.server.shutdown(LEAVE).await;
        self.consumer.shutdown().await;
    }
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Credentials {
    certificate: String,
    token: String,
}

impl Credentials {
    fn read(run_dir: &Path) -> Result<Self, Box<dyn Error>> {
        let read = |path: PathBuf| {
            fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        Ok(Self {
            certificate: read(certificate(run_dir))?,
            token: read(token(run_dir))?,
        })
    }
}

fn serve(
    consumer: &Consumer,
    listener: &std::net::TcpListener,
    credentials: &Credentials,
) -> Result<ServerHandle<Resolved>, Box<dyn Error>> {
    let identity = Identity::from_pem(credentials.certificate.as_bytes())?;
    let token = Token::parse(&credentials.token)?;
    let listener = TcpListener::from_std(listener.try_clone()?)?;
    Ok(consumer.serve(identity, token)?.build().serve_tcp(listener))
}

fn certificate(run_dir: &Path) -> PathBuf {
    run_dir.join("ipc_cert.pem")
}

fn token(run_dir: &Path) -> PathBuf {
    run_dir.join("auth_token")
}

/// How long those downstream are given to hear that a server ends.
const LEAVE: Duration = Duration::from_secs(5);
