//! The layer of configuration files, and its reload while the agent runs.
//!
//! # Which files, in which order
//!
//! Each `--config` names a file, or a folder that stands for the `*.yaml` and `*.yml` in it, in the order of their
//! names (the rules are those of `listing`). The files are merged in the order given; where two set the same key,
//! the later one wins. The whole layer is replaced at once, so what streams is exactly the difference, in one batch,
//! and nothing if nothing differs. A file that appears in a folder, or goes from it, counts without a restart.
//!
//! # What counts as a change
//!
//! The directories of the files are watched, and those that symbolic links lead to. So a file may be written in
//! place, replaced by a rename, or swapped through a link, as Kubernetes does with `..data`. Because some file systems
//! send no events, and a watched directory can itself be replaced, the files are also looked at every
//! [`POLL_INTERVAL`]. [`FileSource::reload`] reloads at once, changed or not.
//!
//! # A half-written file does not get in
//!
//! Files are read once nothing about them has changed for [`DEBOUNCE`], and what was read counts only if nothing has
//! changed meanwhile. So a hundred writes a second lead to one reload, when they end, with the last state. If they do not
//! end within [`PATIENCE`], the report says what is being waited for.
//!
//! A writer that pauses for longer leaves a state that looks complete. Nearly all of these are broken YAML, and refused.
//! What remains is the beginning of a file that is good YAML by itself. It shows in one of three ways, and then has to
//! stay as it is for [`CAREFUL`]:
//!
//! * it is the beginning of the text in force, and be it empty: a file that was truncated and is written again;
//! * it does not end with a line break: a line that goes on;
//! * a file has gone from a folder, perhaps to come back under the same name.
//!
//! What is left cannot be told from a decision: who pauses within a file for longer than that, or for longer than
//! [`DEBOUNCE`] just behind a line that differs from the text in force, is taken at his word. Whoever writes a new file
//! and renames it over the old one never has to think about any of this.
//!
//! # A bad file never replaces a good one
//!
//! A file that is broken, unreadable or gone (other than from a folder) leaves the layer as it is. The error is logged
//! once, counted in `configstream_file_reload_errors_total`, and shown in the [`SourceReport`] until the files are good
//! again.

mod listing;
mod watching;

pub use listing::{MAX_FILES, MAX_TOTAL_BYTES};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use configstream_engine::settings::{Assignment, Change, Source};
use configstream_grpc::lock::Mutex;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use tokio::sync::oneshot;

use self::listing::{Looks, Texts};
use self::watching::Watching;
use super::SourceReport;
use crate::known::Known;
use crate::resolver::ResolverHandle;
use crate::yaml::FileError;

/// For how long nothing about the files may change before they are read.
pub const DEBOUNCE: Duration = Duration::from_millis(100);

/// The same where a file may be the beginning of one.
pub const CAREFUL: Duration = Duration::from_secs(2);

/// After how long without such a pause the report says so.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often the files are looked at even if no event says they changed.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Reads the settings of several files and folders, once.
///
/// # Errors
///
/// The first file that cannot be read, or else the first thing that is wrong, in the order of the files.
pub fn load(paths: &[PathBuf], known: &Known) -> Result<Vec<Assignment>, FileError> {
    listing::parse(&listing::read(paths)?, known)
}

/// Watches configuration files from a thread of its own. Dropping it ends the thread.
pub struct FileSource {
    wake: Sender<Wake>,
    asked: Asked,
    thread: Option<thread::JoinHandle<()>>,
}

enum Wake {
    /// Something happened in a watched directory, or somebody asks for a reload.
    Look,
    Stop,
}

/// Who asks for a reload, and is to be told when it is decided. One reload serves all who have asked before it.
type Asked = Arc<Mutex<Vec<oneshot::Sender<()>>>>;

impl FileSource {
    /// Starts to watch. The files have been loaded already; what happened to them since is noticed.
    ///
    /// # Errors
    ///
    /// The system has no thread to give. A directory that cannot be watched is no error: it is polled.
    pub fn start(
        paths: Vec<PathBuf>,
        known: &'static Known,
        resolver: ResolverHandle,
        report: SourceReport,
    ) -> io::Result<Self> {
        // A wake-up that finds no room has company that does the same.
        let (wake, woken) = crossbeam_channel::bounded(4);
        let asked = Asked::default();
        let events = wake.clone();
        let worker = Worker::new(paths, known, resolver, report, Watching::new(events));
        let wishes = asked.clone();
        let thread = thread::Builder::new()
            .name("config-files".to_owned())
            .spawn(move || worker.run(&woken, &wishes))?;
        Ok(Self {
            wake,
            asked,
            thread: Some(thread),
        })
    }

    /// Reads the files again, whether they look changed or not, and says in the log what came of it. Does not wait: what it
    /// gives resolves once that is decided.
    pub fn reload(&self) -> oneshot::Receiver<()> {
        let (done, decided) = oneshot::channel();
        // First the wish, then the wake-up: one that waits already, and leaves no room, will find it.
        self.asked.lock().push(done);
        if let Err(TrySendError::Disconnected(_)) = self.wake.try_send(Wake::Look) {
            self.asked.lock().clear();
        }
        decided
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        // The thread takes wake-ups until it stops, so there will be room.
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FileSource").finish_non_exhaustive()
    }
}

struct Worker {
    paths: Vec<PathBuf>,
    known: &'static Known,
    resolver: ResolverHandle,
    report: SourceReport,
    seen: Option<Seen>,
    /// What the layer was last made of.
    in_force: Texts,
    pending: Option<Pending>,
    /// For how long the files may change before the report says so.
    patience: Duration,
    /// Whether the report says that the files do not come to rest.
    said_busy: bool,
    watching: Watching,
}

/// What the files were like when they were last read.
struct Seen {
    looks: Looks,
    /// Whether a further change within the clock's grain would have shown in the looks.
    settled: bool,
    outcome: Result<Texts, FileError>,
}

/// A change that has been noticed and not been read.
struct Pending {
    looks: Looks,
    /// Since when the files look like this.
    since: Instant,
    /// Since when they have been changing.
    began: Instant,
}

impl Worker {
    fn new(
        paths: Vec<PathBuf>,
        known: &'static Known,
        resolver: ResolverHandle,
        report: SourceReport,
        watching: Watching,
    ) -> Self {
        Self {
            paths,
            known,
            resolver,
            report,
            seen: None,
            in_force: Texts::new(),
            pending: None,
            patience: PATIENCE,
            said_busy: false,
            watching,
        }
    }

    fn run(mut self, woken: &Receiver<Wake>, asked: &Asked) {
        self.watching.watch(&self.paths);
        // Between the first load and the watch something may have happened.
        self.read_now(false);
        let mut wait = POLL_INTERVAL;
        loop {
            match woken.recv_timeout(wait) {
                Ok(Wake::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    // Whoever waits hears that nothing will come.
                    asked.lock().clear();
                    return;
                }
            }
            self.watching.watch(&self.paths);
            wait = POLL_INTERVAL;
            let wishes = std::mem::take(&mut *asked.lock());
            if !wishes.is_empty() {
                self.seen = None;
                self.read_now(true);
                for done in wishes {
                    // Nobody may wait for it any more.
                    let _ = done.send(());
                }
            } else if let Some(sooner) = self.look() {
                wait = sooner;
            }
        }
    }

    /// Reads the files as they are.
    fn read_now(&mut self, asked: bool) {
        let looks = Looks::of(&self.paths);
        let outcome = listing::read(&self.paths);
        self.take(looks, outcome, asked);
    }

    /// Looks at the files, and reads them if it is time. Says when to look again, unless that is a matter of course.
    fn look(&mut self) -> Option<Duration> {
        let looks = Looks::of(&self.paths);
        if let Some(seen) = &self.seen
            && seen.settled
            && seen.looks == looks
        {
            self.pending = None;
            return None;
        }
        let now = Instant::now();
        let (since, began) = match &self.pending {
            Some(pending) if pending.looks == looks => (pending.since, pending.began),
            Some(pending) => (now, pending.began),
            None => (now, now),
        };
        let quiet = now - since;
        if quiet < DEBOUNCE {
            if now - began > self.patience && !self.said_busy {
                self.said_busy = true;
                let busy = self
                    .pending
                    .as_ref()
                    .and_then(|pending| looks.differing(&pending.looks));
                self.refuse(&Busy(busy.unwrap_or(&self.paths[0])));
            }
            self.pending = Some(Pending {
                looks,
                since,
                began,
            });
            return Some(DEBOUNCE - quiet);
        }
        let outcome = listing::read(&self.paths);
        let after = Looks::of(&self.paths);
        let stays = after == looks;
        let careful = outcome
            .as_ref()
            .is_ok_and(|texts| is_doubtful(&self.in_force, texts));
        if !stays || careful && quiet < CAREFUL {
            let since = if stays { since } else { now };
            self.pending = Some(Pending {
                looks: after,
                since,
                began,
            });
            return Some(if stays { CAREFUL - quiet } else { DEBOUNCE });
        }
        self.take(looks, outcome, false);
        None
    }

    /// Applies what was read, unless it is what was read before.
    fn take(&mut self, looks: Looks, outcome: Result<Texts, FileError>, asked: bool) {
        self.pending = None;
        let is_new = |seen: &Seen| seen.outcome != outcome;
        if self.seen.as_ref().is_none_or(is_new) || self.said_busy {
            self.said_busy = false;
            self.apply(&outcome, asked);
        }
        self.seen = Some(Seen {
            settled: looks.are_settled(),
            looks,
            outcome,
        });
    }

    fn apply(&mut self, outcome: &Result<Texts, FileError>, asked: bool) {
        let parsed = outcome.as_ref().map_err(Clone::clone).and_then(|texts| {
            let settings = listing::parse(texts, self.known)?;
            Ok((texts, settings))
        });
        let (texts, settings) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(&error),
        };
        let count = settings.len();
        match self.resolver.submit_and_wait(Change::ReplaceLayer {
            source: Source::File,
            settings,
        }) {
            Ok(committed) => {
                self.in_force.clone_from(texts);
                let was_bad = !self.report.state().error.is_empty();
                self.report.good(count);
                metrics::counter!("configstream_file_reloads_total").increment(1);
                metrics::gauge!("configstream_file_healthy").set(1.0);
                let changed = committed.updates > 0 || committed.needs_snapshot;
                if changed || was_bad || asked {
                    tracing::info!(
                        updates = committed.updates,
                        snapshot = committed.needs_snapshot,
                        sequence = committed.sequence.get(),
                        "configuration files {}",
                        match (was_bad, changed) {
                            (true, _) => "are good again, and loaded",
                            (false, true) => "reloaded",
                            (false, false) => "reloaded: nothing has changed",
                        }
                    );
                }
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&self, error: &dyn fmt::Display) {
        let error = error.to_string();
        metrics::counter!("configstream_file_reload_errors_total").increment(1);
        metrics::gauge!("configstream_file_healthy").set(0.0);
        tracing::error!("{error} (the last good configuration stays in force)");
        self.report.bad(error);
    }
}

/// Whether files may be the beginnings of what they are to be; see the module.
fn is_doubtful(in_force: &Texts, texts: &Texts) -> bool {
    let text_of = |texts: &Texts, path: &PathBuf| {
        let found = texts.iter().find(|(other, _)| other == path);
        found.map(|(_, text)| text.clone())
    };
    let begins = texts
        .iter()
        .any(|(path, text)| match text_of(in_force, path) {
            Some(old) if old == *text => false,
            Some(old) if old.starts_with(&**text) => true,
            _ => !text.is_empty() && !text.ends_with('\n'),
        });
    begins
        || in_force
            .iter()
            .any(|(path, _)| text_of(texts, path).is_none())
}

/// A file that is written all the time.
struct Busy<'a>(&'a Path);

impl fmt::Display for Busy<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: has been changing for {PATIENCE:?} without a pause of {DEBOUNCE:?}, and is read when it comes to rest; write it \
             less often, or write a new file and rename it over the old one",
            self.0.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use configstream_engine::Engine;
    use configstream_engine::settings::Settings;

    use super::*;
    use crate::resolver::Resolver;
    use crate::sequence_file::SequenceFile;

    fn resolver(root: &Path) -> Resolver {
        let saved = SequenceFile::open(&root.join("sequence")).unwrap();
        let engine = Engine::builder(Settings::default())
            .start_at(saved.epoch(), saved.start())
            .sequence_limit(saved.limit())
            .build()
            .unwrap();
        Resolver::start(engine, saved).unwrap()
    }

    #[test]
    fn a_wish_to_reload_is_granted_though_no_wake_up_finds_room() {
        let root = tempfile::tempdir().unwrap();
        let resolver = resolver(root.path());
        let path = root.path().join("core.yaml");
        fs::write(&path, "a: 1\n").unwrap();
        let (wake, woken) = crossbeam_channel::bounded(4);
        while wake.try_send(Wake::Look).is_ok() {}
        let source = FileSource {
            wake: wake.clone(),
            asked: Asked::default(),
            thread: None,
        };
        let wishes = [source.reload(), source.reload(), source.reload()];
        let report = SourceReport::default();
        let worker = Worker::new(
            vec![path],
            Known::embedded(),
            resolver.handle(),
            report.clone(),
            Watching::new(wake),
        );
        let asked = source.asked.clone();
        let thread = thread::spawn(move || worker.run(&woken, &asked));
        for wish in wishes {
            wish.blocking_recv().unwrap();
        }
        // The look at the start, and one reload for all who asked.
        assert_eq!(report.state().loads, 2);
        let late = source.asked.clone();
        drop(source);
        thread.join().unwrap();
        assert!(late.lock().is_empty());
        drop(resolver.stop());
    }

    #[test]
    fn files_that_do_not_come_to_rest_are_reported_once_and_read_when_they_do() {
        let root = tempfile::tempdir().unwrap();
        let resolver = resolver(root.path());
        let path = root.path().join("core.yaml");
        fs::write(&path, "a: 1\n").unwrap();
        let (events, _woken) = crossbeam_channel::bounded(4);
        let report = SourceReport::default();
        let mut worker = Worker::new(
            vec![path.clone()],
            Known::embedded(),
            resolver.handle(),
            report.clone(),
            Watching::new(events),
        );
        worker.patience = Duration::ZERO;
        worker.read_now(false);
        for number in 10..20_u64 {
            // Each time another length, so each look sees a change, and none sees two alike.
            fs::write(
                &path,
                format!("a: {}\n", 10_u64.pow(u32::try_from(number).unwrap() - 5)),
            )
            .unwrap();
            assert!(worker.look().is_some());
        }
        let state = report.state();
        assert_eq!((state.loads, state.failures), (1, 1));
        assert!(
            state.error.contains("core.yaml: has been changing"),
            "{}",
            state.error
        );
        assert!(
            state.error.contains("; write it less often"),
            "{}",
            state.error
        );

        let deadline = Instant::now() + Duration::from_secs(20);
        while let Some(sooner) = worker.look() {
            assert!(Instant::now() < deadline);
            thread::park_timeout(sooner);
        }
        assert_eq!(report.state().loads, 2);
        assert_eq!(report.state().error, "");
        drop(resolver.stop());
    }
}
