//! The saved sequence: so that sequences never go back over a restart, however the agent ended.
//!
//! Sequences are reserved before they are used, in blocks of [`BLOCK`]. The file says up to which sequence they may
//! have been used:
//!
//! ```text
//! configstream sequence 1
//! epoch 1764000000000
//! used-up-to 2048
//! crc32 0a1b2c3d
//! ```
//!
//! A start continues one behind that, so it spends a sequence even if nothing is ever published: clients that keep
//! the last sequence they saw refuse a snapshot at or below it. A clean stop writes the exact head, and wastes
//! nothing. The wire's sequences are 31 bits; where they run out the next epoch begins at 1. The first epoch is the
//! time of creation in milliseconds, so that a file that was lost, and with it the sequence, comes back with an epoch
//! nobody has seen.
//!
//! # Durability
//!
//! The file is replaced in one step (`atomic_file`); only then are the sequences handed out. A crash at any point
//! leaves the old file or the new one, and each is at or above everything used.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use configstream_engine::{Epoch, Sequence};
use configstream_grpc::safe_file::OpenError;

use crate::atomic_file;
use crate::claim::Claim;
use crate::run_dir::mend_write;

/// How many sequences are reserved at once. At 100,000 updates a second that is a hundred syncs a second; one crash
/// wastes at most this many of two thousand million.
pub const BLOCK: u64 = 1024;

/// The last sequence of an epoch: what the wire's `int32` holds.
#[allow(clippy::cast_sign_loss)]
pub const LAST: u64 = i32::MAX as u64;

/// Why the saved sequence cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum SequenceFileError {
    /// The file is there but cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is there but is not what was written.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file cannot be written, so no sequence can be handed out.
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl SequenceFileError {
    /// What to do about it.
    #[must_use]
    pub fn mend(&self) -> String {
        match self {
            Self::Unreadable { error, .. } => OpenError::hint_of(error)
                .unwrap_or_else(|| "let this user read and write it".to_owned()),
            Self::Corrupt { path, .. } => format!(
                "remove it (rm {}): sequences then start again in a new epoch, and clients that keep the last sequence they saw \
                 without the epoch must be restarted; one from a backup would lead them back",
                path.display()
            ),
            Self::Unwritable { error, .. } => mend_write(error),
        }
    }
}

impl fmt::Display for SequenceFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(
                formatter,
                "cannot read the saved sequence {}: {error}",
                path.display()
            ),
            Self::Corrupt { path, why } => write!(
                formatter,
                "the saved sequence {} is damaged: {why}",
                path.display()
            ),
            Self::Unwritable { path, error } => write!(
                formatter,
                "cannot write the saved sequence {}: {error}",
                path.display()
            ),
        }
    }
}

impl Error for SequenceFileError {}

/// The saved sequence of one run directory. Its owner holds the directory's lock.
#[derive(Debug)]
pub struct SequenceFile {
    path: PathBuf,
    claim: Option<Claim>,
    epoch: u64,
    /// The first sequence of this run.
    start: u64,
    /// Sequences up to here may be used, and the file says so.
    reserved: u64,
}

impl SequenceFile {
    /// Reads the saved sequence, or begins to count, and reserves the first block.
    ///
    /// # Errors
    ///
    /// The file is damaged, or cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, SequenceFileError> {
        Self::open_with(path, None)
    }

    /// The same in a run directory, where nothing is written once the claim is lost.
    ///
    /// # Errors
    ///
    /// The file is damaged, or cannot be read or written.
    pub fn open_claimed(path: &Path, claim: &Claim) -> Result<Self, SequenceFileError> {
        Self::open_with(path, Some(claim.clone()))
    }

    fn open_with(path: &Path, claim: Option<Claim>) -> Result<Self, SequenceFileError> {
        let (epoch, start) = match read(path)? {
            Some((epoch, used)) if used < LAST => (epoch, used + 1),
            Some((epoch, _)) => (epoch + 1, 1),
            None => (now(), 1),
        };
        let mut file = Self {
            path: path.to_owned(),
            claim,
            epoch,
            start,
            reserved: 0,
        };
        file.write(reservation(start))?;
        Ok(file)
    }

    /// Reserves beyond a sequence that is needed. Gives the new limit, or `None` if the epoch has no such sequence.
    ///
    /// # Errors
    ///
    /// The file cannot be written. Nothing is reserved then; a later call may succeed.
    pub fn reserve(&mut self, needed: Sequence) -> Result<Option<Sequence>, SequenceFileError> {
        if needed.get() > LAST {
            return Ok(None);
        }
        if needed.get() > self.reserved {
            self.write(reservation(needed.get()))?;
        }
        Ok(Some(self.limit()))
    }

    /// Begins the next epoch, at sequence 1.
    ///
    /// # Errors
    ///
    /// The file cannot be written; the old epoch goes on.
    pub fn next_epoch(&mut self) -> Result<(Epoch, Sequence), SequenceFileError> {
        let before = (self.epoch, self.start);
        (self.epoch, self.start) = (self.epoch + 1, 1);
        if let Err(error) = self.write(reservation(1)) {
            (self.epoch, self.start) = before;
            return Err(error);
        }
        Ok((self.epoch(), self.start()))
    }

    /// Saves the exact head at a clean stop: nothing beyond it has been used, and nothing will be.
    ///
    /// # Errors
    ///
    /// The file cannot be written. The reservation stands, which is just as safe.
    pub fn save_exact(mut self, head: Sequence) -> Result<(), SequenceFileError> {
        self.write(head.get().clamp(self.start, self.reserved))
    }

    /// The epoch to count in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch)
    }

    /// The sequence this run, or this epoch, starts at.
    #[must_use]
    pub fn start(&self) -> Sequence {
        Sequence::new(self.start)
    }

    /// The last sequence that may be used without reserving.
    #[must_use]
    pub fn limit(&self) -> Sequence {
        Sequence::new(self.reserved)
    }

    fn write(&mut self, used: u64) -> Result<(), SequenceFileError> {
        let content = render(self.epoch, used);
        atomic_file::write(&self.path, content.as_bytes(), self.claim.as_ref()).map_err(
            |error| SequenceFileError::Unwritable {
                path: self.path.clone(),
                error,
            },
        )?;
        self.reserved = used;
        Ok(())
    }
}

/// How far to reserve when `needed` is needed.
fn reservation(needed: u64) -> u64 {
    (needed + BLOCK - 1).min(LAST)
}

pub(crate) fn render(epoch: u64, used: u64) -> String {
    atomic_file::sealed(&format!("{FIRST_LINE}\nepoch {epoch}\nused-up-to {used}\n"))
}

/// Epoch and sequence of a file, if there is one.
fn read(path: &Path) -> Result<Option<(u64, u64)>, SequenceFileError> {
    let unreadable = |error| SequenceFileError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let Some(bytes) = atomic_file::read(path, LONGEST).map_err(unreadable)? else {
        return Ok(None);
    };
    let corrupt = |why| SequenceFileError::Corrupt {
        path: path.to_owned(),
        why,
    };
    parse(&bytes).map(Some).map_err(corrupt)
}

pub(crate) fn parse(bytes: &[u8]) -> Result<(u64, u64), &'static str> {
    let text = str::from_utf8(bytes).map_err(|_| "it is not text")?;
    if text.is_empty() {
        return Err("it is empty");
    }
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err("its first line is not that of a sequence file this version writes");
    }
    let mut number = |name: &str, radix| {
        let (found, number) = lines.next()?.split_once(' ')?;
        (found == name).then_some(())?;
        u64::from_str_radix(number, radix).ok()
    };
    let (Some(epoch), Some(used), Some(_)) = (
        number("epoch", 10),
        number("used-up-to", 10),
        number("crc32", 16),
    ) else {
        return Err("a line is missing or is no number");
    };
    // The checksum, and anything behind it, is judged by writing the same again.
    if text != render(epoch, used) {
        return Err("its checksum does not fit its content");
    }
    if used > LAST || epoch == u64::MAX {
        return Err("its numbers are out of range");
    }
    Ok((epoch, used))
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1)
    })
}

const FIRST_LINE: &str = "configstream sequence 1";

/// Some ten times what is ever written.
const LONGEST: u64 = 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::atomic_file::Step;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sequence");
        (root, path)
    }

    #[test]
    fn a_first_start_counts_from_one_in_a_new_epoch() {
        let (_root, path) = place();
        let file = SequenceFile::open(&path).unwrap();
        assert_eq!((file.start().get(), file.limit().get()), (1, BLOCK));
        assert!(file.epoch().get() > 1_700_000_000);
    }

    #[test]
    fn after_a_crash_everything_reserved_counts_as_used() {
        let (_root, path) = place();
        let mut file = SequenceFile::open(&path).unwrap();
        let epoch = file.epoch();
        assert_eq!(
            file.reserve(Sequence::new(1025)).unwrap(),
            Some(Sequence::new(2048))
        );
        drop(file);
        let file = SequenceFile::open(&path).unwrap();
        assert_eq!(
            (file.epoch(), file.start().get(), file.limit().get()),
            (epoch, 2049, 3072)
        );
    }

    #[test]
    fn a_clean_stop_wastes_nothing_and_a_start_spends_one() {
        let (_root, path) = place();
        SequenceFile::open(&path)
            .unwrap()
            .save_exact(Sequence::new(7))
            .unwrap();
        for start in 8..12 {
            let file = SequenceFile::open(&path).unwrap();
            assert_eq!(file.start().get(), start);
            let head = file.start();
            file.save_exact(head).unwrap();
        }
    }

    #[test]
    fn an_exact_save_stays_between_start_and_reservation() {
        let (_root, path) = place();
        SequenceFile::open(&path)
            .unwrap()
            .save_exact(Sequence::new(900))
            .unwrap();
        SequenceFile::open(&path)
            .unwrap()
            .save_exact(Sequence::new(3))
            .unwrap();
        assert_eq!(SequenceFile::open(&path).unwrap().start().get(), 902);
    }

    #[test]
    fn a_batch_larger_than_a_block_is_reserved_whole() {
        let (_root, path) = place();
        let mut file = SequenceFile::open(&path).unwrap();
        assert_eq!(
            file.reserve(Sequence::new(50_000)).unwrap(),
            Some(Sequence::new(50_000 + BLOCK - 1))
        );
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(
            file.reserve(Sequence::new(50_001)).unwrap(),
            Some(Sequence::new(50_000 + BLOCK - 1))
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            written,
            "what is reserved needs no write"
        );
    }

    #[test]
    fn where_the_wire_ends_the_next_epoch_begins() {
        let (_root, path) = place();
        fs::write(&path, render(5, LAST - 10)).unwrap();
        let mut file = SequenceFile::open(&path).unwrap();
        assert_eq!(
            (file.epoch().get(), file.start().get(), file.limit().get()),
            (5, LAST - 9, LAST)
        );
        assert_eq!(
            file.reserve(Sequence::new(LAST)).unwrap(),
            Some(Sequence::new(LAST))
        );
        assert_eq!(file.reserve(Sequence::new(LAST + 1)).unwrap(), None);
        let (epoch, start) = file.next_epoch().unwrap();
        assert_eq!(
            (epoch.get(), start.get(), file.limit().get()),
            (6, 1, BLOCK)
        );
        fs::write(&path, render(6, LAST)).unwrap();
        let file = SequenceFile::open(&path).unwrap();
        assert_eq!((file.epoch().get(), file.start().get()), (7, 1));
    }

    #[test]
    fn a_crash_at_any_step_never_lets_a_sequence_go_back() {
        for stop in [Step::Created, Step::Written, Step::Synced, Step::Renamed] {
            let (_root, path) = place();
            let file = SequenceFile::open(&path).unwrap();
            let handed_out = file.limit().get();
            let failing = &mut |step| {
                if step == stop {
                    Err(io::Error::other("power cut"))
                } else {
                    Ok(())
                }
            };
            let content = render(file.epoch, 2 * BLOCK);
            atomic_file::write_by_steps(&path, content.as_bytes(), None, failing).unwrap_err();
            drop(file);
            let file = SequenceFile::open(&path).unwrap();
            assert!(
                file.start().get() > handed_out,
                "{stop:?}: {} after {handed_out}",
                file.start()
            );
        }
    }

    #[test]
    fn a_failed_write_hands_nothing_out_and_may_be_tried_again() {
        let (_root, path) = place();
        let mut file = SequenceFile::open(&path).unwrap();
        let blocked = path.with_extension("new");
        fs::create_dir(&blocked).unwrap();
        let error = file.reserve(Sequence::new(BLOCK + 1)).unwrap_err();
        assert!(
            error.to_string().contains("cannot write") && error.mend().contains("writable"),
            "{error}"
        );
        let before = (file.epoch(), file.limit());
        assert_eq!(before.1.get(), BLOCK);
        file.next_epoch().unwrap_err();
        assert_eq!((file.epoch(), file.limit()), before);
        fs::remove_dir(&blocked).unwrap();
        assert_eq!(
            file.reserve(Sequence::new(BLOCK + 1)).unwrap(),
            Some(Sequence::new(2 * BLOCK))
        );
    }

    #[test]
    fn damage_is_refused_with_the_mend() {
        let good = render(5, 2048);
        let (_root, path) = place();
        let mut damaged: Vec<Vec<u8>> = vec![
            Vec::new(),
            b"\xff\xfe".to_vec(),
            b"2048\n".to_vec(),
            good.replace("2048", "2049").into_bytes(),
            good.replace("epoch 5", "epoch five").into_bytes(),
            format!("{good}more\n").into_bytes(),
            render(5, LAST + 1).into_bytes(),
            render(u64::MAX, 1).into_bytes(),
        ];
        damaged.extend((1..good.len()).map(|end| good.as_bytes()[..end].to_vec()));
        damaged.extend((0..good.len()).map(|at| {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            bytes
        }));
        for bytes in damaged {
            fs::write(&path, &bytes).unwrap();
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let error = SequenceFile::open(&path).expect_err(&shown);
            let text = format!("{error}; {}", error.mend());
            assert!(
                text.contains("sequence is damaged") || text.contains("damaged"),
                "{text}"
            );
            assert!(text.contains("rm "), "{text}");
            assert_eq!(
                fs::read(&path).unwrap(),
                bytes,
                "a refused file is left as it is"
            );
        }
    }

    #[test]
    fn a_directory_in_its_place_is_refused() {
        let (_root, path) = place();
        fs::create_dir(&path).unwrap();
        assert!(matches!(
            SequenceFile::open(&path),
            Err(SequenceFileError::Unreadable { .. })
        ));
    }
}
