//! The name of a setting.

use std::{borrow::Borrow, error, fmt, ops::Deref, str::FromStr};

use crate::sync::Arc;

/// A lower-case dotted path, such as `apm_config.max_traces`: one or more segments `[a-z0-9_-]+`, at most
/// [`MAX_BYTES`](Self::MAX_BYTES) bytes in all.
///
/// Cloning copies a pointer. Keys are ordered by their bytes, so that what lies below a section is contiguous.
///
/// # Examples
///
/// ```
/// use configstream_engine::settings::{Key, KeyError};
///
/// let key = Key::parse("apm_config.max_traces")?;
/// assert_eq!(key.segments().collect::<Vec<_>>(), ["apm_config", "max_traces"]);
/// assert!(key.is_below("apm_config") && !key.is_below("apm"));
/// assert_eq!(Key::parse("apm_config."), Err(KeyError::EmptySegment));
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// Why a text is no [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no text.
    Empty,
    /// Two dots in a row, or one at either end.
    EmptySegment,
    /// A character that no segment has. Upper case is one: keys are lower-cased by the source that reads them.
    Character(char),
    /// More than [`Key::MAX_BYTES`].
    TooLong {
        /// The length found.
        bytes: usize,
    },
}

impl Key {
    /// The longest key, in bytes. It bounds the segments too, and so what looking for a key's ancestors can cost.
    pub const MAX_BYTES: usize = 1024;

    /// Checks a text. O(length).
    ///
    /// # Errors
    /// The first thing found wrong, as a [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(KeyError::TooLong { bytes: text.len() });
        }
        for segment in text.split('.') {
            if segment.is_empty() {
                return Err(KeyError::EmptySegment);
            }
            if let Some(character) = segment.chars().find(|&c| !is_plain(c)) {
                return Err(KeyError::Character(character));
            }
        }
        Ok(Self(text.into()))
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the dots.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether `section` is a proper prefix of this key, by whole segments.
    #[must_use]
    pub fn is_below(&self, section: &str) -> bool {
        self.0
            .strip_prefix(section)
            .is_some_and(|rest| rest.starts_with('.'))
    }

    /// Every section that this key lies in, outermost first: of `a.b.c`, these are `a` and `a.b`.
    pub fn sections(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.match_indices('.').map(|(dot, _)| &self.0[..dot])
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Key {
    type Error = KeyError;

    fn try_from(text: &str) -> Result<Self, KeyError> {
        Self::parse(text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a key cannot be empty"),
            Self::EmptySegment => {
                f.write_str("a key has a name before, between and after its dots")
            }
            Self::Character(character) => write!(
                f,
                "a key consists of lower-case letters, digits, `_`, `-` and dots, not {character:?}"
            ),
            Self::TooLong { bytes } => {
                write!(f, "a key has at most {} bytes, not {bytes}", Key::MAX_BYTES)
            }
        }
    }
}

impl error::Error for KeyError {}

fn is_plain(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_of_plain_segments() {
        for text in ["a", "a.b", "log_level", "apm-config.0.x_y-z", "-", "1.2.3"] {
            assert_eq!(Key::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said() {
        for (text, error) in [
            ("", KeyError::Empty),
            (".", KeyError::EmptySegment),
            (".a", KeyError::EmptySegment),
            ("a.", KeyError::EmptySegment),
            ("a..b", KeyError::EmptySegment),
            ("a.B", KeyError::Character('B')),
            ("a b", KeyError::Character(' ')),
            ("https://a.b", KeyError::Character(':')),
            ("a.\u{fc}", KeyError::Character('\u{fc}')),
            ("a\0", KeyError::Character('\0')),
        ] {
            assert_eq!(Key::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_longest_key_is_accepted_and_one_byte_more_is_not() {
        let longest = "k".repeat(Key::MAX_BYTES);
        assert!(Key::parse(&longest).is_ok());
        let bytes = Key::MAX_BYTES + 1;
        assert_eq!(
            Key::parse(&"k".repeat(bytes)),
            Err(KeyError::TooLong { bytes })
        );
    }

    #[test]
    fn sections_match_whole_segments() {
        let key = Key::parse("a.bc.d").unwrap();
        assert_eq!(key.sections().collect::<Vec<_>>(), ["a", "a.bc"]);
        assert!(key.is_below("a") && key.is_below("a.bc"));
        assert!(!key.is_below("a.b") && !key.is_below("a.bc.d") && !key.is_below(""));
    }

    #[test]
    fn what_lies_below_a_section_is_contiguous() {
        let mut keys: Vec<Key> = ["a0", "a-b", "a.b", "a", "a.0.x", "a_b", "a.z", "b"]
            .map(|text| Key::parse(text).unwrap())
            .into();
        keys.sort();
        let below: Vec<bool> = keys.iter().map(|key| key.is_below("a")).collect();
        assert_eq!(
            below,
            [false, false, true, true, true, false, false, false],
            "{keys:?}"
        );
    }
}
