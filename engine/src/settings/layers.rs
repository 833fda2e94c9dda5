//! The layered state: who set what, and what wins.

use std::fmt;

use super::{
    change::Change,
    draft::Draft,
    holders::{Held, Holders},
    key::Key,
    provenance::Provenance,
    rejection::Rejection,
    resolved::{Resolution, Resolved},
    setting::{Setting, SettingUpdate},
    size,
    source::Source,
};
use crate::{State, Transition, sync::Arc};

/// A layer of settings per [`Source`], and what wins among them: for each key, the highest layer that holds it.
///
/// Persistent: cloning copies a pointer, whatever the layers hold, and a change of one key costs O(log n). All layers are in
/// one tree, by key, since walking and copying a path of it is what a change costs.
///
/// # What streams
/// * Subscribers see the [resolved](Self::resolved) state only. A change beneath the winner streams nothing, nor does
///   setting what is set already.
/// * An update tells of one key: who wins now, with what. Several changes to a key within one [`Change`] make one update
///   or none, since nobody can see the state between them.
/// * Taking away the winner reveals the layer below; the update then names the layer that was cleared. Nothing below: the
///   key vanishes, which no update can say, so that the transition needs a snapshot. Its updates, if it has any, are those
///   of the keys that remain.
/// * Updates come in the order in which a batch first touches their keys; those of a replaced layer by key.
///
/// # What is refused
/// Whatever could not reach every consumer, and a key that is also the section of another one, in whichever layers
/// these two stand. See [`Rejection`].
///
/// # Examples
///
/// ```
/// use configstream_engine::{State, settings::{Change, Key, Rejection, Settings, Source}};
///
/// let key = Key::parse("log_level").unwrap();
/// let settings = Settings::new();
/// let settings = settings.apply(&Change::set(Source::File, key.clone(), "info"))?.state;
///
/// let next = settings.apply(&Change::set(Source::Cli, key.clone(), "debug"))?;
/// assert_eq!(next.updates[0].setting().source(), Source::Cli);
///
/// let next = next.state.apply(&Change::unset(Source::Cli, key))?;
/// assert_eq!(next.updates[0].setting().value().as_str(), Some("info"));
/// assert_eq!(next.updates[0].unset(), Some(Source::Cli));
/// # Ok::<(), Rejection>(())
/// ```
#[derive(Clone)]
pub struct Settings {
    /// The winners, and with each of them what it hides. No key is below another one.
    resolved: Resolved,
    size_limit: u64,
}

/// A setting as its layer holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layered {
    /// The setting; its source is the layer.
    pub setting: Arc<Setting>,
    /// Where the layer had it from.
    pub provenance: Option<Provenance>,
    /// Whether this is the one that wins.
    pub wins: bool,
}

impl Settings {
    /// How many bytes of a snapshot all settings may take by default: 128 MiB, which is what a message may have, less
    /// 4 KiB for everything in it that is no setting.
    pub const DEFAULT_SIZE_LIMIT: u64 = size::DEFAULT_LIMIT;

    /// The largest limit: 2 GiB, where protobuf ends, less 4 KiB.
    pub const MAX_SIZE_LIMIT: u64 = size::MAX_LIMIT;

    /// No settings yet, in any layer.
    #[must_use]
    pub fn new() -> Self {
        Self::with_size_limit(Self::DEFAULT_SIZE_LIMIT)
    }

    /// No settings yet, and room for `bytes` of them as they take them in a snapshot on the wire, at most
    /// [`MAX_SIZE_LIMIT`](Self::MAX_SIZE_LIMIT). A change beyond is rejected, in whichever layer for a single setting,
    /// and among the winners for all together.
    #[must_use]
    pub fn with_size_limit(bytes: u64) -> Self {
        Self {
            resolved: Resolved::new(),
            size_limit: bytes.min(Self::MAX_SIZE_LIMIT),
        }
    }

    /// What wins.
    #[must_use]
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// Every layer that holds `key`, highest precedence first, so that the first one wins. O(log n + layers).
    #[must_use]
    pub fn explain(&self, key: &Key) -> Vec<Layered> {
        let holders = self.resolved.holders(key).into_iter();
        let held = holders.flat_map(|holders| holders.iter());
        held.enumerate()
            .map(|(above, held)| held.layered(above == 0))
            .collect()
    }

    /// All that a layer holds, in the order of the keys. Looks at every key that any layer holds.
    pub fn layer(&self, source: Source) -> impl Iterator<Item = Layered> {
        self.held_by(source).map(|(held, wins)| held.layered(wins))
    }

    /// How many bytes of a snapshot all settings may take together.
    #[must_use]
    pub fn size_limit(&self) -> u64 {
        self.size_limit
    }

    /// All that a layer holds, by key, and whether it wins.
    pub(super) fn held_by(&self, source: Source) -> impl Iterator<Item = (&Held, bool)> {
        self.resolved.all_holders().filter_map(move |holders| {
            let held = holders.held_by(source)?;
            Some((held, holders.winner().source() == source))
        })
    }

    pub(super) fn resolved_mut(&mut self) -> &mut Resolved {
        &mut self.resolved
    }
}

impl Held {
    fn layered(&self, wins: bool) -> Layered {
        Layered {
            setting: Arc::clone(&self.setting),
            provenance: self.provenance.clone(),
            wins,
        }
    }
}

impl State for Settings {
    type Change = Change;
    type Update = SettingUpdate;
    type Rejection = Rejection;

    /// O(log n + layers) for each key that the change touches. Replacing a layer looks at every key there is.
    fn apply(&self, change: &Change) -> Result<Transition<Self>, Rejection> {
        let mut draft = Draft::of(self);
        draft.apply(change)?;
        draft.finish()
    }
}

impl Resolution for Settings {
    fn resolved(&self) -> &Resolved {
        &self.resolved
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sizes = [0_usize; Source::ALL.len()];
        for held in self.resolved.all_holders().flat_map(Holders::iter) {
            sizes[held.source().index()] += 1;
        }
        let mut map = f.debug_map();
        for (source, size) in Source::ALL.iter().zip(sizes) {
            if size > 0 {
                map.entry(source, &size);
            }
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Assignment, Value};

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn set(source: Source, name: &str, value: impl Into<Value>) -> Change {
        Change::set(source, key(name), value)
    }

    fn with(changes: impl IntoIterator<Item = Change>) -> Settings {
        let all = Change::batch(changes);
        Settings::new().apply(&all).unwrap().state
    }

    #[test]
    fn explain_shows_every_holder_and_the_winner_first() {
        let settings = with([
            set(Source::File, "a", 1).with_provenance(Provenance::file("x.yaml", 4)),
            set(Source::Cli, "a", 3),
            set(Source::AgentRuntime, "a", 2).with_provenance(Provenance::runtime("root")),
            set(Source::Default, "b", 0),
        ]);
        let lines: Vec<_> = settings
            .explain(&key("a"))
            .into_iter()
            .map(|layered| {
                let place = layered.provenance.map(|place| place.to_string());
                (layered.setting.source(), place, layered.wins)
            })
            .collect();
        assert_eq!(
            lines,
            [
                (Source::Cli, None, true),
                (
                    Source::AgentRuntime,
                    Some("at run time by root".into()),
                    false
                ),
                (Source::File, Some("x.yaml:4".into()), false),
            ]
        );
        assert!(settings.explain(&key("z")).is_empty());
    }

    #[test]
    fn a_layer_lists_what_it_holds_and_what_of_it_wins() {
        let settings = with([
            set(Source::File, "b", 1),
            set(Source::File, "a", 1),
            set(Source::Cli, "a", 1),
        ]);
        let file: Vec<_> = settings
            .layer(Source::File)
            .map(|layered| (layered.setting.key().to_string(), layered.wins))
            .collect();
        assert_eq!(file, [("a".into(), false), ("b".into(), true)]);
        assert_eq!(settings.layer(Source::Secret).count(), 0);
    }

    #[test]
    fn a_layer_shares_its_setting_with_what_resolves() {
        let settings = with([set(Source::File, "a", 1)]);
        let held = settings.layer(Source::File).next().unwrap();
        let winner = settings.resolved().get("a").unwrap();
        assert!(Arc::ptr_eq(&held.setting, winner));
    }

    #[test]
    fn a_limit_beyond_what_protobuf_can_do_is_lowered() {
        let limit = Settings::with_size_limit(u64::MAX).size_limit();
        assert_eq!(limit, Settings::MAX_SIZE_LIMIT);
    }

    #[test]
    fn debug_counts_and_does_not_tell() {
        let assignments = [
            Assignment::new(key("a"), "hunter2"),
            Assignment::new(key("b"), "hunter2"),
        ];
        let settings = with([Change::replace_layer(Source::Secret, assignments)]);
        assert_eq!(format!("{settings:?}"), "{Secret: 2}");
    }

    #[test]
    fn settings_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Settings>();
        shared::<SettingUpdate>();
        shared::<Rejection>();
    }
}
