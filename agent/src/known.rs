//! The table of known keys: each with its default and its type.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::LazyLock;

use configstream_engine::settings::{Assignment, Key, Provenance, Value};

use crate::scalar::Kind;
use crate::yaml::{self, Budget, Document, FileError};

/// The example configuration that is compiled in, as text.
pub const EXAMPLE: &str = include_str!("embedded/example.yaml");

/// What messages call [`EXAMPLE`].
pub const EXAMPLE_NAME: &str = "embedded/example.yaml";

/// A known key's type and default.
#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    default: Value,
    line: usize,
}

/// The known keys of an agent.
#[derive(Clone, Debug, Default)]
pub struct Known {
    keys: BTreeMap<Key, Entry>,
}

impl Known {
    /// No key is known: every value is what it looks like.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Reads a table of known keys: a configuration whose values are the defaults.
    ///
    /// # Errors
    ///
    /// Those of any configuration file.
    pub fn parse(name: &str, text: &str) -> Result<Self, FileError> {
        let path = Path::new(name);
        let document = Document::parse(path, text)?;
        let keys = yaml::settings(path, &document, &Self::nothing(), &mut Budget::default())?
            .into_iter()
            .map(|(key, typed)| {
                (
                    key,
                    Entry {
                        kind: typed.kind,
                        default: typed.value,
                        line: typed.position.line,
                    },
                )
            })
            .collect();
        Ok(Self { keys })
    }

    /// The table that is compiled in.
    ///
    /// # Panics
    ///
    /// Never: a test parses the same bytes.
    #[must_use]
    pub fn embedded() -> &'static Self {
        static EMBEDDED: LazyLock<Known> =
            LazyLock::new(|| match Known::parse(EXAMPLE_NAME, EXAMPLE) {
                Ok(known) => known,
                Err(error) => panic!("{error}"),
            });
        &EMBEDDED
    }

    /// How many keys are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys with their types, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, Kind)> {
        self.keys.iter().map(|(key, entry)| (key, entry.kind))
    }

    /// The type of a key, if it is known.
    #[must_use]
    pub fn kind(&self, key: &str) -> Option<Kind> {
        self.keys.get(key).map(|entry| entry.kind)
    }

    /// The default of a key, if it is known.
    #[must_use]
    pub fn default_of(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|entry| &entry.default)
    }

    /// Some known key inside the section `key`, if it is one.
    #[must_use]
    pub fn below(&self, key: &str) -> Option<&Key> {
        let start = format!("{key}.");
        let (first, _) = self
            .keys
            .range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded))
            .next()?;
        first.as_str().starts_with(&start).then_some(first)
    }

    /// The known setting, and its type, that `key` would have to be a section of.
    #[must_use]
    pub fn above(&self, key: &str) -> Option<(&Key, Kind)> {
        key.match_indices('.')
            .find_map(|(dot, _)| self.keys.get_key_value(&key[..dot]))
            .map(|(key, entry)| (key, entry.kind))
    }

    /// All defaults, as the settings of a layer.
    #[must_use]
    pub fn defaults(&self) -> Vec<Assignment> {
        self.keys
            .iter()
            .map(|(key, entry)| Assignment {
                key: key.clone(),
                value: entry.default.clone(),
                provenance: Some(Provenance::Embedded { line: entry.line }),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_table_is_large_and_mixed() {
        let known = Known::parse(EXAMPLE_NAME, EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
        assert!(known.len() >= 350, "only {} settings", known.len());
        for (kind, at_least) in [
            (Kind::Bool, 50),
            (Kind::Int, 50),
            (Kind::Float, 15),
            (Kind::String, 50),
            (Kind::Duration, 40),
            (Kind::List, 30),
            (Kind::Map, 10),
        ] {
            let count = known.iter().filter(|(_, found)| *found == kind).count();
            assert!(
                count >= at_least,
                "{count} of {kind}, expected at least {at_least}"
            );
        }
        let deepest = known
            .iter()
            .map(|(key, _)| key.as_str().split('.').count())
            .max();
        assert!(deepest >= Some(4), "sections nest: {deepest:?}");
    }

    #[test]
    fn sections_and_values_are_told_apart() {
        let known = Known::embedded();
        assert_eq!(known.kind("apm_config.receiver_port"), Some(Kind::Int));
        assert_eq!(known.kind("forwarder_timeout"), Some(Kind::Duration));
        assert_eq!(known.kind("apm_config"), None);
        assert!(known.below("apm_config").is_some());
        assert!(known.below("log_level").is_none());
        assert_eq!(
            known.above("log_level.x.y").map(|(key, _)| key.as_str()),
            Some("log_level")
        );
        assert!(known.above("apm_config.enabled").is_none());
        assert_eq!(
            known.default_of("forwarder_timeout"),
            Some(&Value::Int(20_000_000_000))
        );
        assert!(
            matches!(known.default_of("kubernetes_node_labels_as_tags"), Some(Value::Map(map)) if map.len() == 2)
        );
    }
}
