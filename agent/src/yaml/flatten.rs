//! From a tree to settings.
//!
//! A mapping is a **section**: its keys continue the path. It is **one map value** instead if the known default of
//! its key is a map, if it is tagged `!map`, if it is empty, or if one of its own keys is no plain segment
//! (`[a-z0-9_-]+`), such as a URL or a name with a dot. Sections that are known to exist stay sections: empty they
//! set nothing, and a key in them that is no plain segment is an error. At the outermost level a key may be written
//! with dots (`apm_config.enabled: true`).
//!
//! A setting whose default is known is read as that type, whether its text stands in quotes or not; any other is read
//! by YAML's core schema, where quotes make a string.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use configstream_engine::settings::{Assignment, Key, Provenance, Value};

use super::document::{Content, Document, Entry, Node, Position, Tag};
use super::{Budget, FileError, Problem};
use crate::known::Known;
use crate::scalar::{self, Kind, ScalarError};

/// The settings of several files, merged: where two files set the same key, the later one wins.
///
/// # Errors
///
/// The first thing that no setting can be, in the order of the files, as a [`FileError`].
pub fn assignments(
    documents: &[(&Path, &Document)],
    known: &Known,
) -> Result<Vec<Assignment>, FileError> {
    assignments_within(documents, known, &mut Budget::default())
}

/// The same, with what parsing these documents has left of a budget.
///
/// # Errors
///
/// As [`assignments`]; and the keys are too long, taken together.
pub fn assignments_within(
    documents: &[(&Path, &Document)],
    known: &Known,
    budget: &mut Budget,
) -> Result<Vec<Assignment>, FileError> {
    let mut merged: BTreeMap<Key, Placed> = BTreeMap::new();
    for (path, document) in documents {
        let shown: Arc<str> = path.display().to_string().into();
        for (key, typed) in settings(path, document, known, budget)? {
            let place = Place {
                path: shown.clone(),
                position: typed.position,
            };
            merged.insert(
                key,
                Placed {
                    value: typed.value,
                    place,
                },
            );
        }
    }
    check_parents(&merged)?;
    Ok(merged
        .into_iter()
        .map(|(key, Placed { value, place })| Assignment {
            key,
            value,
            provenance: Some(place.provenance()),
        })
        .collect())
}

/// A setting as a document gives it.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) position: Position,
    pub(crate) value: Value,
    /// Its type; a duration is told apart from an integer.
    pub(crate) kind: Kind,
}

/// The settings of one document by key.
pub(crate) fn settings(
    path: &Path,
    document: &Document,
    known: &Known,
    budget: &mut Budget,
) -> Result<BTreeMap<Key, Typed>, FileError> {
    let mut flattening = Flattening {
        path,
        known,
        budget,
        found: BTreeMap::new(),
        without_value: None,
    };
    flattening.document(document)?;
    Ok(flattening.found)
}

/// The settings of one document by key, and the keys that it names without a value, as a null.
pub(crate) fn settings_and_nulls(
    path: &Path,
    document: &Document,
    known: &Known,
    budget: &mut Budget,
) -> Result<(BTreeMap<Key, Typed>, Vec<Key>), FileError> {
    let mut flattening = Flattening {
        path,
        known,
        budget,
        found: BTreeMap::new(),
        without_value: Some(BTreeMap::new()),
    };
    flattening.document(document)?;
    let without_value = flattening.without_value.unwrap_or_default();
    Ok((flattening.found, without_value.into_keys().collect()))
}

/// A document that is nothing but one value, as the value of a key.
///
/// # Errors
///
/// It is empty, or no value that the key can have.
pub(crate) fn lone_value(
    path: &Path,
    document: &Document,
    key: &Key,
    known: &Known,
) -> Result<Value, FileError> {
    let position = Position { line: 1, column: 1 };
    let Some(root) = document.shared_root() else {
        let problem = Problem::Scalar {
            key: key.to_string(),
            error: ScalarError::Null,
        };
        return Err(FileError::new(path, position, problem));
    };
    let entry = Entry {
        key: key.as_str().into(),
        position,
        value: root.clone(),
    };
    let mut flattening = Flattening {
        path,
        known,
        budget: &mut Budget::default(),
        found: BTreeMap::new(),
        without_value: None,
    };
    flattening.setting(key.clone(), &entry)?;
    match flattening.found.remove(key.as_str()) {
        Some(typed) => Ok(typed.value),
        None => Err(FileError::new(path, position, Problem::RootIsNoMapping)),
    }
}

struct Flattening<'a> {
    path: &'a Path,
    known: &'a Known,
    budget: &'a mut Budget,
    found: BTreeMap<Key, Typed>,
    /// Keys that stand without a value, if that may be.
    without_value: Option<BTreeMap<Key, Position>>,
}

impl Flattening<'_> {
    fn document(&mut self, document: &Document) -> Result<(), FileError> {
        match document.root() {
            None => {}
            Some(Node {
                content: Content::Mapping(entries),
                ..
            }) => self.section("", entries)?,
            // A file of nothing but `---` or `null` says as little as an empty one.
            Some(Node {
                content: Content::Scalar { text, plain: true },
                tag: None,
                ..
            }) if scalar::plain(text) == Err(ScalarError::Null) => {}
            Some(node) => {
                return Err(FileError::new(
                    self.path,
                    node.position,
                    Problem::RootIsNoMapping,
                ));
            }
        }
        Ok(())
    }

    /// Recursion is bounded by the depth of the document.
    fn section(&mut self, prefix: &str, entries: &[Entry]) -> Result<(), FileError> {
        for entry in entries {
            // Its section once more: with deep sections, and aliases of them, keys can be most of
            // what there is.
            let spent = self.budget.spend(0, prefix.len() as u64 + 1);
            spent.map_err(|problem| FileError::new(self.path, entry.position, problem))?;
            let path = if prefix.is_empty() {
                entry.key.to_string()
            } else {
                format!("{prefix}.{}", entry.key)
            };
            let bad_key = || {
                let problem = Problem::BadKey {
                    key: entry.key.clone(),
                    section: prefix.to_owned(),
                };
                FileError::new(self.path, entry.position, problem)
            };
            let Ok(key) = Key::parse(&path) else {
                return Err(bad_key());
            };
            let Content::Mapping(inner) = &entry.value.content else {
                self.setting(key, entry)?;
                continue;
            };
            let is_section = self.known.below(&path).is_some();
            let odd = inner.iter().find(|inner| !is_plain_segment(&inner.key));
            match (self.known.kind(&path), odd) {
                (None, Some(odd)) if is_section => {
                    let problem = Problem::BadKey {
                        key: odd.key.clone(),
                        section: path,
                    };
                    return Err(FileError::new(self.path, odd.position, problem));
                }
                (None, None)
                    if is_section || (!inner.is_empty() && entry.value.tag != Some(Tag::Map)) =>
                {
                    self.section(&path, inner)?;
                }
                _ => self.setting(key, entry)?,
            }
        }
        Ok(())
    }

    fn setting(&mut self, key: Key, entry: &Entry) -> Result<(), FileError> {
        let error = |position, problem| Err(FileError::new(self.path, position, problem));
        if let Some(example) = self.known.below(key.as_str()) {
            let problem = Problem::IsSection {
                key: key.to_string(),
                example: example.to_string(),
            };
            return error(entry.position, problem);
        }
        if let Some((parent, kind)) = self.known.above(key.as_str()) {
            let problem = Problem::BelowValue {
                key: key.to_string(),
                parent: parent.to_string(),
                kind,
            };
            return error(entry.position, problem);
        }
        let without_value = self.without_value.as_ref();
        let unset_before = without_value.and_then(|keys| keys.get(&key)).copied();
        let set_before = self.found.get(&key).map(|first| first.position);
        if let Some(first) = set_before.or(unset_before) {
            let problem = Problem::DuplicateSetting {
                key: key.to_string(),
                first: first.to_string(),
            };
            return error(entry.position, problem);
        }
        if let Some(keys) = &mut self.without_value
            && is_null(&entry.value)
        {
            keys.insert(key, entry.position);
            return Ok(());
        }
        let (value, kind) =
            value(&entry.value, self.known.kind(key.as_str())).map_err(|wrong| {
                let key = key.to_string();
                // Where a value is missing, the parser points behind it; the key is easier to find.
                let position = if matches!(wrong.what, What::Scalar(ScalarError::Null))
                    && entry.value.position == wrong.position
                {
                    entry.position
                } else {
                    wrong.position
                };
                let position = if matches!(wrong.what, What::Deep) {
                    entry.position
                } else {
                    position
                };
                let problem = match wrong.what {
                    What::Deep => Problem::ValueTooDeep { key },
                    What::Scalar(error) => Problem::Scalar { key, error },
                    What::Shape { expected, found } => Problem::WrongShape {
                        key,
                        expected,
                        found,
                    },
                };
                FileError::new(self.path, position, problem)
            })?;
        let found = check_known_parents(&self.found, &key);
        if let Some((other, position)) = found {
            let (parent, longer) = if other.as_str().len() < key.as_str().len() {
                (&other, &key)
            } else {
                (&key, &other)
            };
            let problem = Problem::KeyAndParent {
                key: longer.to_string(),
                parent: parent.to_string(),
                other: position.to_string(),
            };
            return error(entry.position, problem);
        }
        self.found.insert(
            key,
            Typed {
                position: entry.position,
                value,
                kind,
            },
        );
        Ok(())
    }
}

/// What is wrong with a node as a value, and where.
struct Wrong {
    position: Position,
    what: What,
}

enum What {
    Scalar(ScalarError),
    Shape {
        expected: Kind,
        found: &'static str,
    },
    /// Numbers are looked at one by one, so all that a list or a map can have against its content is its depth.
    Deep,
}

/// A node as a value: of the known type, or else of the type its looks and its tag say.
fn value(node: &Node, known: Option<Kind>) -> Result<(Value, Kind), Wrong> {
    let wrong = |what| Wrong {
        position: node.position,
        what,
    };
    let shape = |expected, found| Err(wrong(What::Shape { expected, found }));
    let kind = known.or(match node.tag {
        Some(Tag::Duration) => Some(Kind::Duration),
        Some(Tag::String) => Some(Kind::String),
        Some(Tag::Bool) => Some(Kind::Bool),
        Some(Tag::Int) => Some(Kind::Int),
        Some(Tag::Float) => Some(Kind::Float),
        Some(Tag::List) => Some(Kind::List),
        Some(Tag::Map) => Some(Kind::Map),
        None => None,
    });
    match (&node.content, kind) {
        (Content::Mapping(entries), None | Some(Kind::Map)) => {
            let map = entries
                .iter()
                .map(|entry| Ok((entry.key.clone(), value(&entry.value, None)?.0)))
                .collect::<Result<Vec<_>, Wrong>>()?;
            Ok((Value::map(map).map_err(|_| wrong(What::Deep))?, Kind::Map))
        }
        (Content::Mapping(_), Some(kind)) => shape(kind, "a map"),
        (Content::Sequence(items), None | Some(Kind::List)) => {
            let list = items
                .iter()
                .map(|item| Ok(value(item, None)?.0))
                .collect::<Result<Vec<_>, Wrong>>()?;
            Ok((
                Value::list(list).map_err(|_| wrong(What::Deep))?,
                Kind::List,
            ))
        }
        (Content::Sequence(_), Some(kind)) => shape(kind, "a list"),
        (Content::Scalar { text, plain }, kind) => {
            let value = match kind {
                _ if is_null(node) => Err(ScalarError::Null),
                Some(kind) => scalar::typed(kind, text),
                None if *plain => scalar::plain(text),
                None => Ok(Value::String(text.clone())),
            };
            let value = value.map_err(|error| wrong(What::Scalar(error)))?;
            let kind = kind.unwrap_or_else(|| Kind::of(&value));
            Ok((value, kind))
        }
    }
}

/// Whether a node is YAML's null.
fn is_null(node: &Node) -> bool {
    matches!(&node.content, Content::Scalar { text, plain: true }
        if node.tag.is_none() && scalar::plain(text) == Err(ScalarError::Null))
}

/// A setting of the merged files, and where it comes from.
struct Placed {
    value: Value,
    place: Place,
}

struct Place {
    path: Arc<str>,
    position: Position,
}

impl Place {
    fn provenance(&self) -> Provenance {
        Provenance::file(self.path.clone(), self.position.line)
    }
}

/// Across files, too, a key must not be the section of another.
fn check_parents(merged: &BTreeMap<Key, Placed>) -> Result<(), FileError> {
    for (key, placed) in merged {
        for parent in parents(key.as_str()) {
            if let Some(above) = merged.get(parent) {
                let place = &above.place;
                let other = format!(
                    "{}:{}:{}",
                    place.path, place.position.line, place.position.column
                );
                let problem = Problem::KeyAndParent {
                    key: key.to_string(),
                    parent: parent.to_owned(),
                    other,
                };
                return Err(FileError::new(
                    Path::new(&*placed.place.path),
                    placed.place.position,
                    problem,
                ));
            }
        }
    }
    Ok(())
}

/// The setting among those found that is a section of `key`, or whose section `key` is.
fn check_known_parents(found: &BTreeMap<Key, Typed>, key: &Key) -> Option<(Key, Position)> {
    let above = parents(key.as_str()).find_map(|parent| found.get_key_value(parent));
    let below = || {
        let start = format!("{key}.");
        // `-` sorts before `.`, so the keys below need not follow at once; from `key.` on they do.
        let (first, typed) = found
            .range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded))
            .next()?;
        first.as_str().starts_with(&start).then_some((first, typed))
    };
    above
        .or_else(below)
        .map(|(other, typed)| (other.clone(), typed.position))
}

/// The proper prefixes of a dotted path that end before a dot.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(dot, _)| &path[..dot])
}

/// Whether a key can be one step of a path.
fn is_plain_segment(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}
