//! What wins: the flat state that streams.

use std::{
    convert::Infallible,
    error, fmt,
    ops::{Bound, RangeBounds},
};

use rpds::RedBlackTreeMapSync;

use super::{
    holders::{Held, Holders},
    key::Key,
    setting::{Setting, SettingUpdate},
    source::Source,
};
use crate::{Replica, State, Transition, sync::Arc};

/// One setting per key, in the order of the keys: what a snapshot holds.
///
/// Persistent: cloning copies a pointer, and a changed one shares all but O(log n) with the one before. Equality is by
/// content.
///
/// It is the state of a *replica* too. Layers do not travel, so a replica keeps what its upstream resolved and does not
/// resolve again: whatever it is given wins, and nothing is refused.
///
/// # Examples
///
/// ```
/// use configstream_engine::settings::{Key, Resolved, Setting, Source};
///
/// let setting = |key, value| Setting::new(Source::File, Key::parse(key).unwrap(), value).unwrap();
/// let resolved = Resolved::from_settings([setting("log.level", "info"), setting("log.file", "agent.log")])?;
/// assert_eq!(resolved.get("log.level").unwrap().value().as_str(), Some("info"));
/// assert_eq!(resolved.prefix("log").count(), 2);
/// assert_eq!(resolved.prefix("lo").count(), 0);
/// # Ok::<(), configstream_engine::settings::DuplicateKey>(())
/// ```
#[derive(Clone, Default)]
pub struct Resolved {
    /// Beneath the winners, out of sight, stands what [`Settings`](super::Settings) needs to reveal: nothing in a replica.
    holders: RedBlackTreeMapSync<Key, Holders>,
    /// Of the winners.
    encoded_len: u64,
}

/// A change to a [`Resolved`] state that no layers stand behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolvedChange {
    /// This setting wins for its key.
    Set(SettingUpdate),
    /// Nothing wins for this key. No update can say so: it needs a snapshot.
    Remove(Key),
    /// This is the whole state. Streams the difference, as a snapshot if a key vanishes.
    ReplaceAll(Resolved),
}

/// Two settings have the same key, where one can win only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DuplicateKey {
    /// The name.
    pub key: Key,
    /// Where the first one was set.
    pub first: Source,
    /// Where the second one was set.
    pub second: Source,
}

/// A state whose updates are settings, whether it resolves layers or follows somebody who does.
pub trait Resolution: State<Update = SettingUpdate> {
    /// What wins.
    fn resolved(&self) -> &Resolved;
}

impl Resolved {
    /// No settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These settings, in any order. O(n log n).
    ///
    /// # Errors
    /// Two settings with the same key.
    pub fn from_settings<S: Into<Arc<Setting>>>(
        settings: impl IntoIterator<Item = S>,
    ) -> Result<Self, DuplicateKey> {
        let mut resolved = Self::new();
        for setting in settings {
            let setting = setting.into();
            if let Some(first) = resolved.get(setting.key()) {
                return Err(DuplicateKey {
                    key: setting.key().clone(),
                    first: first.source(),
                    second: setting.source(),
                });
            }
            resolved.insert(&setting);
        }
        Ok(resolved)
    }

    /// The setting that wins for `key`. O(log n).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<Setting>> {
        self.holders.get(key).map(Holders::winner)
    }

    /// How many settings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holders.size()
    }

    /// Whether there are no settings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Every setting, in the order of the keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Setting>> + ExactSizeIterator {
        self.holders.values().map(Holders::winner)
    }

    /// The settings below a section, and the one that has the very name, in the order of the keys. O(log n), then O(1)
    /// each. Matches whole segments; the empty section holds everything.
    pub fn prefix(&self, section: &str) -> impl Iterator<Item = &Arc<Setting>> + use<'_> {
        let (itself, below) = if section.is_empty() {
            (None, String::new())
        } else {
            (self.get(section), format!("{section}."))
        };
        let tail = self.holders.range(StartingAt(below.clone()));
        itself.into_iter().chain(
            tail.take_while(move |(key, _)| key.starts_with(&below))
                .map(|(_, holders)| holders.winner()),
        )
    }

    /// How many bytes all settings take in a snapshot on the wire, or a little more (see
    /// [`Setting::encoded_len`]). O(1): the sum is kept.
    #[must_use]
    pub fn encoded_len(&self) -> u64 {
        self.encoded_len
    }

    /// The first setting below a section. O(log n).
    pub(super) fn first_below(&self, section: &Key) -> Option<&Arc<Setting>> {
        let start = StartingAt(format!("{section}."));
        let (key, holders) = self.holders.range(start).next()?;
        key.is_below(section).then(|| holders.winner())
    }

    /// Who holds `key`, the winner included. O(log n).
    pub(super) fn holders(&self, key: &str) -> Option<&Holders> {
        self.holders.get(key)
    }

    /// Who holds each key, in the order of the keys.
    pub(super) fn all_holders(&self) -> impl Iterator<Item = &Holders> {
        self.holders.values()
    }

    /// Whether the two are one: neither changed since one was cloned from the other. O(1); `false` says nothing.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.holders.ptr_eq(&other.holders)
    }

    /// Puts `after` in the place of who holds the key now, among whom `before` wins.
    pub(super) fn exchange(&mut self, before: Option<&Setting>, after: Option<Holders>) {
        // `Settings` keeps the sum far below the end of u64. A replica does not weigh what it is given, but no message brings
        // it anything near.
        let field_len = |setting: Option<&Setting>| setting.map_or(0, Setting::field_len);
        let winner = after.as_ref().map(|after| &**after.winner());
        self.encoded_len = self.encoded_len.saturating_sub(field_len(before));
        self.encoded_len = self.encoded_len.saturating_add(field_len(winner));
        match (before, after) {
            // Copies the path to the key, as to insert would, but knows that nothing is to be balanced.
            (Some(before), Some(after)) => {
                let holders = self.holders.get_mut(before.key());
                *holders.expect("a key that has a winner is there") = after;
            }
            (None, Some(after)) => {
                self.holders.insert_mut(after.winner().key().clone(), after);
            }
            (Some(before), None) => {
                self.holders.remove_mut(before.key());
            }
            (None, None) => {}
        }
    }

    fn insert(&mut self, setting: &Arc<Setting>) {
        let before = self.get(setting.key()).cloned();
        let after = Holders::alone(Held {
            setting: Arc::clone(setting),
            provenance: None,
        });
        self.exchange(before.as_deref(), Some(after));
    }

    fn remove(&mut self, key: &str) -> bool {
        let before = self.get(key).cloned();
        self.exchange(before.as_deref(), None);
        before.is_some()
    }

    /// `all` as the state after this one, keeping the `Arc` (and with it the memo) of each setting that stays. O(n log n).
    fn replaced_by(&self, all: &Self) -> Transition<Self> {
        let mut state = all.clone();
        let mut updates = Vec::new();
        for new in all.iter() {
            let old = self.get(new.key());
            match SettingUpdate::between(old, new) {
                Some(update) => updates.push(update),
                None => old.into_iter().for_each(|old| state.insert(old)),
            }
        }
        Transition {
            state,
            updates,
            needs_snapshot: self.iter().any(|old| all.get(old.key()).is_none()),
        }
    }
}

impl State for Resolved {
    type Change = ResolvedChange;
    type Update = SettingUpdate;
    type Rejection = Infallible;

    fn apply(&self, change: &ResolvedChange) -> Result<Transition<Self>, Infallible> {
        let mut state = self.clone();
        let mut updates = Vec::new();
        let mut needs_snapshot = false;
        match change {
            ResolvedChange::Set(update) => {
                if self.get(update.setting().key()) != Some(update.setting()) {
                    state.insert(update.setting());
                    updates.push(update.clone());
                }
            }
            ResolvedChange::Remove(key) => needs_snapshot = state.remove(key),
            ResolvedChange::ReplaceAll(all) => return Ok(self.replaced_by(all)),
        }
        Ok(Transition {
            state,
            updates,
            needs_snapshot,
        })
    }
}

impl Replica for Resolved {
    /// O(log n). A setting equal to the one there leaves that one, with its memo.
    fn absorb(&self, update: &SettingUpdate) -> Self {
        let mut next = self.clone();
        if self.get(update.setting().key()) != Some(update.setting()) {
            next.insert(update.setting());
        }
        next
    }
}

impl Resolution for Resolved {
    fn resolved(&self) -> &Resolved {
        self
    }
}

impl PartialEq for Resolved {
    fn eq(&self, other: &Self) -> bool {
        // `Arc` compares pointers first, so versions close to each other are compared fast.
        self.is_same(other) || self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Resolved {}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for DuplicateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, first, second } = self;
        write!(
            f,
            "`{key}` is there twice, from {first} and from {second}, where one can win only"
        )
    }
}

impl error::Error for DuplicateKey {}

/// All texts from this one on; owned, so that an iterator can keep it.
struct StartingAt(String);

impl RangeBounds<str> for StartingAt {
    fn start_bound(&self) -> Bound<&str> {
        Bound::Included(&self.0)
    }

    fn end_bound(&self) -> Bound<&str> {
        Bound::Unbounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Value;

    fn setting(key: &str, value: impl Into<Value>) -> Arc<Setting> {
        Arc::new(Setting::new(Source::File, Key::parse(key).unwrap(), value).unwrap())
    }

    fn resolved(keys: &[&str]) -> Resolved {
        Resolved::from_settings(keys.iter().map(|key| setting(key, *key))).unwrap()
    }

    fn keys<'a>(settings: impl Iterator<Item = &'a Arc<Setting>>) -> Vec<&'a str> {
        settings.map(|setting| setting.key().as_str()).collect()
    }

    #[test]
    fn iteration_is_in_the_order_of_the_keys() {
        let resolved = resolved(&["b", "a.c", "a-b", "a.b"]);
        assert_eq!(keys(resolved.iter()), ["a-b", "a.b", "a.c", "b"]);
        assert_eq!(resolved.iter().len(), 4);
        assert_eq!(keys(resolved.iter().rev()), ["b", "a.c", "a.b", "a-b"]);
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let resolved = resolved(&["a.b", "a.b.c", "a.bc", "a.b-c", "ab", "b"]);
        assert_eq!(keys(resolved.prefix("a.b")), ["a.b", "a.b.c"]);
        assert_eq!(
            keys(resolved.prefix("a")),
            ["a.b", "a.b-c", "a.b.c", "a.bc"]
        );
        assert_eq!(keys(resolved.prefix("b")), ["b"]);
        assert_eq!(resolved.prefix("a.").count(), 0);
        assert_eq!(resolved.prefix("z").count(), 0);
        assert_eq!(keys(resolved.prefix("")), keys(resolved.iter()));
    }

    #[test]
    fn a_duplicate_key_is_refused_by_name() {
        let error = Resolved::from_settings([setting("a", 1), setting("a", 2)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`a` is there twice, from file and from file, where one can win only"
        );
    }

    #[test]
    fn equality_is_by_content() {
        assert_eq!(resolved(&["a", "b"]), resolved(&["b", "a"]));
        assert_ne!(resolved(&["a"]), resolved(&["a", "b"]));
        let one = Resolved::from_settings([setting("a", 1)]).unwrap();
        let two = Resolved::from_settings([setting("a", 2)]).unwrap();
        assert_ne!(one, two);
    }

    #[test]
    fn an_absorbed_update_wins_whatever_its_source() {
        let high = Setting::new(Source::Cli, Key::parse("a").unwrap(), 1).unwrap();
        let state = Resolved::from_settings([high]).unwrap();
        let update = SettingUpdate::new(setting("a", 2), Some(Source::Cli));
        let next = state.absorb(&update);
        assert_eq!(next.get("a"), Some(update.setting()));
        assert_eq!(next.encoded_len(), update.setting().field_len());
    }

    #[test]
    fn an_equal_setting_leaves_the_one_there() {
        let state = resolved(&["a"]);
        let update = SettingUpdate::new(setting("a", "a"), None);
        let same = |next: &Resolved| Arc::ptr_eq(next.get("a").unwrap(), state.get("a").unwrap());
        assert!(same(&state.absorb(&update)));
        let set = state.apply(&ResolvedChange::Set(update)).unwrap();
        assert!(same(&set.state) && set.updates.is_empty() && !set.needs_snapshot);
        let all = ResolvedChange::ReplaceAll(resolved(&["a"]));
        let replaced = state.apply(&all).unwrap();
        assert!(same(&replaced.state) && replaced.updates.is_empty() && !replaced.needs_snapshot);
    }

    #[test]
    fn replacing_all_streams_the_difference() {
        let old = resolved(&["a", "b"]);
        let all = Resolved::from_settings([setting("a", "a"), setting("b", 1), setting("c", 2)]);
        let next = old
            .apply(&ResolvedChange::ReplaceAll(all.clone().unwrap()))
            .unwrap();
        let changed = keys(next.updates.iter().map(SettingUpdate::setting));
        assert_eq!(changed, ["b", "c"]);
        assert!(!next.needs_snapshot);
        assert_eq!(next.state, all.unwrap());
    }

    #[test]
    fn a_vanished_key_needs_a_snapshot() {
        let state = resolved(&["a", "b"]);
        let removed = state
            .apply(&ResolvedChange::Remove(Key::parse("a").unwrap()))
            .unwrap();
        assert!(removed.needs_snapshot && removed.updates.is_empty());
        assert_eq!(removed.state, resolved(&["b"]));

        let replaced = state
            .apply(&ResolvedChange::ReplaceAll(resolved(&["a"])))
            .unwrap();
        assert!(replaced.needs_snapshot && replaced.updates.is_empty());

        let absent = ResolvedChange::Remove(Key::parse("z").unwrap());
        assert!(!state.apply(&absent).unwrap().needs_snapshot);
    }

    #[test]
    fn the_size_is_kept_in_step() {
        let mut state = resolved(&["a", "b.c"]);
        assert!(state.remove("a"));
        assert!(!state.remove("z"));
        state.insert(&setting("b.c", "a longer text than before"));
        let sum: u64 = state.iter().map(|setting| setting.field_len()).sum();
        assert_eq!(state.encoded_len(), sum);
    }
}
