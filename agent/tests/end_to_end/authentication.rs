//! Who may connect, and who may ask: the certificate, the proof that its key is there, and the token.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use configstream_engine::settings::{Key, Source};
use configstream_grpc::Identity;
use configstream_proto::datadog::api::v1::agent_client::AgentClient;
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::{ConfigStreamRequest, HostnameRequest};
use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, ServerConnection, SignatureScheme};
use tonic::Code;

use crate::peer::{Credentials, refused, registration, request, runtime, within};
use crate::support::{Agent, Done, PATIENCE, client, configstream};

/// Certificate and token of some other agent, of which only these remain.
fn stranger() -> Credentials {
    let root = tempfile::tempdir().unwrap();
    Credentials::of(&Agent::start(root.path(), &[]))
}

#[test]
fn without_the_token_nothing_is_answered_but_the_host_name() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let right = Credentials::of(&agent);
    let bearer = |token: &str| format!("Bearer {token}");
    let missing = "authorization required in metadata: Bearer <token>";
    let wrong = "invalid authorization token";
    runtime().block_on(async {
        let mut raw = AgentSecureClient::new(right.channel().await);
        let register = || RegisterRemoteAgentRequest {
            display_name: "somebody".to_owned(),
            ..RegisterRemoteAgentRequest::default()
        };
        let status = raw.register_remote_agent(register()).await.unwrap_err();
        refused(&status, Code::Unauthenticated, missing);
        let stream = request(ConfigStreamRequest::default(), &[("session_id", "any")]);
        let status = raw.stream_config_events(stream).await.unwrap_err();
        refused(&status, Code::Unauthenticated, missing);
        for value in [
            bearer(&"0".repeat(64)),
            bearer(&right.token[..63]),
            bearer(&format!("{}0", right.token)),
            bearer(""),
            format!("Basic {}", right.token),
            right.token.clone(),
        ] {
            let asked = request(register(), &[("authorization", &value)]);
            let status = raw.register_remote_agent(asked).await.unwrap_err();
            refused(&status, Code::Unauthenticated, wrong);
        }
        // The scheme in any letter case.
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let value = format!("{scheme} {}", right.token);
            let asked = request(register(), &[("authorization", &value)]);
            raw.register_remote_agent(asked).await.unwrap();
        }
        // Everything else wants the token too: here, what people use.
        let other = Credentials {
            token: "ab".repeat(32),
            ..right.clone()
        };
        let client = other.connect().await.unwrap();
        let key = Key::parse("log_level").unwrap();
        let value = "debug".into();
        let set = client.set(Source::AgentRuntime, &key, &value, "nobody");
        refused(&set.await.unwrap_err(), Code::Unauthenticated, wrong);
        let status = client.get("log_level").await.unwrap_err();
        refused(&status, Code::Unauthenticated, wrong);
        let status = client.status().await.unwrap_err();
        refused(&status, Code::Unauthenticated, wrong);

        let mut open = AgentClient::new(right.channel().await);
        let name = open.get_hostname(HostnameRequest {}).await.unwrap();
        assert!(!name.into_inner().hostname.is_empty());
    });
    assert_eq!(agent.sequence(), 1, "nobody has changed anything");
}

#[test]
fn another_certificate_is_no_way_in() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let right = Credentials::of(&agent);
    let other = Credentials {
        pem: stranger().pem,
        ..right.clone()
    };
    // The client refuses first, since it does not know this server.
    let error = runtime().block_on(other.connect()).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    until_refused(&agent, 1);
    // One that does not look is refused by the server.
    let trusting = knock(&right, Some(shows(&other.pem, &other.pem)));
    assert!(alert(trusting), "it was let in");
    until_refused(&agent, 2);
    // So is one that shows nothing.
    assert!(alert(knock(&right, None)), "it was let in");
    until_refused(&agent, 3);
    nobody_got_in(&agent);
}

#[test]
fn the_right_certificate_without_its_key_is_no_way_in() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let right = Credentials::of(&agent);
    let error = knock(&right, Some(shows(&right.pem, &stranger().pem))).unwrap_err();
    assert!(error.to_string().contains("DecryptError"), "{error}");
    until_refused(&agent, 1);
    nobody_got_in(&agent);
    // The same way with the right key works, so it is the key that was refused.
    knock(&right, Some(shows(&right.pem, &right.pem))).unwrap();
}

#[test]
fn a_server_without_the_key_gets_no_token() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let right = Credentials::of(&agent);
    let other = stranger();
    for (certificate, key) in [(&right.pem, &other.pem), (&other.pem, &other.pem)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut config = Identity::from_pem(&right.pem).unwrap().server_config();
        config.cert_resolver = shows(certificate, key);
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        // The tool comes back for as long as its credentials are new.
        let impostor = thread::spawn(move || {
            let mut heard = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().unwrap();
                if ended.load(Ordering::SeqCst) {
                    return heard;
                }
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut tls = ServerConnection::new(Arc::new(config.clone())).unwrap();
                let shaken = tls.complete_io(&mut socket);
                let mut said = Vec::new();
                if shaken.is_ok() {
                    let _ = rustls::Stream::new(&mut tls, &mut socket).read_to_end(&mut said);
                }
                heard.push((shaken.is_ok(), said));
            }
        });
        let mut command = configstream();
        command
            .args(["--address", &address, "--run-dir"])
            .arg(root.path())
            .arg("status");
        Done::of(&mut command).demand(6, &["another certificate", "--run-dir"]);
        over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&address).unwrap());
        let heard = impostor.join().unwrap();
        assert!(!heard.is_empty());
        assert!(heard.iter().all(|heard| *heard == (false, Vec::new())));
    }
}

#[test]
fn what_is_no_handshake_is_counted_and_harms_nobody() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let right = Credentials::of(&agent);
    for (number, bytes) in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 4096],
    ]
    .into_iter()
    .enumerate()
    {
        let mut socket = TcpStream::connect(right.host_and_port()).unwrap();
        // It may hang up before it has heard everything.
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.read_to_end(&mut Vec::new());
        until_refused(&agent, number as u64 + 1);
    }
    nobody_got_in(&agent);
    agent.verb(&["get", "log_level"]).json();
}

#[test]
fn a_token_file_with_a_newline_is_as_good() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let path = root.path().join("auth_token");
    let token = fs::read_to_string(&path).unwrap();
    assert_eq!(token.len(), 64);
    assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    fs::write(&path, format!("{token}\n")).unwrap();
    agent.verb(&["get", "log_level"]).json();
}

fn until_refused(agent: &Agent, count: u64) {
    agent.until("the handshake was counted", |agent| {
        agent.status()["server"]["refused_handshakes"].as_u64() >= Some(count)
    });
}

/// Shows that nobody has registered, and that the right one still can.
fn nobody_got_in(agent: &Agent) {
    assert_eq!(agent.verb(&["agents"]).out, "");
    runtime().block_on(async {
        let client = Credentials::of(agent).connect().await.unwrap();
        within(client.register(&registration())).await.unwrap();
    });
}

/// Whether the server has hung up for a reason of TLS.
fn alert(outcome: io::Result<()>) -> bool {
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// Shakes hands, showing what is given and trusting whatever comes, and waits for the server's first byte: `Ok` if there
/// is one.
fn knock(right: &Credentials, shown: Option<Arc<Shows>>) -> io::Result<()> {
    let mut config: ClientConfig = Identity::from_pem(&right.pem).unwrap().client_config();
    config.client_auth_cert_resolver = match shown {
        Some(shown) => shown,
        None => Arc::new(Nothing),
    };
    let name = "localhost".try_into().unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(right.host_and_port())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    // In HTTP/2 the server speaks first, once it has been greeted.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
    stream.read_exact(&mut [0])
}

fn shows(certificate: &[u8], key: &[u8]) -> Arc<Shows> {
    let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
    let key = any_ecdsa_type(&PrivateKeyDer::from_pem_slice(key).unwrap()).unwrap();
    Arc::new(Shows(Arc::new(CertifiedKey::new(vec![certificate], key))))
}

/// A certificate and a key that need not belong together.
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

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn who_reaches_another_agent_than_was_meant_is_told_to_name_its_run_directory() {
    let root = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| Agent::start(&root.path().join(name), &[]));
    let address = Credentials::of(&other).host_and_port().to_owned();
    let to_do = "to do: name the run directory of the agent at that address with --run-dir";
    let mistaken = one.verb(&["get", "log_level", "--address", &address]);
    mistaken.demand(6, &["invalid peer certificate", to_do]);
    let client = |certificate_of: &Agent, token_of: &Agent| {
        let mut client = client();
        client.args(["--duration", "1s", "--ipc-address", &address]);
        client.arg("--agent-cert-file");
        client.arg(certificate_of.run_dir.join("ipc_cert.pem"));
        client.arg("--agent-auth-token-file");
        Done::of(client.arg(token_of.run_dir.join("auth_token")))
    };
    client(&one, &other).demand(1, &["to do: give the certificate of the agent"]);
    client(&other, &one).demand(1, &["to do: give the token of the agent"]);
    let nobody = one.verb(&["get", "log_level", "--address", "127.0.0.1:1"]);
    nobody.demand(9, &["to do: start it with `configstream run`"]);
}
