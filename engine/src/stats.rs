//! Figures about an engine and its subscriptions. All counters only grow; readers subtract.

use crate::{
    sequence::{Epoch, Sequence},
    sync::Arc,
};

/// What an engine has done so far.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// The head's epoch.
    pub epoch: Epoch,
    /// The head's sequence.
    pub sequence: Sequence,
    /// Updates committed since the engine was built, and versions that needed a snapshot.
    pub published: u64,
    /// How many of `published` have been handed to the rings, or are left to snapshots. What is
    /// missing, a round under way has yet to hand over: if that stays so, a subscriber's waker
    /// blocks.
    pub distributed: u64,
    /// Subscriptions alive now.
    pub subscriptions: u64,
    /// Rounds of distribution that had something to tell, and somebody who has taken a first snapshot to tell it to. Fewer than
    /// publishes, when publishers meet.
    pub rounds: u64,
    /// How often a round did not fit a subscription's ring.
    pub overflows: u64,
}

/// What became of the updates for one subscription, read at a moment of your choice without disturbing it.
///
/// At rest, `published since its first snapshot = delivered + dropped + forced + queued`. No counter ever falls, whenever it
/// is read: what is counted in advance is certain. The figures of one call may be of different moments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Unique within the engine.
    pub id: u64,
    /// As given when subscribing, for people.
    pub name: Option<Arc<str>>,
    /// Updates that the ring holds at most.
    pub capacity: usize,
    /// Sequence of the last event handed out; `None` before the first snapshot.
    pub sequence: Option<Sequence>,
    /// Updates handed out.
    pub delivered: u64,
    /// Updates that snapshots after the first stood in for, or will: while the subscription lags, those which are
    /// neither handed out nor in the ring are counted already.
    pub dropped: u64,
    /// Sequences of versions that needed a snapshot, which snapshots after the first brought, or will: no subscription
    /// gets these as updates, so they are nobody's drops.
    pub forced: u64,
    /// Snapshots handed out, the first included.
    pub snapshots: u64,
    /// Updates waiting in the ring, to be handed out.
    pub queued: u64,
    /// Published minus handed out, in updates.
    pub lag: u64,
    /// Whether the subscription will look for a snapshot once its ring is empty. It finds one if anything is missing.
    pub lagging: bool,
}
