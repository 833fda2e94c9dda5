//! What can be wrong with a configuration file: where, what, and what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Position;
use crate::scalar::{Kind, ScalarError};

/// Why a configuration file is refused.
///
/// Prints as `file:line:column: what; what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    path: PathBuf,
    position: Option<Position>,
    problem: Problem,
}

impl FileError {
    /// An error at a place in a file.
    #[must_use]
    pub fn new(path: &Path, position: Position, problem: Problem) -> Self {
        Self {
            path: path.to_owned(),
            position: Some(position),
            problem,
        }
    }

    /// An error about a file as a whole.
    #[must_use]
    pub fn whole(path: &Path, problem: Problem) -> Self {
        Self {
            path: path.to_owned(),
            position: None,
            problem,
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where in the file, unless it is the file as a whole.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(formatter, ":{line}:{column}")?;
        }
        write!(formatter, ": {}; {}", self.problem, Mend(&self.problem))
    }
}

impl Error for FileError {}

/// What is wrong with a configuration file. Its text says what; the text of [`FileError`] adds where and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The system would not let us read it.
    Unreadable {
        /// What kind of failure.
        kind: io::ErrorKind,
        /// What the system said.
        reason: String,
    },
    /// The path names a directory.
    Directory,
    /// The path names something else, such as a named pipe, that cannot be read again.
    NotAFile(&'static str),
    /// Longer than is read.
    FileTooLong {
        /// The limit.
        limit_bytes: u64,
    },
    /// More files than are read.
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// All files together are longer than is read.
    FilesTooLong {
        /// The limit.
        limit_bytes: u64,
    },
    /// Not UTF-8.
    NotUtf8,
    /// No YAML; what the parser says.
    Syntax(String),
    /// A second document behind `---`.
    SecondDocument,
    /// The outermost node is no mapping.
    RootIsNoMapping,
    /// Collections nest too deep to be read.
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A value nests too deep to be streamed.
    ValueTooDeep {
        /// The setting.
        key: String,
    },
    /// Too many nodes, with aliases written out, together with what was read before for the same
    /// purpose.
    TooManyNodes {
        /// The limit.
        limit: u64,
    },
    /// Too long texts and keys, likewise.
    TooMuchText {
        /// The limit.
        limit_bytes: u64,
    },
    /// An alias inside what it refers to.
    AliasOfItself,
    /// A tag nobody knows. It is not shown: it may be a secret that starts with `!` and lacks its quotes.
    UnknownTag {
        /// The nearest key before it.
        key: Option<Arc<str>>,
    },
    /// `<<`, which YAML 1.2 does not have.
    MergeKey,
    /// A list or a mapping as a key.
    KeyIsNoText,
    /// The same key twice in one mapping.
    DuplicateKey {
        /// The key.
        key: Arc<str>,
        /// Where it stood first.
        first: Position,
    },
    /// The same setting twice, once with dots and once nested.
    DuplicateSetting {
        /// The setting.
        key: String,
        /// Where it stood first.
        first: String,
    },
    /// A key and its parent both have values.
    KeyAndParent {
        /// The longer of the two.
        key: String,
        /// The shorter.
        parent: String,
        /// Where the other one stands.
        other: String,
    },
    /// A key that no setting can have.
    BadKey {
        /// The key as written.
        key: Arc<str>,
        /// The section it stands in; empty at the outermost level.
        section: String,
    },
    /// A value where a section is known.
    IsSection {
        /// The key.
        key: String,
        /// A known key inside.
        example: String,
    },
    /// A key below one that is known to be a value.
    BelowValue {
        /// The key.
        key: String,
        /// The known key above it.
        parent: String,
        /// The type of that one.
        kind: Kind,
    },
    /// A list or mapping where another type is known.
    WrongShape {
        /// The setting.
        key: String,
        /// The known type.
        expected: Kind,
        /// What stands there.
        found: &'static str,
    },
    /// A scalar that cannot be what it should.
    Scalar {
        /// The setting.
        key: String,
        /// What is wrong.
        error: ScalarError,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { reason, .. } => write!(formatter, "cannot be read: {reason}"),
            Self::Directory => formatter.write_str("is a directory, not a file"),
            Self::NotAFile(kind) => write!(formatter, "is {kind}, which cannot be read again"),
            Self::FileTooLong { limit_bytes } => {
                write!(formatter, "is longer than {limit_bytes} bytes")
            }
            Self::TooManyFiles { limit } => {
                write!(formatter, "is one file too many: {limit} are read at most")
            }
            Self::FilesTooLong { limit_bytes } => write!(
                formatter,
                "makes all files together longer than {limit_bytes} bytes"
            ),
            Self::NotUtf8 => formatter.write_str("is not UTF-8 from here on"),
            Self::Syntax(what) => write!(formatter, "is no valid YAML: {what}"),
            Self::SecondDocument => formatter.write_str("a second YAML document starts here"),
            Self::RootIsNoMapping => {
                formatter.write_str("the outermost level is no mapping of keys to values")
            }
            Self::TooDeep { limit } => write!(formatter, "nests deeper than {limit} levels"),
            Self::ValueTooDeep { key } => write!(
                formatter,
                "the value of `{key}` nests too deep to be streamed"
            ),
            Self::TooManyNodes { limit } => write!(
                formatter,
                "stands for more than {limit} values, together with what is read before it (aliases count each time they are used)"
            ),
            Self::TooMuchText { limit_bytes } => write!(
                formatter,
                "stands for more than {limit_bytes} bytes of keys and texts, together with what is read before it (aliases count each time they are used, and keys with their sections)"
            ),
            Self::AliasOfItself => {
                formatter.write_str("an alias stands inside the node it refers to")
            }
            Self::UnknownTag { key: Some(key) } => {
                write!(formatter, "the tag of `{key}` is unknown")
            }
            Self::UnknownTag { key: None } => formatter.write_str("the tag here is unknown"),
            Self::MergeKey => formatter.write_str("the merge key `<<` is no part of YAML 1.2"),
            Self::KeyIsNoText => formatter.write_str("a key is a list or a mapping"),
            Self::DuplicateKey { key, first } => write!(
                formatter,
                "the key `{key}` is given twice, first at {first}"
            ),
            Self::DuplicateSetting { key, first } => write!(
                formatter,
                "the setting `{key}` is given twice, first at {first}"
            ),
            Self::KeyAndParent { key, parent, other } => {
                write!(
                    formatter,
                    "`{parent}` and `{key}` both have values, but the first is the section of the second (the other one is at {other})"
                )
            }
            Self::BadKey { key, section } => {
                write!(formatter, "`{key}` cannot be a key")?;
                if !section.is_empty() {
                    write!(formatter, " of the section `{section}`")?;
                }
                formatter.write_str(if key.is_empty() {
                    ", because it is empty"
                } else if key.contains(char::is_uppercase) {
                    ", because it has upper-case letters"
                } else if section.is_empty() || !key.contains('.') {
                    ", because keys are made of a-z, 0-9, `_` and `-`"
                } else {
                    ", because it has a dot"
                })
            }
            Self::IsSection { key, example } => write!(
                formatter,
                "`{key}` is a section (it holds `{example}`), not a value"
            ),
            Self::BelowValue { key, parent, kind } => write!(
                formatter,
                "`{key}` cannot be, because `{parent}` is {kind}, not a section"
            ),
            Self::WrongShape {
                key,
                expected,
                found,
            } => write!(formatter, "`{key}` is {expected}, but {found} stands here"),
            Self::Scalar { key, error } => write!(formatter, "`{key}` {error}"),
        }
    }
}

/// What to do about a problem.
struct Mend<'a>(&'a Problem);

impl fmt::Display for Mend<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Problem::Unreadable {
                kind: io::ErrorKind::NotFound,
                ..
            } => "create it, or name another with --config",
            Problem::Unreadable {
                kind: io::ErrorKind::PermissionDenied,
                ..
            } => "let the user that runs configstream read it",
            Problem::Unreadable { .. } => "make it readable, or name another with --config",
            Problem::Directory => "name a file with --config",
            Problem::NotAFile(_) => "write it to a file, and name that",
            Problem::TooManyFiles { .. } => "merge some of them",
            Problem::FilesTooLong { .. } => "keep bulk data elsewhere",
            Problem::FileTooLong { .. } => "split it, or keep bulk data elsewhere",
            Problem::NotUtf8 => "save it as UTF-8",
            Problem::Syntax(_) => {
                "correct it here or on the lines above (indentation, quotes, brackets)"
            }
            Problem::SecondDocument => {
                "keep one document per file and give several files with --config"
            }
            Problem::RootIsNoMapping => "write `key: value` lines",
            Problem::TooDeep { .. } | Problem::ValueTooDeep { .. } => "flatten it",
            Problem::TooManyNodes { .. } | Problem::TooMuchText { .. } => {
                "write less, or use fewer aliases"
            }
            Problem::AliasOfItself => "write the value out",
            Problem::UnknownTag { .. } => {
                "quote the text if it starts with `!`, or remove the tag; known are !duration, !map, !!str, !!bool, !!int, \
                 !!float, !!seq, !!map"
            }
            Problem::MergeKey => "write the keys out, or quote it if it is a plain key",
            Problem::KeyIsNoText => "use a text as key",
            Problem::DuplicateKey { .. } | Problem::DuplicateSetting { .. } => {
                "remove one of the two"
            }
            Problem::KeyAndParent { .. } => "remove one of the two, or rename it",
            Problem::BadKey { key, section } => {
                return if key.contains(char::is_uppercase) && !key.contains(' ') {
                    write!(formatter, "write `{}`", key.to_lowercase())
                } else if !section.is_empty() && key.contains('.') {
                    formatter.write_str("nest it instead of writing dots")
                } else {
                    formatter.write_str("rename it")
                };
            }
            Problem::IsSection { example, .. } => {
                return write!(formatter, "set the keys inside it, such as `{example}`");
            }
            Problem::BelowValue { parent, .. } => {
                return write!(formatter, "set `{parent}` itself");
            }
            Problem::WrongShape { expected, .. } => {
                return write!(formatter, "write {}", expected.example());
            }
            Problem::Scalar { error, .. } => return formatter.write_str(&error.mend()),
        })
    }
}
