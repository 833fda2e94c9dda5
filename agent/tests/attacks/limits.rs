//! What the system gives the agent runs out: descriptors, and room on the disk.

use std::fs;

use configstream_engine::settings::{Key, Source};
use configstream_engine::{Epoch, Sequence};
use configstream_grpc::{ChangeRequest, Client, Edit};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep};

use crate::harness::{Attack, Target};
use crate::peer::{Way, each};
use crate::support::PATIENCE;

/// A limit of the agent's process, lowered until this is dropped.
struct Lowered {
    pid: Pid,
    resource: Resource,
    before: Rlimit,
}

impl Lowered {
    fn to(target: &Target, resource: Resource, limit: u64) -> Self {
        let pid = Pid::from_raw(i32::try_from(target.agent.pid()).unwrap()).unwrap();
        // A child has its parent's hard limits.
        let new = Rlimit {
            current: Some(limit),
            maximum: getrlimit(resource).maximum,
        };
        let before = prlimit(Some(pid), resource, new).unwrap();
        Self {
            pid,
            resource,
            before,
        }
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        let _ = prlimit(Some(self.pid), self.resource, self.before);
    }
}

/// More changes than sequences are reserved for: the agent has to write a file before it can take
/// them all. They come in pieces that fit in the ring of each stream.
pub(crate) async fn many_changes(client: &Client) -> Result<(), tonic::Status> {
    const PIECE: i64 = 50;
    for first in (0..1_100).step_by(50) {
        let edits = (first..first + PIECE).map(|number| Edit::Set {
            source: Source::AgentRuntime,
            key: Key::parse(&format!("attacks.many.key{}", number % PIECE)).unwrap(),
            value: (i64::from(rand::random::<u32>()) << 11 | number).into(),
        });
        let request = ChangeRequest {
            edits: edits.collect(),
            ..ChangeRequest::default()
        };
        let made = client.apply(&request).await?.committed.unwrap_or_default();
        let (epoch, sequence) = (Epoch::new(made.epoch), Sequence::new(made.sequence));
        client.wait_for_streams(epoch, sequence, PATIENCE).await?;
    }
    Ok(())
}

/// No file may grow, which is what a full disk looks like to a program: the limit on the size of
/// files stands in for it, since it needs no rights and no disk.
#[test]
fn on_a_full_disk_changes_are_refused_and_what_streams_goes_on() {
    let attack = Attack::new().after("trap '' XFSZ").may_refuse_changes();
    attack.memory_mib(16).run(|target| {
        let client = target.runtime.block_on(target.connector.connect()).unwrap();
        let full = Lowered::to(target, Resource::Fsize, 0);
        let refusal = target.runtime.block_on(many_changes(&client)).unwrap_err();
        println!("changes are refused: {refusal}");
        assert!(refusal.message().contains("cannot write"), "{refusal}");
        let persisted = target
            .agent
            .verb(&["set", "attacks.kept", "1", "--persist"]);
        assert_ne!(persisted.code, Some(0), "{persisted:?}");
        assert!(persisted.err.contains("cannot"), "{persisted:?}");
        target.last();
        drop(full);
        target.runtime.block_on(many_changes(&client)).unwrap();
    });
}

/// Far fewer than what attackers open.
const FEW_DESCRIPTORS: &str = "ulimit -n 256";

/// Strangers take every descriptor there is, on both ports.
#[test]
fn strangers_who_take_every_descriptor_keep_nobody_out_and_stop_no_change() {
    let attack = Attack::new().after(FEW_DESCRIPTORS).memory_mib(32);
    attack.run(|target| {
        let client = target.runtime.block_on(target.connector.connect()).unwrap();
        target.runtime.block_on(many_changes(&client)).unwrap();
        each(target, 400, |way: Way, _, number| async move {
            let port = [way.grpc, way.http][number % 2];
            loop {
                if let Ok(mut stream) = TcpStream::connect(port).await {
                    // Says nothing, and stays as long as the agent lets it.
                    let _ = stream.read(&mut [0]).await;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
    });
}

/// One with the certificate takes every descriptor there is. The agent still reads and writes its
/// files.
#[test]
fn a_client_that_takes_every_descriptor_keeps_nobody_out_and_stops_no_change() {
    let attack = Attack::new().after(FEW_DESCRIPTORS).memory_mib(32);
    attack.run(|target| {
        let client = target.runtime.block_on(target.connector.connect()).unwrap();
        let way = Way::to(target);
        let taken = target.runtime.block_on(async {
            let mut taken = Vec::new();
            for _ in 0..250 {
                // Some are hung up on: that is what makes room for others.
                let speaking = tokio::time::timeout(Duration::from_millis(200), way.speak(&[]));
                if let Ok(Some(halves)) = speaking.await {
                    taken.push(halves);
                }
            }
            taken
        });
        println!("{} connections", taken.len());
        assert!(taken.len() > 60, "the descriptors were not taken");
        // This connection may have given way while it did nothing, which shows with the next
        // request.
        target.agent.until("changes are taken", |_| {
            target.runtime.block_on(many_changes(&client)).is_ok()
        });
        let edited = target.conf_dir.join("50-edit.yaml");
        fs::write(&edited, "attacks:\n  edited: 1\n").unwrap();
        target.agent.until("the edit is taken", |agent| {
            agent.status()["sources"][1]["settings"] == 2
        });
        target.last();
    });
}
