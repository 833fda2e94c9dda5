//! The whole of it: the real programs over real sockets, from a changed file to a client that has it.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use configstream_engine::settings::{Key, Source, Value};
use configstream_grpc::{
    Address, Client, ConfigEvent, ConnectError, Connector, Events, Identity, Registration,
    StreamError, Token,
};
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::ConfigStreamRequest;
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, SignatureScheme};
use serde_json::{Value as Json, json};
use support::{Agent, Lines, PATIENCE, configstream};
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

fn watch(agent: &Agent) -> Lines {
    Lines::of(
        configstream()
            .args(["watch", "--json", "--run-dir"])
            .arg(&agent.run_dir),
    )
}

/// The settings of a snapshot that `watch` has shown, by key.
fn settings(snapshot: &Json) -> BTreeMap<String, Json> {
    assert_eq!(snapshot["event"], "snapshot", "{snapshot}");
    snapshot["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| {
            let key = setting["key"].as_str().unwrap().to_owned();
            (key, json!([setting["source"], setting["value"]]))
        })
        .collect()
}

/// What an update says, without its sequence.
fn said(update: &Json) -> Json {
    assert_eq!(update["event"], "update", "{update}");
    json!([update["key"], update["source"], update["value"]])
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// What a client needs to reach an agent: from the files that the agent has made, or others.
struct Credentials {
    address: Address,
    pem: Vec<u8>,
    token: String,
}

impl Credentials {
    fn of(agent: &Agent) -> Self {
        let read = |name: &str| fs::read(agent.run_dir.join(name)).unwrap();
        let text = |name: &str| String::from_utf8(read(name)).unwrap();
        Self {
            address: Address::Tcp(text("address").trim().to_owned()),
            pem: read("ipc_cert.pem"),
            token: text("auth_token"),
        }
    }

    async fn connect(&self) -> Result<Client, ConnectError> {
        let identity = Identity::from_pem(&self.pem).unwrap();
        let token = Token::parse(&self.token).unwrap();
        Connector::new(self.address.clone(), &identity, token)
            .connect()
            .await
    }
}

fn registration() -> Registration {
    let mut registration = Registration::default();
    registration.display_name = "end-to-end".to_owned();
    registration
}

async fn open(client: &Client) -> Events {
    let session = client.register(&registration()).await.unwrap();
    client.stream("end-to-end", &session.id).await.unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

async fn set(client: &Client, key: &str, value: impl Into<Value>) -> u64 {
    let (key, value) = (Key::parse(key).unwrap(), value.into());
    let committed = client.set(Source::AgentRuntime, &key, &value, "a test");
    within(committed).await.unwrap().sequence
}

/// Asks for the stream as our own client never would: without naming a session.
async fn stream_without_session(right: &Credentials) -> Status {
    let Address::Tcp(address) = right.address.clone() else {
        panic!("an address with a port");
    };
    let config = Identity::from_pem(&right.pem).unwrap().client_config();
    let connector = TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_| {
        let (address, connector) = (address.clone(), connector.clone());
        async move {
            let socket = tokio::net::TcpStream::connect(address).await?;
            let name = "localhost".try_into().unwrap();
            let tls = connector.connect(name, socket).await?;
            Ok::<_, io::Error>(TokioIo::new(tls))
        }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(dial)
        .await
        .unwrap();
    let mut request = tonic::Request::new(ConfigStreamRequest::default());
    let token = format!("Bearer {}", right.token).parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    AgentSecureClient::new(channel)
        .stream_config_events(request)
        .await
        .unwrap_err()
}

/// Shows the right certificate, signs with another key, and tells what the server said to that.
fn knock(right: &Credentials, other: &[u8]) -> io::Result<()> {
    let certificate = CertificateDer::from_pem_slice(&right.pem).unwrap();
    let key = PrivateKeyDer::from_pem_slice(other).unwrap();
    let key = any_ecdsa_type(&key).unwrap();
    let mut config = Identity::from_pem(&right.pem).unwrap().client_config();
    config.client_auth_cert_resolver =
        Arc::new(Shows(Arc::new(CertifiedKey::new(vec![certificate], key))));
    let name = "localhost".try_into().unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let Address::Tcp(address) = &right.address else {
        panic!("an address with a port");
    };
    let mut socket = TcpStream::connect(address.as_str())?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.read(&mut [0]).map(drop)
}

/// Answers with a certificate and a key that need not belong together.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn an_edited_file_streams_exactly_what_changed() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    let write = |text: &str| fs::write(&config, text).unwrap();
    write("log_level: warn\nmine:\n  a: 1\n  b: [x, y]\n  c: {d: true}\n");
    let agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    let stream = watch(&agent);

    let first = stream.next();
    let before = settings(&first);
    assert!(before.len() > 350, "{} settings", before.len());
    assert_eq!(first["origin"], "core.yaml");
    assert_eq!(before["log_level"], json!(["file", "warn"]));
    assert_eq!(before["mine.a"], json!(["file", 1]));
    assert_eq!(before["mine.c.d"], json!(["file", true]));
    let mut sequence = first["sequence"].as_u64().unwrap();
    let mut next = || {
        let event = stream.next();
        sequence += 1;
        assert_eq!(event["sequence"], sequence, "{event}");
        event
    };

    // Two of four change: two updates, in the order of their keys, and nothing else.
    write("log_level: error\nmine:\n  a: 1\n  b: [x, z]\n  c: {d: true}\n");
    assert_eq!(said(&next()), json!(["log_level", "file", "error"]));
    assert_eq!(said(&next()), json!(["mine.b", "file", ["x", "z"]]));

    // A key leaves the file: the default shows again.
    write("mine:\n  a: 1\n  b: [x, z]\n  c: {d: true}\n");
    assert_eq!(said(&next()), json!(["log_level", "default", "info"]));

    // The last layer that held a key goes: a snapshot without it, and without anything else being different.
    write("mine:\n  a: 1\n  c: {d: true}\n");
    let after = settings(&next());
    assert!(!after.contains_key("mine.b"));
    let mut expected = before;
    expected.remove("mine.b");
    expected.insert("log_level".to_owned(), json!(["default", "info"]));
    assert_eq!(after, expected);

    // And the stream goes on, by updates.
    agent.verb(&["set", "mine.a", "2"]).json();
    assert_eq!(said(&next()), json!(["mine.a", "agent-runtime", 2]));
    agent.verb(&["unset", "mine.a"]).json();
    let revealed = next();
    assert_eq!(said(&revealed), json!(["mine.a", "file", 1]));
    assert_eq!(revealed["unset_source"], "agent-runtime");
}

#[test]
fn a_client_that_was_stopped_converges_and_slows_nobody() {
    const CHANGES: u64 = 10_000;
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let stopped = watch(&agent);
    stopped.next();
    let resyncs = || {
        let report = agent.verb(&["agents"]);
        let streams: Vec<Json> = report
            .out
            .lines()
            .map(|line| serde_json::from_str::<Json>(line).unwrap())
            .filter(|agent| agent["display_name"] == "configstream-watch")
            .map(|agent| agent["streams"][0].clone())
            .collect();
        assert_eq!(streams.len(), 1, "{report:?}");
        streams[0].clone()
    };
    stopped.signal(Signal::SIGSTOP);

    let last = runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let mut events = open(&client).await;
        let first = within(events.next()).await.unwrap();
        assert!(matches!(first, ConfigEvent::Snapshot(_)));
        let mut expected = first.sequence().get();
        // The second client: it has to see every sequence.
        let following = async {
            for change in 0..CHANGES {
                let event = within(events.next()).await.unwrap();
                expected += 1;
                assert_eq!(event.sequence().get(), expected);
                let ConfigEvent::Update(update) = event else {
                    panic!("a snapshot for one who keeps up: {event:?}");
                };
                let shown = update.update.setting().value().as_str().unwrap();
                assert!(shown.starts_with(&format!("{change} ")), "{shown}");
            }
        };
        // Large enough to fill every buffer between the agent and the stopped client.
        let changing = async {
            let mut last = 0;
            for change in 0..CHANGES {
                last = set(
                    &client,
                    "mine.text",
                    format!("{change} {}", "x".repeat(2_000)),
                )
                .await;
            }
            last
        };
        tokio::join!(following, changing).1
    });
    assert!(resyncs()["lag"].as_u64().unwrap() > 0, "it has not read");

    // It goes on: what was under way, then one snapshot, and it is at the head, without a further change.
    stopped.signal(Signal::SIGCONT);
    let mut snapshots = 0;
    loop {
        let event = stopped.next();
        if event["event"] == "snapshot" {
            snapshots += 1;
            let all = settings(&event);
            assert!(all.contains_key("mine.text"));
        }
        if event["sequence"] == last {
            break;
        }
    }
    assert_eq!(snapshots, 1);
    agent.until("the lag is gone", |_| resyncs()["lag"] == 0);
    let figures = resyncs();
    assert_eq!(figures["last_sequence_sent"], last);
    assert_eq!(figures["resyncs"], 1);
    assert!(figures["dropped"].as_u64().unwrap() > 0);
    assert!(agent.metric("configstream_dropped_updates") > 0.0);
    assert_eq!(agent.metric("configstream_discontinuities"), 1.0);
}

#[test]
fn after_a_kill_a_client_comes_back_to_a_higher_sequence() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let address = fs::read_to_string(root.path().join("address")).unwrap();
    let stream = watch(&agent);
    let first = stream.next();
    for value in ["debug", "warn", "error"] {
        agent.verb(&["set", "log_level", value]).json();
    }
    let mut last = first["sequence"].clone();
    for _ in 0..3 {
        last = stream.next()["sequence"].clone();
    }
    agent.signal(Signal::SIGKILL);
    assert_eq!(agent.wait(), None);
    let _again = Agent::start(root.path(), &["--listen", address.trim()]);
    let after = stream.next();
    assert_eq!(after["event"], "snapshot");
    assert_eq!(after["epoch"], first["epoch"]);
    assert!(
        after["sequence"].as_u64() > last.as_u64(),
        "{last} {}",
        after["sequence"]
    );
}

#[test]
fn only_who_has_everything_may_read() {
    let root = tempfile::tempdir().unwrap();
    let (here, elsewhere) = (root.path().join("here"), root.path().join("elsewhere"));
    let config = root.path().join("core.yaml");
    fs::write(&config, "remote_agent.registry.idle_timeout: 500ms\n").unwrap();
    let config = config.display().to_string();
    let agent = Agent::start(&here, &["--config", &config]);
    let stranger = Agent::start(&elsewhere, &[]);
    let right = Credentials::of(&agent);
    let foreign = Credentials::of(&stranger);
    drop(stranger);

    runtime().block_on(async {
        let client = right.connect().await.unwrap();

        // Sessions, in the order of the protocol.
        let refused = |status: Status, code: Code, text: &str| {
            assert_eq!((status.code(), status.message()), (code, text));
        };
        refused(
            stream_without_session(&right).await,
            Code::Unauthenticated,
            "session_id required in metadata: remote agent must register with RAR before subscribing to config stream",
        );
        let unknown = client.stream("x", "never-given").await.unwrap_err();
        refused(
            unknown,
            Code::PermissionDenied,
            "session_id 'never-given' not found: remote agent must register with RAR before subscribing to config stream",
        );
        let empty = client.stream("x", "").await.unwrap_err();
        refused(
            empty,
            Code::Unauthenticated,
            "session_id cannot be empty: remote agent must register with RAR before subscribing to config stream",
        );
        let unknown = client.refresh("never-given").await.unwrap_err();
        refused(unknown, Code::NotFound, "no remote agent found with session ID");
        let session = client.register(&registration()).await.unwrap();
        let expired = within(async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if !agent.verb(&["agents"]).out.contains(&session.id) {
                    break client.stream("x", &session.id).await.unwrap_err();
                }
            }
        });
        refused(
            expired.await,
            Code::PermissionDenied,
            &format!("session_id '{}' not found: remote agent must register with RAR before subscribing to config stream", session.id),
        );

        // The wrong token.
        let wrong = Credentials {
            token: foreign.token.clone(),
            ..Credentials::of(&agent)
        };
        let status = wrong.connect().await.unwrap().register(&registration()).await;
        assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);

        // Another certificate, and the right certificate with another key: no handshake, so no status. The server may
        // refuse after the client believes that all is well.
        let before = agent.metric("configstream_refused_handshakes");
        let stranger = Credentials {
            pem: foreign.pem.clone(),
            ..Credentials::of(&agent)
        };
        if let Ok(client) = stranger.connect().await {
            client.register(&registration()).await.unwrap_err();
        }
        agent.until("another certificate was counted", |agent| {
            agent.metric("configstream_refused_handshakes") > before
        });
        let before = agent.metric("configstream_refused_handshakes");
        let refusal = knock(&right, &foreign.pem).unwrap_err();
        assert!(refusal.to_string().contains("DecryptError"), "{refusal}");
        agent.until("another key was counted", |agent| {
            agent.metric("configstream_refused_handshakes") > before
        });
        let agents = agent.verb(&["agents"]);
        assert_eq!(agents.out, "", "no stranger has registered");
    });
}

#[test]
fn a_stop_tells_the_streams_and_is_quick() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let mut events = open(&client).await;
        within(events.next()).await.unwrap();
        agent.signal(Signal::SIGTERM);
        let end = within(events.next()).await.unwrap_err();
        let StreamError::Status(status) = end else {
            panic!("{end:?}");
        };
        assert_eq!(status.code(), Code::Unavailable);
    });
    assert_eq!(agent.wait(), Some(0));
}

#[test]
fn a_client_over_a_unix_socket_gets_the_same() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("agent.sock");
    let agent = Agent::start(
        &root.path().join("run"),
        &["--listen", &format!("unix:{}", socket.display())],
    );
    let over = |address: &str| {
        let stream = Lines::of(
            configstream()
                .args(["watch", "--json", "--address", address, "--run-dir"])
                .arg(&agent.run_dir),
        );
        settings(&stream.next())
    };
    let announced = fs::read_to_string(agent.run_dir.join("address")).unwrap();
    assert_eq!(
        over(announced.trim()),
        over(&format!("unix:{}", socket.display()))
    );
    assert!(Path::new(&socket).exists());
}
