//! Changes made at run time that are to survive a restart.
//!
//! A change that is asked to persist (`configstream set --persist`) is written to one file in the run directory before
//! it is published; the next start sets it again, in its layer. Any other change at run time ends with the agent:
//!
//! * a set without `--persist` of a persisted key holds until the restart, which brings the persisted value back;
//! * so does an unset without `--persist`; with it, the key is taken out of the file, too.
//!
//! ```text
//! configstream persisted changes 1
//! {"source":"agent-runtime","key":"log_level","value":"debug","who":"root","when":"2026-11-25T04:01:14Z"}
//! crc32 0a1b2c3d
//! ```
//!
//! Values stand there as they are, secrets too, and so only the owner can read the file. It holds
//! at most [`MAX_CHANGES`], [`MAX_VALUES`] and [`MAX_BYTES`], is replaced in one step
//! (`atomic_file`), and is written whole each time: a persisted change costs a sync of the disk,
//! and time in proportion to all that is persisted.
//!
//! A file that is damaged, or not one of these, keeps the agent from starting: to go on without it would silently take
//! back what somebody was promised.

mod error;
mod format;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use configstream_engine::settings::{Change, Key, Provenance, Source, Value};
use configstream_grpc::lock::RwLock;

pub use self::error::PersistError;

use self::format::{read, render, values_in};
use crate::atomic_file;
use crate::claim::Claim;

/// The most changes that persist.
pub const MAX_CHANGES: usize = 4096;

/// The longest file.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The most values that persist, those of lists and maps included: in memory an item takes many
/// times the bytes it has here.
pub const MAX_VALUES: u64 = 500_000;

/// The persisted changes of one run directory, whose lock the owner holds. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Persisted {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    claim: Option<Claim>,
    /// What the file holds. Only the resolver changes it.
    changes: RwLock<Changes>,
}

type Changes = BTreeMap<(Source, Key), Kept>;

/// A value that persists.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Kept {
    /// The value.
    pub value: Value,
    /// Who asked for it.
    pub who: Arc<str>,
    /// When, in whole seconds.
    pub when: SystemTime,
}

impl Kept {
    /// Who asked for it and when, for people.
    #[must_use]
    pub fn origin(&self) -> String {
        let when = humantime::format_rfc3339_seconds(self.when);
        format!("by {} at {when}", self.who)
    }
}

/// A change that can be kept.
#[derive(Debug)]
#[must_use = "nothing is kept before `keep`"]
pub(crate) struct Plan {
    persisted: Persisted,
    before: Changes,
    after: Changes,
}

impl Plan {
    /// Whether what is kept would be something else.
    pub(crate) fn changes_something(&self) -> bool {
        self.before != self.after
    }

    /// Keeps it: when this returns, a restart finds it.
    ///
    /// # Errors
    ///
    /// The file cannot be written; then what is kept is what was.
    pub(crate) fn keep(self) -> Result<NowKept, PersistError> {
        let changed = self.changes_something();
        let Self {
            persisted,
            before,
            after,
        } = self;
        if changed {
            persisted.write(&before, after)?;
        }
        Ok(NowKept { persisted, before })
    }
}

/// A change that is kept and may yet be taken back.
#[derive(Debug)]
#[must_use = "a change that is not published is to be taken back"]
pub(crate) struct NowKept {
    persisted: Persisted,
    before: Changes,
}

impl NowKept {
    /// As if it had never been kept.
    ///
    /// # Errors
    ///
    /// The file cannot be written: the change stays kept.
    pub(crate) fn take_back(self) -> Result<(), PersistError> {
        let now = self.persisted.shared.changes.read().clone();
        if now == self.before {
            return Ok(());
        }
        self.persisted.write(&now, self.before)
    }
}

impl Persisted {
    /// Reads what is kept. Nothing is written, and no file is as good as an empty one.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not as it was written.
    pub fn open(path: &Path) -> Result<Self, PersistError> {
        Self::open_with(path, None)
    }

    /// The same in a run directory, where nothing is written once the claim is lost.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not as it was written.
    pub fn open_claimed(path: &Path, claim: &Claim) -> Result<Self, PersistError> {
        Self::open_with(path, Some(claim.clone()))
    }

    fn open_with(path: &Path, claim: Option<Claim>) -> Result<Self, PersistError> {
        let changes = read(path)?;
        count(&changes);
        Ok(Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                claim,
                changes: RwLock::new(changes),
            }),
        })
    }

    /// All that is kept, as one change, for the start.
    #[must_use]
    pub fn changes(&self) -> Change {
        let changes = self.shared.changes.read();
        Change::batch(changes.iter().map(|((source, key), kept)| {
            Change::set(*source, key.clone(), kept.value.clone())
                .with_provenance(Provenance::runtime_at(kept.who.clone(), kept.when))
        }))
    }

    /// What is kept for a key in a layer, whether the layer holds it now or not.
    #[must_use]
    pub fn get(&self, source: Source, key: &Key) -> Option<Kept> {
        let changes = self.shared.changes.read();
        changes.get(&(source, key.clone())).cloned()
    }

    /// How many values are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.changes.read().len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// What keeping a change comes to: what it sets is kept, what it unsets no longer. Nothing is written.
    ///
    /// # Errors
    ///
    /// The change cannot be kept.
    pub(crate) fn plan(&self, change: &Change, now: SystemTime) -> Result<Plan, PersistError> {
        let before = self.shared.changes.read().clone();
        let mut after = before.clone();
        record(&mut after, change, now)?;
        if after.len() > MAX_CHANGES {
            return Err(PersistError::TooMany);
        }
        if after
            .values()
            .map(|kept| values_in(&kept.value))
            .sum::<u64>()
            > MAX_VALUES
        {
            return Err(PersistError::TooManyValues);
        }
        let content = render(&after);
        if content.len() as u64 > MAX_BYTES {
            return Err(PersistError::TooLong);
        }
        Ok(Plan {
            persisted: self.clone(),
            before,
            after,
        })
    }

    fn write(&self, before: &Changes, after: Changes) -> Result<(), PersistError> {
        let Shared { path, claim, .. } = &*self.shared;
        let content = render(&after);
        let replace = |content: &str| atomic_file::write(path, content.as_bytes(), claim.as_ref());
        if let Err(error) = replace(&content) {
            // Only if the very last step failed does the file hold the new content. Then it may still be taken back.
            let is_new = || {
                let found = atomic_file::read(path, MAX_BYTES);
                found.is_ok_and(|found| found.is_some_and(|found| found == content.as_bytes()))
            };
            let uncertain = is_new() && replace(&render(before)).is_err() && is_new();
            return Err(PersistError::Unwritable {
                path: path.clone(),
                error,
                uncertain,
            });
        }
        count(&after);
        *self.shared.changes.write() = after;
        Ok(())
    }
}

/// Reads the bytes of a file, and gives what would be written for what was read.
#[cfg(feature = "internals")]
pub(crate) fn rewritten(bytes: &[u8]) -> Result<String, &'static str> {
    format::parse(bytes).map(|changes| render(&changes))
}

fn count(changes: &Changes) {
    // Some thousands at most.
    #[allow(clippy::cast_precision_loss)]
    metrics::gauge!("configstream_persisted_changes").set(changes.len() as f64);
}

/// What a change makes of what is kept.
fn record(kept: &mut Changes, change: &Change, now: SystemTime) -> Result<(), PersistError> {
    match change {
        Change::Set {
            source,
            key,
            value,
            provenance,
        } => {
            let (who, when) = match provenance {
                Some(Provenance::Runtime { who, when }) => (who.clone(), when.unwrap_or(now)),
                _ => ("somebody".into(), now),
            };
            let when = whole_seconds(when);
            let value = value.clone().canonical();
            kept.insert((keepable(*source)?, key.clone()), Kept { value, who, when });
        }
        Change::Unset { source, key } => {
            kept.remove(&(keepable(*source)?, key.clone()));
        }
        Change::Batch(changes) => {
            for change in changes {
                record(kept, change, now)?;
            }
        }
        other => return Err(PersistError::WholeLayer(source_of(other))),
    }
    Ok(())
}

/// A layer that something else fills anew at each start cannot keep a change beside that.
fn keepable(source: Source) -> Result<Source, PersistError> {
    match source {
        Source::Default | Source::File | Source::EnvironmentVariable | Source::Cli => {
            Err(PersistError::Layer(source))
        }
        other => Ok(other),
    }
}

fn source_of(change: &Change) -> Source {
    match change {
        Change::ReplaceLayer { source, .. } => *source,
        _ => Source::Unknown,
    }
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // The year 9999, where the notation ends.
    let seconds = since.as_secs().min(253_402_300_799);
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("persisted");
        (root, path)
    }

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn set(name: &str, value: impl Into<Value>) -> Change {
        Change::set(Source::AgentRuntime, key(name), value)
            .with_provenance(Provenance::runtime_at("root", at(1_764_000_000)))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn try_keep(
        persisted: &Persisted,
        change: &Change,
        now: SystemTime,
    ) -> Result<NowKept, PersistError> {
        persisted.plan(change, now)?.keep()
    }

    fn keep(persisted: &Persisted, change: &Change) {
        let _ = try_keep(persisted, change, at(9)).unwrap();
    }

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let (_root, path) = place();
        let persisted = Persisted::open(&path).unwrap();
        assert!(
            persisted.is_empty() && !path.exists(),
            "opening writes nothing"
        );
        let values = [
            Value::from(true),
            Value::MAX_INTEGER.into(),
            (-7).into(),
            1.0.into(),
            (-0.0).into(),
            0.1.into(),
            5e-324.into(),
            f64::MAX.into(),
            8.41_f64.sqrt().into(),
            "line\nbreak \"quoted\" \u{1f980} \u{0}".into(),
            "".into(),
            Value::list([]).unwrap(),
            Value::map([
                (
                    "X.y",
                    Value::list([1.into(), 1.0.into(), "1".into()]).unwrap(),
                ),
                ("", "".into()),
            ])
            .unwrap(),
        ];
        for (number, value) in values.iter().enumerate() {
            keep(&persisted, &set(&format!("k{number}"), value.clone()));
        }
        let again = Persisted::open(&path).unwrap();
        assert_eq!(again.len(), values.len());
        for (number, value) in values.iter().enumerate() {
            let kept = again
                .get(Source::AgentRuntime, &key(&format!("k{number}")))
                .unwrap();
            assert_eq!(kept.value, *value, "{value}");
            assert_eq!(kept.origin(), "by root at 2025-11-24T16:00:00Z");
        }
    }

    #[test]
    fn an_unset_takes_out_what_was_kept_and_a_batch_counts_as_one() {
        let (_root, path) = place();
        let persisted = Persisted::open(&path).unwrap();
        keep(
            &persisted,
            &Change::batch([set("a", 1), set("b", 2), set("a", 3)]),
        );
        keep(
            &persisted,
            &Change::batch([Change::unset(Source::AgentRuntime, key("b")), set("c", 4)]),
        );
        // The same key in another layer is another one.
        keep(&persisted, &Change::unset(Source::RemoteConfig, key("a")));
        let expected = Change::batch([set("a", 3), set("c", 4)]);
        assert_eq!(Persisted::open(&path).unwrap().changes(), expected);
        assert_eq!(persisted.changes(), expected);
    }

    #[test]
    fn what_is_taken_back_was_never_kept() {
        let (_root, path) = place();
        let persisted = Persisted::open(&path).unwrap();
        keep(&persisted, &set("a", 1));
        let before = try_keep(&persisted, &set("a", 2), at(9)).unwrap();
        before.take_back().unwrap();
        assert_eq!(persisted.changes(), set_all([("a", 1)]));
        assert_eq!(
            Persisted::open(&path).unwrap().changes(),
            set_all([("a", 1)])
        );
    }

    fn set_all<const N: usize>(all: [(&str, i64); N]) -> Change {
        Change::batch(all.map(|(key, value)| set(key, value)))
    }

    #[test]
    fn a_write_that_fails_keeps_what_was_kept() {
        let (_root, path) = place();
        let persisted = Persisted::open(&path).unwrap();
        keep(&persisted, &set("a", 1));
        let blocked = path.with_extension("new");
        fs::create_dir(&blocked).unwrap();
        let error = try_keep(&persisted, &set("a", 2), at(9)).unwrap_err();
        assert!(
            matches!(
                error,
                PersistError::Unwritable {
                    uncertain: false,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.mend().contains("writable"), "{}", error.mend());
        assert_eq!(persisted.changes(), set_all([("a", 1)]));
        assert_eq!(
            Persisted::open(&path).unwrap().changes(),
            set_all([("a", 1)])
        );
        // What changes nothing needs no write.
        let kept = persisted.get(Source::AgentRuntime, &key("a")).unwrap();
        let _ = try_keep(&persisted, &set("a", 1), kept.when).unwrap();
        fs::remove_dir(&blocked).unwrap();
        keep(&persisted, &set("a", 2));
        assert_eq!(
            Persisted::open(&path).unwrap().changes(),
            set_all([("a", 2)])
        );
    }

    #[test]
    fn it_is_bounded_and_says_so() {
        let (_root, path) = place();
        let persisted = Persisted::open(&path).unwrap();
        let many = Change::batch((0..MAX_CHANGES).map(|number| set(&format!("k{number}"), 1)));
        keep(&persisted, &many);
        let error = try_keep(&persisted, &set("one-more", 1), at(9)).unwrap_err();
        assert!(matches!(error, PersistError::TooMany), "{error}");
        keep(&persisted, &set("k7", 2));
        let long = "x".repeat(usize::try_from(MAX_BYTES).unwrap());
        let error = try_keep(&persisted, &set("k7", long), at(9)).unwrap_err();
        assert!(matches!(error, PersistError::TooLong), "{error}");
        let list = |items| Value::list((0..items).map(|_| Value::Int(1))).unwrap();
        let error = try_keep(&persisted, &set("k7", list(MAX_VALUES)), at(9)).unwrap_err();
        assert!(matches!(error, PersistError::TooManyValues), "{error}");
        assert_eq!(Persisted::open(&path).unwrap().len(), MAX_CHANGES);
        // Each of the others is one, and so is a list itself.
        keep(
            &persisted,
            &set("k7", list(MAX_VALUES - MAX_CHANGES as u64)),
        );
        assert_eq!(Persisted::open(&path).unwrap().len(), MAX_CHANGES);
        let mut more = persisted.shared.changes.read().clone();
        let kept = more[&(Source::AgentRuntime, key("k7"))].clone();
        more.insert((Source::Unknown, key("k7")), kept);
        more.remove(&(Source::AgentRuntime, key("k8")));
        fs::write(&path, render(&more)).unwrap();
        let error = Persisted::open(&path).unwrap_err().to_string();
        assert!(error.contains("it holds more than it can"), "{error}");
    }

    #[test]
    fn layers_that_each_start_fills_cannot_persist() {
        let (_root, path) = place();
        let persisted = Persisted::open(&path).unwrap();
        for source in [
            Source::Default,
            Source::File,
            Source::EnvironmentVariable,
            Source::Cli,
        ] {
            let error = try_keep(&persisted, &Change::set(source, key("a"), 1), at(9)).unwrap_err();
            let text = format!("{error}; {}", error.mend());
            assert!(
                text.contains(source.as_str()) && text.contains("agent-runtime"),
                "{text}"
            );
        }
        let layer = Change::replace_layer(Source::AgentRuntime, []);
        assert!(try_keep(&persisted, &layer, at(9)).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn damage_and_what_is_foreign_is_refused_with_the_mend_and_left_as_it_is() {
        let (_root, path) = place();
        let persisted = Persisted::open(&path).unwrap();
        keep(&persisted, &set_all([("a", 1), ("b", 2)]));
        let good = fs::read_to_string(&path).unwrap();
        let (content, _) = good.split_at(good.find("crc32").unwrap());
        let sealed = |content: String| {
            let checksum = crc32fast::hash(content.as_bytes());
            format!("{content}crc32 {checksum:08x}\n").into_bytes()
        };
        let mut damaged: Vec<Vec<u8>> = vec![
            Vec::new(),
            b"\xff\xfe".to_vec(),
            b"log_level: debug\n".to_vec(),
            b"configstream sequence 1\nepoch 5\nused-up-to 7\ncrc32 00000000\n".to_vec(),
            format!("{good}\n").into_bytes(),
            format!("{good}more\n").into_bytes(),
            // A later version, or one that knows more.
            sealed(content.replace("changes 1", "changes 2")),
            sealed(content.replace("\"who\"", "\"whom\"")),
            sealed(content.replace("agent-runtime", "agent-nowhere")),
            sealed(content.replace("\"b\"", "\"a\"")),
            sealed(content.replace("\"b\"", "\"B\"")),
            sealed(content.replace("\"value\":2", "\"value\":null")),
            sealed(format!("{content}\n")),
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
            let error = Persisted::open(&path).expect_err(&shown);
            assert!(error.to_string().contains("is damaged"), "{error}");
            assert!(error.mend().contains("rm "), "{}", error.mend());
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = Persisted::open(&path).unwrap_err();
        assert!(matches!(error, PersistError::Unreadable { .. }), "{error}");
    }
}
