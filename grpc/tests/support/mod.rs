//! What every test of the adapter needs: certificates, and waiting for a condition.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod chance;
pub mod frames;
pub mod gate;
pub mod log;
pub mod peer;
pub mod raw;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use configstream_engine::Engine;
use configstream_engine::settings::{Change, Key, Settings, Source, Value};
use configstream_grpc::{
    Address, Client, ConfigEvent, ConfigSnapshot, ConfigUpdate, Connector, Events, Identity,
    Registration, Server, ServerBuilder, ServerHandle, Session, StreamError, Token,
};
use gate::Gate;
use hyper_util::rt::TokioIo;
use p256::pkcs8::DecodePrivateKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// A certificate and a key as PEM blocks, not necessarily belonging together.
#[derive(Clone)]
pub struct Pem {
    pub certificate: String,
    pub key: String,
}

impl Pem {
    /// A certificate as an agent makes it, and its key in SEC1. Each call makes another key; the subject is always
    /// the same.
    pub fn generate() -> Self {
        Self::generate_for("configstream")
    }

    pub fn generate_for(subject: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let names = [
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.self_signed(&key).unwrap().pem();
        let key = p256::SecretKey::from_pkcs8_pem(&key.serialize_pem()).unwrap();
        Self {
            certificate,
            key: key.to_sec1_pem(Default::default()).unwrap().to_string(),
        }
    }

    /// This certificate with the key of another.
    pub fn with_another_key(&self) -> Self {
        Self {
            key: Self::generate().key,
            ..self.clone()
        }
    }

    pub fn identity(&self) -> Identity {
        Identity::from_pem(self.text().as_bytes()).unwrap()
    }

    pub fn text(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}

/// An engine, a server over it on a free port of the loopback, and what it takes to get in.
pub struct Host {
    pub pem: Pem,
    pub token: Token,
    pub engine: Engine<Settings>,
    pub handle: ServerHandle<Settings>,
    pub address: SocketAddr,
}

impl Host {
    pub async fn start() -> Self {
        Self::start_with(|server| server).await
    }

    /// With the options that `configure` sets.
    pub async fn start_with(
        configure: impl FnOnce(ServerBuilder<Settings>) -> ServerBuilder<Settings>,
    ) -> Self {
        let engine = Engine::builder(Settings::new()).build().unwrap();
        Self::start_over(engine, configure).await
    }

    pub async fn start_over(
        engine: Engine<Settings>,
        configure: impl FnOnce(ServerBuilder<Settings>) -> ServerBuilder<Settings>,
    ) -> Self {
        let pem = Pem::generate();
        let token = Token::parse(TOKEN).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder(engine.clone(), pem.identity(), token.clone());
        let handle = configure(server.origin("agent.yaml").hostname("host-1"))
            .build()
            .serve_tcp(listener);
        Self {
            pem,
            token,
            engine,
            handle,
            address,
        }
    }

    pub fn connector(&self) -> Connector {
        let address = Address::Tcp(self.address.to_string());
        Connector::new(address, &self.pem.identity(), self.token.clone())
    }

    pub async fn client(&self) -> Client {
        self.connector().connect().await.unwrap()
    }

    /// A client, and a session of its own.
    pub async fn session(&self) -> (Client, Session) {
        let client = self.client().await;
        let session = client.register(&Registration::new("remote")).await.unwrap();
        (client, session)
    }

    /// A stream, its snapshot taken.
    pub async fn stream(&self) -> (Events, ConfigSnapshot) {
        let (client, session) = self.session().await;
        let mut events = client.stream("test", &session.id).await.unwrap();
        let snapshot = expect_snapshot(&mut events).await;
        (events, snapshot)
    }

    /// A stream with the smallest window of its own connection, so that it stalls soon when nobody reads; and its session.
    pub async fn narrow_stream(&self, name: &str) -> (Events, Session) {
        let connector = self.connector().window_bytes(DEFAULT_WINDOW_BYTES);
        let client = connector.connect().await.unwrap();
        let session = client.register(&Registration::new(name)).await.unwrap();
        let events = client.stream(name, &session.id).await.unwrap();
        (events, session)
    }

    /// A stream whose reader has stopped, with more published than its window takes, and its session.
    pub async fn stalled_stream(&self) -> (Events, Session) {
        let (mut events, session) = self.narrow_stream("stalled").await;
        expect_snapshot(&mut events).await;
        eventually("the stream stalls", || {
            self.set("filler", "x".repeat(60_000));
            self.set("filler", "y".repeat(60_000));
            let agents = self.handle.agents();
            agents
                .iter()
                .flat_map(|agent| &agent.streams)
                .any(|stream| stream.name == "stalled" && stream.figures.lagging)
        })
        .await;
        (events, session)
    }

    /// Sets a key of the file's layer.
    pub fn set(&self, key: &str, value: impl Into<Value>) -> u64 {
        let change = Change::set(Source::File, Key::parse(key).unwrap(), value);
        self.engine.publish(&change).unwrap().sequence.get()
    }

    /// A channel that shows what it is told to show, and nothing else.
    pub async fn channel(&self, tls: ClientConfig) -> Result<Channel, tonic::transport::Error> {
        self.dial(tls, &Gate::default(), DEFAULT_WINDOW_BYTES).await
    }

    /// The same with a window of `window_bytes` for each stream and for all, reading only while the gate is open.
    pub async fn gated_channel(&self, gate: &Gate, window_bytes: u32) -> Channel {
        let tls = self.pem.identity().client_config();
        self.dial(tls, gate, window_bytes).await.unwrap()
    }

    async fn dial(
        &self,
        tls: ClientConfig,
        gate: &Gate,
        window_bytes: u32,
    ) -> Result<Channel, tonic::transport::Error> {
        let (address, tls) = (self.address, TlsConnector::from(Arc::new(tls)));
        let gate = gate.clone();
        let dial = tower::service_fn(move |_| {
            let (tls, gate) = (tls.clone(), gate.clone());
            async move {
                let socket = TcpSocket::new_v4()?;
                // The system is not to take for the reader what the reader does not take.
                socket.set_recv_buffer_size(64 * 1024)?;
                let stream = gate.over(socket.connect(address).await?);
                let name = ServerName::try_from("localhost").unwrap();
                std::io::Result::Ok(TokioIo::new(tls.connect(name, stream).await?))
            }
        });
        Endpoint::from_static("http://localhost")
            .initial_stream_window_size(window_bytes)
            .initial_connection_window_size(window_bytes)
            .connect_with_connector(dial)
            .await
    }
}

pub async fn expect_snapshot(events: &mut Events) -> ConfigSnapshot {
    match within_deadline(events.next()).await.unwrap() {
        ConfigEvent::Snapshot(snapshot) => snapshot,
        other => panic!("not a snapshot: {other:?}"),
    }
}

pub async fn expect_update(events: &mut Events) -> ConfigUpdate {
    match within_deadline(events.next()).await.unwrap() {
        ConfigEvent::Update(update) => update,
        other => panic!("not an update: {other:?}"),
    }
}

/// The status that ends the stream, whatever comes before it.
pub async fn expect_end(events: &mut Events) -> Status {
    loop {
        match within_deadline(events.next()).await {
            Ok(_) => {}
            Err(StreamError::Status(status)) => return status,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Code and text.
pub fn told<T>(result: Result<T, Status>) -> (Code, String) {
    let status = result.err().expect("a refusal");
    (status.code(), status.message().to_owned())
}

pub async fn within_deadline<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it happens in time")
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub struct FakeClock(Arc<Mutex<Instant>>);

impl FakeClock {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    pub fn reader(&self) -> impl Fn() -> Instant + Send + Sync + 'static {
        let clock = self.0.clone();
        move || *clock.lock().unwrap()
    }
}

/// A call with exactly the given metadata.
pub fn request<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// Shows a certificate and signs with a key, whether they belong together or not.
#[derive(Debug)]
pub struct Shows(Arc<CertifiedKey>);

impl Shows {
    pub fn new(pem: &Pem) -> Self {
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap();
        Self(Arc::new(CertifiedKey::new(vec![certificate], key)))
    }
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Shows no certificate.
#[derive(Debug)]
pub struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// How every refusal of a stream for want of a session ends.
pub const REGISTER_FIRST: &str =
    "remote agent must register with RAR before subscribing to config stream";

/// RFC 9113, 6.9.2.
pub const DEFAULT_WINDOW_BYTES: u32 = 65_535;

/// What opens calls to a [`Host`].
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The same as metadata.
pub const BEARER: &str = "Bearer 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const DEADLINE: Duration = Duration::from_secs(20);
