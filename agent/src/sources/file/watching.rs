//! Which directories are watched, so that a change of a file is noticed at once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::Sender;
use notify::{EventKind, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};

use super::Wake;
use super::listing;

/// The directories that are watched.
pub(super) struct Watching {
    events: Sender<Wake>,
    debouncer: Option<Debouncer<notify::RecommendedWatcher, RecommendedCache>>,
    /// Each with its inode: a directory that was replaced needs a new watch.
    directories: BTreeSet<(PathBuf, u64)>,
}

impl Watching {
    pub(super) fn new(events: Sender<Wake>) -> Self {
        Self {
            events,
            debouncer: None,
            directories: BTreeSet::new(),
        }
    }

    /// Makes the watched directories those that matter now. What cannot be watched is left to polling.
    pub(super) fn watch(&mut self, paths: &[PathBuf]) {
        let wanted: BTreeSet<(PathBuf, u64)> = paths
            .iter()
            .flat_map(|path| all_directories(path))
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
                    let _ = events.try_send(Wake::Look);
                }
            };
            match new_debouncer(GATHERED, None, handler) {
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

/// The directories in which a change can give a path, or a file in the folder that it names, another content.
fn all_directories(path: &Path) -> Vec<PathBuf> {
    let mut found = directories(path);
    if path.is_dir() {
        // Whatever is put into it, and what the links in it lead to.
        found.extend(directories(&path.join("any")));
        let files = listing::files_of(path).unwrap_or_default();
        found.extend(files.iter().flat_map(|file| directories(file)));
    }
    found
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

/// How long events are gathered before they wake.
const GATHERED: Duration = Duration::from_millis(50);
