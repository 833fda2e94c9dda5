//! Keeps a replica's file up with it: soon, but not often, and never on the way of an event.
//!
//! There is one write at a time, and each starts with the newest version: what is in the file last is what was true last.
//! Each has a thread that nobody has to wait for, since a file system may hang: a runtime would not end before a blocking
//! task of its own. So has the read at the start.

use std::error::Error;
use std::future::{pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::Resolved;
use configstream_engine::{Epoch, Sequence};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::client::{Client, ConfigSnapshot};
use crate::consumer::Consumer;
use crate::consumer::replica::Replica;
use crate::consumer::saved::{SavedError, SavedErrorReason, SnapshotFile};
use crate::consumer::state::ConsumerState;
use crate::encode::Encoder;

/// Saves a replica while it runs, at most once per interval.
pub(super) struct Saver {
    file: SnapshotFile,
    interval: Duration,
    replica: Arc<Replica>,
    /// What is in the file, and when it was known to be true.
    saved: Option<Saved>,
    writing: Option<Writing>,
    failing: bool,
}

type Saved = (Epoch, Sequence, SystemTime);

/// A write goes on even if nobody waits for it any more.
struct Writing {
    content: Saved,
    done: oneshot::Receiver<Written>,
}

type Written = Result<(), Box<dyn Error + Send + Sync>>;

impl Saver {
    pub(super) fn new(file: SnapshotFile, interval: Duration, replica: Arc<Replica>) -> Self {
        Self {
            file,
            interval,
            replica,
            saved: None,
            writing: None,
            failing: false,
        }
    }

    /// Begins the replica with what the file holds, if that is of use.
    pub(super) fn restore(&mut self) -> Result<(), SavedError> {
        let Some((snapshot, known_at)) = self.load()? else {
            return Ok(());
        };
        let (epoch, sequence) = (snapshot.epoch, snapshot.sequence);
        let settings = Resolved::from_settings(snapshot.settings)
            .map_err(|error| self.file.refuse(SavedErrorReason::Duplicate(error)))?;
        self.replica.describe(snapshot.origin);
        self.replica.begin(settings, epoch, sequence);
        self.replica.set_restored(known_at);
        self.saved = Some((epoch, sequence, known_at));
        Ok(())
    }

    /// What the file holds, if that can be told in time.
    fn load(&self) -> Result<Option<(ConfigSnapshot, SystemTime)>, SavedError> {
        let file = self.file.clone();
        let loaded = within(Consumer::LOAD_TIMEOUT, move |done| {
            // Refused when nobody waits any more.
            let _ = done.send(file.load());
            file.sweep();
        });
        loaded.unwrap_or_else(|error| Err(self.file.refuse(SavedErrorReason::Unreadable(error))))
    }

    /// Never ends. May be dropped at any await: the next [`save`](Self::save) waits for a write under way.
    pub(super) async fn run(&mut self) {
        let mut states = self.replica.states().subscribe();
        while !self.replica.state().is_ready() {
            if poll_fn(|cx| states.poll_next(cx)).await.is_none() {
                return pending().await;
            }
        }
        let Some(engine) = self.replica.engine() else {
            return pending().await;
        };
        // One place: only that there is something new matters, and who lags costs publishers next to nothing.
        let changes = engine.subscription().name("saver").capacity(1);
        let mut changes = changes.subscribe();
        loop {
            while changes.try_next().is_ok() {}
            self.save().await;
            sleep(self.interval).await;
            // A change is a reason to save, and so is that time has passed without one.
            let changed = poll_fn(|cx| changes.poll_next(cx));
            if let Ok(None) = timeout(self.renewal(), changed).await {
                return pending().await;
            }
        }
    }

    /// Saves what is not in the file yet.
    pub(super) async fn save(&mut self) {
        self.finish().await;
        let Some(engine) = self.replica.engine() else {
            return;
        };
        let known_at = match self.replica.state() {
            ConsumerState::Stale { since, .. } => since,
            _ => SystemTime::now(),
        };
        let head = engine.head();
        let (epoch, sequence) = (head.epoch(), head.sequence());
        if let Some((saved_epoch, saved_sequence, saved_at)) = self.saved
            && (saved_epoch, saved_sequence) == (epoch, sequence)
            && known_at.duration_since(saved_at).unwrap_or_default() < self.renewal()
        {
            return;
        }
        let (file, origin) = (self.file.clone(), self.replica.origin());
        let done = begin(move || {
            let encoder = Encoder::new(origin, Client::MESSAGE_BYTES);
            let frame = encoder
                .snapshot_apart(&head)
                .map_err(|error| error.to_string())?;
            Ok(file.save(&frame, known_at)?)
        });
        let content = (epoch, sequence, known_at);
        self.writing = Some(Writing { content, done });
        self.finish().await;
    }

    /// The same for the last time, within [`Consumer::SAVE_TIMEOUT`]. A write that takes longer is left alone: it may end yet,
    /// or with the process, which leaves the file as it was.
    pub(super) async fn save_at_last(&mut self) {
        let limit = Consumer::SAVE_TIMEOUT;
        if timeout(limit, self.save()).await.is_err() {
            let path = self.file.path.display();
            tracing::warn!(
                %path,
                "stopping without having saved the configuration: writing {path} takes longer than {limit:?}"
            );
        }
    }

    /// Waits for the write under way, if there is one; says so when that takes long.
    async fn finish(&mut self) {
        let Some(Writing { content, done }) = &mut self.writing else {
            return;
        };
        let limit = Consumer::SAVE_TIMEOUT;
        let written = match timeout(limit, &mut *done).await {
            Ok(written) => written,
            Err(_) => {
                let path = self.file.path.display();
                tracing::warn!(
                    %path,
                    "cannot save the configuration: writing {path} takes longer than {limit:?}; does its file system hang?"
                );
                done.await
            }
        };
        let written = written.unwrap_or_else(|_| Err("writing it panicked".into()));
        let content = *content;
        self.writing = None;
        match written {
            Ok(()) => {
                self.saved = Some(content);
                self.failing = false;
            }
            // Said once: the disk is full for a while, not for one write.
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::warn!(
                    path = %self.file.path.display(),
                    %error,
                    "cannot save the configuration"
                );
            }
            Err(_) => {}
        }
    }

    /// What is still true has to look young, though nothing changes.
    fn renewal(&self) -> Duration {
        (self.file.max_age / 4).max(SHORTEST_RENEWAL)
    }
}

/// What `read` sends, from a thread of its own, which is left alone when that takes longer than `limit`.
fn within<T: Send + 'static>(
    limit: Duration,
    read: impl FnOnce(Sender<T>) + Send + 'static,
) -> io::Result<T> {
    let (done, sent) = channel();
    thread::Builder::new()
        .name("configstream-load".to_owned())
        .spawn(move || read(done))?;
    sent.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("that takes longer than {limit:?}, its file system may hang"),
        ),
        RecvTimeoutError::Disconnected => io::Error::other("reading it panicked"),
    })
}

/// Writes on a thread of its own.
fn begin(write: impl FnOnce() -> Written + Send + 'static) -> oneshot::Receiver<Written> {
    let (done, written) = oneshot::channel();
    let begun = thread::Builder::new()
        .name("configstream-save".to_owned())
        // Refused when nobody waits any more.
        .spawn(move || drop(done.send(write())));
    match begun {
        Ok(_) => written,
        Err(error) => {
            let (failed, written) = oneshot::channel();
            let _ = failed.send(Err(error.into()));
            written
        }
    }
}

/// Whatever age is allowed: what has not changed need not be written without end.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use configstream_engine::settings::{Key, Setting, Source};
    use std::os::unix::fs::MetadataExt;
    use std::time::UNIX_EPOCH;
    use tokio::runtime;

    fn state(text: &str) -> Resolved {
        let key = Key::parse("a").unwrap();
        Resolved::from_settings([Setting::new(Source::File, key, text).unwrap()]).unwrap()
    }

    #[test]
    fn the_last_state_wins_though_an_earlier_write_is_slow() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile {
            path: dir.path().join("replica"),
            max_age: Duration::MAX,
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let replica = Arc::new(Replica::new(1));
        // So large that another write, begun a little later, would overtake it.
        let large = state(&"x".repeat(60 * 1024 * 1024));
        let epoch = Epoch::new(1);
        replica.describe("o".into());
        replica.begin(large, epoch, Sequence::new(1));
        replica.set_ready();
        runtime.block_on(async {
            let mut saver = Saver::new(file.clone(), Duration::ZERO, replica.clone());
            // A consumer that is shut down while it saves.
            tokio::select! {
                biased;
                () = saver.run() => {}
                () = std::future::ready(()) => {}
            }
            let engine = replica.engine().unwrap();
            engine.adopt(state("y"), epoch, Sequence::new(2)).unwrap();
            saver.save().await;
        });
        let (saved, _) = file.load().unwrap().unwrap();
        assert_eq!(saved.sequence.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_told_of_once_and_given_up_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let writer = Arc::new(std::fs::File::create(&log).unwrap());
        let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let told = |what: &str| {
            let text = std::fs::read_to_string(&log).unwrap();
            text.matches(what).count()
        };
        let file = SnapshotFile {
            path: dir.path().join("replica"),
            max_age: Duration::MAX,
        };
        let replica = Arc::new(Replica::new(1));
        replica.describe("o".into());
        replica.begin(state("y"), Epoch::new(1), Sequence::new(1));
        replica.set_ready();
        // Whoever encodes the setting hangs.
        let (hung, hangs) = std::sync::mpsc::channel();
        let head = replica.engine().unwrap().head();
        thread::spawn(move || {
            let memo = head.state().get("a").unwrap().memo();
            memo.get_or_init::<bytes::Bytes>(|| {
                hung.send(()).unwrap();
                loop {
                    thread::park();
                }
            });
        });
        hangs.recv().unwrap();

        let mut saver = Saver::new(file.clone(), Duration::ZERO, replica);
        let hour = Duration::from_secs(3_600);
        timeout(hour, saver.run()).await.unwrap_err();
        assert_eq!(told("cannot save the configuration: writing "), 1);
        assert_eq!(told("stopping without having saved"), 0);
        timeout(hour, saver.save_at_last()).await.unwrap();
        assert_eq!(told("stopping without having saved"), 1);
        assert!(file.load().unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_stale_is_saved_with_the_time_at_which_it_was_true() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile {
            path: dir.path().join("replica"),
            max_age: Duration::from_secs(3_600),
        };
        let replica = Arc::new(Replica::new(1));
        replica.describe("o".into());
        replica.begin(state("y"), Epoch::new(1), Sequence::new(1));
        let true_at =
            UNIX_EPOCH + Duration::from_secs(UNIX_EPOCH.elapsed().unwrap().as_secs() - 60);
        replica.set_restored(true_at);
        Saver::new(file.clone(), Duration::ZERO, replica)
            .save()
            .await;
        assert_eq!(file.load().unwrap().unwrap().1, true_at);
    }

    #[tokio::test]
    async fn what_is_in_the_file_is_not_written_again_at_once_though_no_age_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile {
            path: dir.path().join("replica"),
            max_age: Duration::ZERO,
        };
        let replica = Arc::new(Replica::new(1));
        replica.describe("o".into());
        let epoch = Epoch::new(1);
        replica.begin(state("y"), epoch, Sequence::new(1));
        // Stale, so that it does not grow older while the test runs.
        replica.set_restored(UNIX_EPOCH + Duration::from_secs(60));
        let mut saver = Saver::new(file.clone(), Duration::ZERO, replica.clone());
        saver.save().await;
        // Each write is another file.
        let first = std::fs::File::open(&file.path).unwrap();
        let is_first = || {
            let inode = |metadata: std::fs::Metadata| metadata.ino();
            inode(std::fs::metadata(&file.path).unwrap()) == inode(first.metadata().unwrap())
        };
        saver.save().await;
        assert!(is_first(), "written again for nothing");
        assert!(saver.renewal() >= SHORTEST_RENEWAL, "or it would be soon");
        let engine = replica.engine().unwrap();
        engine.adopt(state("z"), epoch, Sequence::new(2)).unwrap();
        saver.save().await;
        assert!(!is_first(), "what has changed is written");
    }

    #[test]
    fn a_read_that_hangs_is_given_up_and_says_why() {
        let hanging = |_: Sender<()>| {
            loop {
                thread::park();
            }
        };
        let error = within(Duration::from_millis(10), hanging).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            error.to_string(),
            "that takes longer than 10ms, its file system may hang"
        );
        let error = within(Duration::MAX, |_: Sender<()>| {}).unwrap_err();
        assert_eq!(error.to_string(), "reading it panicked");
        let read = |done: Sender<_>| done.send(7).unwrap();
        assert_eq!(within(Duration::MAX, read).unwrap(), 7);
    }
}
