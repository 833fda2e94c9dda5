//! The last good snapshot in a file, so that a process starts while its server is down.
//!
//! ```text
//! bytes  0..24   "configstream replica 1\n\n", the last digit being the version of this format
//!       24..32   when it was last known to be true, in milliseconds since 1970
//!       32..36   how many bytes follow the head
//!       36..40   CRC-32 of bytes 24..36 and of what follows
//!       40..     a ConfigEvent with a snapshot, as it would come over the wire
//! ```
//!
//! Numbers are big-endian. A file is written under another name, synced, renamed, and the directory synced, with mode
//! 0600: a crash leaves the old file or the new one, and at most a temporary one, which the next start removes. What is read
//! is checked as if it came over the wire, and anything but a whole, young, regular file of our own, that nobody else may
//! write, is refused. Neither is a link followed, nor is anything waited for that the path may lead to.

mod error;
mod temporary;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use configstream_proto::datadog::model::v1::ConfigEvent as ConfigEventMessage;
use prost::Message;

pub use self::error::{SavedError, SavedErrorReason};

use crate::client::{Client, ConfigEvent, ConfigSnapshot, Progress};
use crate::encode::PREFIX_BYTES;
use crate::safe_file::{self, Demand, OpenError};

/// Where a replica is saved, and for how long that is worth something.
#[derive(Clone, Debug)]
pub(super) struct SnapshotFile {
    pub(super) path: PathBuf,
    pub(super) max_age: Duration,
}

impl SnapshotFile {
    /// What is saved, and when it was last known to be true. `None`: nothing is.
    pub(super) fn load(&self) -> Result<Option<(ConfigSnapshot, SystemTime)>, SavedError> {
        self.read().map_err(|reason| self.refuse(reason))
    }

    pub(super) fn refuse(&self, reason: SavedErrorReason) -> SavedError {
        SavedError {
            path: self.path.clone(),
            reason,
        }
    }

    /// Replaces what is saved by a snapshot's frame, as it goes over the wire.
    pub(super) fn save(&self, frame: &Bytes, known_at: SystemTime) -> io::Result<()> {
        let message = frame.get(PREFIX_BYTES..).unwrap_or_default();
        let mut file = temporary::create(self.dir())?;
        file.write_all(&head(message, known_at)?)?;
        file.write_all(message)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(self.dir())?.sync_all()
    }

    /// Removes what processes left that were killed while they saved.
    pub(super) fn sweep(&self) {
        temporary::sweep(self.dir());
    }

    fn dir(&self) -> &Path {
        safe_file::directory_of(&self.path)
    }

    fn read(&self) -> Result<Option<(ConfigSnapshot, SystemTime)>, SavedErrorReason> {
        let bytes = match Demand::OWN.read(&self.path, LARGEST_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (snapshot, known_at) = parse(&bytes)?;
        // One from the future is as young as can be: it is the clock that was put back.
        let age = known_at.elapsed().unwrap_or_default();
        if age > self.max_age {
            return Err(SavedErrorReason::TooOld {
                age,
                max_age: self.max_age,
            });
        }
        Ok(Some((snapshot, known_at)))
    }
}

impl From<OpenError> for SavedErrorReason {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::SymbolicLink => Self::SymbolicLink,
            OpenError::NotAFile(_) | OpenError::NotADirectory => Self::NotAFile,
            OpenError::OwnedByAnother { owner, user } => Self::OwnedByAnother { owner, user },
            OpenError::WritableByOthers { mode } => Self::WritableByOthers { mode },
            other => Self::Unreadable(other.into()),
        }
    }
}

pub(super) fn head(message: &[u8], known_at: SystemTime) -> io::Result<Vec<u8>> {
    let millis = known_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(millis.as_millis()).unwrap_or(u64::MAX);
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    let mut head = MAGIC.to_vec();
    head.extend(millis.to_be_bytes());
    head.extend(length.to_be_bytes());
    let checksum = checksum(&head[MAGIC.len()..], message);
    head.extend(checksum.to_be_bytes());
    Ok(head)
}

pub(super) fn parse(bytes: &[u8]) -> Result<(ConfigSnapshot, SystemTime), SavedErrorReason> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(SavedErrorReason::Foreign)?;
    let cut_short = || SavedErrorReason::Length {
        expected: HEAD_BYTES as u64,
        found: bytes.len() as u64,
    };
    let (covered, after) = rest.split_at_checked(8 + 4).ok_or_else(cut_short)?;
    let (millis, length) = covered.split_first_chunk().ok_or_else(cut_short)?;
    let (length, _) = length.split_first_chunk().ok_or_else(cut_short)?;
    let (sum, message) = after.split_first_chunk().ok_or_else(cut_short)?;
    let length = u64::from(u32::from_be_bytes(*length));
    if length != message.len() as u64 {
        return Err(SavedErrorReason::Length {
            expected: length,
            found: message.len() as u64,
        });
    }
    if checksum(covered, message) != u32::from_be_bytes(*sum) {
        return Err(SavedErrorReason::Corrupt);
    }
    let known_at = UNIX_EPOCH
        .checked_add(Duration::from_millis(u64::from_be_bytes(*millis)))
        .ok_or(SavedErrorReason::Corrupt)?;
    let message = ConfigEventMessage::decode(message).map_err(|_| SavedErrorReason::Corrupt)?;
    match Progress::default().check(message) {
        Ok(ConfigEvent::Snapshot(snapshot)) => Ok((snapshot, known_at)),
        Ok(_) => Err(SavedErrorReason::Foreign),
        Err(error) => Err(SavedErrorReason::Content(error)),
    }
}

fn checksum(covered: &[u8], message: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(covered);
    hasher.update(message);
    hasher.finalize()
}

const MAGIC: &[u8] = b"configstream replica 1\n\n";
const HEAD_BYTES: usize = MAGIC.len() + 8 + 4 + 4;
const LARGEST_FILE_BYTES: u64 = (HEAD_BYTES + Client::MESSAGE_BYTES) as u64;

#[cfg(test)]
mod tests;
