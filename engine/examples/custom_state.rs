//! A state that is no configuration: a leaderboard, in persistent maps, so that a version shares with the one before all
//! but the path that changed.
//!
//! ```text
//! cargo run -p configstream-engine --example custom_state
//! ```

use std::fmt;

use configstream_engine::{Engine, Event, State, Transition};
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

/// Who has how many points, by name and by rank. Cloning copies two pointers.
#[derive(Clone, Default)]
struct Leaderboard {
    points: HashTrieMapSync<String, u32>,
    /// Worst first.
    ranking: RedBlackTreeSetSync<(u32, String)>,
}

/// What a game server asks for.
enum Change {
    Score { player: String, points: u32 },
    Leave { player: String },
    NewSeason,
}

/// What followers are told: the outcome, not the request, so that they need no rules of the game.
#[derive(Clone)]
enum Update {
    Has { player: String, points: u32 },
    Left { player: String },
}

/// Why a change cannot be.
#[derive(Debug, PartialEq)]
struct UnknownPlayer(String);

impl Leaderboard {
    fn with(&self, player: &str, points: u32) -> Self {
        let without = self.without(player);
        Self {
            points: without.points.insert(player.to_owned(), points),
            ranking: without.ranking.insert((points, player.to_owned())),
        }
    }

    fn without(&self, player: &str) -> Self {
        let Some(&points) = self.points.get(player) else {
            return self.clone();
        };
        Self {
            points: self.points.remove(player),
            ranking: self.ranking.remove(&(points, player.to_owned())),
        }
    }

    fn absorb(&self, update: &Update) -> Self {
        match update {
            Update::Has { player, points } => self.with(player, *points),
            Update::Left { player } => self.without(player),
        }
    }
}

impl State for Leaderboard {
    type Change = Change;
    type Update = Update;
    type Rejection = UnknownPlayer;

    fn apply(&self, change: &Change) -> Result<Transition<Self>, UnknownPlayer> {
        let update = match change {
            // Followers could not tell: no sequence is spent.
            Change::Score { points: 0, .. } => return Ok(Transition::unobservable(self.clone())),
            Change::Score { player, points } => Update::Has {
                player: player.clone(),
                points: self.points.get(player).copied().unwrap_or(0) + points,
            },
            Change::Leave { player } if !self.points.contains_key(player) => {
                return Err(UnknownPlayer(player.clone()));
            }
            Change::Leave { player } => Update::Left {
                player: player.clone(),
            },
            // One snapshot says it better than an update for each player.
            Change::NewSeason => return Ok(Transition::snapshot(Self::default())),
        };
        Ok(Transition::new(self.absorb(&update), vec![update]))
    }
}

impl fmt::Display for Leaderboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (points, player) in self.ranking.iter().rev() {
            write!(f, " {player} {points}")?;
        }
        Ok(())
    }
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let score = |player: &str, points| Change::Score {
        player: player.to_owned(),
        points,
    };
    let engine = Engine::builder(Leaderboard::default()).build()?;
    let mut follower = engine.subscribe();
    let mut copy = Leaderboard::default();
    let mut catch_up = |copy: &mut Leaderboard| {
        while let Ok(event) = follower.try_next() {
            *copy = match &event {
                Event::Snapshot(snapshot) => snapshot.state().clone(),
                Event::Update(update) => copy.absorb(update),
                _ => continue,
            };
            println!("{:>2}:{copy}", event.sequence());
        }
    };

    catch_up(&mut copy);
    // A batch is seen whole or not at all: nobody ever reads a duel with one result.
    let publish = |changes: &[Change]| {
        engine
            .publish_batch(changes)
            .map_err(|error| format!("{error:?}"))
    };
    publish(&[score("ada", 3), score("grace", 5)])?;
    publish(&[score("ada", 4), score("edsger", 0)])?;
    catch_up(&mut copy);
    assert_eq!(copy.to_string(), " ada 7 grace 5");

    // A rejection comes back as the state's own, and changes nothing; not even the first half of the batch.
    let gone = Change::Leave {
        player: "alan".to_owned(),
    };
    let rejected = engine.publish_batch(&[score("ada", 1), gone]).unwrap_err();
    assert_eq!(
        rejected.into_rejection(),
        Some(UnknownPlayer("alan".to_owned()))
    );
    catch_up(&mut copy);

    publish(&[Change::NewSeason])?;
    publish(&[score("barbara", 1)])?;
    catch_up(&mut copy);
    assert_eq!(copy.to_string(), " barbara 1");
    Ok(())
}
