//! The agent process, whatever became of it last.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use configstream_engine::settings::Resolved;
use configstream_engine::{Epoch, Sequence};
use configstream_grpc::{Address, Client, ConfigEvent, Connector, Identity, Registration, Token};
use nix::sys::signal::Signal;

use crate::support::Agent;

pub(crate) struct Core {
    /// `None` between two processes.
    agent: Option<Agent>,
    dir: tempfile::TempDir,
    files_written: i64,
}

/// Where the agent is.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: Sequence,
    pub(crate) state: Resolved,
}

impl Core {
    pub(crate) fn start() -> Self {
        let mut core = Self {
            agent: None,
            dir: tempfile::tempdir().unwrap(),
            files_written: 0,
        };
        core.write_file();
        core.begin();
        core
    }

    /// Another process in the same place, on another port.
    pub(crate) fn begin(&mut self) {
        let file = self.file();
        let arguments = ["--config", file.to_str().unwrap()];
        self.agent = Some(Agent::start(&self.run_dir(), &arguments));
    }

    pub(crate) fn end(&mut self, signal: Signal) {
        let mut agent = self.agent.take().unwrap();
        agent.signal(signal);
        agent.wait();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.agent.as_ref().unwrap().signal(signal);
    }

    /// A batch: every key of the file gets the same new value.
    pub(crate) fn write_file(&mut self) {
        self.files_written += 1;
        let keys: String = BATCH_KEYS
            .iter()
            .map(|key| format!("  {key}: {}\n", self.files_written))
            .collect();
        // In one step, so that the agent never reads half a file.
        let new = self.dir.path().join("new");
        fs::write(&new, format!("batch:\n{keys}")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    /// Whether the agent has taken the file as it is now.
    pub(crate) fn has_file(&self, head: &Head) -> bool {
        let setting = head.state.get(&format!("batch.{}", BATCH_KEYS[0]));
        setting.and_then(|setting| setting.value().as_i64()) == Some(self.files_written)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let text = fs::read_to_string(self.run_dir().join("address")).unwrap();
        text.trim().parse().unwrap()
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.run_dir().join("ipc_cert.pem")
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.run_dir().join("auth_token")
    }

    /// As a new stream tells it; `None` when it does not.
    pub(crate) async fn head(&self) -> Option<Head> {
        let asked = async {
            let client = connect(&self.run_dir()).await?;
            let session = client.register(&Registration::new("judge")).await.ok()?;
            let mut events = client.stream("judge", &session.id).await.ok()?;
            match events.next().await.ok()? {
                ConfigEvent::Snapshot(snapshot) => Some(Head {
                    epoch: snapshot.epoch,
                    sequence: snapshot.sequence,
                    state: Resolved::from_settings(snapshot.settings).unwrap(),
                }),
                _ => panic!("the first event is a snapshot"),
            }
        };
        tokio::time::timeout(Duration::from_secs(5), asked)
            .await
            .ok()?
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("chaos.yaml")
    }
}

/// Connects to the agent of a run directory, not through the proxy; `None` when that does not succeed.
pub(crate) async fn connect(run_dir: &Path) -> Option<Client> {
    let read = |name: &str| fs::read_to_string(run_dir.join(name)).ok();
    let identity = Identity::from_pem(read("ipc_cert.pem")?.as_bytes()).ok()?;
    let token = Token::parse(&read("auth_token")?).ok()?;
    let address = Address::Tcp(read("address")?.trim().to_owned());
    Connector::new(address, &identity, token)
        .connect()
        .await
        .ok()
}

pub(crate) const BATCH_KEYS: [&str; 3] = ["first", "second", "third"];
