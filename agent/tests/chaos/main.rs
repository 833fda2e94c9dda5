//! A real agent and replicas of it, through random faults.
//!
//! A `configstream run` process publishes without pause, through changes at run time and through its file. Replicas
//! follow it through a proxy, and observers follow the replicas. Fault by fault, the process is killed, stopped,
//! restarted, given another certificate or token, or the network is cut, half closed, delayed or frozen, at times with a
//! batch from the file under way. After each one every replica has to arrive at the agent's head, state and sequence, and
//! no observer may have seen a gap, a duplicate, a step back, or half a batch.
//!
//! ```sh
//! CHAOS_FAULTS=500 CHAOS_SEED=7 cargo test -p configstream-agent --release --test chaos
//! ```
//!
//! Without these variables: 50 faults, and a seed that a failure prints. What is counted are faults only, not batches. Each
//! kind comes once before chance decides. The seed decides about the faults, not about how the threads of several processes
//! meet.

mod core;
mod fault;
mod observer;
#[path = "../../../grpc/tests/support/proxy.rs"]
mod proxy;
mod publisher;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use configstream_engine::settings::Resolved;
use configstream_engine::{Epoch, Sequence};
use configstream_grpc::Registration;
use configstream_grpc::consumer::{Access, Consumer};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::core::{Core, Head};
use crate::fault::Fault;
use crate::observer::Observer;
use crate::proxy::Proxy;
use crate::publisher::Publisher;
use crate::support::PATIENCE;

#[test]
fn no_fault_leads_a_replica_astray() {
    let faults = number("CHAOS_FAULTS").unwrap_or(DEFAULT_FAULTS);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| {
        let now = UNIX_EPOCH.elapsed().unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("CHAOS_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut chaos = Chaos::begin(&runtime, seed);
    let mut counts = BTreeMap::new();
    let mut batches = 0;
    let mut first = chaos.each();
    for number in 1..=faults {
        let fault = first.pop().unwrap_or_else(|| chaos.choose());
        println!("fault {number}: {fault:?}");
        *counts.entry(fault.name()).or_insert(0) += 1;
        // No fault, but something for it to hit. Nobody waits until it is through.
        if chaos.random.random_bool(0.5) {
            chaos.core.write_file();
            batches += 1;
        }
        fault.inflict(&mut chaos.core, &chaos.proxy);
        chaos.converge(&format!("fault {number} of seed {seed}, {fault:?}"));
    }
    chaos.end();
    println!("{faults} faults survived, {batches} of them just after a batch: {counts:?}");
}

struct Chaos<'a> {
    runtime: &'a tokio::runtime::Runtime,
    random: StdRng,
    core: Core,
    proxy: Proxy,
    publisher: Publisher,
    replicas: Vec<Arc<Consumer>>,
    observers: Vec<Observer>,
}

impl<'a> Chaos<'a> {
    fn begin(runtime: &'a tokio::runtime::Runtime, seed: u64) -> Self {
        let core = Core::start();
        let proxy = runtime.block_on(Proxy::start(core.address()));
        let publisher = Publisher::start(runtime, &core);
        let mut replicas = Vec::new();
        let mut observers = Vec::new();
        for number in 0..2 {
            let replica = replica(runtime, &core, &proxy, number);
            let replica = Arc::new(replica);
            replica.wait_ready_blocking(PATIENCE).unwrap();
            // One that keeps up, and one that is too slow and has to be repaired by the replica.
            observers.push(Observer::start(&replica, "quick", Duration::ZERO));
            observers.push(Observer::start(&replica, "slow", Duration::from_millis(20)));
            replicas.push(replica);
        }
        let mut chaos = Self {
            runtime,
            random: StdRng::seed_from_u64(seed),
            core,
            proxy,
            publisher,
            replicas,
            observers,
        };
        chaos.converge("the beginning");
        chaos
    }

    /// Each kind of fault once, in any order: none is left out by chance.
    fn each(&mut self) -> Vec<Fault> {
        let mut each = self.faults().map(|(fault, _)| fault);
        each.shuffle(&mut self.random);
        each.into()
    }

    fn faults(&mut self) -> [(Fault, u32); Fault::KINDS] {
        Fault::weighed(Duration::from_millis(self.random.random_range(5..400)))
    }

    fn choose(&mut self) -> Fault {
        self.faults()
            .choose_weighted(&mut self.random, |(_, weight)| *weight)
            .unwrap()
            .0
    }

    /// Waits until every replica is at the agent's head. Nothing is published meanwhile: it would never be reached.
    fn converge(&mut self, after: &str) {
        let pause = self.runtime.block_on(self.publisher.pause(&self.core));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let head = self.runtime.block_on(self.core.head());
            let head = head.filter(|head| self.core.has_file(head));
            let away: Vec<_> = self
                .replicas
                .iter()
                .filter(|replica| !head.as_ref().is_some_and(|head| is_at(replica, head)))
                .collect();
            if away.is_empty() {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "after {after}: {away:#?} did not arrive at {head:?}"
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
        for observer in &self.observers {
            observer.demand_no_fault(after);
        }
        drop(pause);
    }

    fn end(self) {
        let published = self.runtime.block_on(self.publisher.stop());
        assert!(published > 0, "there was nothing to follow");
        println!("{published} changes published");
        drop(self.replicas);
        for observer in self.observers {
            println!("{}", observer.end());
        }
    }
}

fn replica(
    runtime: &tokio::runtime::Runtime,
    core: &Core,
    proxy: &Proxy,
    number: usize,
) -> Consumer {
    let _entered = runtime.enter();
    let short = Duration::from_millis(200);
    let address = configstream_grpc::Address::Tcp(proxy.address.to_string());
    let access = Access::files(address, core.certificate(), core.token())
        .configure(move |connector| connector.connect_timeout(2 * short).keepalive(short, short));
    Consumer::builder(access, Registration::new(format!("replica-{number}")))
        .backoff(Duration::from_millis(5), Duration::from_millis(100))
        .answer_timeout(Duration::from_secs(2))
        .snapshot_path(core.run_dir().join(format!("replica-{number}")))
        .snapshot_interval(Duration::from_millis(50))
        .start()
}

fn is_at(replica: &Consumer, head: &Head) -> bool {
    let Some(version) = replica.head() else {
        return false;
    };
    let labels: (Epoch, Sequence) = (version.epoch(), version.sequence());
    let state: &Resolved = version.state();
    replica.state().is_ready() && labels == (head.epoch, head.sequence) && *state == head.state
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

const DEFAULT_FAULTS: u64 = 50;
