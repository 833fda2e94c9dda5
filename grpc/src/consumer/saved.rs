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
//! 0600: a crash leaves the old file or the new one. What is read is checked as if it came over the wire, and anything
//! but a whole, young file of our own, that nobody else may write, is refused.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use configstream_engine::settings::DuplicateKey;
use configstream_proto::datadog::model::v1::ConfigEvent as ConfigEventMessage;
use prost::Message;

use crate::client::{Client, ConfigEvent, ConfigSnapshot, Progress, StreamError};
use crate::encode::PREFIX_BYTES;

/// Where a replica is saved, and for how long that is worth something.
#[derive(Clone, Debug)]
pub(super) struct SnapshotFile {
    pub(super) path: PathBuf,
    pub(super) max_age: Duration,
}

/// Why a saved snapshot is not used.
#[derive(Debug)]
pub struct SavedError {
    path: PathBuf,
    reason: SavedErrorReason,
}

/// What is wrong with a saved snapshot.
#[derive(Debug)]
#[non_exhaustive]
pub enum SavedErrorReason {
    /// It cannot be read.
    Unreadable(io::Error),
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
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        // Created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&head(message, known_at)?)?;
        file.write_all(message)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(dir)?.sync_all()
    }

    fn read(&self) -> Result<Option<(ConfigSnapshot, SystemTime)>, SavedErrorReason> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SavedErrorReason::Unreadable(error)),
        };
        let metadata = file.metadata().map_err(SavedErrorReason::Unreadable)?;
        if !metadata.is_file() {
            return Err(SavedErrorReason::Foreign);
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(SavedErrorReason::WritableByOthers { mode });
        }
        let mut bytes = Vec::new();
        // One byte beyond the largest file shows that it is too long.
        let limit = (HEAD_BYTES + Client::MESSAGE_BYTES + 1) as u64;
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(SavedErrorReason::Unreadable)?;
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

fn head(message: &[u8], known_at: SystemTime) -> io::Result<Vec<u8>> {
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

fn parse(bytes: &[u8]) -> Result<(ConfigSnapshot, SystemTime), SavedErrorReason> {
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

const MAGIC: &[u8] = b"configstream replica 1\n\n";
const HEAD_BYTES: usize = MAGIC.len() + 8 + 4 + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Encoder;
    use configstream_engine::settings::{Key, Resolved, Setting, Source};
    use configstream_engine::{Engine, Epoch, Sequence};
    use std::fs;

    struct Case {
        _dir: tempfile::TempDir,
        file: SnapshotFile,
    }

    impl Case {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = SnapshotFile {
                path: dir.path().join("replica"),
                max_age: Duration::from_secs(60),
            };
            Self { _dir: dir, file }
        }

        /// With something saved.
        fn saved(known_at: SystemTime) -> Self {
            let case = Self::new();
            case.file.save(&frame(), known_at).unwrap();
            case
        }

        fn refusal(&self) -> SavedErrorReason {
            self.file.load().unwrap_err().reason
        }

        /// Changes the file's bytes.
        fn tamper(&self, change: impl FnOnce(&mut Vec<u8>)) {
            let mut bytes = fs::read(&self.file.path).unwrap();
            change(&mut bytes);
            fs::write(&self.file.path, bytes).unwrap();
        }
    }

    fn frame() -> Bytes {
        let setting = Setting::new(Source::File, Key::parse("a.b").unwrap(), "c").unwrap();
        let engine = Engine::builder(Resolved::from_settings([setting]).unwrap())
            .start_at(Epoch::new(3), Sequence::new(7))
            .build()
            .unwrap();
        Encoder::new("o".into(), 1024)
            .snapshot(&engine.head())
            .unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let case = Case::saved(SystemTime::now());
        let (snapshot, known_at) = case.file.load().unwrap().unwrap();
        assert_eq!((snapshot.epoch.get(), snapshot.sequence.get()), (3, 7));
        assert_eq!(snapshot.origin, "o");
        assert_eq!(snapshot.settings[0].value().as_str(), Some("c"));
        assert!(known_at.elapsed().unwrap() < Duration::from_secs(60));
        let mode = fs::metadata(&case.file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(case.file.path.parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "nothing else is left there");
    }

    #[test]
    fn nothing_saved_is_no_error() {
        assert!(Case::new().file.load().unwrap().is_none());
    }

    #[test]
    fn every_way_to_be_cut_short_is_refused() {
        let whole = fs::read(Case::saved(SystemTime::now()).file.path).unwrap();
        for length in 0..whole.len() {
            let case = Case::new();
            fs::write(&case.file.path, &whole[..length]).unwrap();
            let refusal = case.refusal();
            match length {
                0..24 => assert!(matches!(refusal, SavedErrorReason::Foreign), "{length}"),
                _ => assert!(
                    matches!(refusal, SavedErrorReason::Length { .. }),
                    "{length}"
                ),
            }
        }
        let case = Case::saved(SystemTime::now());
        case.tamper(|bytes| bytes.push(0));
        assert!(matches!(case.refusal(), SavedErrorReason::Length { .. }));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = fs::read(Case::saved(SystemTime::now()).file.path).unwrap();
        parse(&whole).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            parse(&bytes).unwrap_err();
        }
    }

    #[test]
    fn a_foreign_file_and_another_version_are_refused() {
        let case = Case::new();
        fs::write(&case.file.path, "log_level: debug\n").unwrap();
        assert!(matches!(case.refusal(), SavedErrorReason::Foreign));
        let case = Case::saved(SystemTime::now());
        case.tamper(|bytes| bytes[21] = b'2');
        assert!(matches!(case.refusal(), SavedErrorReason::Foreign));
        let case = Case::new();
        fs::create_dir(&case.file.path).unwrap();
        assert!(matches!(case.refusal(), SavedErrorReason::Foreign));
    }

    #[test]
    fn one_that_is_too_old_is_refused_and_one_from_the_future_is_not() {
        let case = Case::saved(SystemTime::now() - Duration::from_secs(3600));
        let text = case.file.load().unwrap_err().to_string();
        assert!(
            text.contains("is too old: 3600 s, where 60 s are allowed"),
            "{text}"
        );
        let case = Case::saved(SystemTime::now() + Duration::from_secs(3600));
        assert!(case.file.load().unwrap().is_some());
    }

    #[test]
    fn one_that_others_may_write_is_refused() {
        let case = Case::saved(SystemTime::now());
        let others = fs::Permissions::from_mode(0o620);
        fs::set_permissions(&case.file.path, others).unwrap();
        assert!(matches!(
            case.refusal(),
            SavedErrorReason::WritableByOthers { mode: 0o620 }
        ));
    }

    #[test]
    fn a_right_checksum_does_not_excuse_what_no_server_sends() {
        let case = Case::new();
        let update = ConfigEventMessage { event: None }.encode_to_vec();
        let frame = [&[0; PREFIX_BYTES], update.as_slice()].concat();
        case.file.save(&frame.into(), SystemTime::now()).unwrap();
        assert!(matches!(case.refusal(), SavedErrorReason::Content(_)));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let mut case = Case::new();
        case.file.path = case.file.path.join("nowhere").join("replica");
        case.file.save(&frame(), SystemTime::now()).unwrap_err();
    }
}
