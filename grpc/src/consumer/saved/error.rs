//! Why a saved snapshot is not used, and what to do about it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use configstream_engine::settings::DuplicateKey;

use crate::client::StreamError;

/// Why a saved snapshot is not used.
#[derive(Debug)]
pub struct SavedError {
    pub(super) path: PathBuf,
    pub(super) reason: SavedErrorReason,
}

/// What is wrong with a saved snapshot.
#[derive(Debug)]
#[non_exhaustive]
pub enum SavedErrorReason {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is a symbolic link: whoever may place one there would choose what is read.
    SymbolicLink,
    /// It is a directory, a named pipe, or something else that is no regular file.
    NotAFile,
    /// It belongs neither to the user that the process runs as, nor to root.
    OwnedByAnother {
        /// Whom it belongs to.
        owner: u32,
        /// The user that the process runs as.
        user: u32,
    },
    /// Others than its owner may write it.
    WritableByOthers {
        /// Its mode.
        mode: u32,
    },
    /// It is no saved snapshot, or one in a format that is not known here.
    Foreign,
    /// It is shorter or longer than it says.
    Length {
        /// How many bytes should follow the head.
        expected: u64,
        /// How many do.
        found: u64,
    },
    /// Its checksum does not fit.
    Corrupt,
    /// It is too old.
    TooOld {
        /// Its age.
        age: Duration,
        /// How old it may be.
        max_age: Duration,
    },
    /// What it holds is no snapshot that a server would send.
    Content(StreamError),
    /// It has a key twice.
    Duplicate(DuplicateKey),
}

impl SavedError {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn reason(&self) -> &SavedErrorReason {
        &self.reason
    }
}

impl fmt::Display for SavedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the saved snapshot {} ", self.path.display())?;
        match &self.reason {
            SavedErrorReason::Unreadable(error) => write!(f, "cannot be read: {error}"),
            SavedErrorReason::SymbolicLink => f.write_str(
                "is a symbolic link, which is not followed: remove it, or give the path of the file itself",
            ),
            SavedErrorReason::NotAFile => {
                // A directory would not be replaced.
                return f.write_str("is no regular file: remove it, or give another path");
            }
            SavedErrorReason::OwnedByAnother { owner, user } => write!(
                f,
                "belongs to user {owner}, and this process runs as user {user}: remove it, or chown {user} it if it is to be trusted"
            ),
            SavedErrorReason::WritableByOthers { mode } => write!(
                f,
                "may have been written by others (mode {mode:04o}): remove it, or chmod 600 it if that is not so"
            ),
            SavedErrorReason::Foreign => {
                f.write_str("was not written by this program, or by another version of it")
            }
            SavedErrorReason::Length { expected, found } => {
                write!(f, "is damaged: {found} bytes where {expected} should be")
            }
            SavedErrorReason::Corrupt => f.write_str("is damaged: its checksum does not fit"),
            SavedErrorReason::TooOld { age, max_age } => write!(
                f,
                "is too old: {} s, where {} s are allowed",
                age.as_secs(),
                max_age.as_secs()
            ),
            SavedErrorReason::Duplicate(error) => write!(f, "cannot be: {error}"),
            SavedErrorReason::Content(error) => write!(f, "holds what no server sends: {error}"),
        }?;
        f.write_str("; the next snapshot from the server replaces it")
    }
}

impl Error for SavedError {}
