//! The settings against a reference that is too simple to be wrong: a plain map per layer, resolved from scratch.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{Replica, State, Transition, sync::Arc};

#[derive(Clone, Debug, Default, PartialEq)]
struct Reference {
    layers: BTreeMap<Source, BTreeMap<Key, (Value, Option<Provenance>)>>,
}

/// Something in the change cannot be.
#[derive(Debug)]
struct Refused;

impl Reference {
    fn after(&self, change: &Change) -> Result<Self, Refused> {
        let mut next = self.clone();
        next.make(change)?;
        if next.encoded_len() > SIZE_LIMIT {
            return Err(Refused);
        }
        Ok(next)
    }

    fn make(&mut self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::Set {
                source,
                key,
                value,
                provenance,
            } => {
                value.check().map_err(|_| Refused)?;
                let held = (value.clone(), provenance.clone());
                self.layers
                    .entry(*source)
                    .or_default()
                    .insert(key.clone(), held);
            }
            Change::Unset { source, key } => {
                self.layers.entry(*source).or_default().remove(key);
            }
            Change::ReplaceLayer { source, settings } => {
                let mut layer = BTreeMap::new();
                for Assignment {
                    key,
                    value,
                    provenance,
                } in settings
                {
                    value.check().map_err(|_| Refused)?;
                    let held = (value.clone(), provenance.clone());
                    if layer.insert(key.clone(), held).is_some() {
                        return Err(Refused);
                    }
                }
                self.layers.insert(*source, layer);
            }
            Change::Batch(changes) => {
                for change in changes {
                    self.make(change)?;
                }
            }
        }
        let keys: BTreeSet<&Key> = self.layers.values().flat_map(BTreeMap::keys).collect();
        let conflict = keys
            .iter()
            .any(|one| keys.iter().any(|two| one.is_below(two)));
        if conflict { Err(Refused) } else { Ok(()) }
    }

    /// The layers from low to high, each over the ones before.
    fn resolved(&self) -> BTreeMap<Key, (Source, Value)> {
        let mut resolved = BTreeMap::new();
        for (source, layer) in &self.layers {
            for (key, (value, _)) in layer {
                resolved.insert(key.clone(), (*source, value.clone()));
            }
        }
        resolved
    }

    fn encoded_len(&self) -> u64 {
        let settings = self.resolved().into_iter();
        settings
            .map(|(key, (source, value))| Setting::new(source, key, value).unwrap().field_len())
            .sum()
    }
}

/// Small enough for some changes to pass it.
const SIZE_LIMIT: u64 = 200;

fn any_source() -> impl Strategy<Value = Source> {
    prop::sample::select(vec![
        Source::Default,
        Source::File,
        Source::AgentRuntime,
        Source::Cli,
    ])
}

/// Few keys, so that they meet; some below others, and some that only look so.
fn any_key() -> impl Strategy<Value = Key> {
    let keys = ["a", "a.b", "a.b.c", "a-b", "a0", "b", "b.c", "c", "d", "e"];
    prop::sample::select(keys.to_vec()).prop_map(|key| Key::parse(key).unwrap())
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        20 => (0..3i32).prop_map(Value::from),
        10 => (0..3u64).prop_map(Value::Uint),
        10 => any::<bool>().prop_map(Value::from),
        5 => (0..60usize).prop_map(|length| "x".repeat(length).into()),
        5 => Just(Value::list([1.into(), Value::Uint(1)]).unwrap()),
        1 => Just(Value::from(f64::NAN)),
        1 => Just(Value::from(i64::MAX)),
    ]
}

fn any_assignment() -> impl Strategy<Value = Assignment> {
    let line = prop::option::of(1..3usize);
    (any_key(), any_value(), line).prop_map(|(key, value, line)| Assignment {
        key,
        value,
        provenance: line.map(|line| Provenance::file("x.yaml", line)),
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    let single = prop_oneof![
        3 => (any_source(), any_assignment()).prop_map(|(source, assignment)| Change::Set {
            source,
            key: assignment.key,
            value: assignment.value,
            provenance: assignment.provenance,
        }),
        2 => (any_source(), any_key()).prop_map(|(source, key)| Change::Unset { source, key }),
        1 => (any_source(), prop::collection::vec(any_assignment(), 0..6))
            .prop_map(|(source, settings)| Change::ReplaceLayer { source, settings }),
    ];
    single.prop_recursive(2, 8, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(Change::Batch)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn random_changes_lead_where_the_reference_says(
        changes in prop::collection::vec(any_change(), 1..40)
    ) {
        let mut reference = Reference::default();
        let mut settings = Settings::with_size_limit(SIZE_LIMIT);
        for change in &changes {
            match (settings.apply(change), reference.after(change)) {
                (Ok(transition), Ok(next)) => {
                    check_state(&transition.state, &next)?;
                    check_told(&settings, &transition)?;
                    (settings, reference) = (transition.state, next);
                }
                (Err(_), Err(Refused)) => check_state(&settings, &reference)?,
                (Ok(_), Err(Refused)) => prop_assert!(false, "accepted {change:?}"),
                (Err(rejection), Ok(_)) => prop_assert!(false, "{rejection} for {change:?}"),
            }
        }
    }
}

fn check_state(settings: &Settings, reference: &Reference) -> Result<(), TestCaseError> {
    let resolved: BTreeMap<_, _> = settings
        .resolved()
        .iter()
        .map(|setting| {
            (
                setting.key().clone(),
                (setting.source(), setting.value().clone()),
            )
        })
        .collect();
    prop_assert_eq!(resolved, reference.resolved());
    prop_assert_eq!(settings.resolved().encoded_len(), reference.encoded_len());
    for source in Source::ALL {
        let held: BTreeMap<_, _> = settings
            .layer(source)
            .map(|layered| {
                let Layered {
                    setting,
                    provenance,
                    ..
                } = layered;
                (setting.key().clone(), (setting.value().clone(), provenance))
            })
            .collect();
        prop_assert_eq!(
            held,
            reference.layers.get(&source).cloned().unwrap_or_default()
        );
    }
    for setting in settings.resolved().iter() {
        let holders = settings.explain(setting.key());
        prop_assert!(Arc::ptr_eq(&holders[0].setting, setting) && holders[0].wins);
        prop_assert!(
            holders
                .iter()
                .rev()
                .is_sorted_by_key(|holder| holder.setting.source())
        );
    }
    Ok(())
}

fn check_told(before: &Settings, after: &Transition<Settings>) -> Result<(), TestCaseError> {
    let (old, new) = (before.resolved(), after.state.resolved());
    let vanished = old.iter().any(|setting| new.get(setting.key()).is_none());
    prop_assert_eq!(after.needs_snapshot, vanished);

    // The updates lead there, but for what vanished.
    let mut followed = old.clone();
    for update in &after.updates {
        let winner = old.get(update.setting().key());
        prop_assert_ne!(winner, Some(update.setting()), "this is no news");
        let unset = winner
            .map(|setting| setting.source())
            .filter(|source| *source > update.setting().source());
        prop_assert_eq!(update.unset(), unset);
        followed = followed.absorb(update);
    }
    for gone in old
        .iter()
        .filter(|setting| new.get(setting.key()).is_none())
    {
        followed.exchange(Some(gone), None);
    }
    prop_assert_eq!(&followed, new);

    // One update for each key that changed, and the very same setting where nothing did.
    let kept = |setting: &&Arc<Setting>| old.get(setting.key()) == Some(*setting);
    prop_assert_eq!(
        after.updates.len(),
        new.iter().filter(|setting| !kept(setting)).count()
    );
    for setting in new.iter().filter(kept) {
        prop_assert!(Arc::ptr_eq(old.get(setting.key()).unwrap(), setting));
    }
    for source in Source::ALL {
        let old: BTreeMap<_, _> = before.layer(source).map(by_key).collect();
        for (key, setting) in after.state.layer(source).map(by_key) {
            if old.get(&key) == Some(&setting) {
                prop_assert!(Arc::ptr_eq(&old[&key], &setting));
            }
        }
    }
    Ok(())
}

fn by_key(layered: Layered) -> (Key, Arc<Setting>) {
    (layered.setting.key().clone(), layered.setting)
}
