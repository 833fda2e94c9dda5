//! Changes without pause, as far as there is somebody who takes them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use configstream_engine::settings::{Key, Source};
use configstream_grpc::Client;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::core::{Core, connect};

pub(crate) struct Publisher {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    published: AtomicU64,
    over: AtomicBool,
    /// Held during each change.
    gate: Arc<Mutex<()>>,
}

impl Publisher {
    pub(crate) fn start(runtime: &Runtime, core: &Core) -> Self {
        let shared = Arc::new(Shared::default());
        let task = runtime.spawn(publish(core.run_dir(), shared.clone()));
        Self { shared, task }
    }

    /// No changes until the guard goes. Before that, some that come after the fault.
    pub(crate) async fn pause(&self, core: &Core) -> OwnedMutexGuard<()> {
        let before = self.shared.published.load(Ordering::Relaxed);
        let some = async {
            while self.shared.published.load(Ordering::Relaxed) < before + 3 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(crate::support::PATIENCE, some)
            .await
            .unwrap_or_else(|_| panic!("nobody takes changes in {}", core.run_dir().display()));
        self.shared.gate.clone().lock_owned().await
    }

    /// How many changes there were.
    pub(crate) async fn stop(self) -> u64 {
        self.shared.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.shared.published.load(Ordering::Relaxed)
    }
}

async fn publish(run_dir: PathBuf, shared: Arc<Shared>) {
    let mut client = None;
    let mut number = 0;
    while !shared.over.load(Ordering::Relaxed) {
        let gate = shared.gate.lock().await;
        number += 1;
        let change = async {
            if client.is_none() {
                client = connect(&run_dir).await;
            }
            one(client.as_ref()?, number).await
        };
        match timeout(Duration::from_millis(500), change).await {
            Ok(Some(())) => {
                shared.published.fetch_add(1, Ordering::Relaxed);
            }
            // A stopped process, or none, or one with other credentials.
            _ => client = None,
        }
        drop(gate);
        sleep(Duration::from_millis(1)).await;
    }
}

/// Mostly one of a few keys gets another value; now and then one is there no more, which only a snapshot can say.
async fn one(client: &Client, number: u64) -> Option<()> {
    let key = Key::parse(&format!("chaos.key_{}", number % 7)).unwrap();
    if number.is_multiple_of(40) {
        let gone = client.unset(Source::AgentRuntime, &key, "chaos").await;
        // It is not there when another process has begun without it.
        return gone
            .map(|_| ())
            .or_else(|status| match status.code() {
                tonic::Code::NotFound => Ok(()),
                _ => Err(status),
            })
            .ok();
    }
    client
        .set(Source::AgentRuntime, &key, &number.into(), "chaos")
        .await
        .ok()
        .map(|_| ())
}
