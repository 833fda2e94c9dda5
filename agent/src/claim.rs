//! The claim of an agent on its run directory.
//!
//! An agent holds a lock on a file of its run directory. If that file is removed, with the
//! directory or without, another agent can make and lock a new one, and the lock that the first one
//! holds means nothing any more. So whatever writes into the directory first compares the file that
//! is there with the one that is locked: of two agents, only the one that has the newer claim
//! writes.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use configstream_grpc::safe_file::{FileId, directory_of};

/// A claim on a run directory, to be looked at before each write. It stands as long as the lock is
/// held and in its place.
#[derive(Clone, Debug)]
pub struct Claim {
    lock_file: PathBuf,
    id: FileId,
}

impl Claim {
    /// The claim that a lock gives.
    pub(crate) fn by(lock_file: &Path, locked: &File) -> io::Result<Self> {
        Ok(Self {
            lock_file: lock_file.to_owned(),
            id: FileId::of(&locked.metadata()?),
        })
    }

    /// Fails unless the file that is locked is in its place. The error is a [`ClaimLost`] if it is
    /// not.
    ///
    /// # Errors
    ///
    /// It is not, or that cannot be told.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.id.is_at(&self.lock_file)? {
            return Ok(());
        }
        Err(io::Error::other(ClaimLost {
            directory: directory_of(&self.lock_file).to_owned(),
            by_another: self.lock_file.symlink_metadata().is_ok(),
        }))
    }
}

/// A run directory is no longer this agent's.
#[derive(Debug)]
pub(crate) struct ClaimLost {
    directory: PathBuf,
    by_another: bool,
}

impl ClaimLost {
    /// What to do, if an error is of this kind.
    pub(crate) fn mend(error: &io::Error) -> Option<&'static str> {
        let lost: &Self = error.get_ref()?.downcast_ref()?;
        Some(if lost.by_another {
            "stop one of the two agents; give this one a directory of its own with --run-dir, and start it again"
        } else {
            "restart this agent, which makes a new one; until then nothing survives a restart, and changes stop after 1,024"
        })
    }
}

impl fmt::Display for ClaimLost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        formatter.write_str(if self.by_another {
            "another agent has taken over the run directory "
        } else {
            "the lock of this agent was removed from the run directory "
        })?;
        write!(
            formatter,
            "{directory}, so this one writes nothing there any more"
        )
    }
}

impl Error for ClaimLost {}
