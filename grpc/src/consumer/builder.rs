//! A consumer's options.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use configstream_engine::Engine;
use configstream_engine::settings::Resolved;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use crate::consumer::Consumer;
use crate::consumer::access::Access;
use crate::consumer::backoff::Pauses;
use crate::consumer::cycle::Cycle;
use crate::consumer::replica::Replica;
use crate::consumer::saved::SnapshotFile;
use crate::consumer::saver::Saver;
use crate::server::Registration;

/// Options of a [`Consumer`].
#[derive(Clone, Debug)]
#[must_use = "call `start`"]
pub struct ConsumerBuilder {
    pub(super) access: Access,
    pub(super) registration: Registration,
    pub(super) name: String,
    pub(super) pauses: Pauses,
    pub(super) healthy_after: Duration,
    pub(super) answer_timeout: Duration,
    ring_capacity: usize,
    snapshot_path: Option<PathBuf>,
    snapshot_max_age: Duration,
    snapshot_interval: Duration,
}

impl ConsumerBuilder {
    /// Default of the shortest pause between attempts.
    pub const DEFAULT_MIN_DELAY: Duration = Duration::from_millis(250);
    /// Default of the longest pause between attempts, but for jitter.
    pub const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(30);
    /// Default of [`max_unanswered_delay`](Self::max_unanswered_delay).
    pub const DEFAULT_MAX_UNANSWERED_DELAY: Duration = Duration::from_secs(2);
    /// Default of [`healthy_after`](Self::healthy_after).
    pub const DEFAULT_HEALTHY_AFTER: Duration = Duration::from_secs(10);
    /// Default of [`answer_timeout`](Self::answer_timeout).
    pub const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
    /// Default of [`ring_capacity`](Self::ring_capacity).
    pub const DEFAULT_RING_CAPACITY: usize = Engine::<Resolved>::DEFAULT_RING_CAPACITY;
    /// Default of [`snapshot_max_age`](Self::snapshot_max_age): a long weekend.
    pub const DEFAULT_SNAPSHOT_MAX_AGE: Duration = Duration::from_secs(4 * 24 * 60 * 60);
    /// Default of [`snapshot_interval`](Self::snapshot_interval).
    pub const DEFAULT_SNAPSHOT_INTERVAL: Duration = Duration::from_secs(10);

    pub(super) fn new(access: Access, registration: Registration) -> Self {
        Self {
            access,
            name: registration.display_name.clone(),
            registration,
            pauses: Pauses {
                shortest: Self::DEFAULT_MIN_DELAY,
                longest: Self::DEFAULT_MAX_DELAY,
                longest_unanswered: Self::DEFAULT_MAX_UNANSWERED_DELAY,
            },
            healthy_after: Self::DEFAULT_HEALTHY_AFTER,
            answer_timeout: Self::DEFAULT_ANSWER_TIMEOUT,
            ring_capacity: Self::DEFAULT_RING_CAPACITY,
            snapshot_path: None,
            snapshot_max_age: Self::DEFAULT_SNAPSHOT_MAX_AGE,
            snapshot_interval: Self::DEFAULT_SNAPSHOT_INTERVAL,
        }
    }

    /// What the stream is called at the server, and the metrics are labelled with here: two consumers of one process
    /// had better have two names. Default: the registration's display name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The shortest and the longest pause between attempts. Pauses double from one to the other. Up to as much again
    /// comes on top, by chance, so that consumers which lost the same server do not come back as one. While nobody
    /// answers, they grow to [`max_unanswered_delay`](Self::max_unanswered_delay) only. Less than a millisecond counts as one.
    pub fn backoff(mut self, shortest: Duration, longest: Duration) -> Self {
        self.pauses.shortest = shortest;
        self.pauses.longest = longest;
        self
    }

    /// The longest pause between attempts while nobody answers at the address: nobody listens there, or whoever does
    /// hangs up before a word is said. Such an attempt is cheap for both sides, and a server that restarts is found
    /// within twice that time. No longer than the longest of [`backoff`](Self::backoff), nor shorter than the shortest.
    pub fn max_unanswered_delay(mut self, longest: Duration) -> Self {
        self.pauses.longest_unanswered = longest;
        self
    }

    /// How long a stream has to last until pauses start over from the shortest.
    pub fn healthy_after(mut self, duration: Duration) -> Self {
        self.healthy_after = duration;
        self
    }

    /// How long the server may be silent while an answer is due. It bounds the answer to
    /// registering, refreshing and opening the stream as a whole. For the first snapshot and the
    /// rest of a batch it starts again with each piece that arrives, of up to 16 KiB, so that a
    /// large message may take any time on a slow link. Past it the connection is given up; a
    /// session is refreshed once more over a connection of its own before that. [`Access`] has as
    /// long to find address and credentials.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Updates that the ring of a subscription to the replica holds; see
    /// [`EngineBuilder::ring_capacity`](configstream_engine::EngineBuilder::ring_capacity). 0 counts as 1, and more than there can
    /// be as that.
    pub fn ring_capacity(mut self, updates: usize) -> Self {
        self.ring_capacity = updates.clamp(1, Engine::<Resolved>::MAX_RING_CAPACITY);
        self
    }

    /// Where the last good snapshot is saved, and found at the next start. Its directory has to exist, and the file
    /// belongs to one consumer. While it is written, a `.configstream-saved-` file is beside it; one that a killed process
    /// left there goes at the next start. A file that others may write or own, a link, or what is no file is not used: see
    /// [`SavedErrorReason`](crate::consumer::SavedErrorReason). Default: nowhere.
    pub fn snapshot_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.snapshot_path = Some(path.into());
        self
    }

    /// How long ago a saved snapshot may have been true to be used at a start. An older one is refused. What stays true is
    /// written again whenever a quarter of that has passed, but not more often than once a second.
    pub fn snapshot_max_age(mut self, age: Duration) -> Self {
        self.snapshot_max_age = age;
        self
    }

    /// How much time lies between two writes of the snapshot, at least. What has changed in between is saved by the
    /// next one, or when the consumer stops. None at all: a change is written as soon as the write before it is done.
    pub fn snapshot_interval(mut self, interval: Duration) -> Self {
        self.snapshot_interval = interval;
        self
    }

    /// Starts, on the current tokio runtime. Reads the saved snapshot, if there is to be one, before it returns; that takes
    /// at most [`LOAD_TIMEOUT`](Consumer::LOAD_TIMEOUT).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Consumer {
        let (consumer, cycle) = self.prepare();
        tokio::spawn(cycle.run());
        consumer
    }

    /// Starts, on a thread and a runtime of its own: for programs without one. Reads the saved snapshot, if there is to
    /// be one, before it returns, as [`start`](Self::start) does.
    ///
    /// # Errors
    /// The system grants no thread, or none of what a runtime needs.
    pub fn start_thread(self) -> io::Result<Consumer> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (consumer, cycle) = self.prepare();
        std::thread::Builder::new()
            .name("configstream".to_owned())
            .spawn(move || runtime.block_on(cycle.run()))?;
        Ok(consumer)
    }

    fn prepare(self) -> (Consumer, Cycle) {
        let replica = Arc::new(Replica::new(self.ring_capacity));
        let mut refused = None;
        let saver = self.snapshot_path.clone().map(|path| {
            let max_age = self.snapshot_max_age;
            let file = SnapshotFile { path, max_age };
            let mut saver = Saver::new(file, self.snapshot_interval, replica.clone());
            if let Err(error) = saver.restore() {
                tracing::warn!(%error, "going on without a saved configuration");
                refused = Some(error);
            }
            saver
        });
        let stop = CancellationToken::new();
        let consumer = Consumer {
            replica: replica.clone(),
            refused,
            stop: stop.clone().drop_guard(),
        };
        (consumer, Cycle::new(self, replica, saver, stop))
    }
}
