//! Versions, and the head: the newest one.
//!
//! A version is immutable once it is the head, but for what led to it: the version before and the
//! updates. A snapshot *is* a version, so making one costs nothing.
//!
//! # What a held version keeps
//! What led to a version is taken out of it once, by the round that distributes it, or by the
//! commit that cuts the chain after it. From then on a version that is held keeps its own state,
//! and nothing else. The two may meet, since the round may have loaded its head before the cut.
//! Neither waits: each tries the version's lock, which is held for a move of two words.
//! * The round fails, or finds nothing there: the commit is at this version, or has been, so the
//!   chain is cut, and all get a snapshot.
//! * The commit fails, or finds nothing there: the round is at this version, or has been, and takes
//!   the rest of the chain.
//!
//! Model: `what_a_cut_chain_held_goes_though_its_versions_are_held` in `loom-tests/tests/leave.rs`.

use std::{fmt, mem, ops::Deref};

use smallvec::SmallVec;

use crate::{
    memo::Memo,
    panics::FirstPanic,
    reservation::Reservation,
    sequence::{Epoch, Sequence},
    shared::Shared,
    state::State,
    sync::{Arc, TryMutex},
};

/// The state as of one sequence.
pub struct Version<S: State> {
    epoch: Epoch,
    sequence: Sequence,
    state: S,
    memo: Memo,
    closed: bool,
    /// Private number of what subscribers can see: grows by one per update, and by one for a version that needs a
    /// snapshot. Never restarts. Cursors compare this.
    pub(crate) ordinal: u64,
    /// Private number of the version itself: grows as the ordinal does, and by at least one. "Distributed up to here"
    /// compares this, so that versions which nobody can see move on too, and cannot pile up.
    pub(crate) position: u64,
    /// How many of the ordinals up to this one went to versions that needed a snapshot: nobody gets them as updates.
    pub(crate) forced: u64,
    pub(crate) needs_snapshot: bool,
    /// Of the publisher that made this version to attempt on it: others wait for the end of that.
    pub(crate) reservation: Option<Arc<Reservation>>,
    /// Until it is taken: see [`take_step`](Self::take_step).
    step: TryMutex<Step<S>>,
}

/// What led from one version to the next.
pub(crate) struct Step<S: State> {
    /// The version before; `None` too when the chain was cut for its length.
    pub(crate) previous: Option<Arc<Version<S>>>,
    /// Empty if the version needs a snapshot.
    pub(crate) updates: Updates<S>,
    /// While the version is dropped. It goes last, after the state.
    panics: FirstPanic,
}

/// One update as subscriptions receive it: shared by all of them, cheap to clone, and labelled.
///
/// Dereferences to the state's own update.
pub struct Update<S: State>(Shared<Labelled<S>>);

/// Most versions come of one.
pub(crate) type Updates<S> = SmallVec<[Shared<Labelled<S>>; 1]>;

/// What an [`Update`] shares.
pub(crate) struct Labelled<S: State> {
    ordinal: u64,
    epoch: Epoch,
    sequence: Sequence,
    batch_remaining: u32,
    update: S::Update,
    memo: Memo,
}

/// What a commit wants to be the next version, before it has numbers.
pub(crate) struct Draft<S: State> {
    pub(crate) state: S,
    pub(crate) updates: Vec<S::Update>,
    pub(crate) needs_snapshot: bool,
    pub(crate) labels: Labels,
    pub(crate) closed: bool,
}

/// How a draft is labelled.
#[derive(Clone, Copy)]
pub(crate) enum Labels {
    /// The sequences that follow the head's.
    Next,
    /// As somebody else numbered it.
    Given(Epoch, Sequence),
}

impl<S: State> Version<S> {
    /// The version that an engine starts with.
    pub(crate) fn initial(state: S, epoch: Epoch, sequence: Sequence) -> Self {
        Self {
            epoch,
            sequence,
            state,
            memo: Memo::default(),
            closed: false,
            ordinal: 0,
            position: 0,
            forced: 0,
            needs_snapshot: false,
            reservation: None,
            step: TryMutex::new(Step::default()),
        }
    }

    /// The version after `previous`; the link to it is left out when `linked` is not set. `None`: sequences are
    /// exhausted.
    pub(crate) fn after(previous: &Arc<Self>, draft: Draft<S>, linked: bool) -> Option<Self> {
        let spent = draft.spent();
        let (epoch, sequence) = match draft.labels {
            Labels::Next => (previous.epoch, previous.sequence.checked_add(spent)?),
            Labels::Given(epoch, sequence) => (epoch, sequence),
        };
        let version = Self {
            epoch,
            sequence,
            // Nothing spent: nothing that an encoding could show has changed.
            memo: if spent == 0 {
                previous.memo.carry_over()
            } else {
                Memo::default()
            },
            closed: draft.closed,
            ordinal: previous.ordinal + spent,
            position: previous.position + spent.max(1),
            forced: previous.forced + if draft.needs_snapshot { spent } else { 0 },
            needs_snapshot: draft.needs_snapshot,
            reservation: None,
            state: draft.state,
            step: TryMutex::new(Step {
                previous: linked.then(|| previous.clone()),
                updates: if draft.needs_snapshot {
                    Updates::<S>::new()
                } else {
                    label(draft.updates, previous.ordinal, epoch, sequence)
                },
                panics: FirstPanic::default(),
            }),
        };
        Some(version)
    }

    /// This version again, reserved. Subscribers cannot tell the two apart.
    pub(crate) fn reserved(self: &Arc<Self>, reservation: Arc<Reservation>) -> Self {
        let draft = Draft {
            state: self.state.clone(),
            updates: Vec::new(),
            needs_snapshot: false,
            labels: Labels::Next,
            closed: false,
        };
        let mut version = Self::after(self, draft, true).expect("no sequence is spent");
        version.reservation = Some(reservation);
        version
    }

    /// What led to this version; nothing if it was taken before, or another thread is taking it.
    pub(crate) fn take_step(&self) -> Step<S> {
        let step = self.step.try_lock();
        step.map_or_else(Step::default, |mut step| mem::take(&mut *step))
    }

    /// The epoch in which [`sequence`](Self::sequence) counts.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The sequence of the last update that this version contains.
    #[must_use]
    pub const fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The state itself.
    #[must_use]
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// A place for an adapter's encoding of the whole state, shared by all who hold this version.
    #[must_use]
    pub const fn memo(&self) -> &Memo {
        &self.memo
    }

    /// Whether this is the last version: its engine has closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }
}

impl<S: State> Draft<S> {
    /// How many sequences it takes.
    pub(crate) fn spent(&self) -> u64 {
        self.updates.len() as u64 + u64::from(self.needs_snapshot)
    }
}

impl<S: State> Update<S> {
    /// The epoch in which [`sequence`](Self::sequence) counts.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// The number of this update.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.0.sequence
    }

    /// How many updates of the same version follow this one: 0 for the last, or the only, one.
    #[must_use]
    pub fn batch_remaining(&self) -> u32 {
        self.0.batch_remaining
    }

    /// A place for an adapter's encoding of this update, shared by all subscriptions.
    #[must_use]
    pub fn memo(&self) -> &Memo {
        &self.0.memo
    }

    pub(crate) fn ordinal(&self) -> u64 {
        self.0.ordinal
    }

    pub(crate) fn new(shared: Shared<Labelled<S>>) -> Self {
        Self(shared)
    }
}

/// Gives `updates` the ordinals after `ordinal`, and the sequences up to `last`.
fn label<S: State>(
    updates: Vec<S::Update>,
    ordinal: u64,
    epoch: Epoch,
    last: Sequence,
) -> Updates<S> {
    let count = updates.len() as u64;
    let mut labelled = Updates::<S>::with_capacity(updates.len());
    for (update, nth) in updates.into_iter().zip(1..) {
        labelled.push(Shared::new(Labelled {
            ordinal: ordinal + nth,
            epoch,
            sequence: Sequence::new(last.get() - (count - nth)),
            // A batch of more than four thousand million updates says "many follow" for a while.
            batch_remaining: u32::try_from(count - nth).unwrap_or(u32::MAX),
            update,
            memo: Memo::default(),
        }));
    }
    labelled
}

impl<S: State> Step<S> {
    /// Drops the updates, one by one.
    pub(crate) fn clear_updates(&mut self) {
        while let Some(update) = self.updates.pop() {
            drop(update);
        }
    }
}

impl<S: State> Drop for Version<S> {
    /// Unlinks what is still chained one by one: a chain may be long, and nested drops would use the stack.
    fn drop(&mut self) {
        let own = self.step.get_mut();
        if own.previous.is_none() && own.updates.is_empty() {
            return;
        }
        let mut step = mem::take(own);
        loop {
            own.panics.run_through(|| step.clear_updates());
            let Some(mut version) = step.previous.take().and_then(Arc::into_inner) else {
                return;
            };
            step = mem::take(version.step.get_mut());
            own.panics.run(|| drop(version));
        }
    }
}

impl<S: State> Default for Step<S> {
    fn default() -> Self {
        Self {
            previous: None,
            updates: Updates::<S>::new(),
            panics: FirstPanic::default(),
        }
    }
}

impl<S: State> Clone for Update<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: State> Deref for Update<S> {
    type Target = S::Update;

    fn deref(&self) -> &S::Update {
        &self.0.update
    }
}

impl<S: State> fmt::Debug for Version<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("epoch", &self.epoch.get())
            .field("sequence", &self.sequence.get())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl<S: State> fmt::Debug for Update<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("epoch", &self.epoch().get())
            .field("sequence", &self.sequence().get())
            .field("batch_remaining", &self.batch_remaining())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::state::Transition;

    #[derive(Clone)]
    struct Nothing;

    impl State for Nothing {
        type Change = ();
        type Update = char;
        type Rejection = ();

        fn apply(&self, (): &()) -> Result<Transition<Self>, ()> {
            Err(())
        }
    }

    fn first(sequence: u64) -> Arc<Version<Nothing>> {
        let sequence = Sequence::new(sequence);
        Arc::new(Version::initial(Nothing, Epoch::new(5), sequence))
    }

    fn draft(updates: &str, needs_snapshot: bool) -> Draft<Nothing> {
        Draft {
            state: Nothing,
            updates: updates.chars().collect(),
            needs_snapshot,
            labels: Labels::Next,
            closed: false,
        }
    }

    fn after(previous: &Arc<Version<Nothing>>, draft: Draft<Nothing>) -> Arc<Version<Nothing>> {
        Arc::new(Version::after(previous, draft, true).unwrap())
    }

    fn updates(version: &Version<Nothing>) -> Updates<Nothing> {
        version.step.try_lock().unwrap().updates.clone()
    }

    fn numbers(version: &Version<Nothing>) -> [u64; 5] {
        [
            version.epoch.get(),
            version.sequence.get(),
            version.ordinal,
            version.position,
            version.forced,
        ]
    }

    #[test]
    fn numbers_grow_by_what_subscribers_can_see() {
        let first = first(70);
        assert_eq!(numbers(&first), [5, 70, 0, 0, 0]);
        let three = after(&first, draft("abc", false));
        assert_eq!(numbers(&three), [5, 73, 3, 3, 0]);
        let unseen = after(&three, draft("", false));
        assert_eq!(numbers(&unseen), [5, 73, 3, 4, 0]);
        let forced = after(&unseen, draft("de", true));
        assert_eq!(numbers(&forced), [5, 76, 6, 7, 3]);
        assert!(updates(&forced).is_empty());
        let adopted = Draft {
            labels: Labels::Given(Epoch::new(9), Sequence::new(1)),
            ..draft("", true)
        };
        assert_eq!(numbers(&after(&forced, adopted)), [9, 1, 7, 8, 4]);
    }

    #[test]
    fn updates_are_labelled_up_to_their_version() {
        let version = after(&first(70), draft("abc", false));
        let labels: Vec<_> = updates(&version)
            .iter()
            .map(|it| (it.update, it.ordinal, it.sequence.get(), it.batch_remaining))
            .collect();
        assert_eq!(labels, [('a', 1, 71, 2), ('b', 2, 72, 1), ('c', 3, 73, 0)]);
    }

    #[test]
    fn a_version_past_the_last_sequence_is_not_made() {
        let last = first(u64::MAX - 1);
        assert!(Version::after(&last, draft("ab", false), true).is_none());
        let version = after(&last, draft("a", false));
        assert_eq!(version.sequence, Sequence::MAX);
        assert!(Version::after(&version, draft("", true), true).is_none());
        assert!(Version::after(&version, draft("", false), true).is_some());
    }

    #[test]
    fn what_was_made_of_a_state_is_kept_while_nothing_changes() {
        let version = after(&first(0), draft("a", false));
        version.memo.get_or_init(|| 'x');
        let unseen = after(&version, draft("", false));
        assert_eq!(unseen.memo.get::<char>(), Some(&'x'));
        assert_eq!(after(&unseen, draft("b", false)).memo.get::<char>(), None);
    }

    #[test]
    fn a_long_chain_goes_without_the_stack() {
        let mut head = first(0);
        for _ in 0..200_000 {
            head = after(&head, draft("a", false));
        }
        drop(head);
    }

    #[test]
    fn a_chain_that_somebody_holds_goes_as_far_as_there() {
        let held = after(&first(0), draft("a", false));
        let head = after(&after(&held, draft("b", false)), draft("c", false));
        assert_eq!(Arc::strong_count(&held), 2);
        drop(head);
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(held.step.try_lock().unwrap().previous.is_some());
    }
}
