//! What several targets need: a table of keys of every kind, and an agent without sockets.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use configstream_agent::credentials::Credentials;
use configstream_agent::internals::Host;
use configstream_agent::known::Known;
use configstream_agent::run_dir::RunDir;
use configstream_engine::settings::Settings;
use configstream_grpc::{Identity, Server, ServerHandle, Sessions, Token};
use configstream_proto::datadog::remoteagent::v1::{
    RegisterRemoteAgentRequest, RegisterRemoteAgentResponse,
};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::io::DuplexStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// One key of every kind, so that no input has to guess a long name.
pub fn known() -> &'static Known {
    static KNOWN: LazyLock<Known> = LazyLock::new(|| Known::parse("known", KEYS).expect("YAML"));
    &KNOWN
}

/// A runtime of one thread. Its clock stands still while there is work, and jumps to the next timer
/// when there is none.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// An agent's services on a runtime of this thread, reached over memory.
pub struct Agent {
    /// Declared first: dropped before the runtime.
    requests: Option<SendRequest<Bytes>>,
    server: ServerHandle<Settings>,
    host: Host,
    token: String,
    session: String,
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

/// How a call ended: with headers and what came in the body, or broken off.
#[derive(Debug)]
pub struct Answer {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Agent {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("configstream-fuzz")
            .tempdir_in(memory())
            .expect("a directory");
        let run_dir = RunDir::locate(Some(directory.path())).expect("a run directory");
        run_dir.create(true).expect("a run directory");
        let credentials = Credentials::open_or_create(&run_dir).expect("credentials");
        let identity = Identity::from_pem(credentials.pem().as_bytes()).expect("an identity");
        let token = Token::parse(credentials.token()).expect("a token");
        let runtime = runtime();
        let (host, server) = runtime.block_on(async {
            let host = Host::start(directory.path()).await.expect("a host");
            // The session is for good, and what happens by the clock alone would only take time.
            let sessions = Sessions::default()
                .idle_timeout(Duration::from_secs(1 << 30))
                .sweep_interval(Duration::from_secs(1 << 20));
            let server = Server::builder(host.engine.clone(), identity, token)
                .admin(host.backend.clone())
                .sessions(sessions)
                .build()
                .serve([]);
            (host, server)
        });
        let mut agent = Self {
            requests: None,
            server,
            host,
            token: format!("Bearer {}", credentials.token()),
            session: String::new(),
            runtime,
            _directory: directory,
        };
        agent.session = agent.register();
        agent
    }

    /// The bearer token and the session that are good.
    pub fn credentials(&self) -> (String, String) {
        (self.token.clone(), self.session.clone())
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// A connection that the server has accepted.
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let _inside = self.runtime.enter();
        self.server.serve_connection(theirs);
        ours
    }

    /// One call: `body` is what follows the headers, as it is. `None` if the connection or the
    /// stream was broken off.
    pub fn call(&mut self, path: &str, token: &str, session: &str, body: Bytes) -> Option<Answer> {
        let request = Request::post(format!("http://agent{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", token)
            .header("session_id", session)
            .body(())
            .expect("a request");
        let requests = match self.requests.take() {
            Some(requests) => requests,
            None => {
                let connection = self.connect();
                self.runtime.block_on(async {
                    let (requests, connection) =
                        h2::client::handshake(connection).await.expect("HTTP/2");
                    tokio::spawn(connection);
                    requests
                })
            }
        };
        let (requests, answer) = self.runtime.block_on(async move {
            let Ok(mut requests) = requests.ready().await else {
                return (None, None);
            };
            let Ok((answer, mut stream)) = requests.send_request(request, false) else {
                return (None, None);
            };
            let _ = stream.send_data(body, true);
            let answer = timeout(PATIENCE, read(answer)).await.ok().flatten();
            (Some(requests), answer)
        });
        self.requests = requests;
        answer
    }

    fn register(&mut self) -> String {
        let message = RegisterRemoteAgentRequest {
            display_name: "fuzz".to_owned(),
            ..RegisterRemoteAgentRequest::default()
        };
        let path = "/datadog.api.v1.AgentSecure/RegisterRemoteAgent";
        let token = self.token.clone();
        let answer = self
            .call(path, &token, "", framed(&message.encode_to_vec()))
            .expect("an answer");
        let message = answer.body.get(5..).unwrap_or_default();
        RegisterRemoteAgentResponse::decode(message)
            .expect("a response")
            .session_id
    }
}

/// A message as a body carries it: not compressed, and its length in front.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("short"));
    frame.put_slice(message);
    frame.freeze()
}

/// Where files cost no disk, if there is such a place.
pub fn memory() -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// Headers, trailers and body. A stream of events does not end by itself: its first message is
/// enough.
async fn read(answer: h2::client::ResponseFuture) -> Option<Answer> {
    let (head, mut body) = answer.await.ok()?.into_parts();
    let mut answer = Answer {
        headers: head.headers,
        body: Vec::new(),
    };
    while let Ok(Some(chunk)) = timeout(PATIENCE, body.data()).await {
        let chunk = chunk.ok()?;
        answer.body.extend(&chunk);
        body.flow_control().release_capacity(chunk.len()).ok()?;
    }
    let trailers = poll_fn(|cx| Pin::new(&mut body).poll_trailers(cx));
    if let Ok(Ok(Some(trailers))) = timeout(PATIENCE, trailers).await {
        answer.headers.extend(trailers);
    }
    Some(answer)
}

/// By a clock that jumps when nothing is left to do: longer than any answer, shorter than a
/// stream's life.
const PATIENCE: Duration = Duration::from_secs(15);

const KEYS: &str = "\
flag: true
count: 3
ratio: 0.5
name: text
wait: 30s
items: [a, b]
table: {a: 1}
section:
  flag: false
  deep:
    name: x
a:
  b_c: 1
a_b:
  c: 2
";
