//! A persistent map in the order of its keys: a PATRICIA trie.
//!
//! Keys are at the leaves. A branch stands where keys part: it knows the first bit in which those below it differ, and has a
//! side for each. So a walk looks at one bit for each level that it passes, and at one key, where it ends.
//!
//! A change copies the branches on its way that are shared, and counts one more reference to what stands beside each; all else
//! is shared with the map before. That makes it cheap where the caches are cold: two lines a level, where a balanced tree,
//! which compares keys on its way, looks at four. In return the depth goes by the keys: log n bits where they are mixed, as
//! many bits as a key has (8 × [`Key::MAX_BYTES`]) for keys made for it. So nothing here recurses.
//!
//! A text counts as followed by bits of zero. Keys have no such byte, so a key that is the beginning of another one parts from
//! it, and comes before it.
//!
//! Source: D. R. Morrison, "PATRICIA – Practical Algorithm to Retrieve Information Coded in Alphanumeric", Journal of the ACM
//! 15 (4), 1968.

use std::mem;

use smallvec::SmallVec;

use super::key::Key;
use crate::sync::Arc;

/// The map. A clone is a pointer.
pub(super) struct Trie<V> {
    root: Link<V>,
    len: usize,
}

#[derive(Default)]
enum Link<V> {
    /// Of an empty map; never below a branch.
    #[default]
    Nothing,
    Leaf(Arc<Leaf<V>>),
    Branch(Arc<Branch<V>>),
}

struct Leaf<V> {
    key: Key,
    value: V,
}

/// Of a cache line, counts included.
struct Branch<V> {
    bit: Bit,
    /// Those keys whose bit is 0, and those whose bit is 1.
    sides: [Link<V>; 2],
}

/// The number of a bit, counted from the most significant one of a text's first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bit(usize);

/// Values in the order of their keys, from one end.
struct Walk<'a, V> {
    /// What is yet to be walked, the next last.
    ahead: SmallVec<[&'a Link<V>; PATH]>,
    /// The side that comes first.
    first: usize,
}

/// Every value, from either end.
struct Values<'a, V> {
    ascending: Walk<'a, V>,
    descending: Walk<'a, V>,
    left: usize,
}

/// Branches on a way, in most maps.
const PATH: usize = 16;

impl<V> Trie<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let leaf = self.nearest(key)?;
        (leaf.key.as_str() == key).then_some(&leaf.value)
    }

    /// Puts `value` in the place of the one that `key` has, if it has one.
    pub(super) fn insert(&mut self, key: Key, value: V) {
        let parting = self.nearest(&key).map(|near| Bit::parting(&near.key, &key));
        let is_new = !matches!(parting, Some(None));
        self.len += usize::from(is_new);
        // With no bit in which it differs from a key that is there, it goes where that one is.
        let parting = parting.flatten();
        let mut link = &mut self.root;
        while let Link::Branch(branch) = &*link
            && parting.is_none_or(|parting| branch.bit < parting)
        {
            link = link.side_mut(&key);
        }
        let side = parting.map(|parting| (parting, parting.side(&key)));
        let leaf = Link::Leaf(Arc::new(Leaf { key, value }));
        *link = match side {
            None => leaf,
            Some((bit, side)) => {
                let mut sides = [mem::take(link), leaf];
                if side == 0 {
                    sides.swap(0, 1);
                }
                Link::Branch(Arc::new(Branch { bit, sides }))
            }
        };
    }

    /// Takes out what `key` has. Whether it had anything.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        self.len -= 1;
        let mut link = &mut self.root;
        // To the leaf, or to the branch right above it, whose place the other side takes.
        let other = loop {
            let Link::Branch(branch) = &*link else {
                break Link::Nothing;
            };
            let side = branch.bit.side(key);
            if matches!(branch.sides[side], Link::Leaf(_)) {
                break branch.sides[1 - side].clone();
            }
            link = link.side_mut(key);
        };
        *link = other;
        true
    }

    /// Every value, in the order of the keys.
    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        Values {
            ascending: Walk::ascending(&self.root),
            descending: Walk::descending(&self.root),
            left: self.len,
        }
    }

    /// The values whose keys begin with `start`, in the order of the keys. As long a way as to one of them, then O(1) each.
    pub(super) fn starting_with(&self, start: &str) -> impl Iterator<Item = &V> + use<'_, V> {
        let mut link = &self.root;
        while let Link::Branch(branch) = link
            && branch.bit < Bit::after(start)
        {
            link = branch.side(start);
        }
        // Those below differ behind `start` only: all of them begin with it, or none.
        let one = link.nearest(start);
        let some = one.is_some_and(|leaf| leaf.key.starts_with(start));
        Walk::ascending(if some { link } else { &Link::Nothing })
    }

    /// Whether the two are one: neither has changed since one was cloned from the other. `false` says nothing.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.root, &other.root) {
            (Link::Nothing, Link::Nothing) => true,
            (Link::Leaf(one), Link::Leaf(other)) => Arc::ptr_eq(one, other),
            (Link::Branch(one), Link::Branch(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    fn nearest(&self, key: &str) -> Option<&Leaf<V>> {
        self.root.nearest(key)
    }
}

impl<V> Link<V> {
    /// The leaf that `key` is led to: its own, if it has one.
    fn nearest(&self, key: &str) -> Option<&Leaf<V>> {
        let mut link = self;
        loop {
            match link {
                Self::Branch(branch) => link = branch.side(key),
                Self::Leaf(leaf) => return Some(leaf),
                Self::Nothing => return None,
            }
        }
    }

    /// A level down towards `key`, in a branch of this map's own; where it ends already, itself.
    fn side_mut(&mut self, key: &str) -> &mut Self {
        match self {
            Self::Branch(branch) => {
                let side = branch.bit.side(key);
                &mut Arc::make_mut(branch).sides[side]
            }
            end => end,
        }
    }
}

impl<V> Branch<V> {
    fn side(&self, key: &str) -> &Link<V> {
        &self.sides[self.bit.side(key)]
    }
}

impl Bit {
    /// The first one in which two texts differ.
    fn parting(one: &str, other: &str) -> Option<Self> {
        if one == other {
            return None;
        }
        let mut pairs = one.bytes().zip(other.bytes());
        let at = pairs.position(|(one, other)| one != other);
        let at = at.unwrap_or(one.len().min(other.len()));
        let differing = byte(one, at) ^ byte(other, at);
        (differing != 0).then(|| Self(8 * at + differing.leading_zeros() as usize))
    }

    /// The first one that `text` itself does not have.
    fn after(text: &str) -> Self {
        Self(8 * text.len())
    }

    /// 0 or 1, as it is in `text`.
    fn side(self, text: &str) -> usize {
        usize::from(byte(text, self.0 / 8) >> (7 - self.0 % 8) & 1)
    }
}

fn byte(text: &str, at: usize) -> u8 {
    text.as_bytes().get(at).copied().unwrap_or(0)
}

impl<'a, V> Walk<'a, V> {
    fn ascending(link: &'a Link<V>) -> Self {
        Self::from(link, 0)
    }

    fn descending(link: &'a Link<V>) -> Self {
        Self::from(link, 1)
    }

    fn from(link: &'a Link<V>, first: usize) -> Self {
        Self {
            ahead: SmallVec::from_slice(&[link]),
            first,
        }
    }
}

impl<'a, V> Iterator for Walk<'a, V> {
    type Item = &'a V;

    fn next(&mut self) -> Option<&'a V> {
        loop {
            match self.ahead.pop()? {
                Link::Branch(branch) => {
                    self.ahead.push(&branch.sides[1 - self.first]);
                    self.ahead.push(&branch.sides[self.first]);
                }
                Link::Leaf(leaf) => return Some(&leaf.value),
                Link::Nothing => {}
            }
        }
    }
}

impl<'a, V> Values<'a, V> {
    /// The next of `walk`, unless all have been walked from here or from there.
    fn one(left: &mut usize, walk: &mut Walk<'a, V>) -> Option<&'a V> {
        *left = left.checked_sub(1)?;
        walk.next()
    }
}

impl<'a, V> Iterator for Values<'a, V> {
    type Item = &'a V;

    fn next(&mut self) -> Option<&'a V> {
        Self::one(&mut self.left, &mut self.ascending)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<V> DoubleEndedIterator for Values<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        Self::one(&mut self.left, &mut self.descending)
    }
}

impl<V> ExactSizeIterator for Values<'_, V> {}

impl<V> Clone for Trie<V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            len: self.len,
        }
    }
}

impl<V> Clone for Link<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Leaf(leaf) => Self::Leaf(Arc::clone(leaf)),
            Self::Branch(branch) => Self::Branch(Arc::clone(branch)),
        }
    }
}

impl<V> Clone for Branch<V> {
    fn clone(&self) -> Self {
        Self {
            bit: self.bit,
            sides: self.sides.clone(),
        }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self {
            root: Link::Nothing,
            len: 0,
        }
    }
}

impl<V> Drop for Trie<V> {
    /// One by one: a way may be as long as a key has bits, and nested drops would use the stack.
    fn drop(&mut self) {
        let mut ahead = SmallVec::<[Link<V>; PATH]>::new();
        let mut next = Some(mem::take(&mut self.root));
        while let Some(link) = next {
            let last = match link {
                Link::Branch(branch) => Arc::into_inner(branch),
                Link::Leaf(_) | Link::Nothing => None,
            };
            next = match last {
                Some(Branch {
                    sides: [low, high], ..
                }) => {
                    ahead.push(high);
                    Some(low)
                }
                None => ahead.pop(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, thread};

    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn trie(keys: &[&str]) -> Trie<String> {
        let mut trie = Trie::default();
        for text in keys {
            trie.insert(key(text), (*text).to_owned());
        }
        trie
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(String, u8),
        Remove(String),
        /// Goes on with what there was so many steps ago.
        Back(usize),
    }

    /// Few letters, so that many keys begin alike, and are there again.
    const KEYS: &str = r"[ab_](\.?[ab0]){0,4}";

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (KEYS, 0_u8..3).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => KEYS.prop_map(Step::Remove),
            1 => (0_usize..20).prop_map(Step::Back),
        ]
    }

    fn check(trie: &Trie<u8>, map: &BTreeMap<String, u8>, start: &str) {
        assert_eq!(trie.len(), map.len());
        assert!(trie.values().eq(map.values()));
        assert!(trie.values().rev().eq(map.values().rev()));
        assert!(map.iter().all(|(key, value)| trie.get(key) == Some(value)));
        let starting = map.iter().filter(|(key, _)| key.starts_with(start));
        assert!(
            trie.starting_with(start)
                .eq(starting.map(|(_, value)| value))
        );
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does_and_what_was_cloned_stays(
            steps in prop::collection::vec(step(), 1..60),
            start in "[ab_.0]{0,3}",
        ) {
            let mut all = vec![(Trie::default(), BTreeMap::new())];
            for step in steps {
                let (mut trie, mut map) = all.last().unwrap().clone();
                match step {
                    Step::Insert(text, value) => {
                        trie.insert(key(&text), value);
                        map.insert(text, value);
                    }
                    Step::Remove(text) => {
                        assert_eq!(trie.remove(&text), map.remove(&text).is_some());
                        assert_eq!(trie.get(&text), None);
                    }
                    Step::Back(steps) => {
                        (trie, map) = all[all.len().saturating_sub(steps + 1)].clone();
                    }
                }
                all.push((trie, map));
            }
            for (trie, map) in &all {
                check(trie, map, &start);
            }
        }
    }

    #[test]
    fn the_values_from_both_ends_meet() {
        let trie = trie(&["c", "a", "d", "b"]);
        let mut values = trie.values();
        assert_eq!(values.next().unwrap(), "a");
        assert_eq!(values.next_back().unwrap(), "d");
        assert_eq!(values.len(), 2);
        assert_eq!(values.next_back().unwrap(), "c");
        assert_eq!(values.next().unwrap(), "b");
        assert_eq!((values.next(), values.next_back()), (None, None));
    }

    #[test]
    fn what_no_key_can_be_is_not_there() {
        let trie = trie(&["a", "ab"]);
        for text in ["", "a\0", "ab\0", "A", "\u{20ac}"] {
            assert_eq!(trie.get(text), None, "{text:?}");
        }
        assert_eq!(trie.starting_with("a\0").count(), 0);
    }

    #[test]
    fn a_clone_is_the_same_until_one_of_them_changes() {
        let (first, empty) = (trie(&["a", "b"]), Trie::<String>::default());
        let mut second = first.clone();
        assert!(second.is_same(&first) && empty.is_same(&empty.clone()));
        assert!(!empty.is_same(&first));
        second.insert(key("b"), "b".to_owned());
        assert!(!second.is_same(&first));
        // What did not change is shared.
        let a = |trie: &Trie<String>| std::ptr::from_ref(trie.get("a").unwrap());
        assert_eq!(a(&first), a(&second));
    }

    /// A branch at every bit but the first of every byte, one below the other, in less stack than they would take.
    #[test]
    fn a_way_as_long_as_its_key_has_bits_takes_no_stack() {
        const BYTES: usize = 200;
        let walk = || {
            let mut trie = Trie::default();
            for length in 0..BYTES {
                // Each parts from `c` at another bit.
                for other in "bagks_-".chars() {
                    let text = format!("{}{other}", "c".repeat(length));
                    trie.insert(key(&text), text);
                }
            }
            let longest = format!("{}-", "c".repeat(BYTES - 1));
            let mut changed = trie.clone();
            changed.insert(key(&longest), "changed".to_owned());
            assert_eq!(trie.get(&longest), Some(&longest));
            assert_eq!(changed.values().count(), 7 * BYTES);
            drop(trie);
            assert!(changed.remove(&longest));
        };
        let small = thread::Builder::new().stack_size(64 << 10);
        small.spawn(walk).unwrap().join().unwrap();
    }
}
