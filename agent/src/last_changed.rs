//! Since when each setting is as it is: what a change "only if nobody else was faster" is checked against.
//!
//! Only the resolver writes it, right after each commit, so it may be behind the head for a moment, never ahead of it.
//!
//! # Bounds
//!
//! An entry for each key that has changed and still streams, and for the [`MAX_GONE`] that have
//! vanished last. For other keys that are not there, the newest sequence of those forgotten stands
//! in: a change on condition of such a key may be refused without need, and is never made by
//! mistake. What vanishes moves the sequence of no other key that streams.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use configstream_engine::settings::{Change, Key, Resolved, Settings};
use configstream_engine::{Epoch, Sequence, Version};
use configstream_grpc::Conditions;

/// For each key, the sequence of the version that last changed what wins for it.
#[derive(Debug)]
pub(crate) struct LastChanged {
    epoch: Epoch,
    /// All keys that stream and have no entry are as they were here.
    since: Sequence,
    /// No key that is not there and has no entry has vanished later.
    forgotten: Sequence,
    keys: BTreeMap<Key, Sequence>,
    /// The entries of keys that have vanished, oldest first.
    gone: BTreeSet<(Sequence, Key)>,
}

/// How many keys that have vanished keep an entry.
const MAX_GONE: usize = 1_024;

/// Why a condition does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each says in its text what it holds")]
#[non_exhaustive]
pub enum Conflict {
    Epoch {
        expected: Epoch,
        found: Epoch,
    },
    NotReached {
        expected: Sequence,
        found: Sequence,
    },
    Head {
        expected: Sequence,
        found: Sequence,
    },
    Key {
        key: Key,
        expected: Sequence,
        found: Sequence,
    },
}

impl LastChanged {
    pub(crate) fn since(head: &Version<Settings>) -> Self {
        Self {
            epoch: head.epoch(),
            since: head.sequence(),
            forgotten: head.sequence(),
            keys: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// When what wins for `key` last changed, if anything does, which `streams` says.
    pub(crate) fn of(&self, key: &str, streams: bool) -> (Epoch, Sequence) {
        let unknown = if streams { self.since } else { self.forgotten };
        let sequence = self.keys.get(key).copied().unwrap_or(unknown);
        (self.epoch, sequence)
    }

    /// Notes what `change` has made of `before`. Costs O(log n) for each key that it names, and a look at all keys if it
    /// replaces a layer.
    pub(crate) fn note(
        &mut self,
        before: &Version<Settings>,
        after: &Version<Settings>,
        change: &Change,
    ) {
        if self.epoch != before.epoch() {
            *self = Self::since(before);
        }
        if before.sequence() == after.sequence() {
            return;
        }
        let states = (before.state().resolved(), after.state().resolved());
        self.note_change(states, after.sequence(), change);
    }

    fn note_change(&mut self, states: (&Resolved, &Resolved), sequence: Sequence, change: &Change) {
        match change {
            Change::Set { key, .. } | Change::Unset { key, .. } => {
                self.note_key(states, sequence, key);
            }
            Change::Batch(changes) => changes
                .iter()
                .for_each(|change| self.note_change(states, sequence, change)),
            // A layer, or what came after this program.
            _ => states
                .0
                .iter()
                .chain(states.1.iter())
                .for_each(|setting| self.note_key(states, sequence, setting.key())),
        }
    }

    fn note_key(&mut self, (before, after): (&Resolved, &Resolved), sequence: Sequence, key: &Key) {
        let (before, after) = (before.get(key.as_str()), after.get(key.as_str()));
        if before == after {
            return;
        }
        let earlier = self.keys.insert(key.clone(), sequence);
        match (before, after, earlier) {
            (_, None, _) => {
                self.gone.insert((sequence, key.clone()));
                self.forget();
            }
            (None, Some(_), Some(vanished)) => {
                self.gone.remove(&(vanished, key.clone()));
            }
            _ => {}
        }
    }

    /// Forgets the keys that have vanished longest ago.
    fn forget(&mut self) {
        while self.gone.len() > MAX_GONE {
            let Some((vanished, key)) = self.gone.pop_first() else {
                return;
            };
            self.keys.remove(&key);
            self.forgotten = vanished;
        }
    }

    /// Whether a change may be made to `head`.
    pub(crate) fn check(
        &self,
        head: &Version<Settings>,
        conditions: &Conditions,
    ) -> Result<(), Conflict> {
        if let Some(expected) = conditions.epoch
            && expected != head.epoch()
        {
            let found = head.epoch();
            return Err(Conflict::Epoch { expected, found });
        }
        let reached = |expected: Sequence| match expected > head.sequence() {
            true => Err(Conflict::NotReached {
                expected,
                found: head.sequence(),
            }),
            false => Ok(()),
        };
        if let Some(expected) = conditions.head {
            reached(expected)?;
            let found = head.sequence();
            if expected < found {
                return Err(Conflict::Head { expected, found });
            }
        }
        for (key, expected) in &conditions.keys {
            reached(*expected)?;
            let found = match self.of(
                key.as_str(),
                head.state().resolved().get(key.as_str()).is_some(),
            ) {
                (epoch, found) if epoch == head.epoch() => found,
                // Nothing has been committed in this epoch yet.
                _ => head.sequence(),
            };
            if *expected < found {
                return Err(Conflict::Key {
                    key: key.clone(),
                    expected: *expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epoch { expected, found } => write!(
                formatter,
                "the sequences have started anew: expected epoch {}, found {}",
                expected.get(),
                found.get()
            ),
            Self::NotReached { expected, found } => write!(
                formatter,
                "sequence {expected} is still to come: found {found}; is it another agent's?"
            ),
            Self::Head { expected, found } => write!(
                formatter,
                "the configuration has changed: expected it as of sequence {expected}, found it at {found}"
            ),
            Self::Key {
                key,
                expected,
                found,
            } => write!(
                formatter,
                "`{key}` has changed: expected it as of sequence {expected}, found it changed at {found}"
            ),
        }?;
        formatter.write_str("; nothing was changed; read it again, and decide anew")
    }
}

#[cfg(test)]
mod tests {
    use configstream_engine::settings::{Assignment, Source, Value};
    use configstream_engine::{Engine, State};

    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    /// Publishes and notes, as the resolver does.
    fn publish(engine: &Engine<Settings>, last: &mut LastChanged, change: &Change) {
        let before = engine.head();
        engine.publish(change).unwrap();
        last.note(&before, &engine.head(), change);
    }

    fn engine() -> Engine<Settings> {
        Engine::builder(Settings::new()).build().unwrap()
    }

    fn of(engine: &Engine<Settings>, last: &LastChanged, name: &str) -> u64 {
        let streams = engine.head().state().resolved().get(name).is_some();
        last.of(name, streams).1.get()
    }

    fn unset(name: &str) -> Change {
        Change::unset(Source::Cli, key(name))
    }

    fn set(name: &str, value: i64) -> Change {
        Change::set(Source::Cli, key(name), Value::Int(value))
    }

    #[test]
    fn a_key_that_comes_and_goes_moves_the_sequence_of_no_other() {
        let state = Settings::new();
        let state = state.apply(&set("from.the.start", 1)).unwrap().state;
        let engine = Engine::builder(state).build().unwrap();
        let mut last = LastChanged::since(&engine.head());
        let start = engine.head().sequence().get();
        publish(&engine, &mut last, &set("foo.bar", 1));
        publish(&engine, &mut last, &unset("foo.bar"));
        assert_eq!(of(&engine, &last, "from.the.start"), start);
        assert_eq!(
            of(&engine, &last, "foo.bar"),
            engine.head().sequence().get()
        );
        assert_eq!(of(&engine, &last, "never.there"), start);
    }

    proptest::proptest! {
        /// Against a list of what won for each key at each sequence.
        #[test]
        fn the_sequence_of_each_key_is_the_one_that_last_changed_it(
            steps in proptest::collection::vec((0..4_u8, 0..6_usize, 0..6_usize, 0..3_i64), 0..60),
        ) {
            let names = ["a", "b.c", "b.d", "e", "f", "g"];
            let state = Settings::new();
            let state = state.apply(&set("a", 0)).unwrap().state;
            let engine = Engine::builder(state).build().unwrap();
            let start = engine.head().sequence().get();
            let mut last = LastChanged::since(&engine.head());
            let mut expected = names.map(|_| start);
            for (kind, one, two, value) in steps {
                let (one_name, two_name) = (names[one], names[two]);
                let change = match kind {
                    0 => set(one_name, value),
                    1 => unset(one_name),
                    2 => Change::batch([set(one_name, value), unset(two_name)]),
                    _ => Change::replace_layer(
                        Source::File,
                        [Assignment::new(key(one_name), Value::Int(value))],
                    ),
                };
                let won = |engine: &Engine<Settings>| {
                    let head = engine.head();
                    names.map(|name| head.state().resolved().get(name).cloned())
                };
                let before = won(&engine);
                publish(&engine, &mut last, &change);
                let now = engine.head().sequence().get();
                for (index, (before, after)) in before.into_iter().zip(won(&engine)).enumerate() {
                    if before != after {
                        expected[index] = now;
                    }
                }
                proptest::prop_assert_eq!(names.map(|name| of(&engine, &last, name)), expected);
            }
        }
    }

    #[test]
    fn only_what_streams_counts_as_a_change() {
        let engine = engine();
        let mut last = LastChanged::since(&engine.head());
        let set = |source, value: i64| Change::set(source, key("a"), Value::Int(value));
        publish(&engine, &mut last, &set(Source::Cli, 1));
        assert_eq!(of(&engine, &last, "a"), 1);
        for (source, value) in [(Source::Cli, 1), (Source::File, 7)] {
            publish(&engine, &mut last, &set(source, value));
            assert_eq!(of(&engine, &last, "a"), 1, "{source}");
        }
        publish(&engine, &mut last, &Change::unset(Source::Cli, key("a")));
        assert_eq!(of(&engine, &last, "a"), 2);
    }

    #[test]
    fn a_batch_and_a_layer_note_each_key_they_change() {
        let engine = engine();
        let mut last = LastChanged::since(&engine.head());
        let layer = |values: [(&str, i64); 2]| {
            Change::replace_layer(
                Source::File,
                values.map(|(name, value)| Assignment::new(key(name), Value::Int(value))),
            )
        };
        publish(&engine, &mut last, &layer([("a", 1), ("b", 1)]));
        assert_eq!((of(&engine, &last, "a"), of(&engine, &last, "b")), (2, 2));
        let batch = Change::batch([
            layer([("a", 1), ("b", 2)]),
            Change::set(Source::Cli, key("c"), Value::Int(1)),
        ]);
        publish(&engine, &mut last, &batch);
        assert_eq!(
            (
                of(&engine, &last, "a"),
                of(&engine, &last, "b"),
                of(&engine, &last, "c")
            ),
            (2, 4, 4)
        );
    }

    #[test]
    fn keys_that_are_gone_take_bounded_room_and_no_condition_holds_by_mistake() {
        let engine = engine();
        let mut last = LastChanged::since(&engine.head());
        for round in 0..=MAX_GONE {
            let name = key(&format!("k{round}"));
            publish(
                &engine,
                &mut last,
                &Change::set(Source::Cli, name.clone(), Value::Int(1)),
            );
            publish(&engine, &mut last, &Change::unset(Source::Cli, name));
        }
        assert_eq!((last.keys.len(), last.gone.len()), (MAX_GONE, MAX_GONE));
        let head = engine.head();
        let conditions = |sequence| Conditions {
            keys: vec![(key("k0"), Sequence::new(sequence))],
            ..Conditions::default()
        };
        // The first is forgotten.
        assert_eq!(last.check(&head, &conditions(2)), Ok(()));
        assert!(matches!(
            last.check(&head, &conditions(1)),
            Err(Conflict::Key { .. })
        ));
    }

    #[test]
    fn a_condition_that_does_not_hold_says_what_was_expected_and_found() {
        let engine = engine();
        let mut last = LastChanged::since(&engine.head());
        for name in ["a", "b", "b"] {
            let value = Value::Int(engine.head().sequence().get().try_into().unwrap());
            publish(
                &engine,
                &mut last,
                &Change::set(Source::Cli, key(name), value),
            );
        }
        let head = engine.head();
        let check = |epoch: Option<u64>, whole: Option<u64>, keys: &[(&str, u64)]| {
            last.check(
                &head,
                &Conditions {
                    epoch: epoch.map(Epoch::new),
                    head: whole.map(Sequence::new),
                    keys: keys
                        .iter()
                        .map(|(name, sequence)| (key(name), Sequence::new(*sequence)))
                        .collect(),
                },
            )
            .map_err(|conflict| conflict.to_string())
        };
        let epoch = head.epoch().get();
        assert_eq!(check(None, None, &[]), Ok(()));
        assert_eq!(
            check(Some(epoch), Some(3), &[("a", 1), ("b", 3), ("c", 0)]),
            Ok(())
        );
        assert_eq!(check(None, None, &[("a", 2)]), Ok(()));
        for (refused, parts) in [
            (
                check(Some(epoch + 1), None, &[]),
                [format!("epoch {}", epoch + 1), format!("found {epoch}")],
            ),
            (
                check(None, Some(2), &[]),
                ["sequence 2".into(), "found it at 3".into()],
            ),
            (
                check(None, Some(4), &[]),
                ["sequence 4".into(), "found 3".into()],
            ),
            (
                check(None, None, &[("a", 1), ("b", 2)]),
                ["`b`".into(), "changed at 3".into()],
            ),
            (
                check(None, None, &[("a", 9)]),
                ["sequence 9".into(), "found 3".into()],
            ),
        ] {
            let error = refused.unwrap_err();
            for part in parts.iter().map(String::as_str).chain(["read it again"]) {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
    }

    #[test]
    fn a_new_epoch_forgets_the_sequences_of_the_old_one() {
        let engine = engine();
        let mut last = LastChanged::since(&engine.head());
        let set = |value| Change::set(Source::Cli, key("a"), Value::Int(value));
        publish(&engine, &mut last, &set(1));
        publish(&engine, &mut last, &set(2));
        let epoch = Epoch::new(engine.head().epoch().get() + 1);
        let state = engine.head().state().clone();
        engine.adopt(state, epoch, Sequence::new(1)).unwrap();
        let conditions = |sequence| Conditions {
            keys: vec![(key("a"), Sequence::new(sequence))],
            ..Conditions::default()
        };
        assert_eq!(last.check(&engine.head(), &conditions(1)), Ok(()));
        assert!(last.check(&engine.head(), &conditions(0)).is_err());
        publish(&engine, &mut last, &set(3));
        assert_eq!(last.of("a", true), (epoch, Sequence::new(2)));
        assert_eq!(last.of("b", false), (epoch, Sequence::new(1)));
    }
}
