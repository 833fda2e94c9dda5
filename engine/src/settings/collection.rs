//! Lists and maps: values that hold values, of a bounded depth from the start.

use std::{collections::BTreeMap, fmt, ops::Deref};

use super::{
    size,
    value::{Value, ValueError, write_quoted},
};
use crate::sync::Arc;

/// Values in order, all of which can be streamed. Reads as a slice; never changes; cloning copies a pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct List(Arc<Body<Box<[Value]>>>);

/// Values by name, all of which can be streamed. Reads as a `BTreeMap`; never changes; cloning copies a pointer.
///
/// The names are free text: what can be a [`Key`](super::Key) would be a section of settings.
#[derive(Clone, PartialEq, Eq)]
pub struct Map(Arc<Body<BTreeMap<Arc<str>, Value>>>);

/// Content with what asking for it each time would make O(content). Equality meets the cheap numbers first.
#[derive(PartialEq, Eq)]
struct Body<T> {
    nesting: u8,
    encoded_len: u64,
    content: T,
}

impl List {
    /// A list of `items`, its integers in [canonical](Value::canonical) form. O(items), whatever those hold.
    ///
    /// # Errors
    /// The first item that cannot be streamed; [`ValueError::TooDeep`] if the list around it makes it so.
    pub fn new(items: impl IntoIterator<Item = Value>) -> Result<Self, ValueError> {
        let content: Box<[Value]> = items.into_iter().map(Value::canonical).collect();
        Ok(Self(Arc::new(Body {
            nesting: nesting(Self::NESTING, content.iter())?,
            encoded_len: size::sum(content.iter().map(|item| size::field(item.encoded_len()))),
            content,
        })))
    }

    pub(super) fn nesting(&self) -> u8 {
        self.0.nesting
    }

    /// The bytes of all items, each as a field.
    pub(super) fn encoded_len(&self) -> u64 {
        self.0.encoded_len
    }

    /// What a list costs a decoder's recursion limit.
    const NESTING: u8 = 2;
}

impl Map {
    /// A map of `entries`, its integers in [canonical](Value::canonical) form; of those with the same name the last one
    /// stays. O(n log n) in the entries, whatever those hold.
    ///
    /// # Errors
    /// The first value, by name, that cannot be streamed; [`ValueError::TooDeep`] if the map around it makes it so.
    pub fn new<N: Into<Arc<str>>>(
        entries: impl IntoIterator<Item = (N, Value)>,
    ) -> Result<Self, ValueError> {
        let content: BTreeMap<Arc<str>, Value> = entries
            .into_iter()
            .map(|(name, value)| (name.into(), value.canonical()))
            .collect();
        let entry =
            |(name, value): (&Arc<str>, &Value)| entry_len(size::text(name), value.encoded_len());
        Ok(Self(Arc::new(Body {
            nesting: nesting(Self::NESTING, content.values())?,
            encoded_len: size::sum(content.iter().map(entry)),
            content,
        })))
    }

    pub(super) fn nesting(&self) -> u8 {
        self.0.nesting
    }

    /// The bytes of all entries, each as a field.
    pub(super) fn encoded_len(&self) -> u64 {
        self.0.encoded_len
    }

    /// What a map costs a decoder's recursion limit: itself, its entry, the entry's value.
    const NESTING: u8 = 3;
}

impl Deref for List {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.0.content
    }
}

impl Deref for Map {
    type Target = BTreeMap<Arc<str>, Value>;

    fn deref(&self) -> &BTreeMap<Arc<str>, Value> {
        &self.0.content
    }
}

impl<'a> IntoIterator for &'a List {
    type Item = &'a Value;
    type IntoIter = std::slice::Iter<'a, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a Arc<str>, &'a Value);
    type IntoIter = std::collections::btree_map::Iter<'a, Arc<str>, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "list of {}", self.len())
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map of {}", self.len())
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, item) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            fmt::Display::fmt(item, f)?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            write_quoted(f, name)?;
            f.write_str(":")?;
            fmt::Display::fmt(value, f)?;
        }
        f.write_str("}")
    }
}

/// How deep a collection nests that itself adds `own` to the deepest of `inner`.
fn nesting<'a>(own: u8, inner: impl Iterator<Item = &'a Value>) -> Result<u8, ValueError> {
    let mut deepest = 0;
    for value in inner {
        value.check()?;
        deepest = deepest.max(value.nesting());
    }
    let nesting = own + deepest;
    if nesting > Value::MAX_NESTING {
        return Err(ValueError::TooDeep);
    }
    Ok(nesting)
}

/// The bytes of a map's entry as a field.
fn entry_len(name: u64, value: u64) -> u64 {
    size::field(name.saturating_add(size::field(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_list(value: Value) -> Result<Value, ValueError> {
        Value::list([value])
    }

    fn in_map(value: Value) -> Result<Value, ValueError> {
        Value::map([("k", value)])
    }

    #[test]
    fn lists_nest_48_deep_and_not_49() {
        let mut value = Value::from(1);
        for _ in 0..48 {
            value = in_list(value).unwrap();
        }
        assert_eq!(value.nesting(), 96);
        assert_eq!(in_list(value), Err(ValueError::TooDeep));
    }

    #[test]
    fn maps_nest_32_deep_and_not_33() {
        let mut value = Value::from(1);
        for _ in 0..32 {
            value = in_map(value).unwrap();
        }
        assert_eq!(value.nesting(), 96);
        assert_eq!(in_map(value), Err(ValueError::TooDeep));
    }

    #[test]
    fn exactly_97_is_accepted() {
        let mut value = in_map(Value::from(1)).unwrap();
        for _ in 0..47 {
            value = in_list(value).unwrap();
        }
        assert_eq!(value.nesting(), 97);
        assert_eq!(value.check(), Ok(()));
    }

    #[test]
    fn the_deepest_path_counts_and_an_empty_collection_is_a_level() {
        let empty = Value::list([]).unwrap();
        assert_eq!(empty.nesting(), 2);
        let value = Value::list([1.into(), in_map(empty).unwrap(), 2.into()]).unwrap();
        assert_eq!(value.nesting(), 7);
    }

    #[test]
    fn a_million_levels_end_in_an_error_and_not_in_a_stack_overflow() {
        let mut value = Value::from(1);
        let mut refused = 0;
        for _ in 0..1_000_000 {
            match in_list(value.clone()) {
                Ok(deeper) => value = deeper,
                Err(error) => {
                    assert_eq!(error, ValueError::TooDeep);
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 1_000_000 - 48);
    }

    #[test]
    fn a_value_that_doubles_at_each_level_has_a_size_nobody_has_to_walk() {
        let mut value = Value::from("0123456789");
        for _ in 0..48 {
            value = Value::list([value.clone(), value]).unwrap();
        }
        assert!(value.encoded_len() > 12 << 48);
        assert_eq!(value, value.clone());
    }

    #[test]
    fn integers_inside_are_canonical() {
        let list = List::new([Value::Uint(1)]).unwrap();
        assert!(matches!(list[0], Value::Int(1)));
        let map = Map::new([("a", Value::Uint(1))]).unwrap();
        assert!(matches!(map["a"], Value::Int(1)));
    }

    #[test]
    fn of_entries_with_one_name_the_last_stays() {
        let map = Map::new([("a", 1.into()), ("b", 2.into()), ("a", 3.into())]).unwrap();
        assert_eq!(map.len(), 2);
        assert_eq!(map["a"], Value::from(3));
    }

    #[test]
    fn equality_is_by_content() {
        let list = |last: i32| List::new([1.into(), last.into()]).unwrap();
        assert_eq!(list(2), list(2));
        assert_ne!(list(2), list(3));
        let map = |name: &str| Map::new([(name, true.into())]).unwrap();
        assert_eq!(map("a"), map("a"));
        assert_ne!(map("a"), map("b"));
    }

    #[test]
    fn debug_counts_and_does_not_tell() {
        let list = List::new(["secret".into()]).unwrap();
        assert_eq!(format!("{list:?}"), "list of 1");
        let map = Map::new([("secret", "secret".into())]).unwrap();
        assert_eq!(format!("{map:?}"), "map of 1");
    }
}
