//! A key that changes steadily, and the good client that has to see each change.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use configstream_engine::settings::{Key, Resolved, Source};
use configstream_engine::{Event, NextTimeoutError, Subscription};
use configstream_grpc::consumer::{Access, Consumer};
use configstream_grpc::{Address, Client, ConfigEvent, Connector, Identity, Registration, Token};

use crate::support::PATIENCE;

/// Time between two beats.
const INTERVAL: Duration = Duration::from_millis(10);

/// How often a thread that waits looks whether it is over.
const TICK: Duration = Duration::from_millis(50);

const KEY: &str = "attacks.heartbeat";

/// Publishes beats and follows them, each on a thread of its own.
pub(crate) struct Heartbeat {
    shared: Arc<Shared>,
    publisher: Option<JoinHandle<()>>,
    follower: Option<JoinHandle<Consumer>>,
    /// Keeps its stream open after the last beat.
    idle: Option<Consumer>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    record: Mutex<Record>,
}

/// What happened so far.
#[derive(Default)]
pub(crate) struct Record {
    /// When each beat was due. Its number is its place.
    due: Vec<Instant>,
    /// Beats that the agent refused to take.
    pub(crate) refused: BTreeSet<usize>,
    /// Why it refused the last one.
    pub(crate) refusal: Option<String>,
    /// Beats below this number were seen, or refused, or a snapshot stood in for them.
    seen: usize,
    /// From due to seen.
    delays: Vec<(usize, Duration)>,
    /// Snapshots after the first one.
    pub(crate) resyncs: u64,
    pub(crate) faults: Vec<String>,
}

impl Heartbeat {
    /// Starts beating; the good client reaches the agent at `address`, the publisher at the agent's
    /// own.
    pub(crate) fn start(run_dir: &Path, address: Address) -> Self {
        let access = Access::files(
            address,
            run_dir.join("ipc_cert.pem"),
            run_dir.join("auth_token"),
        );
        let consumer = Consumer::builder(access, Registration::new("good client"))
            .ring_capacity(65_536)
            .start_thread()
            .unwrap();
        consumer.wait_ready_blocking(PATIENCE).unwrap();
        let subscription = consumer.subscribe().unwrap();
        let publisher = Publisher::new(run_dir);
        let shared = Arc::new(Shared::default());
        let (beating, following) = (shared.clone(), shared.clone());
        Self {
            shared,
            publisher: Some(thread::spawn(move || publisher.publish(&beating))),
            follower: Some(thread::spawn(move || {
                follow(&consumer, subscription, &following);
                consumer
            })),
            idle: None,
        }
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.shared.record.lock().unwrap()
    }

    /// How many beats were due so far.
    pub(crate) fn count(&self) -> usize {
        self.record().due.len()
    }

    /// Waits until every beat below `number` is accounted for.
    pub(crate) fn wait_seen(&self, number: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut record = self.record();
            if record.seen >= number {
                return;
            }
            if Instant::now() > deadline || !record.faults.is_empty() {
                let seen = record.seen;
                record.fault(format!("beat {seen} was not seen within {PATIENCE:?}"));
                return;
            }
            drop(record);
            thread::park_timeout(TICK);
        }
    }

    /// How long each beat took, from the shortest to the longest.
    pub(crate) fn delays(&self, beats: Range<usize>) -> Vec<Duration> {
        let record = self.record();
        let of_these = record.delays.iter().filter(|(n, _)| beats.contains(n));
        let mut delays: Vec<_> = of_these.map(|(_, delay)| *delay).collect();
        delays.sort_unstable();
        delays
    }

    /// Publishes no more, and waits until what was published is seen.
    pub(crate) fn stop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(publisher) = self.publisher.take() {
            publisher.join().unwrap();
        }
        self.wait_seen(self.count());
        if let Some(follower) = self.follower.take() {
            self.idle = Some(follower.join().unwrap());
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Record {
    fn fault(&mut self, text: String) {
        if !self.faults.contains(&text) {
            self.faults.push(text);
        }
    }

    /// The good client has beat `number`.
    fn see(&mut self, number: usize, in_snapshot: bool) {
        let missing: Vec<_> = (self.seen..number)
            .filter(|earlier| !self.refused.contains(earlier))
            .collect();
        if !missing.is_empty() && !in_snapshot {
            self.fault(format!("beats {missing:?} are missing before {number}"));
        }
        if number < self.seen && !in_snapshot {
            self.fault(format!("beat {number} came again"));
        }
        if let Some(due) = self.due.get(number) {
            self.delays.push((number, due.elapsed()));
        }
        self.seen = self.seen.max(number + 1);
    }
}

struct Publisher {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Publisher {
    fn new(run_dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime
            .block_on(connector(run_dir).unwrap().connect())
            .unwrap();
        Self { runtime, client }
    }

    fn publish(self, shared: &Shared) {
        let key = Key::parse(KEY).unwrap();
        let mut due = Instant::now();
        while !shared.over.load(Ordering::Relaxed) {
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
            if Instant::now() < due {
                continue;
            }
            let number = {
                let mut record = shared.record.lock().unwrap();
                record.due.push(due);
                record.due.len() - 1
            };
            let value = i64::try_from(number).unwrap().into();
            let set = self
                .client
                .set(Source::AgentRuntime, &key, &value, "attacks");
            let answer = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, set).await });
            let mut record = shared.record.lock().unwrap();
            match answer {
                Ok(Ok(_)) => {}
                Ok(Err(status)) => {
                    record.refused.insert(number);
                    record.refusal = Some(status.to_string());
                    if record.seen == number {
                        record.seen = number + 1;
                    }
                }
                Err(_) => {
                    record.fault(format!("the agent took no change for {PATIENCE:?}"));
                    return;
                }
            }
            // A beat that was held up counts once, as long as it was; those that it held up in turn
            // are left out.
            due = (due + INTERVAL).max(Instant::now());
        }
    }
}

/// The good client: keeps count of what comes until it is over and all has come.
fn follow(consumer: &Consumer, mut subscription: Subscription<Resolved>, shared: &Shared) {
    let mut at = None;
    loop {
        let event = subscription.next_timeout(TICK);
        let mut record = shared.record.lock().unwrap();
        if let Some(cause) = consumer.state().cause() {
            record.fault(format!("the good client lost its stream: {cause}"));
        }
        match event {
            Ok(Event::Snapshot(snapshot)) => {
                let version = snapshot.version();
                if at.replace((version.epoch(), version.sequence())).is_some() {
                    record.resyncs += 1;
                }
                let setting = version.state().get(KEY);
                if let Some(number) = setting.and_then(|setting| setting.value().as_i64()) {
                    record.see(usize::try_from(number).unwrap(), true);
                }
            }
            Ok(Event::Update(update)) => {
                let now = (update.epoch(), update.sequence());
                let due = at.map(|(epoch, sequence)| (epoch, sequence.next()));
                if due != Some(now) {
                    record.fault(format!("update {now:?} came where {due:?} was due"));
                }
                at = Some(now);
                let setting = update.setting();
                if setting.key().as_str() == KEY {
                    let number = setting.value().as_i64().unwrap();
                    record.see(usize::try_from(number).unwrap(), false);
                }
            }
            Ok(other) => record.fault(format!("an unknown event: {other:?}")),
            Err(NextTimeoutError::Closed) => return record.fault("the replica closed".to_owned()),
            Err(_) => {
                let all = record.seen >= record.due.len() || !record.faults.is_empty();
                if all && shared.over.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

/// How a client that was just started reaches the agent of a run directory.
pub(crate) fn connector(run_dir: &Path) -> Result<Connector, String> {
    let read = |name: &str| {
        fs::read_to_string(run_dir.join(name)).map_err(|error| format!("{name}: {error}"))
    };
    let identity = Identity::from_pem(read("ipc_cert.pem")?.as_bytes())
        .map_err(|error| format!("ipc_cert.pem: {error}"))?;
    let token =
        Token::parse(&read("auth_token")?).map_err(|error| format!("auth_token: {error}"))?;
    let address = read("address")?.trim().parse::<Address>();
    let address = address.map_err(|error| format!("address: {error}"))?;
    Ok(Connector::new(address, &identity, token))
}

/// Registers as a client that comes new, and takes its first snapshot.
pub(crate) async fn enter(connector: &Connector) -> Result<(), String> {
    let client = connector
        .connect()
        .await
        .map_err(|error| error.to_string())?;
    let session = client
        .register(&Registration::new("newcomer"))
        .await
        .map_err(|status| format!("registering: {status}"))?;
    let events = client.stream("newcomer", &session.id).await;
    let mut events = events.map_err(|status| format!("streaming: {status}"))?;
    match events.next().await {
        Ok(ConfigEvent::Snapshot(_)) => Ok(()),
        Ok(other) => Err(format!("the first event is no snapshot: {other:?}")),
        Err(error) => Err(format!("the first event: {error}")),
    }
}
