//! Who holds one key: the setting that wins, and what it hides.

use super::{provenance::Provenance, setting::Setting, source::Source};
use crate::sync::Arc;

/// What the layers hold for one key, of which there is one at least.
#[derive(Clone)]
pub(super) struct Holders {
    winner: Held,
    /// The lower layers' settings, highest first. Most keys have none.
    hidden: Option<Arc<[Held]>>,
}

/// What one layer holds for a key. The setting's source is the layer.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) setting: Arc<Setting>,
    pub(super) provenance: Option<Provenance>,
}

impl Holders {
    pub(super) fn alone(held: Held) -> Self {
        Self {
            winner: held,
            hidden: None,
        }
    }

    /// Of these, highest first. `None`: there are none.
    fn of(held: Vec<Held>) -> Option<Self> {
        let mut held = held.into_iter();
        let winner = held.next()?;
        let hidden: Arc<[Held]> = held.collect();
        Some(Self {
            winner,
            hidden: (!hidden.is_empty()).then_some(hidden),
        })
    }

    pub(super) fn winner(&self) -> &Arc<Setting> {
        &self.winner.setting
    }

    /// Highest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.winner).chain(self.hidden.iter().flat_map(|hidden| hidden.iter()))
    }

    /// What a layer holds.
    pub(super) fn held_by(&self, source: Source) -> Option<&Held> {
        self.iter().find(|held| held.source() == source)
    }

    /// With `held` in its layer, in place of what that held.
    pub(super) fn with(&self, held: Held) -> Self {
        // The ordinary case, without looking at what is hidden.
        if held.source() == self.winner.source() {
            return Self {
                winner: held,
                hidden: self.hidden.clone(),
            };
        }
        let mut all = self.all_but(held.source());
        let place = all.partition_point(|other| other.source() > held.source());
        all.insert(place, held);
        Self::of(all).expect("there is the one that was put in")
    }

    /// With nothing in a layer. `None`: no layer is left.
    pub(super) fn without(&self, source: Source) -> Option<Self> {
        Self::of(self.all_but(source))
    }

    fn all_but(&self, source: Source) -> Vec<Held> {
        let others = self.iter().filter(|held| held.source() != source);
        others.cloned().collect()
    }
}

impl Held {
    /// The layer that it is in.
    pub(super) fn source(&self) -> Source {
        self.setting.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Key;

    fn held(source: Source, value: i32) -> Held {
        let setting = Setting::new(source, Key::parse("a").unwrap(), value).unwrap();
        Held {
            setting: Arc::new(setting),
            provenance: None,
        }
    }

    fn sources(holders: &Holders) -> Vec<Source> {
        holders.iter().map(Held::source).collect()
    }

    #[test]
    fn the_highest_layer_wins_in_whatever_order_they_come() {
        let all = [Source::File, Source::Cli, Source::Default, Source::Secret];
        let [first, others @ ..] = all.map(|source| held(source, 1));
        let mut holders = Holders::alone(first);
        for held in others {
            holders = holders.with(held);
        }
        let sorted = [Source::Cli, Source::Secret, Source::File, Source::Default];
        assert_eq!(sources(&holders), sorted);
        assert_eq!(holders.winner().source(), Source::Cli);
    }

    #[test]
    fn a_layer_holds_one_setting() {
        let holders = Holders::alone(held(Source::Cli, 1)).with(held(Source::File, 1));
        for source in [Source::Cli, Source::File] {
            let new = held(source, 2);
            let holders = holders.with(new.clone());
            assert_eq!(sources(&holders), [Source::Cli, Source::File]);
            let found = &holders.held_by(source).unwrap().setting;
            assert!(Arc::ptr_eq(found, &new.setting));
        }
    }

    #[test]
    fn taking_the_winner_away_reveals_the_next_and_in_the_end_nothing() {
        let holders = Holders::alone(held(Source::Cli, 1)).with(held(Source::File, 1));
        let left = holders.without(Source::Cli).unwrap();
        assert_eq!(sources(&left), [Source::File]);
        assert_eq!(sources(&left.without(Source::Cli).unwrap()), [Source::File]);
        assert!(left.without(Source::File).is_none());
    }
}
