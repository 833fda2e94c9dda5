//! Options, for an engine and for a subscription.

use std::fmt;

use crate::{
    engine::Engine,
    error::BuildError,
    reader::SharedSubscription,
    sequence::{Epoch, Sequence},
    state::State,
    subscription::Subscription,
    sync::Arc,
    wait_set::WaitSet,
};

/// Makes an [`Engine`].
#[must_use = "a builder does nothing until it builds"]
pub struct EngineBuilder<S: State> {
    pub(crate) state: S,
    pub(crate) ring_capacity: usize,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: Sequence,
    pub(crate) sequence_limit: Sequence,
}

/// Makes a [`Subscription`].
#[must_use = "a builder does nothing until it subscribes"]
pub struct SubscriptionBuilder<'a, S: State> {
    engine: &'a Engine<S>,
    name: Option<Arc<str>>,
    capacity: usize,
    wait_set: Option<WaitSet>,
}

impl<S: State> EngineBuilder<S> {
    pub(crate) fn new(state: S) -> Self {
        Self {
            state,
            ring_capacity: Engine::<S>::DEFAULT_RING_CAPACITY,
            epoch: Epoch::NONE,
            sequence: Sequence::default(),
            sequence_limit: Sequence::MAX,
        }
    }

    /// Updates that the ring of a subscription holds, unless the subscription says otherwise.
    /// Default: [`Engine::DEFAULT_RING_CAPACITY`]. A round that does not fit costs the subscription
    /// a snapshot. Eight bytes each, allocated when subscribing, or, up to 1,024, when more than
    /// eight wait for the first time. 0 counts as 1, and more than [`Engine::MAX_RING_CAPACITY`] as
    /// that.
    pub fn ring_capacity(mut self, updates: usize) -> Self {
        self.ring_capacity = ring_capacity::<S>(updates);
        self
    }

    /// The labels of the first version. Default: [`Epoch::NONE`], sequence 0. Who keeps sequences over restarts gives an epoch
    /// of its own, so that remote consumers can tell a server that is behind from one that begins anew.
    pub fn start_at(mut self, epoch: Epoch, sequence: Sequence) -> Self {
        self.epoch = epoch;
        self.sequence = sequence;
        self
    }

    /// The greatest sequence that a publish may spend; see [`Engine::set_sequence_limit`]. Default: none.
    pub fn sequence_limit(mut self, limit: Sequence) -> Self {
        self.sequence_limit = limit;
        self
    }

    /// The engine, with the state given as its head.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub fn build(self) -> Result<Engine<S>, BuildError> {
        if self.sequence > self.sequence_limit {
            return Err(BuildError::StartPastLimit);
        }
        Ok(Engine::from_builder(self))
    }
}

impl<'a, S: State> SubscriptionBuilder<'a, S> {
    pub(crate) fn new(engine: &'a Engine<S>, capacity: usize) -> Self {
        Self {
            engine,
            name: None,
            capacity,
            wait_set: None,
        }
    }

    /// A name, for [`SubscriptionStats`](crate::SubscriptionStats). Default: none.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Updates that this subscription's ring holds: exactly as many. Default: the engine's. 0 counts as 1, and more than
    /// [`Engine::MAX_RING_CAPACITY`] as that.
    pub fn capacity(mut self, updates: usize) -> Self {
        self.capacity = ring_capacity::<S>(updates);
        self
    }

    /// Wakes `set`, too, whenever this subscription has something to hand out. Default: none.
    pub fn wait_set(mut self, set: &WaitSet) -> Self {
        self.wait_set = Some(set.clone());
        self
    }

    /// The subscription. Costs the ring's allocation and O(log n) in the registry; publishers do not notice.
    pub fn subscribe(self) -> Subscription<S> {
        self.engine
            .core
            .subscribe(self.name, self.capacity, self.wait_set)
    }

    /// A subscription with these options for any number of readers. Subscribes when the first one comes.
    pub fn share(self) -> SharedSubscription<S> {
        SharedSubscription::new(
            self.engine.core.clone(),
            self.name,
            self.capacity,
            self.wait_set,
        )
    }
}

/// The capacity of a ring that was asked to hold so many updates: the one rule for all of them.
fn ring_capacity<S: State>(updates: usize) -> usize {
    updates.clamp(1, Engine::<S>::MAX_RING_CAPACITY)
}

impl<S: State> fmt::Debug for EngineBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder")
            .field("ring_capacity", &self.ring_capacity)
            .field("epoch", &self.epoch)
            .field("sequence", &self.sequence)
            .field("sequence_limit", &self.sequence_limit)
            .finish_non_exhaustive()
    }
}

impl<S: State> fmt::Debug for SubscriptionBuilder<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionBuilder")
            .field("name", &self.name)
            .field("capacity", &self.capacity)
            .field("wait_set", &self.wait_set)
            .finish_non_exhaustive()
    }
}
