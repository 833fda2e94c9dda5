//! Who talks to an agent without being one of our programs: with the right credentials, or others.

use std::fs;
use std::io;
use std::sync::Arc;

use configstream_engine::settings::{Key, Source, Value};
use configstream_grpc::{
    Address, Client, ConnectError, Connector, Events, Identity, Registration, Session, Token,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::support::{Agent, PATIENCE};

/// What a client needs to reach an agent: from the files that the agent has made, or others.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) address: Address,
    pub(crate) pem: Vec<u8>,
    pub(crate) token: String,
}

impl Credentials {
    pub(crate) fn of(agent: &Agent) -> Self {
        let read = |name: &str| fs::read(agent.run_dir.join(name)).unwrap();
        let text = |name: &str| String::from_utf8(read(name)).unwrap();
        Self {
            address: Address::Tcp(text("address").trim().to_owned()),
            pem: read("ipc_cert.pem"),
            token: text("auth_token"),
        }
    }

    pub(crate) fn host_and_port(&self) -> &str {
        let Address::Tcp(address) = &self.address else {
            panic!("an address with a port");
        };
        address
    }

    pub(crate) async fn connect(&self) -> Result<Client, ConnectError> {
        let identity = Identity::from_pem(&self.pem).unwrap();
        let token = Token::parse(&self.token).unwrap();
        Connector::new(self.address.clone(), &identity, token)
            .connect()
            .await
    }

    /// A connection on which nothing is put on requests: for what our own client never does.
    pub(crate) async fn channel(&self) -> Channel {
        let address = self.host_and_port().to_owned();
        let config = Identity::from_pem(&self.pem).unwrap().client_config();
        let connector = TlsConnector::from(Arc::new(config));
        let dial = tower::service_fn(move |_| {
            let (address, connector) = (address.clone(), connector.clone());
            async move {
                let socket = TcpStream::connect(address).await?;
                let name = "localhost".try_into().unwrap();
                let tls = connector.connect(name, socket).await?;
                Ok::<_, io::Error>(TokioIo::new(tls))
            }
        });
        Endpoint::from_static("http://localhost")
            .connect_with_connector(dial)
            .await
            .unwrap()
    }
}

/// A request with metadata.
pub(crate) fn request<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    request
}

pub(crate) fn registration() -> Registration {
    Registration::new("end-to-end")
}

/// Registers and streams.
pub(crate) async fn open(client: &Client) -> (Session, Events) {
    let session = client.register(&registration()).await.unwrap();
    let events = client.stream("end-to-end", &session.id).await.unwrap();
    (session, events)
}

/// Sets a value at run time and gives the sequence it got.
pub(crate) async fn set(client: &Client, key: &str, value: impl Into<Value>) -> u64 {
    let (key, value) = (Key::parse(key).unwrap(), value.into());
    let committed = client.set(Source::AgentRuntime, &key, &value, "a test");
    within(committed).await.unwrap().sequence
}

pub(crate) fn refused(status: &Status, code: Code, text: &str) {
    assert_eq!((status.code(), status.message()), (code, text));
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}
