//! `config-stream-client`: its texts, and its verdict over an agent that does what ours never would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use configstream_grpc::Identity;
use configstream_proto::datadog::api::v1::agent_secure_server::{AgentSecure, AgentSecureServer};
use configstream_proto::datadog::model::v1 as model;
use configstream_proto::datadog::model::v1::config_event::Event;
use configstream_proto::datadog::remoteagent::v1 as remote;
use futures_util::StreamExt;
use futures_util::stream::{self, Chain, Iter, Pending};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};

use crate::peer::Credentials;
use crate::support::{Agent, Done, client};

fn tool(run_dir: &Path, address: &str) -> Command {
    let mut command = client();
    command
        .args(["--ipc-address", address, "--agent-cert-file"])
        .arg(run_dir.join("ipc_cert.pem"))
        .arg("--agent-auth-token-file")
        .arg(run_dir.join("auth_token"));
    command
}

#[test]
fn what_it_prints_is_as_documented() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let credentials = Credentials::of(&agent);
    let mut command = tool(root.path(), credentials.host_and_port());
    command.args(["--name", "tester", "--duration", "4s", "--max-samples", "3"]);
    let running = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    agent.until("it streams", |agent| {
        agent.metric("configstream_snapshots_sent") > 0.5
    });
    let shown = agent.verb(&["agents"]).json();
    assert_eq!(shown["flavor"], "config-stream-test-client");
    assert_eq!(shown["display_name"], "tester");
    agent.verb(&["set", "log_level", "debug"]).json();
    agent.verb(&["set", "mine.list", "[1, b]"]).json();
    agent.verb(&["unset", "log_level"]).json();
    let done = Done::after(running);
    assert_eq!(done.code, Some(0), "{done:?}");
    let settings = agent.status()["head"]["settings"].as_u64().unwrap() - 1;
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines[0].starts_with("registered as tester (session_id="));
    assert_eq!(
        lines[1],
        format!("✓ SNAPSHOT received (seq_id=1, settings={settings})")
    );
    for sample in &lines[2..5] {
        assert!(
            sample.contains(" = ") && sample.ends_with(" (source: default)"),
            "{sample}"
        );
    }
    let rest = lines[5..].join("\n");
    assert!(
        rest.starts_with(
            "✓ UPDATE #1 received (seq_id=2)\n  key: log_level\n  value: \"debug\"\n  source: agent-runtime\n\
             ✓ UPDATE #2 received (seq_id=3)\n  key: mine.list\n  value: [1,\"b\"]\n  source: agent-runtime\n\
             ✓ UPDATE #3 received (seq_id=4)\n  key: log_level\n  value: \"info\"\n  source: default\n"
        ),
        "{rest}"
    );
    assert!(rest.contains("snapshots received: 1\n"), "{rest}");
    assert!(rest.contains("updates received: 3\n"), "{rest}");
}

#[test]
fn secrets_are_masked_by_the_list_that_streams() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    let text = "api_key: hunter2\nmine: !map {password: hunter2, port: 5}\nother: hunter3\n";
    fs::write(&config, text).unwrap();
    let run_dir = root.path().join("run");
    let agent = Agent::start(&run_dir, &["--config", &config.display().to_string()]);
    let credentials = Credentials::of(&agent);
    let mut command = tool(&run_dir, credentials.host_and_port());
    let running = command
        .args(["--duration", "4s", "--max-samples", "9999"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    agent.until("it streams", |agent| {
        agent.metric("configstream_snapshots_sent") > 0.5
    });
    agent.verb(&["set", "app_key", "hunter2"]).json();
    // From here on another list hides, and the old one no longer.
    agent.verb(&["set", "secret_keys", "[other]"]).json();
    agent.verb(&["set", "other", "hunter2"]).json();
    agent.verb(&["set", "app_key", "seen"]).json();
    let done = Done::after(running);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!done.out.contains("hunter2"), "{}", done.out);
    for shown in [
        "  api_key = \"********\" (source: file)",
        r#"  mine = {"password":"********","port":5} (source: file)"#,
        "  other = \"hunter3\" (source: file)",
        "key: app_key\n  value: \"********\"",
        "key: secret_keys\n  value: [\"other\"]",
        "key: other\n  value: \"********\"",
        "key: app_key\n  value: \"seen\"",
    ] {
        assert!(done.out.contains(shown), "{shown:?} is not in {}", done.out);
    }
}

#[test]
fn the_token_of_the_command_line_wins_over_the_file() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let credentials = Credentials::of(&agent);
    let address = credentials.host_and_port();
    let mut wrong = tool(root.path(), address);
    wrong.args(["--auth-token", &"ab".repeat(32), "--duration", "1s"]);
    Done::of(&mut wrong).demand(1, &["cannot register", "invalid authorization token"]);
    let mut right = client();
    right
        .args(["--ipc-address", address, "--auth-token", &credentials.token])
        .args(["--agent-auth-token-file", "nowhere", "--duration", "200ms"])
        .arg("--agent-cert-file")
        .arg(root.path().join("ipc_cert.pem"));
    let done = Done::of(&mut right);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn what_it_cannot_set_up_is_its_verdict_too() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let address = Credentials::of(&agent).host_and_port().to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Agent::start(elsewhere.path(), &[]);
    Done::of(tool(&other.run_dir, &address).args(["--duration", "1s"]))
        .demand(1, &["cannot reach the agent"]);
    Done::of(&mut tool(&root.path().join("nowhere"), &address)).demand(1, &["ipc_cert.pem"]);
    Done::of(tool(root.path(), &address).args(["--duration", "1 hour"])).demand(2, &["--duration"]);
    Done::of(tool(root.path(), &address).args(["--max-samples", "-1"])).demand(2, &["-1"]);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    agent.wait();
    Done::of(&mut tool(root.path(), &address)).demand(1, &["cannot reach the agent", "to do:"]);
}

#[test]
fn a_stream_that_is_not_in_order_is_a_failure() {
    use Next::{End, Snapshot, Update};
    let root = tempfile::tempdir().unwrap();
    // An agent that has been here once, for its certificate and token.
    drop(Agent::start(root.path(), &[]));
    for (events, code, words) in [
        (
            vec![Snapshot(5), Update(6), Update(7)],
            0,
            "✓ snapshot first",
        ),
        (
            vec![Snapshot(5), Update(6), Snapshot(9), Update(10)],
            0,
            "✓ snapshot first",
        ),
        (vec![Snapshot(0), Update(1)], 0, "✓ snapshot first"),
        (vec![Snapshot(5), End], 0, "✓ snapshot first"),
        (vec![], 1, "✗ no snapshot came"),
        (vec![End], 1, "✗ no snapshot came"),
        (
            vec![Update(1)],
            1,
            "✗ the stream was out of order or had a gap",
        ),
        (
            vec![Snapshot(5), Update(7)],
            1,
            "✗ the stream was out of order or had a gap",
        ),
        (
            vec![Snapshot(5), Update(6), Update(6)],
            1,
            "✗ the stream was out of order or had a gap",
        ),
        (
            vec![Snapshot(5), Update(4)],
            1,
            "✗ the stream was out of order or had a gap",
        ),
        (
            vec![Snapshot(5), Update(6), Snapshot(6)],
            1,
            "✗ the stream was out of order or had a gap",
        ),
        (
            vec![Snapshot(5), Update(-1)],
            1,
            "✗ the stream was out of order or had a gap",
        ),
    ] {
        let socket = root.path().join("odd.sock");
        let _agent = OddAgent::start(root.path(), &socket, &events);
        let mut command = tool(root.path(), &format!("unix:{}", socket.display()));
        command.args(["--duration", "300ms"]);
        let done = Done::of(&mut command);
        assert_eq!(done.code, Some(code), "{events:?}: {done:?}");
        assert!(done.out.contains(words), "{events:?}: {done:?}");
    }
}

/// An agent that sends what it is told to, good or not, and then nothing more.
struct OddAgent {
    socket: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

impl OddAgent {
    fn start(run_dir: &Path, socket: &Path, events: &[Next]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let pem = fs::read(run_dir.join("ipc_cert.pem")).unwrap();
        let config = Identity::from_pem(&pem).unwrap().server_config();
        let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
        let script = Script(events.to_vec());
        let guard = runtime.enter();
        let listener = UnixListener::bind(socket).unwrap();
        drop(guard);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, script) = (acceptor.clone(), script.clone());
                tokio::spawn(async move {
                    let tls = acceptor.accept(socket).await.unwrap();
                    let service = TowerToHyperService::new(AgentSecureServer::new(script));
                    // The client hangs up when it has seen enough.
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
            }
        });
        Self {
            socket: socket.to_owned(),
            _runtime: runtime,
        }
    }
}

impl Drop for OddAgent {
    fn drop(&mut self) {
        fs::remove_file(&self.socket).unwrap();
    }
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Snapshot(i32),
    Update(i32),
    End,
}

#[derive(Clone)]
struct Script(Vec<Next>);

type Message = Result<model::ConfigEvent, Status>;

#[tonic::async_trait]
impl AgentSecure for Script {
    type StreamConfigEventsStream = Chain<Iter<std::vec::IntoIter<Message>>, Pending<Message>>;

    async fn register_remote_agent(
        &self,
        _: Request<remote::RegisterRemoteAgentRequest>,
    ) -> Result<Response<remote::RegisterRemoteAgentResponse>, Status> {
        Ok(Response::new(remote::RegisterRemoteAgentResponse {
            session_id: "odd".to_owned(),
            recommended_refresh_interval_secs: 10,
        }))
    }

    async fn refresh_remote_agent(
        &self,
        _: Request<remote::RefreshRemoteAgentRequest>,
    ) -> Result<Response<remote::RefreshRemoteAgentResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn stream_config_events(
        &self,
        _: Request<model::ConfigStreamRequest>,
    ) -> Result<Response<Self::StreamConfigEventsStream>, Status> {
        let events: Vec<Message> = self.0.iter().map(|next| next.message()).collect();
        Ok(Response::new(stream::iter(events).chain(stream::pending())))
    }

    async fn tagger_fetch_entity(
        &self,
        _: Request<model::FetchEntityRequest>,
    ) -> Result<Response<model::FetchEntityResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}

impl Next {
    fn message(self) -> Message {
        let setting = model::ConfigSetting {
            source: "file".to_owned(),
            key: "mine".to_owned(),
            value: Some(prost_types::Value::from(1.0)),
            unset_source: None,
        };
        let event = match self {
            Self::End => return Err(Status::unavailable("the end")),
            Self::Snapshot(sequence_id) => Event::Snapshot(model::ConfigSnapshot {
                origin: "odd".to_owned(),
                sequence_id,
                settings: vec![setting],
                ..model::ConfigSnapshot::default()
            }),
            Self::Update(sequence_id) => Event::Update(model::ConfigUpdate {
                origin: "odd".to_owned(),
                sequence_id,
                setting: Some(setting),
                ..model::ConfigUpdate::default()
            }),
        };
        Ok(model::ConfigEvent { event: Some(event) })
    }
}
