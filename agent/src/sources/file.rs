//! The layer of configuration files, and its reload while the agent runs.
//!
//! Several files are merged in the order given; where two set the same key, the later one wins. The whole layer is
//! replaced at once, so what streams is exactly the difference, in one batch, and nothing if nothing differs.
//!
//! # What counts as a change
//!
//! The directories of the files are watched, and those that symbolic links lead to. So a file may be written in
//! place, replaced by a rename, or swapped through a link, as Kubernetes does with `..data`. A file is read once it
//! has been quiet for [`DEBOUNCE`], or has been written to for ten times that. Because some file systems send no
//! events, and a watched directory can itself be replaced, the files are also looked at every [`POLL_INTERVAL`].
//! [`FileSource::reload`] reloads at once, changed or not.
//!
//! # A bad file never replaces a good one
//!
//! A file that is broken, unreadable or gone leaves the layer as it is. The error is logged once, counted in
//! `configstream_file_reload_errors_total`, and shown in the [`SourceReport`] until the files are good again.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::{Assignment, Change, Source};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use notify::{EventKind, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use tokio::sync::oneshot;

use super::SourceReport;
use crate::known::Known;
use crate::resolver::ResolverHandle;
use crate::yaml::{self, Document, FileError};

/// Changes that follow each other within this time are taken together: an editor makes several for one save.
pub const DEBOUNCE: Duration = Duration::from_millis(100);

/// How often the files are looked at even if no event says they changed.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Reads the settings of several files, once.
///
/// # Errors
///
/// The first thing that is wrong, in the order of the files.
pub fn load(paths: &[PathBuf], known: &Known) -> Result<Vec<Assignment>, FileError> {
    let texts = read_all(paths)?;
    parse_all(paths, &texts, known)
}

/// Watches configuration files from a thread of its own. Dropping it ends the thread.
pub struct FileSource {
    wake: Sender<Wake>,
    thread: Option<thread::JoinHandle<()>>,
}

enum Wake {
    /// Something happened in a watched directory.
    Changed,
    /// Somebody asks for a reload, and to be told when it is decided.
    Reload(oneshot::Sender<()>),
    Stop,
}

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
        // One place for each kind of wake-up, and some: a wake-up that finds no room has company that does the same.
        let (wake, woken) = crossbeam_channel::bounded(4);
        let events = wake.clone();
        let worker = Worker {
            paths,
            known,
            resolver,
            report,
            seen: None,
            watching: Watching::new(events),
        };
        let thread = thread::Builder::new()
            .name("config-files".to_owned())
            .spawn(move || worker.run(&woken))?;
        Ok(Self {
            wake,
            thread: Some(thread),
        })
    }

    /// Reads the files again, whether they look changed or not, and says in the log what came of it. Does not wait: what it
    /// gives resolves once that is decided.
    pub fn reload(&self) -> oneshot::Receiver<()> {
        let (done, decided) = oneshot::channel();
        let _ = self.wake.try_send(Wake::Reload(done));
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
    watching: Watching,
}

/// What the files were like when they were last read.
struct Seen {
    looks: Vec<Option<Look>>,
    /// Whether a further change within the clock's grain would have shown in the looks.
    settled: bool,
    outcome: Result<Vec<String>, FileError>,
}

impl Worker {
    fn run(mut self, woken: &Receiver<Wake>) {
        self.watching.watch(&self.paths);
        // Between the first load and the watch something may have happened.
        self.read(false);
        let mut wait = POLL_INTERVAL;
        let mut deferred = 0;
        loop {
            let reload = match woken.recv_timeout(wait) {
                Ok(Wake::Changed) | Err(RecvTimeoutError::Timeout) => None,
                Ok(Wake::Reload(done)) => Some(done),
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            self.watching.watch(&self.paths);
            wait = POLL_INTERVAL;
            let looks = looks(&self.paths);
            let unchanged = self
                .seen
                .as_ref()
                .is_some_and(|seen| seen.settled && seen.looks == looks);
            if unchanged && reload.is_none() {
                deferred = 0;
            } else if reload.is_none() && deferred < MAX_DEFERRALS && is_younger(&looks, DEBOUNCE) {
                // Somebody may still be writing: half a file can be good YAML.
                deferred += 1;
                wait = DEBOUNCE;
            } else {
                deferred = 0;
                if reload.is_some() {
                    self.seen = None;
                }
                self.read(reload.is_some());
                if let Some(done) = reload {
                    // Nobody may wait for it any more.
                    let _ = done.send(());
                }
            }
        }
    }

    /// Reads the files, and applies them unless they are what they were.
    fn read(&mut self, asked: bool) {
        let looks = looks(&self.paths);
        let settled = !is_younger(&looks, CLOCK_GRAIN);
        let outcome = read_all(&self.paths);
        // A rename between look and read shows at the next look, which then differs.
        if self
            .seen
            .as_ref()
            .is_none_or(|seen| seen.outcome != outcome)
        {
            self.apply(&outcome, asked);
        }
        self.seen = Some(Seen {
            looks,
            settled,
            outcome,
        });
    }

    fn apply(&self, outcome: &Result<Vec<String>, FileError>, asked: bool) {
        let parsed = outcome
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|texts| parse_all(&self.paths, texts, self.known));
        let settings = match parsed {
            Ok(settings) => settings,
            Err(error) => return self.refuse(&error),
        };
        let count = settings.len();
        match self.resolver.submit_and_wait(Change::ReplaceLayer {
            source: Source::File,
            settings,
        }) {
            Ok(committed) => {
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

/// What all files look like.
fn looks(paths: &[PathBuf]) -> Vec<Option<Look>> {
    paths.iter().map(|path| Look::at(path)).collect()
}

/// Whether one of the files was changed within some time.
fn is_younger(looks: &[Option<Look>], age: Duration) -> bool {
    looks
        .iter()
        .flatten()
        .any(|look| look.changed + age > SystemTime::now())
}

/// What a file looks like from outside.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    changed: SystemTime,
    /// The time of the last change to the inode, which nothing can set back.
    status_changed: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: metadata.modified().ok()?,
            status_changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The directories that are watched.
struct Watching {
    events: Sender<Wake>,
    debouncer: Option<Debouncer<notify::RecommendedWatcher, RecommendedCache>>,
    /// Each with its inode: a directory that was replaced needs a new watch.
    directories: BTreeSet<(PathBuf, u64)>,
}

impl Watching {
    fn new(events: Sender<Wake>) -> Self {
        Self {
            events,
            debouncer: None,
            directories: BTreeSet::new(),
        }
    }

    /// Makes the watched directories those that matter now. What cannot be watched is left to polling.
    fn watch(&mut self, paths: &[PathBuf]) {
        let wanted: BTreeSet<(PathBuf, u64)> = paths
            .iter()
            .flat_map(|path| directories(path))
            .filter_map(|directory| Some((directory.clone(), fs::metadata(&directory).ok()?.ino())))
            .collect();
        if wanted == self.directories {
            return;
        }
        if self.debouncer.is_none() {
            let events = self.events.clone();
            let handler = move |result: DebounceEventResult| {
                let matters = match result {
                    Ok(events) => events
                        .iter()
                        .any(|event| !matches!(event.kind, EventKind::Access(_))),
                    // Events may have been lost; better look once too often.
                    Err(_) => true,
                };
                if matters {
                    // No room: as many wake-ups wait already, and each of them looks.
                    let _ = events.try_send(Wake::Changed);
                }
            };
            match new_debouncer(DEBOUNCE, None, handler) {
                Ok(debouncer) => self.debouncer = Some(debouncer),
                Err(error) => {
                    tracing::warn!("cannot watch configuration files, so they are polled: {error}");
                    self.directories = wanted;
                    return;
                }
            }
        }
        if let Some(debouncer) = &mut self.debouncer {
            for (directory, _) in self.directories.difference(&wanted) {
                // It may be gone, and its watch with it.
                let _ = debouncer.unwatch(directory);
            }
            for (directory, _) in wanted.difference(&self.directories) {
                if let Err(error) = debouncer.watch(directory, RecursiveMode::NonRecursive) {
                    tracing::warn!(
                        "cannot watch {}, so it is polled: {error}",
                        directory.display()
                    );
                }
            }
        }
        self.directories = wanted;
    }
}

/// The directories in which a change can give a path another content: those of the path itself and of every link on
/// the way.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = Some(path.to_owned());
    // As many links as the system itself follows.
    for _ in 0..40 {
        let Some(path) = next.take() else { break };
        let directory = match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
            _ => PathBuf::from("."),
        };
        next = fs::read_link(&path)
            .ok()
            .map(|target| directory.join(target));
        // A link anywhere above, such as `..data`, is replaced in the directory that holds it.
        for above in directory.ancestors() {
            if above
                .symlink_metadata()
                .is_ok_and(|metadata| metadata.is_symlink())
                && let Some(holder) = above.parent()
            {
                found.push(if holder.as_os_str().is_empty() {
                    PathBuf::from(".")
                } else {
                    holder.to_owned()
                });
            }
        }
        found.push(fs::canonicalize(&directory).unwrap_or(directory));
    }
    found.sort();
    found.dedup();
    found
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<String>, FileError> {
    paths.iter().map(|path| yaml::read(path)).collect()
}

fn parse_all(
    paths: &[PathBuf],
    texts: &[String],
    known: &Known,
) -> Result<Vec<Assignment>, FileError> {
    let documents: Vec<Document> = paths
        .iter()
        .zip(texts)
        .map(|(path, text)| Document::parse(path, text))
        .collect::<Result<_, _>>()?;
    let named: Vec<(&Path, &Document)> =
        paths.iter().map(PathBuf::as_path).zip(&documents).collect();
    yaml::assignments(&named, known)
}

/// How often a read is put off because the files change all the time.
const MAX_DEFERRALS: u32 = 10;

/// Two changes closer together than this may carry the same time. Generous: network file systems count in seconds.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);
