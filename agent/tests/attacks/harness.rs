//! Runs an attack between a calm time and a recovery, and judges it.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use configstream_grpc::{Address, Connector, Identity};
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;

use crate::heartbeat::{Heartbeat, connector, enter};
use crate::support::{Agent, PATIENCE, program};

/// What the 99th percentile of delays may always be: with two cores for the agent, the attackers,
/// the good client and all else that runs on the machine, and programs that are not optimised, the
/// scheduler alone makes a beat some 100 ms late, and under load several times that. What the suite
/// looks for is a stop: an agent that freezes, or whose changes wait for a peer.
pub(crate) const DELAY_FLOOR: Duration = Duration::from_secs(2);

/// Or so many times the calm one.
const DELAY_RATIO: u32 = 10;

/// How long a newcomer may take to get in, attempts included: the agent promises five seconds, and
/// the machine may be busy.
pub(crate) const ENTRY_DEADLINE: Duration = PATIENCE;

/// What the agent may take beside the budget of an attack: pages that its allocator spreads over,
/// as it does when calm.
const MEMORY_SLACK: u64 = 16 << 20;

/// An attack to be run: what the agent is started with, and what is demanded.
pub(crate) struct Attack {
    arguments: Vec<String>,
    shell: &'static str,
    configuration: String,
    memory: u64,
    refuses_changes: bool,
    exit: i32,
    good_client: Box<dyn FnOnce(&Target) -> Address>,
}

/// An agent under attack: where it is, and what its attackers know.
pub(crate) struct Target {
    pub(crate) agent: Agent,
    /// Everything of this test.
    pub(crate) root: tempfile::TempDir,
    pub(crate) run_dir: PathBuf,
    /// Its configuration folder.
    pub(crate) conf_dir: PathBuf,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) connector: Connector,
    pub(crate) identity: Identity,
    pub(crate) bearer: String,
    /// For attackers.
    pub(crate) runtime: Runtime,
    /// Whether this is the long run.
    pub(crate) full: bool,
    heartbeat: Option<Heartbeat>,
}

impl Attack {
    pub(crate) fn new() -> Self {
        Self {
            arguments: Vec::new(),
            shell: "",
            configuration: "attacks:\n  base: 1\n".to_owned(),
            memory: 0,
            refuses_changes: false,
            exit: 0,
            good_client: Box::new(|target| Address::Tcp(target.grpc.to_string())),
        }
    }

    /// An argument for the agent.
    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// More of what the agent is configured with, as YAML.
    pub(crate) fn configuration(mut self, text: impl AsRef<str>) -> Self {
        self.configuration.push_str(text.as_ref());
        self
    }

    /// What a shell does before it becomes the agent.
    pub(crate) fn after(mut self, script: &'static str) -> Self {
        self.shell = script;
        self
    }

    /// A setting for the agent, as `KEY=VALUE`.
    pub(crate) fn set(self, assignment: &str) -> Self {
        self.argument("--set").argument(assignment)
    }

    /// How much memory the attack may cost, in MiB: what the operating guide grants.
    pub(crate) fn memory_mib(mut self, mib: u64) -> Self {
        self.memory = mib << 20;
        self
    }

    /// The agent may refuse changes during this attack, as long as it says so; it goes on taking
    /// them afterwards.
    pub(crate) fn may_refuse_changes(mut self) -> Self {
        self.refuses_changes = true;
        self
    }

    /// What changes need is gone for good: the agent goes on streaming, and refuses them until it
    /// is stopped, with this code.
    pub(crate) fn refuses_changes_for_good(mut self, exit: i32) -> Self {
        self.exit = exit;
        self.may_refuse_changes()
    }

    /// The good client reaches the agent at another address than its own.
    pub(crate) fn good_client_at(
        mut self,
        address: impl FnOnce(&Target) -> Address + 'static,
    ) -> Self {
        self.good_client = Box::new(address);
        self
    }

    /// Runs an attack that is over when `attack` returns.
    pub(crate) fn run(self, attack: impl FnOnce(&mut Target)) {
        self.run_lasting(attack);
    }

    /// Runs an attack that goes on until the agent has ended, as long as what `attack` returns is
    /// there. The agent has to be well beside it.
    pub(crate) fn run_lasting<T>(self, attack: impl FnOnce(&mut Target) -> T) -> (Target, T) {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut target = Target::start(&self.arguments, self.shell, &self.configuration);
        let address = (self.good_client)(&target);
        target.heartbeat = Some(Heartbeat::start(&target.run_dir, address));

        target.last_for(target.lasting() / 2);
        let calm_memory = peak_memory(&target.agent);
        let calm_count = target.heartbeat().count();
        let newcomers = Newcomers::start(&target.connector);
        let held = attack(&mut target);
        let attacked_count = target.heartbeat().count();
        target.heartbeat().wait_seen(attacked_count);
        let entries = newcomers.stop();
        let memory = peak_memory(&target.agent);

        let recovery = target.recover();
        let resyncs = target.heartbeat().record().resyncs;
        let exit = target.end();

        let calm = Delays::of(target.heartbeat().delays(0..calm_count));
        let attacked = Delays::of(target.heartbeat().delays(calm_count..attacked_count));
        let record = target.heartbeat().record();
        let growth = memory.saturating_sub(calm_memory);
        println!(
            "{calm_count} calm beats, {} under attack, {} refused; delay p99 {:?} when calm, {:?} under attack, longest {:?}; memory {} MiB when calm, {} MiB \
             more under attack, of {}; {} newcomers, the slowest took {:?}",
            attacked_count - calm_count,
            record.refused.len(),
            calm.p99,
            attacked.p99,
            attacked.longest,
            calm_memory >> 20,
            growth >> 20,
            self.memory >> 20,
            entries.count,
            entries.slowest,
        );
        let mut faults = record.faults.clone();
        let mut demand = |good: bool, fault: String| {
            if !good {
                faults.push(fault);
            }
        };
        demand(
            resyncs == 0,
            format!("the good client was resynchronised {resyncs} times"),
        );
        demand(
            record.refused.is_empty() || self.refuses_changes,
            format!(
                "{} changes were refused: {:?}",
                record.refused.len(),
                record.refusal
            ),
        );
        let bound = DELAY_FLOOR.max(calm.p99 * DELAY_RATIO);
        demand(
            attacked.p99 <= bound,
            format!("beats were late: p99 {:?}, above {bound:?}", attacked.p99),
        );
        demand(
            growth <= self.memory + MEMORY_SLACK,
            format!("the agent took {} MiB more", growth >> 20),
        );
        if let Some(fault) = entries.fault {
            demand(false, fault);
        }
        if self.exit == 0 {
            demand(recovery.is_ok(), recovery.err().unwrap_or_default());
        }
        demand(
            exit == Some(self.exit),
            format!("SIGTERM ended the agent with {exit:?}"),
        );
        drop(record);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        (target, held)
    }
}

impl Target {
    fn start(arguments: &[String], shell: &str, configuration: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let run_dir = root.path().join("run");
        let conf_dir = root.path().join("conf.d");
        fs::create_dir(&conf_dir).unwrap();
        fs::write(conf_dir.join("00-base.yaml"), configuration).unwrap();
        let mut all = vec!["--config", conf_dir.to_str().unwrap()];
        all.extend(arguments.iter().map(String::as_str));
        let agent = Agent::start_with(&run_dir, &all, |command| by_shell(command, shell));
        let read = |name: &str| fs::read_to_string(run_dir.join(name)).unwrap();
        let grpc = read("address").trim().parse().unwrap();
        let http = agent.http.parse().unwrap();
        let connector = connector(&run_dir).unwrap();
        let identity = Identity::from_pem(read("ipc_cert.pem").as_bytes()).unwrap();
        let bearer = format!("Bearer {}", read("auth_token").trim());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            agent,
            run_dir,
            conf_dir,
            grpc,
            http,
            connector,
            identity,
            bearer,
            runtime,
            full: env::var("ATTACKS").is_ok_and(|value| value == "full"),
            heartbeat: None,
            root,
        }
    }

    /// How long an attack without an end of its own lasts.
    pub(crate) fn lasting(&self) -> Duration {
        Duration::from_millis(if self.full { 15_000 } else { 1_000 })
    }

    /// The one for the short run, or the one for the long one.
    pub(crate) fn scaled<T>(&self, short: T, full: T) -> T {
        if self.full { full } else { short }
    }

    /// Lasts as long as an attack, from now on.
    pub(crate) fn last(&self) {
        self.last_for(self.lasting());
    }

    /// Lasts so long: this is no waiting for something to have happened.
    pub(crate) fn last_for(&self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            thread::park_timeout(end.saturating_duration_since(Instant::now()));
        }
    }

    fn heartbeat(&self) -> &Heartbeat {
        self.heartbeat.as_ref().expect("it beats")
    }

    /// What has to be so again once the attack is over.
    fn recover(&mut self) -> Result<(), String> {
        let entry = self
            .runtime
            .block_on(enter_within(&self.connector, PATIENCE));
        entry.map_err(|fault| format!("afterwards, a new client cannot enter: {fault}"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let doctor = self.agent.verb(&["doctor"]);
            if doctor.code == Some(0) {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("afterwards, `doctor` finds: {doctor:?}"));
            }
        }
        let (refused, count) = {
            let record = self.heartbeat().record();
            (record.refused.len(), record.faults.len())
        };
        let beats = self.heartbeat().count();
        self.heartbeat().wait_seen(beats + 10);
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.stop();
        }
        let record = self.heartbeat().record();
        if record.refused.len() > refused {
            return Err(format!(
                "afterwards, changes are refused: {:?}",
                record.refusal
            ));
        }
        if record.faults.len() > count {
            return Err("afterwards, the old stream does not go on".to_owned());
        }
        Ok(())
    }

    /// Stops the agent and gives its exit code.
    fn end(&mut self) -> Option<i32> {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.stop();
        }
        self.agent.signal(Signal::SIGTERM);
        self.agent.wait()
    }
}

/// The same program, of which a shell becomes the process.
fn by_shell<'a>(command: &'a mut Command, script: &str) -> &'a mut Command {
    if !script.is_empty() {
        let mut shell = program("/bin/sh");
        shell
            .args(["-c", &format!("{script}; exec \"$0\" \"$@\"")])
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        *command = shell;
    }
    command
}

/// Clients that come one after another.
struct Newcomers {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Entries>,
}

#[derive(Default)]
struct Entries {
    count: u64,
    slowest: Duration,
    fault: Option<String>,
}

impl Newcomers {
    fn start(connector: &Connector) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (ended, connector) = (over.clone(), connector.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let mut entries = Entries::default();
            // One at least, however short the attack.
            loop {
                let begun = Instant::now();
                let entered = runtime.block_on(enter_within(&connector, ENTRY_DEADLINE));
                entries.slowest = entries.slowest.max(begun.elapsed());
                entries.count += 1;
                if let Err(fault) = entered {
                    entries.fault = Some(format!("a newcomer was kept out: {fault}"));
                    return entries;
                }
                if ended.load(Ordering::Relaxed) {
                    return entries;
                }
                thread::park_timeout(Duration::from_millis(100));
            }
        });
        Self { over, thread }
    }

    fn stop(self) -> Entries {
        self.over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap()
    }
}

/// Tries to enter until it succeeds, as a client would.
async fn enter_within(connector: &Connector, limit: Duration) -> Result<(), String> {
    let mut last = "no attempt came to an end".to_owned();
    let attempts = async {
        while let Err(fault) = enter(connector).await {
            last = fault;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let entered = tokio::time::timeout(limit, attempts).await;
    entered.map_err(|_| format!("not within {limit:?}: {last}"))
}

struct Delays {
    p99: Duration,
    longest: Duration,
}

impl Delays {
    fn of(sorted: Vec<Duration>) -> Self {
        let longest = sorted.last().copied().unwrap_or_default();
        let rank = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        let p99 = sorted.get(rank).copied().unwrap_or_default();
        Self { p99, longest }
    }
}

/// The largest resident size of the agent so far, in bytes.
fn peak_memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(
        Path::new("/proc")
            .join(agent.pid().to_string())
            .join("status"),
    );
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}
