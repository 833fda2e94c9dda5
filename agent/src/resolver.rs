//! The resolver: one thread that owns the writing side of the engine.
//!
//! Every source sends its changes through one bounded queue and gets back the sequence they were committed at, or why
//! they were not. Before a sequence is used it is reserved on disk ([`SequenceFile`]); where the wire's sequences
//! end, the resolver begins the next epoch.
//!
//! # Changes that persist
//!
//! A change that is to survive a restart ([`Wish::persist`]) is judged, then kept on disk
//! ([`Persisted`]), then published, and then answered. Each step before the next, because the agent can be killed
//! between any two:
//!
//! 1. Before it is kept: nothing has happened, and nobody was told otherwise.
//! 2. Kept, not published: no stream has shown it and the caller has no answer. The restart brings it, as if it had
//!    come just after; a caller that asks again changes nothing.
//! 3. Published, not answered: a restart brings what the streams have shown.
//!
//! The other order would let a stream show, and remote agents act on, a change that is gone after a restart; and on a full
//! disk it would have to be published back. This order has a case of its own, a change that is kept and then cannot be
//! published. It was judged before, so what remains is a sequence that cannot be reserved, or a close; then it is taken
//! back before the caller hears of it. If even that fails, the answer says that a restart may bring it.
//!
//! A full queue is the sender's to deal with: [`try_submit`](ResolverHandle::try_submit), for callers at runtime,
//! refuses; [`submit_and_wait`](ResolverHandle::submit_and_wait), for files, waits.

mod worker;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use configstream_engine::settings::{Change, Key, Rejection, Settings, Source};
use configstream_engine::{Committed, Engine, Epoch, Sequence};
use configstream_grpc::Conditions;
use configstream_grpc::lock::RwLock;
use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::oneshot;

pub use crate::last_changed::Conflict;

use self::worker::Worker;
use crate::last_changed::LastChanged;
use crate::persisted::{Kept, Persisted};
use crate::sequence_file::SequenceFile;

/// Requests that may wait for the resolver. One takes some microseconds, and a sync of the disk every thousand.
pub const QUEUE_REQUESTS: usize = 256;

/// Why a change was not committed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ResolveError {
    /// The change cannot be.
    Rejected(Rejection),
    /// A condition of the change does not hold.
    Conflict(Conflict),
    /// Too many changes wait already; try again.
    QueueFull,
    /// No sequence could be reserved on disk, so none can be given. Nothing has changed. The text says why, and what to do.
    Sequence(String),
    /// It was asked to persist, and cannot. Nothing has changed. The text says why, and what to do.
    NotPersisted(String),
    /// The agent is shutting down.
    Closed,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => write!(formatter, "{rejection}"),
            Self::Conflict(conflict) => write!(formatter, "{conflict}"),
            Self::QueueFull => write!(
                formatter,
                "{QUEUE_REQUESTS} changes wait already; try again"
            ),
            Self::Sequence(why) => write!(formatter, "no sequence can be reserved: {why}"),
            Self::NotPersisted(why) => formatter.write_str(why),
            Self::Closed => formatter.write_str("the agent is shutting down"),
        }
    }
}

impl Error for ResolveError {}

/// A change that may depend on what is there, or only be tried.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "callers build it")]
pub struct Wish {
    /// The change.
    pub change: Change,
    /// What must still be so.
    pub conditions: Conditions,
    /// Whether it is to survive a restart: what it sets is set again, what it unsets no longer.
    pub persist: bool,
    /// Change nothing, only tell what would come of it.
    pub dry_run: bool,
}

/// What came of a [`Wish`], or would come of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The head's epoch after it.
    pub epoch: Epoch,
    /// The head's sequence after it.
    pub sequence: Sequence,
    /// How many updates stream for it.
    pub updates: u64,
    /// Whether every subscriber gets a snapshot for it instead.
    pub needs_snapshot: bool,
    /// What the change was made to.
    pub before: Settings,
    /// What it made.
    pub after: Settings,
    /// Whether what a restart brings back has changed.
    pub persisted: bool,
}

type Answer = Result<Committed, ResolveError>;

enum Request {
    Publish {
        change: Change,
        answer: oneshot::Sender<Answer>,
    },
    Grant {
        wish: Wish,
        answer: oneshot::Sender<Result<Outcome, ResolveError>>,
    },
    Ping(oneshot::Sender<()>),
    Stop,
}

/// The resolver's thread.
#[derive(Debug)]
#[must_use = "a resolver that is dropped goes on; stop it to get the saved sequence back"]
pub struct Resolver {
    requests: Sender<Request>,
    last_changed: Arc<RwLock<LastChanged>>,
    persisted: Option<Persisted>,
    thread: thread::JoinHandle<SequenceFile>,
}

impl Resolver {
    /// Starts the thread. The engine must start at the file's epoch and sequence, with its limit.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub fn start(engine: Engine<Settings>, file: SequenceFile) -> std::io::Result<Self> {
        Self::start_with(engine, file, None)
    }

    /// The same, for changes that may persist. What does so already must be in the engine's state.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub fn start_persisting(
        engine: Engine<Settings>,
        file: SequenceFile,
        persisted: Persisted,
    ) -> std::io::Result<Self> {
        Self::start_with(engine, file, Some(persisted))
    }

    fn start_with(
        engine: Engine<Settings>,
        file: SequenceFile,
        persisted: Option<Persisted>,
    ) -> std::io::Result<Self> {
        let (requests, queue) = crossbeam_channel::bounded(QUEUE_REQUESTS);
        let last_changed = Arc::new(RwLock::new(LastChanged::since(&engine.head())));
        let worker = Worker {
            engine,
            file,
            last_changed: last_changed.clone(),
            persisted: persisted.clone(),
        };
        let thread = thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || worker.run(&queue))?;
        Ok(Self {
            requests,
            last_changed,
            persisted,
            thread,
        })
    }

    /// A handle to send changes with.
    #[must_use]
    pub fn handle(&self) -> ResolverHandle {
        ResolverHandle {
            requests: self.requests.clone(),
            last_changed: self.last_changed.clone(),
            persisted: self.persisted.clone(),
        }
    }

    /// Works off what waits, refuses what comes, and gives the saved sequence back; `None` if the thread has panicked.
    #[must_use]
    pub fn stop(self) -> Option<SequenceFile> {
        // Fails only if the thread has gone already.
        let _ = self.requests.send(Request::Stop);
        self.thread.join().ok()
    }
}

/// Sends changes to the resolver.
#[derive(Clone, Debug)]
pub struct ResolverHandle {
    requests: Sender<Request>,
    last_changed: Arc<RwLock<LastChanged>>,
    persisted: Option<Persisted>,
}

impl ResolverHandle {
    /// Queues a change without waiting for room.
    ///
    /// # Errors
    ///
    /// [`ResolveError::QueueFull`], or [`ResolveError::Closed`].
    pub fn try_submit(&self, change: Change) -> Result<Pending, ResolveError> {
        let (answer, pending) = oneshot::channel();
        self.try_send(Request::Publish { change, answer })?;
        Ok(Pending(pending))
    }

    /// Makes a change if its conditions hold, without waiting for room in the queue.
    ///
    /// # Errors
    ///
    /// Why it was not made.
    pub async fn grant(&self, wish: Wish) -> Result<Outcome, ResolveError> {
        let (answer, answered) = oneshot::channel();
        self.try_send(Request::Grant { wish, answer })?;
        answered.await.unwrap_or(Err(ResolveError::Closed))
    }

    fn try_send(&self, request: Request) -> Result<(), ResolveError> {
        match self.requests.try_send(request) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                metrics::counter!("configstream_resolver_queue_full_total").increment(1);
                Err(ResolveError::QueueFull)
            }
            Err(TrySendError::Disconnected(_)) => Err(ResolveError::Closed),
        }
    }

    /// Queues a change, waits for room if need be, and waits for the answer. For threads that may block.
    ///
    /// # Errors
    ///
    /// Any but [`ResolveError::QueueFull`].
    pub fn submit_and_wait(&self, change: Change) -> Answer {
        let (answer, pending) = oneshot::channel();
        self.requests
            .send(Request::Publish { change, answer })
            .map_err(|_| ResolveError::Closed)?;
        pending.blocking_recv().unwrap_or(Err(ResolveError::Closed))
    }

    /// Returns once the resolver has worked off what waits now: a sign that its thread does not stand still.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Closed`].
    pub async fn ping(&self) -> Result<(), ResolveError> {
        let (answer, answered) = oneshot::channel();
        let mut request = Request::Ping(answer);
        loop {
            match self.requests.try_send(request) {
                Ok(()) => return answered.await.map_err(|_| ResolveError::Closed),
                // Room comes as long as the thread works.
                Err(TrySendError::Full(back)) => request = back,
                Err(TrySendError::Disconnected(_)) => return Err(ResolveError::Closed),
            }
            tokio::time::sleep(PING_PAUSE).await;
        }
    }

    /// When what wins for `key`, which streams, last changed. A moment after a change it may still
    /// tell the time before, never a later one.
    #[must_use]
    pub fn last_changed(&self, key: &str) -> (Epoch, Sequence) {
        self.last_changed.read().of(key, true)
    }

    /// What a restart brings back for a key in a layer, if anything.
    #[must_use]
    pub fn persisted(&self, source: Source, key: &Key) -> Option<Kept> {
        self.persisted.as_ref()?.get(source, key)
    }

    /// How many changes wait. May change at once.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.requests.len()
    }
}

/// The answer to a queued change, to come.
#[derive(Debug)]
#[must_use = "the change is made all the same, but nobody hears of a rejection"]
pub struct Pending(oneshot::Receiver<Answer>);

impl Pending {
    /// Waits for the answer in an asynchronous task.
    ///
    /// # Errors
    ///
    /// Why the change was not committed.
    pub async fn answer(self) -> Answer {
        self.0.await.unwrap_or(Err(ResolveError::Closed))
    }

    /// Waits for the answer in a thread that may block.
    ///
    /// # Errors
    ///
    /// Why the change was not committed.
    pub fn wait(self) -> Answer {
        self.0.blocking_recv().unwrap_or(Err(ResolveError::Closed))
    }
}

/// Between two looks for room.
const PING_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use configstream_engine::settings::Value;
    use configstream_engine::{Event, State};

    use super::*;
    use crate::sequence_file::{BLOCK, LAST};

    fn set(key: &str, value: i64) -> Change {
        Change::Set {
            source: Source::AgentRuntime,
            key: Key::parse(key).unwrap(),
            value: Value::Int(value),
            provenance: None,
        }
    }

    fn start(path: &Path) -> (Engine<Settings>, Resolver) {
        let file = SequenceFile::open(path).unwrap();
        let engine = Engine::builder(Settings::default())
            .start_at(file.epoch(), file.start())
            .sequence_limit(file.limit())
            .build()
            .unwrap();
        let resolver = Resolver::start(engine.clone(), file).unwrap();
        (engine, resolver)
    }

    fn without_worker(requests: Sender<Request>) -> ResolverHandle {
        let engine = Engine::builder(Settings::default()).build().unwrap();
        ResolverHandle {
            requests,
            last_changed: Arc::new(RwLock::new(LastChanged::since(&engine.head()))),
            persisted: None,
        }
    }

    #[test]
    fn what_is_used_is_always_reserved_on_disk() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sequence");
        let (engine, resolver) = start(&path);
        let handle = resolver.handle();
        for value in 0..3 * i64::try_from(BLOCK).unwrap() {
            let committed = handle.submit_and_wait(set("a", value)).unwrap();
            if value % 512 == 0 {
                // What a crash right now would leave behind.
                let copy = root.path().join("copy");
                std::fs::copy(&path, &copy).unwrap();
                assert!(SequenceFile::open(&copy).unwrap().start() > committed.sequence);
            }
        }
        let head = engine.head().sequence();
        resolver.stop().unwrap().save_exact(head).unwrap();
        assert_eq!(SequenceFile::open(&path).unwrap().start(), head.next());
    }

    #[test]
    fn a_disk_that_is_full_refuses_changes_until_it_is_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sequence");
        let (engine, resolver) = start(&path);
        let handle = resolver.handle();
        std::fs::create_dir(path.with_extension("new")).unwrap();
        let error = loop {
            match handle.submit_and_wait(set(
                "a",
                i64::try_from(engine.head().sequence().get()).unwrap(),
            )) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ResolveError::Sequence(_)), "{error}");
        let before = engine.head().sequence();
        assert_eq!(before.get(), BLOCK);
        std::fs::remove_dir(path.with_extension("new")).unwrap();
        assert_eq!(
            handle.submit_and_wait(set("a", -1)).unwrap().sequence,
            before.next()
        );
        drop(resolver.stop());
    }

    #[test]
    fn the_next_epoch_begins_where_the_wire_ends() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sequence");
        let mut file = SequenceFile::open(&path).unwrap();
        file.reserve(Sequence::new(LAST - 5)).unwrap();
        file.save_exact(Sequence::new(LAST - 5)).unwrap();
        let (engine, resolver) = start(&path);
        let epoch = engine.head().epoch();
        let mut subscription = engine.subscribe();
        let handle = resolver.handle();
        let committed: Vec<_> = (0..8)
            .map(|value| handle.submit_and_wait(set("a", value)).unwrap())
            .collect();
        let sequences: Vec<u64> = committed
            .iter()
            .map(|committed| committed.sequence.get())
            .collect();
        assert_eq!(sequences, [LAST - 3, LAST - 2, LAST - 1, LAST, 2, 3, 4, 5]);
        assert_eq!(committed[7].epoch.get(), epoch.get() + 1);
        drop(resolver.stop());
        engine.close();
        let mut last = None;
        while let Some(event) = subscription.next() {
            let (epoch, sequence) = match event {
                Event::Snapshot(snapshot) => (snapshot.epoch(), snapshot.sequence()),
                Event::Update(update) => (update.epoch(), update.sequence()),
                _ => continue,
            };
            assert!(sequence.get() <= LAST);
            last = Some((epoch.get(), sequence.get()));
        }
        assert_eq!(last, Some((epoch.get() + 1, 5)));
    }

    #[test]
    fn a_rejected_change_spends_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (engine, resolver) = start(&root.path().join("sequence"));
        let before = engine.head().sequence();
        let nan = Change::Set {
            source: Source::AgentRuntime,
            key: Key::parse("a").unwrap(),
            value: Value::Float(f64::NAN),
            provenance: None,
        };
        assert!(matches!(
            resolver.handle().submit_and_wait(nan),
            Err(ResolveError::Rejected(_))
        ));
        assert_eq!(engine.head().sequence(), before);
        drop(resolver.stop());
    }

    #[test]
    fn a_full_queue_refuses_who_will_not_wait() {
        // No worker: the queue fills.
        let (requests, queue) = crossbeam_channel::bounded(1);
        let handle = without_worker(requests);
        let _pending = handle.try_submit(set("a", 1)).unwrap();
        assert_eq!(
            handle.try_submit(set("a", 2)).err(),
            Some(ResolveError::QueueFull)
        );
        drop(queue);
        assert_eq!(
            handle.try_submit(set("a", 3)).err(),
            Some(ResolveError::Closed)
        );
    }

    #[tokio::test]
    async fn a_wish_that_is_only_tried_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (engine, resolver) = start(&root.path().join("sequence"));
        let wish = |change, dry_run| Wish {
            change,
            conditions: Conditions::default(),
            persist: false,
            dry_run,
        };
        let before = engine.head();
        let tried = resolver
            .handle()
            .grant(wish(set("a", 1), true))
            .await
            .unwrap();
        assert!(Arc::ptr_eq(&before, &engine.head()));
        assert_eq!((tried.sequence, tried.updates), (before.sequence(), 1));
        assert!(tried.before.resolved().get("a").is_none());
        assert!(tried.after.resolved().get("a").is_some());
        let made = resolver
            .handle()
            .grant(wish(set("a", 1), false))
            .await
            .unwrap();
        assert_eq!((made.sequence, made.updates), (before.sequence().next(), 1));
        drop(resolver.stop());
    }

    #[tokio::test]
    async fn of_writers_that_read_the_same_exactly_one_wins() {
        let root = tempfile::tempdir().unwrap();
        let (engine, resolver) = start(&root.path().join("sequence"));
        let handle = resolver.handle();
        for round in 0..100_i64 {
            let (_, seen) = handle.last_changed("a");
            let wishes = (1..=8).map(|writer| {
                let handle = handle.clone();
                let wish = Wish {
                    change: set("a", round * 10 + writer),
                    conditions: Conditions {
                        keys: vec![(Key::parse("a").unwrap(), seen)],
                        ..Conditions::default()
                    },
                    persist: false,
                    dry_run: false,
                };
                tokio::spawn(async move { handle.grant(wish).await })
            });
            let mut won = 0;
            for wish in wishes.collect::<Vec<_>>() {
                match wish.await.unwrap() {
                    Ok(_) => won += 1,
                    Err(ResolveError::Conflict(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!(won, 1);
            assert_eq!(handle.last_changed("a").1, engine.head().sequence());
        }
        drop(resolver.stop());
    }

    #[tokio::test]
    async fn a_ping_waits_for_room_and_its_turn_and_ends_with_the_resolver() {
        let root = tempfile::tempdir().unwrap();
        let (_engine, resolver) = start(&root.path().join("sequence"));
        resolver.handle().ping().await.unwrap();

        // No worker: what is queued stays.
        let (requests, queue) = crossbeam_channel::bounded(1);
        let handle = without_worker(requests);
        let _pending = handle.try_submit(set("a", 1)).unwrap();
        let ping = tokio::spawn(async move { handle.ping().await });
        let queue = tokio::task::spawn_blocking(move || {
            assert!(matches!(queue.recv(), Ok(Request::Publish { .. })));
            match queue.recv() {
                Ok(Request::Ping(answer)) => answer.send(()).unwrap(),
                _ => panic!("the ping comes next"),
            }
            queue
        });
        ping.await.unwrap().unwrap();
        drop(queue.await);

        let handle = resolver.handle();
        drop(resolver.stop());
        assert_eq!(handle.ping().await, Err(ResolveError::Closed));
    }

    fn start_persisting(root: &Path) -> (Engine<Settings>, Resolver, Persisted) {
        let file = SequenceFile::open(&root.join("sequence")).unwrap();
        let persisted = Persisted::open(&root.join("persisted")).unwrap();
        let state = Settings::default()
            .apply(&persisted.changes())
            .unwrap()
            .state;
        let engine = Engine::builder(state)
            .start_at(file.epoch(), file.start())
            .sequence_limit(file.limit())
            .build()
            .unwrap();
        let resolver = Resolver::start_persisting(engine.clone(), file, persisted.clone()).unwrap();
        (engine, resolver, persisted)
    }

    fn persist(resolver: &Resolver, change: Change) -> Result<Outcome, ResolveError> {
        let (answer, answered) = oneshot::channel();
        let wish = Wish {
            change,
            conditions: Conditions::default(),
            persist: true,
            dry_run: false,
        };
        let request = Request::Grant { wish, answer };
        resolver.handle().try_send(request).unwrap();
        answered.blocking_recv().unwrap()
    }

    fn value(engine: &Engine<Settings>, key: &str) -> Option<Value> {
        let head = engine.head();
        let setting = head.state().resolved().get(key)?;
        Some(setting.value().clone())
    }

    #[test]
    fn what_persists_is_there_after_a_restart_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let (engine, resolver, _) = start_persisting(root.path());
        let handle = resolver.handle();
        persist(&resolver, set("a", 1)).unwrap();
        persist(&resolver, Change::batch([set("b", 1), set("c", 1)])).unwrap();
        // Not persisted: over a persisted key, beside it, and away with it.
        handle.submit_and_wait(set("a", 2)).unwrap();
        handle.submit_and_wait(set("d", 2)).unwrap();
        let unset = |name: &str| Change::unset(Source::AgentRuntime, Key::parse(name).unwrap());
        handle.submit_and_wait(unset("b")).unwrap();
        persist(&resolver, unset("c")).unwrap();
        let now = ["a", "b", "c", "d"].map(|key| value(&engine, key));
        assert_eq!(now, [Some(2.into()), None, None, Some(2.into())]);
        drop(resolver.stop());

        let (engine, resolver, _) = start_persisting(root.path());
        let now = ["a", "b", "c", "d"].map(|key| value(&engine, key));
        assert_eq!(now, [Some(1.into()), Some(1.into()), None, None]);
        // What no layer holds any more can still be taken out of the file.
        resolver.handle().submit_and_wait(unset("a")).unwrap();
        let before = engine.head().sequence();
        persist(&resolver, unset("a")).unwrap();
        assert_eq!(engine.head().sequence(), before);
        drop(resolver.stop());
        let (engine, resolver, _) = start_persisting(root.path());
        assert_eq!(value(&engine, "a"), None);
        drop(resolver.stop());
    }

    #[test]
    fn what_is_rejected_does_not_persist() {
        let root = tempfile::tempdir().unwrap();
        let (engine, resolver, persisted) = start_persisting(root.path());
        persist(&resolver, set("a", 1)).unwrap();
        let before = engine.head().sequence();
        assert!(matches!(
            persist(&resolver, Change::batch([set("b", 1), set("a.b", 1)])),
            Err(ResolveError::Rejected(_))
        ));
        let error = persist(
            &resolver,
            Change::unset(Source::File, Key::parse("a").unwrap()),
        );
        assert!(
            matches!(error, Err(ResolveError::NotPersisted(_))),
            "{error:?}"
        );
        assert_eq!((persisted.len(), engine.head().sequence()), (1, before));
        drop(resolver.stop());
    }

    #[test]
    fn what_cannot_be_written_is_not_published() {
        let root = tempfile::tempdir().unwrap();
        let (engine, resolver, _) = start_persisting(root.path());
        let blocked = root.path().join("persisted.new");
        std::fs::create_dir(&blocked).unwrap();
        let error = persist(&resolver, set("a", 1)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("cannot write") && text.contains("; make the run directory writable"),
            "{text}"
        );
        assert_eq!(value(&engine, "a"), None);
        std::fs::remove_dir(&blocked).unwrap();
        persist(&resolver, set("a", 1)).unwrap();
        drop(resolver.stop());
    }

    #[test]
    fn what_cannot_be_published_is_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let (engine, resolver, persisted) = start_persisting(root.path());
        persist(&resolver, set("a", 1)).unwrap();
        // No further sequence can be reserved.
        std::fs::create_dir(root.path().join("sequence.new")).unwrap();
        let mut filler = 0..;
        let spend = |value| resolver.handle().submit_and_wait(set("filler", value));
        while spend(filler.next().unwrap()).is_ok() {}
        let error = persist(&resolver, set("a", 2)).unwrap_err();
        assert!(matches!(error, ResolveError::Sequence(_)), "{error}");
        assert_eq!(value(&engine, "a"), Some(1.into()));
        drop(resolver.stop());
        let again = Persisted::open(persisted.path()).unwrap();
        assert_eq!(again.changes(), persisted.changes());
        let kept = again
            .get(Source::AgentRuntime, &Key::parse("a").unwrap())
            .unwrap();
        assert_eq!(kept.value, 1.into());
    }

    #[test]
    fn without_a_place_to_keep_them_changes_that_persist_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let (engine, resolver) = start(&root.path().join("sequence"));
        let error = persist(&resolver, set("a", 1)).unwrap_err();
        assert!(error.to_string().contains("keeps no changes"), "{error}");
        assert_eq!(value(&engine, "a"), None);
        drop(resolver.stop());
    }

    #[test]
    fn after_a_stop_changes_are_refused_not_lost() {
        let root = tempfile::tempdir().unwrap();
        let (_engine, resolver) = start(&root.path().join("sequence"));
        let handle = resolver.handle();
        drop(resolver.stop());
        assert_eq!(
            handle.submit_and_wait(set("a", 1)),
            Err(ResolveError::Closed)
        );
    }
}
