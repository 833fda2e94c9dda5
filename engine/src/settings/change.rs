//! What a publisher asks of the settings.

use super::{key::Key, provenance::Provenance, source::Source, value::Value};

/// A change to the layers of [`Settings`](super::Settings): all of it happens, or none.
///
/// # Examples
///
/// ```
/// use configstream_engine::settings::{Change, Key, Provenance, Source};
///
/// let key = Key::parse("log_level").unwrap();
/// let change = Change::set(Source::AgentRuntime, key, "debug").with_provenance(Provenance::runtime("root"));
/// # let _ = change;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Put one value into a layer.
    Set {
        /// The layer.
        source: Source,
        /// The name.
        key: Key,
        /// The value.
        value: Value,
        /// Where it came from.
        provenance: Option<Provenance>,
    },
    /// Take one value out of a layer. If none is there, nothing changes.
    Unset {
        /// The layer.
        source: Source,
        /// The name.
        key: Key,
    },
    /// Make a layer hold exactly these settings. What it held and these do not name is unset, before anything is set.
    ReplaceLayer {
        /// The layer.
        source: Source,
        /// All it is to hold, in any order, each key once.
        settings: Vec<Assignment>,
    },
    /// Several changes, in this order, as one.
    Batch(Vec<Change>),
}

/// A value for a key, not yet in a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The name.
    pub key: Key,
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub provenance: Option<Provenance>,
}

impl Change {
    /// Put one value into a layer.
    #[must_use]
    pub fn set(source: Source, key: Key, value: impl Into<Value>) -> Self {
        Self::Set {
            source,
            key,
            value: value.into(),
            provenance: None,
        }
    }

    /// Take one value out of a layer.
    #[must_use]
    pub fn unset(source: Source, key: Key) -> Self {
        Self::Unset { source, key }
    }

    /// Make a layer hold exactly these settings.
    #[must_use]
    pub fn replace_layer(source: Source, settings: impl IntoIterator<Item = Assignment>) -> Self {
        Self::ReplaceLayer {
            source,
            settings: settings.into_iter().collect(),
        }
    }

    /// Several changes as one. A batch among them gives its changes.
    #[must_use]
    pub fn batch(changes: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for change in changes {
            match change {
                Self::Batch(inner) => flat.extend(inner),
                single => flat.push(single),
            }
        }
        Self::Batch(flat)
    }

    /// Says where the value of a [`Set`](Self::Set) came from. Other changes stay as they are: the settings of a layer
    /// each have their own.
    #[must_use]
    pub fn with_provenance(mut self, from: Provenance) -> Self {
        if let Self::Set { provenance, .. } = &mut self {
            *provenance = Some(from);
        }
        self
    }
}

impl Assignment {
    /// A value for a key.
    #[must_use]
    pub fn new(key: Key, value: impl Into<Value>) -> Self {
        Self {
            key,
            value: value.into(),
            provenance: None,
        }
    }

    /// Says where the value came from.
    #[must_use]
    pub fn with_provenance(mut self, from: Provenance) -> Self {
        self.provenance = Some(from);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn a_batch_of_batches_is_one_batch() {
        let change = |name| Change::unset(Source::File, key(name));
        let batch = Change::batch([
            change("a"),
            Change::batch([change("b"), Change::batch([change("c")])]),
        ]);
        assert_eq!(
            batch,
            Change::Batch(vec![change("a"), change("b"), change("c")])
        );
    }

    #[test]
    fn debug_does_not_tell_the_value() {
        let set = Change::set(Source::Secret, key("api_key"), "hunter2");
        let replace =
            Change::replace_layer(Source::Secret, [Assignment::new(key("api_key"), "hunter2")]);
        assert!(!format!("{set:?} {replace:?}").contains("hunter2"));
    }
}
