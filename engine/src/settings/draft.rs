//! A change being worked out: the next state, step by step, then what to tell of it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    slice,
};

use smallvec::SmallVec;

use super::{
    change::{Assignment, Change},
    holders::{Held, Holders},
    key::Key,
    layers::Settings,
    provenance::Provenance,
    rejection::Rejection,
    setting::{Setting, SettingUpdate},
    source::Source,
    value::Value,
};
use crate::{Transition, sync::Arc};

/// The state after some steps of a change. Dropped when a step is refused, so a change happens whole or not at all.
///
/// Steps change the layers and their winners. Only [`finish`](Self::finish) makes the updates, from the winners before
/// the first step and after the last one: what is set and unset on the way is nobody's business.
///
/// Walking a tree of strings is what a change costs, so what one walk finds is handed on rather than looked up again. What
/// setting one key does not need is out of line, since a change comes to cold caches, of code too.
pub(super) struct Draft<'a> {
    old: &'a Settings,
    next: Settings,
    /// The steps that changed a winner, in order. A key can be there several times.
    turns: Turns,
    /// The step that brought all settings together over the limit, as long as they are.
    over: Option<(Source, Key)>,
}

/// Most changes make one.
type Turns = SmallVec<[Turn; 1]>;

/// One step's effect on who wins for a key.
struct Turn {
    before: Option<Arc<Setting>>,
    after: Option<Arc<Setting>>,
}

impl Turn {
    fn key(&self) -> &Key {
        let setting = self.after.as_ref().or(self.before.as_ref());
        setting
            .expect("a turn has a setting on one side at least")
            .key()
    }
}

impl<'a> Draft<'a> {
    pub(super) fn of(old: &'a Settings) -> Self {
        Self {
            old,
            next: old.clone(),
            turns: Turns::new(),
            over: None,
        }
    }

    /// Takes the steps of one change.
    pub(super) fn apply(&mut self, change: &Change) -> Result<(), Rejection> {
        match change {
            Change::Batch(changes) => self.apply_all(changes),
            Change::Set {
                source,
                key,
                value,
                provenance,
            } => self.set(*source, key, value, provenance.as_ref()),
            Change::Unset { source, key } => {
                self.unset(*source, key);
                Ok(())
            }
            Change::ReplaceLayer { source, settings } => self.replace_layer(*source, settings),
        }
    }

    /// Batches within batches, without recursion: how deep they go is up to the caller.
    #[inline(never)]
    fn apply_all(&mut self, changes: &[Change]) -> Result<(), Rejection> {
        let mut batches = vec![changes.iter()];
        while let Some(change) = next_of(&mut batches) {
            match change {
                Change::Batch(changes) => batches.push(changes.iter()),
                step => self.apply(step)?,
            }
        }
        Ok(())
    }

    /// The next state and what leads there.
    pub(super) fn finish(self) -> Result<Transition<Settings>, Rejection> {
        if let Some((source, key)) = self.over {
            return Err(too_large(source, key, &self.next));
        }
        // One turn is the ordinary case, and not worth a map.
        let turns = if self.turns.len() > 1 {
            one_per_key(self.turns)
        } else {
            self.turns
        };
        let mut updates = Vec::with_capacity(turns.len());
        let mut needs_snapshot = false;
        for Turn { before, after } in &turns {
            match after {
                Some(after) => updates.extend(SettingUpdate::between(before.as_ref(), after)),
                None => needs_snapshot |= before.is_some(),
            }
        }
        Ok(Transition {
            state: self.next,
            updates,
            needs_snapshot,
        })
    }

    fn set(
        &mut self,
        source: Source,
        key: &Key,
        value: &Value,
        provenance: Option<&Provenance>,
    ) -> Result<(), Rejection> {
        let holders = self.next.resolved().holders(key);
        // One text for all that is ever set to a key.
        let key = holders.map_or(key, |holders| holders.winner().key());
        let held = holders.and_then(|holders| holders.held_by(source));
        let setting = match held.filter(|held| held.setting.value() == value) {
            Some(held) if held.provenance.as_ref() == provenance => return Ok(()),
            Some(held) => Arc::clone(&held.setting),
            None => self.new_setting(source, key, value)?,
        };
        if holders.is_none() {
            self.check_is_leaf(source, key)?;
        }
        let held = Held {
            setting,
            provenance: provenance.cloned(),
        };
        let before = holders.map(|holders| Arc::clone(holders.winner()));
        let after = match holders {
            Some(holders) => holders.with(held),
            None => Holders::alone(held),
        };
        self.turn(source, before, Some(after));
        Ok(())
    }

    #[inline(never)]
    fn unset(&mut self, source: Source, key: &Key) {
        let holders = self.next.resolved().holders(key);
        let Some(holders) = holders.filter(|holders| holders.held_by(source).is_some()) else {
            return;
        };
        let before = Arc::clone(holders.winner());
        let after = holders.without(source);
        self.turn(source, Some(before), after);
    }

    /// Removes before it sets, so that a section may become a setting and a setting a section.
    #[inline(never)]
    fn replace_layer(&mut self, source: Source, settings: &[Assignment]) -> Result<(), Rejection> {
        let settings = by_key(source, settings)?;
        let first_turn = self.turns.len();

        let held = self.next.held_by(source);
        let gone: Vec<Key> = held
            .map(|(held, _)| held.setting.key())
            .filter(|key| !settings.contains_key(key))
            .cloned()
            .collect();
        for key in &gone {
            self.unset(source, key);
        }
        for (key, new) in settings {
            self.set(source, key, &new.value, new.provenance.as_ref())?;
        }

        self.turns[first_turn..].sort_unstable_by(|one, two| one.key().cmp(two.key()));
        Ok(())
    }

    /// A setting to put into a layer: the one that this layer held before the whole change, if it is equal, so that
    /// unsetting and setting again keeps its memo; else a new one, if it may be.
    fn new_setting(
        &self,
        source: Source,
        key: &Key,
        value: &Value,
    ) -> Result<Arc<Setting>, Rejection> {
        let before = self.old.resolved();
        if !before.is_same(self.next.resolved()) {
            let holders = before.holders(key);
            let held = holders.and_then(|holders| holders.held_by(source));
            if let Some(held) = held.filter(|held| held.setting.value() == value) {
                return Ok(Arc::clone(&held.setting));
            }
        }

        let setting = Setting::new(source, key.clone(), value.clone()).map_err(|reason| {
            Rejection::Value {
                source,
                key: key.clone(),
                reason,
            }
        })?;
        let (encoded_len, limit) = (setting.field_len(), self.next.size_limit());
        if encoded_len > limit {
            return Err(Rejection::SettingTooLarge {
                source,
                key: key.clone(),
                encoded_len,
                limit,
            });
        }
        Ok(Arc::new(setting))
    }

    /// Whether a key that nobody holds may be: no section that it lies in has a value, and nothing lies below it.
    #[cold]
    fn check_is_leaf(&self, source: Source, key: &Key) -> Result<(), Rejection> {
        let resolved = self.next.resolved();
        let above = key.sections().find_map(|section| resolved.get(section));
        match above.or_else(|| resolved.first_below(key)) {
            None => Ok(()),
            Some(other) => Err(Rejection::Conflict {
                source,
                key: key.clone(),
                other_source: other.source(),
                other: other.key().clone(),
            }),
        }
    }

    /// Puts `after` in the place of who held the key, among whom `before` won, because `source` changed.
    fn turn(&mut self, source: Source, before: Option<Arc<Setting>>, after: Option<Holders>) {
        let winner = after.as_ref().map(|after| Arc::clone(after.winner()));
        self.next.resolved_mut().exchange(before.as_deref(), after);
        if let (Some(before), Some(winner)) = (&before, &winner)
            && Arc::ptr_eq(before, winner)
        {
            return;
        }
        let turn = Turn {
            before,
            after: winner,
        };
        self.weigh(source, turn.key());
        self.turns.push(turn);
    }

    /// Remembers who crossed the limit. It is judged at the end: what happens on the way is never sent.
    fn weigh(&mut self, source: Source, key: &Key) {
        if self.next.resolved().encoded_len() <= self.next.size_limit() {
            self.over = None;
        } else if self.over.is_none() {
            self.over = Some((source, key.clone()));
        }
    }
}

/// The next change of the innermost batch that has one; what has none is left.
fn next_of<'a>(batches: &mut Vec<slice::Iter<'a, Change>>) -> Option<&'a Change> {
    loop {
        match batches.last_mut()?.next() {
            Some(change) => return Some(change),
            None => drop(batches.pop()),
        }
    }
}

/// Why a change is refused whose step for `key` brought `all` over their limit.
#[cold]
fn too_large(source: Source, key: Key, all: &Settings) -> Rejection {
    Rejection::TotalTooLarge {
        source,
        key,
        encoded_len: all.resolved().encoded_len(),
        limit: all.size_limit(),
    }
}

/// What a layer is to hold, sorted.
fn by_key(
    source: Source,
    settings: &[Assignment],
) -> Result<BTreeMap<&Key, &Assignment>, Rejection> {
    let mut sorted = BTreeMap::new();
    for second in settings {
        match sorted.entry(&second.key) {
            Entry::Vacant(entry) => {
                entry.insert(second);
            }
            Entry::Occupied(entry) => {
                let first: &Assignment = entry.get();
                return Err(Rejection::Duplicate {
                    source,
                    key: second.key.clone(),
                    first: first.provenance.clone(),
                    second: second.provenance.clone(),
                });
            }
        }
    }
    Ok(sorted)
}

/// Each key once, where it comes first, with its winner before the first turn and after the last one.
#[inline(never)]
fn one_per_key(turns: Turns) -> Turns {
    let mut places = BTreeMap::new();
    let mut merged = Turns::with_capacity(turns.len());
    for turn in turns {
        match places.entry(turn.key().clone()) {
            Entry::Vacant(entry) => {
                entry.insert(merged.len());
                merged.push(turn);
            }
            Entry::Occupied(entry) => merged[*entry.get()].after = turn.after,
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{State, settings::ValueError};

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn set(source: Source, name: &str, value: impl Into<Value>) -> Change {
        Change::set(source, key(name), value)
    }

    fn unset(source: Source, name: &str) -> Change {
        Change::unset(source, key(name))
    }

    fn replace<const N: usize>(source: Source, settings: [(&str, i32); N]) -> Change {
        let assignment = |(name, value)| Assignment::new(key(name), Value::from(value));
        Change::replace_layer(source, settings.map(assignment))
    }

    fn with<const N: usize>(changes: [Change; N]) -> Settings {
        let batch = Change::batch(changes);
        Settings::new().apply(&batch).unwrap().state
    }

    /// What a transition tells: each update as key, winning source, value and unset source.
    fn told(transition: &Transition<Settings>) -> Vec<(&str, Source, String, Option<Source>)> {
        let line = |update: &SettingUpdate| {
            let value = update.setting().value().to_string();
            (update.setting().source(), value, update.unset())
        };
        let keys = transition
            .updates
            .iter()
            .map(|update| update.setting().key());
        keys.zip(transition.updates.iter().map(line))
            .map(|(key, (source, value, unset))| (key.as_str(), source, value, unset))
            .collect()
    }

    fn is_silent(transition: &Transition<Settings>) -> bool {
        transition.updates.is_empty() && !transition.needs_snapshot
    }

    #[test]
    fn setting_an_equal_value_streams_nothing_and_keeps_the_setting() {
        let settings = with([set(Source::File, "a", 1)]);
        for same in [
            set(Source::File, "a", 1),
            set(Source::File, "a", Value::Uint(1)),
            set(Source::File, "a", 1).with_provenance(Provenance::CommandLine),
            replace(Source::File, [("a", 1)]),
            Change::batch([unset(Source::File, "a"), set(Source::File, "a", 1)]),
            Change::batch([set(Source::Cli, "a", 1), unset(Source::Cli, "a")]),
        ] {
            let next = settings.apply(&same).unwrap();
            assert!(is_silent(&next), "{same:?}");
            let setting = |settings: &Settings| Arc::clone(settings.resolved().get("a").unwrap());
            assert!(
                Arc::ptr_eq(&setting(&next.state), &setting(&settings)),
                "{same:?}"
            );
        }
    }

    #[test]
    fn a_shadowed_write_changes_its_layer_and_streams_nothing() {
        let settings = with([set(Source::Cli, "a", 1)]);
        let next = settings.apply(&set(Source::File, "a", 2)).unwrap();
        assert!(is_silent(&next));
        assert_eq!(next.state.explain(&key("a")).len(), 2);
        let next = next.state.apply(&unset(Source::File, "a")).unwrap();
        assert!(is_silent(&next));
        assert_eq!(next.state.explain(&key("a")).len(), 1);
    }

    #[test]
    fn an_equal_value_from_a_higher_layer_is_an_update() {
        let settings = with([set(Source::File, "a", 1)]);
        let next = settings.apply(&set(Source::Cli, "a", 1)).unwrap();
        assert_eq!(told(&next), [("a", Source::Cli, "1".into(), None)]);
    }

    #[test]
    fn unset_reveals_the_next_layer() {
        let settings = with([
            set(Source::Default, "a", 0),
            set(Source::File, "a", 1),
            set(Source::Cli, "a", 2),
        ]);
        let below = Arc::clone(&settings.explain(&key("a"))[1].setting);
        let next = settings.apply(&unset(Source::Cli, "a")).unwrap();
        let update = ("a", Source::File, "1".into(), Some(Source::Cli));
        assert_eq!(told(&next), [update]);
        assert!(!next.needs_snapshot);
        assert!(Arc::ptr_eq(next.updates[0].setting(), &below));
    }

    #[test]
    fn unset_of_what_is_not_there_changes_nothing() {
        let settings = with([set(Source::File, "a", 1)]);
        for nothing in [unset(Source::Cli, "a"), unset(Source::File, "b")] {
            assert!(is_silent(&settings.apply(&nothing).unwrap()));
        }
    }

    #[test]
    fn the_last_value_of_a_key_goes_with_a_snapshot() {
        let settings = with([set(Source::File, "a", 1), set(Source::File, "b", 1)]);
        let next = settings.apply(&unset(Source::File, "a")).unwrap();
        assert!(next.needs_snapshot && next.updates.is_empty());
        assert!(next.state.resolved().get("a").is_none());
    }

    #[test]
    fn a_vanishing_key_leaves_the_updates_of_the_others() {
        let settings = with([set(Source::File, "a", 1), set(Source::File, "b", 1)]);
        let next = settings.apply(&replace(Source::File, [("b", 2)])).unwrap();
        assert!(next.needs_snapshot);
        assert_eq!(told(&next), [("b", Source::File, "2".into(), None)]);
    }

    #[test]
    fn replacing_a_layer_streams_the_difference_by_key() {
        let settings = with([
            set(Source::Default, "d", 0),
            replace(Source::File, [("d", 1), ("c", 1), ("b", 1)]),
            set(Source::Cli, "b", 9),
        ]);
        let new = replace(Source::File, [("e", 1), ("c", 2), ("b", 2)]);
        let next = settings.apply(&new).unwrap();
        assert_eq!(
            told(&next),
            [
                ("c", Source::File, "2".into(), None),
                ("d", Source::Default, "0".into(), Some(Source::File)),
                ("e", Source::File, "1".into(), None),
            ]
        );
        assert!(!next.needs_snapshot);
        assert!(is_silent(&next.state.apply(&new).unwrap()));
    }

    #[test]
    fn a_line_that_moved_changes_the_explanation_only() {
        let at = |line| {
            let assignment = Assignment::new(key("a"), 1);
            let provenance = Provenance::file("x.yaml", line);
            Change::replace_layer(Source::File, [assignment.with_provenance(provenance)])
        };
        let settings = with([at(1)]);
        let next = settings.apply(&at(2)).unwrap();
        assert!(is_silent(&next));
        let place = next.state.explain(&key("a"))[0].provenance.clone();
        assert_eq!(place, Some(Provenance::file("x.yaml", 2)));
    }

    #[test]
    fn a_key_twice_in_one_layer_is_rejected_with_both_places() {
        let at =
            |line| Assignment::new(key("a"), 1).with_provenance(Provenance::file("x.yaml", line));
        let twice = Change::replace_layer(Source::File, [at(3), at(9)]);
        let rejection = Settings::new().apply(&twice).unwrap_err();
        assert_eq!(
            rejection.to_string(),
            "`a` in file: the key is there twice, at x.yaml:3 and at x.yaml:9"
        );
    }

    #[test]
    fn a_batch_tells_each_key_once_in_the_order_of_its_changes() {
        let settings = with([set(Source::File, "a", 1)]);
        let batch = Change::batch([
            set(Source::File, "z", 1),
            set(Source::File, "a", 2),
            set(Source::File, "z", 3),
        ]);
        assert_eq!(
            told(&settings.apply(&batch).unwrap()),
            [
                ("z", Source::File, "3".into(), None),
                ("a", Source::File, "2".into(), None),
            ]
        );
    }

    #[test]
    fn one_rejected_change_rejects_the_batch() {
        let settings = with([set(Source::File, "a", 1)]);
        let batch = Change::batch([set(Source::Cli, "a", 2), set(Source::Cli, "b", f64::NAN)]);
        assert_eq!(
            settings.apply(&batch).unwrap_err(),
            Rejection::Value {
                source: Source::Cli,
                key: key("b"),
                reason: ValueError::NotFinite,
            }
        );
    }

    #[test]
    fn batches_within_batches_do_not_recurse() {
        let mut change = set(Source::File, "a", 1);
        for _ in 0..10_000 {
            change = Change::Batch(vec![change]);
        }
        assert_eq!(Settings::new().apply(&change).unwrap().updates.len(), 1);
    }

    #[test]
    fn a_key_cannot_be_its_own_section_across_layers_and_in_both_directions() {
        let conflict = |settings: &Settings, change| match settings.apply(&change).unwrap_err() {
            Rejection::Conflict {
                key,
                other,
                other_source,
                ..
            } => (key.to_string(), other.to_string(), other_source),
            rejection => panic!("{rejection}"),
        };
        let leaf = with([set(Source::Default, "a.b", 1), set(Source::Cli, "a.b", 1)]);
        let below = conflict(&leaf, set(Source::File, "a.b.c.d", 1));
        assert_eq!(below, ("a.b.c.d".into(), "a.b".into(), Source::Cli));
        let above = conflict(&leaf, set(Source::File, "a", 1));
        assert_eq!(above, ("a".into(), "a.b".into(), Source::Cli));
        let both = conflict(&leaf, replace(Source::File, [("x", 1), ("x.y", 1)]));
        assert_eq!(both, ("x.y".into(), "x".into(), Source::File));
        for fine in ["a.b0", "a.b-", "a.c", "ab"] {
            assert!(leaf.apply(&set(Source::File, fine, 1)).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_setting_becomes_a_section_in_one_go() {
        let settings = with([replace(Source::File, [("a", 1), ("b.c", 1)])]);
        let swapped = replace(Source::File, [("a.x", 1), ("b", 1)]);
        let next = settings.apply(&swapped).unwrap();
        assert!(next.needs_snapshot);
        let keys: Vec<_> = next
            .state
            .resolved()
            .iter()
            .map(|s| s.key().as_str())
            .collect();
        assert_eq!(keys, ["a.x", "b"]);

        let moved = [unset(Source::File, "a"), set(Source::File, "a.x", 1)];
        assert!(settings.apply(&Change::batch(moved.clone())).is_ok());
        let [first, second] = moved;
        assert!(settings.apply(&Change::batch([second, first])).is_err());
    }

    #[test]
    fn a_setting_beyond_the_limit_is_rejected_even_in_the_shade() {
        let settings = Settings::with_size_limit(100);
        let settings = settings.apply(&set(Source::Cli, "a", 1)).unwrap().state;
        let long = "x".repeat(100);
        let rejection = settings.apply(&set(Source::File, "a", long)).unwrap_err();
        assert!(
            matches!(&rejection, Rejection::SettingTooLarge { limit: 100, encoded_len, .. } if *encoded_len > 100),
            "{rejection}"
        );
    }

    #[test]
    fn the_total_is_judged_at_the_end_of_a_change() {
        let one = with([set(Source::File, "a", 1)]).resolved().encoded_len();
        let settings = Settings::with_size_limit(2 * one);
        let both = replace(Source::File, [("a", 1), ("b", 1)]);
        let full = settings.apply(&both).unwrap().state;
        assert_eq!(full.resolved().encoded_len(), 2 * one);

        let third = set(Source::File, "c", 1);
        assert_eq!(
            full.apply(&third).unwrap_err(),
            Rejection::TotalTooLarge {
                source: Source::File,
                key: key("c"),
                encoded_len: 3 * one,
                limit: 2 * one,
            }
        );
        let exchange = Change::batch([third, unset(Source::File, "a")]);
        assert!(full.apply(&exchange).is_ok());
    }

    #[test]
    fn revealing_too_much_is_rejected_too() {
        let settings = Settings::with_size_limit(60);
        let settings = settings
            .apply(&Change::batch([
                set(Source::Cli, "a", 1),
                set(Source::File, "a", "x".repeat(30)),
                set(Source::File, "b", 1),
            ]))
            .unwrap()
            .state;
        let rejection = settings.apply(&unset(Source::Cli, "a")).unwrap_err();
        assert!(matches!(rejection, Rejection::TotalTooLarge { .. }));
        assert_eq!(
            (rejection.source(), rejection.key()),
            (Source::Cli, &key("a"))
        );
    }
}
