//! What is measured already, on disk.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::{Deserialize, Serialize};

use super::plan::Step;
use crate::record::{Machine, Part, at, commit, difference, read_json, write_json};

/// The folder of one commit and machine.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    /// `folder`'s name.
    key: String,
    /// Locked.
    lock: File,
}

/// A step in the making.
#[derive(Debug)]
pub(super) struct Work {
    /// Where it leaves its figures.
    pub(super) folder: PathBuf,
    /// What it says.
    pub(super) log: PathBuf,
}

/// What a step measured, and how it was told to.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    options: Vec<String>,
    part: Part,
}

impl State {
    /// Waits while another run measures there.
    pub(super) fn open(all: &Path, fresh: bool) -> io::Result<Self> {
        let key = key()?;
        let folder = all.join(&key);
        fs::create_dir_all(&folder).map_err(|error| at(&folder, error))?;
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| at(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!(
                    "another run is measuring in {}; waiting for its end",
                    folder.display()
                );
                lock.lock().map_err(|error| at(&path, error))?;
            }
            Err(TryLockError::Error(error)) => return Err(at(&path, error)),
        }
        let state = Self { folder, key, lock };
        if fresh {
            state.forget()?;
        }
        Ok(state)
    }

    fn forget(&self) -> io::Result<()> {
        for name in ["steps", "work"] {
            let folder = self.folder.join(name);
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(|error| at(&folder, error))?;
            }
        }
        Ok(())
    }

    /// What a step measured, if it has and was told the same; a file that cannot be read is as good as none.
    pub(super) fn stored(&self, step: &Step) -> Option<Part> {
        let stored: Stored = read_json(&self.file(step)).ok()?;
        (stored.options == step.options).then_some(stored.part)
    }

    /// Room for a step, whatever an interrupted one has left.
    pub(super) fn begin(&self, step: &Step) -> io::Result<Work> {
        let folder = self.folder.join("work");
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| at(&folder, error))?;
        }
        fs::create_dir_all(&folder).map_err(|error| at(&folder, error))?;
        // It is handed to a process whose working directory may be another.
        let folder = folder.canonicalize().map_err(|error| at(&folder, error))?;
        let log = self.file(step).with_extension("log");
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
        }
        File::create(&log).map_err(|error| at(&log, error))?;
        Ok(Work { folder, log })
    }

    pub(super) fn store(&self, step: &Step, part: Part) -> io::Result<()> {
        let options = step.options.clone();
        write_json(&Stored { options, part }, &self.file(step))
    }

    /// The lock as an input that a step never reads: it is held until the step has ended, too.
    pub(super) fn held(&self) -> io::Result<Stdio> {
        Ok(self.lock.try_clone()?.into())
    }

    /// Fails when the sources are others than at the start.
    pub(super) fn is_of_these_sources(&self) -> io::Result<()> {
        match key()? == self.key {
            true => Ok(()),
            false => Err(io::Error::other(
                "the sources changed since this run began; start it again, or go back to those",
            )),
        }
    }

    pub(super) fn record(&self) -> PathBuf {
        self.folder.join("record.json")
    }

    fn file(&self, step: &Step) -> PathBuf {
        let name = step.name.replace('/', "-");
        self.folder
            .join("steps")
            .join(name)
            .with_added_extension("json")
    }
}

impl Work {
    pub(super) fn log(&self) -> io::Result<Stdio> {
        let log = OpenOptions::new().append(true).open(&self.log);
        Ok(log.map_err(|error| at(&self.log, error))?.into())
    }
}

/// Commit, and a checksum of the machine and of what differs from the commit.
fn key() -> io::Result<String> {
    let Machine { cpu, cores, kernel } = Machine::here()?;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(format!("{cpu}\n{cores}\n{kernel}\n").as_bytes());
    checksum.update(&difference()?);
    Ok(format!("{}-{:08x}", commit()?, checksum.finalize()))
}
