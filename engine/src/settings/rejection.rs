//! Why a change cannot be.

use std::{error, fmt};

use super::{key::Key, provenance::Provenance, source::Source, value::ValueError};

/// Why [`Settings`](super::Settings) refused a change. Nothing of the change happened, whatever else was in it.
///
/// Names the layer and the key that were to change, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The value cannot be streamed.
    Value {
        /// The layer.
        source: Source,
        /// The name.
        key: Key,
        /// What is wrong with it.
        reason: ValueError,
    },
    /// The setting alone is too large for a message.
    SettingTooLarge {
        /// The layer.
        source: Source,
        /// The name.
        key: Key,
        /// What it would take, in bytes.
        encoded_len: u64,
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// With this setting, all that win together are too large for a snapshot.
    TotalTooLarge {
        /// The layer in which a change crossed the limit, be it by what it set or by what it revealed.
        source: Source,
        /// The name.
        key: Key,
        /// What all would take, in bytes.
        encoded_len: u64,
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// Keys are leaves: one of these two is the section that the other one lies in.
    Conflict {
        /// The layer.
        source: Source,
        /// The name that was to be set.
        key: Key,
        /// The highest layer that holds the other one.
        other_source: Source,
        /// The name that is set already, in whichever layer, or earlier in the same change.
        other: Key,
    },
    /// A [`ReplaceLayer`](super::Change::ReplaceLayer) names a key twice.
    Duplicate {
        /// The layer.
        source: Source,
        /// The name.
        key: Key,
        /// Where the first one came from.
        first: Option<Provenance>,
        /// Where the second one came from.
        second: Option<Provenance>,
    },
}

impl Rejection {
    /// The layer that was to change.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Self::Value { source, .. }
            | Self::SettingTooLarge { source, .. }
            | Self::TotalTooLarge { source, .. }
            | Self::Conflict { source, .. }
            | Self::Duplicate { source, .. } => *source,
        }
    }

    /// The name that was to change.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Value { key, .. }
            | Self::SettingTooLarge { key, .. }
            | Self::TotalTooLarge { key, .. }
            | Self::Conflict { key, .. }
            | Self::Duplicate { key, .. } => key,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` in {}: ", self.key(), self.source())?;
        match self {
            Self::Value { reason, .. } => write!(f, "{reason}"),
            Self::SettingTooLarge {
                encoded_len, limit, ..
            } => write!(
                f,
                "the setting would take {encoded_len} bytes of a message, {limit} at most are allowed"
            ),
            Self::TotalTooLarge {
                encoded_len, limit, ..
            } => write!(
                f,
                "with it, all settings together would take {encoded_len} bytes, {limit} at most are allowed"
            ),
            Self::Conflict {
                key,
                other,
                other_source,
                ..
            } if key.is_below(other) => write!(
                f,
                "`{other}` has a value in {other_source}, so it cannot be a section with keys below it"
            ),
            Self::Conflict {
                other,
                other_source,
                ..
            } => write!(
                f,
                "it is a section, since `{other}` has a value in {other_source}, so it cannot have one itself"
            ),
            Self::Duplicate { first, second, .. } => {
                f.write_str("the key is there twice")?;
                match (first, second) {
                    (Some(first), Some(second)) => write!(f, ", at {first} and at {second}"),
                    (Some(place), None) | (None, Some(place)) => write!(f, ", once at {place}"),
                    (None, None) => Ok(()),
                }
            }
        }
    }
}

// Its reason is part of the text, so there is no further cause to walk to.
impl error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn conflict(new: &str, other: &str) -> Rejection {
        Rejection::Conflict {
            source: Source::File,
            key: key(new),
            other_source: Source::Default,
            other: key(other),
        }
    }

    #[test]
    fn each_reason_names_key_source_and_what_to_mend() {
        for (rejection, text) in [
            (
                Rejection::Value {
                    source: Source::File,
                    key: key("a.b"),
                    reason: ValueError::NotFinite,
                },
                "`a.b` in file: a number has to be finite",
            ),
            (
                conflict("a.b", "a"),
                "`a.b` in file: `a` has a value in default, so it cannot be a section with keys below it",
            ),
            (
                conflict("a", "a.b"),
                "`a` in file: it is a section, since `a.b` has a value in default, so it cannot have one itself",
            ),
            (
                Rejection::Duplicate {
                    source: Source::File,
                    key: key("a"),
                    first: Some(Provenance::file("x.yaml", 1)),
                    second: Some(Provenance::file("x.yaml", 9)),
                },
                "`a` in file: the key is there twice, at x.yaml:1 and at x.yaml:9",
            ),
            (
                Rejection::SettingTooLarge {
                    source: Source::Cli,
                    key: key("a"),
                    encoded_len: 11,
                    limit: 10,
                },
                "`a` in cli: the setting would take 11 bytes of a message, 10 at most are allowed",
            ),
        ] {
            assert_eq!(rejection.to_string(), text);
        }
    }
}
