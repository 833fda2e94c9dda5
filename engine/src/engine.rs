//! The engine: commit, then distribute.

use std::{cell::Cell, fmt, time::Duration};

use crate::{
    builder::{EngineBuilder, SubscriptionBuilder},
    distribute::{Before, Distributor, Member},
    error::{Closed, FollowError, NotDistributed, PublishError},
    mailbox::Mailbox,
    panics::FirstPanic,
    registry::Registry,
    reservation::Attempts,
    ring::ring,
    sequence::{Epoch, Sequence},
    state::{Replica, State, Transition},
    stats::{EngineStats, SubscriptionStats},
    subscription::Subscription,
    sync::{Arc, ArcCell, AtomicU64, Ordering, Padded, thread_local},
    version::{Draft, Labels, Version},
    wait_set::WaitSet,
    waiter::Deadline,
};

/// Publishes a [`State`]: one head, any number of subscriptions.
///
/// A handle; clones are cheap and refer to the same engine. Dropping the last one closes it, and panics as
/// [`close`](Self::close) does, unless its thread is panicking already.
///
/// # Progress
/// [`publish`](Self::publish) is lock-free: of publishers that meet, one always commits, and one of
/// them distributes for all. None waits for another, but for one that has lost attempts worth 256
/// updates and has reserved the head: the others give it 250 ms, and up to 4 s if it needs longer
/// than that, and then go on. [`head`](Self::head) is wait-free.
///
/// # Examples
///
/// See [`Subscription`], and the crate's `examples` folder.
pub struct Engine<S: State> {
    pub(crate) core: Arc<Core<S>>,
    /// Shared by the handles and by nothing else.
    _closer: Arc<Closer<S>>,
}

/// What handles and subscriptions share.
pub(crate) struct Core<S: State> {
    /// Swapped by publishers, read by everybody; on a line of its own.
    pub(crate) head: Padded<ArcCell<Version<S>>>,
    pub(crate) distributor: Distributor<S>,
    registry: Registry<S>,
    sequence_limit: AtomicU64,
    ring_capacity: usize,
}

/// Closes the engine when the last handle goes.
struct Closer<S: State>(Arc<Core<S>>);

/// What a publish did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The head's epoch after it.
    pub epoch: Epoch,
    /// The head's sequence after it: that of the last update, if there was one.
    pub sequence: Sequence,
    /// How many updates subscribers get for it.
    pub updates: u64,
    /// Whether subscribers get a snapshot for it instead.
    pub needs_snapshot: bool,
    /// [`Version::position`] of the version.
    position: u64,
}

/// Why a commit did not happen.
enum Refusal<E> {
    Draft(E),
    SequenceLimit(Sequence),
    Exhausted,
    Closed,
}

impl<S: State> Engine<S> {
    /// Updates that the ring of a subscription holds by default: several bursts of a reload, in 1 KiB of pointers.
    pub const DEFAULT_RING_CAPACITY: usize = 128;

    /// Updates that a ring can hold at most: 128 MiB of pointers, for one subscription.
    pub const MAX_RING_CAPACITY: usize = 1 << 24;

    /// An undistributed chain of versions may grow to this many times the largest ring of a live
    /// subscription before it is cut: a ring that cannot hold a quarter of it would overflow
    /// anyway.
    const CHAIN_BOUND_IN_RINGS: u64 = 4;

    /// Options for an engine that starts with `state`.
    pub fn builder(state: S) -> EngineBuilder<S> {
        EngineBuilder::new(state)
    }

    pub(crate) fn from_builder(builder: EngineBuilder<S>) -> Self {
        let first = Version::initial(builder.state, builder.epoch, builder.sequence);
        let core = Arc::new(Core {
            head: Padded(ArcCell::new(Arc::new(first))),
            distributor: Distributor::new(),
            registry: Registry::new(),
            sequence_limit: AtomicU64::new(builder.sequence_limit.get()),
            ring_capacity: builder.ring_capacity,
        });
        Self {
            _closer: Arc::new(Closer(core.clone())),
            core,
        }
    }

    /// Applies `change` to the head, commits the outcome, and hands its updates to the subscriptions.
    ///
    /// Once it returns, every reader of the head sees it. Subscriptions may have yet to get it: if
    /// another thread distributes, that one hands it over, and this one does not wait.
    /// [`wait_distributed`](Self::wait_distributed) does. A change that subscribers could not tell
    /// spends no sequence.
    ///
    /// # Progress
    /// Lock-free, but for the bounded time that it may wait for another publisher's reservation.
    /// Costs one `apply` per attempt, and for the thread that distributes, O(subscriptions ×
    /// updates).
    ///
    /// Attempts are bounded. One whose change makes n updates computes it at most 256 / (n + 1)
    /// times, rounded up, while others are faster. Then it reserves the head, and others wait for
    /// it: for 250 ms, and for twice as long, up to 4 s, each time that this did not suffice. So a
    /// change that takes less than 4 s is computed at most five times more. Waiting blocks the
    /// thread.
    ///
    /// # Errors
    /// The state's rejection, the sequence limit, or a closed engine; nothing changes then.
    ///
    /// # Panics
    /// If a subscriber's waker, or the drop of an update or of a state, panics: with the first such
    /// panic, after the change has been committed and everybody served. Nothing has been committed
    /// if `apply` panics, or the drop of what an attempt made that lost to another publisher. If
    /// called from within [`State::apply`], which then could never commit.
    pub fn publish(&self, change: &S::Change) -> Result<Committed, PublishError<S::Rejection>> {
        self.publish_draft(|head| head.state().apply(change))
    }

    /// Applies all of `changes`, in order, as **one** version: all or nothing, with consecutive sequences, and no
    /// snapshot ever shows half of it. A round that does not fit a ring whole does not enter it.
    ///
    /// # Progress
    /// As [`publish`](Self::publish); an attempt applies every change. A batch of 255 or more that
    /// loses to another publisher reserves the head for its second attempt.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); the first rejection rejects the batch.
    ///
    /// # Panics
    /// As [`publish`](Self::publish).
    pub fn publish_batch(
        &self,
        changes: &[S::Change],
    ) -> Result<Committed, PublishError<S::Rejection>> {
        self.publish_draft(|head| {
            let mut whole = Transition::unobservable(head.state().clone());
            for change in changes {
                let step = whole.state.apply(change)?;
                whole.state = step.state;
                whole.updates.extend(step.updates);
                whole.needs_snapshot |= step.needs_snapshot;
            }
            Ok(whole)
        })
    }

    /// Commits updates that another engine has accepted, as one version. The first of them has sequence `first`, which
    /// must follow the head's.
    ///
    /// # Progress
    /// As [`publish`](Self::publish); an attempt clones and absorbs every update.
    ///
    /// # Errors
    /// When `first` is not the sequence after the head's, at the sequence limit, or when the engine is closed; nothing
    /// changes then.
    ///
    /// # Panics
    /// As [`publish`](Self::publish).
    pub fn follow(&self, updates: Vec<S::Update>, first: Sequence) -> Result<Committed, FollowError>
    where
        S: Replica,
        S::Update: Clone,
    {
        let committed = self.core.commit(|head| {
            let _applying = Applying::begin();
            match head.sequence().checked_add(1) {
                None => return Err(FollowError::Exhausted),
                Some(expected) if expected != first => {
                    return Err(FollowError::Discontinuity {
                        expected,
                        found: first,
                    });
                }
                Some(_) => {}
            }
            let state = updates
                .iter()
                .fold(head.state().clone(), |state, update| state.absorb(update));
            Ok(Draft {
                state,
                updates: updates.clone(),
                needs_snapshot: false,
                labels: Labels::Next,
                closed: false,
            })
        });
        committed.map_err(|refusal| match refusal {
            Refusal::Draft(error) => error,
            Refusal::SequenceLimit(needed) => FollowError::SequenceLimit { needed },
            Refusal::Exhausted => FollowError::Exhausted,
            Refusal::Closed => FollowError::Closed,
        })
    }

    /// Makes a whole foreign state the head, labelled as given, which may be lower than before, or past the sequence limit:
    /// every subscription gets a snapshot.
    ///
    /// # Progress
    /// As [`publish`](Self::publish); an attempt clones the state, and a round sets a flag per subscription.
    ///
    /// # Errors
    /// When the engine is closed.
    ///
    /// # Panics
    /// As [`publish`](Self::publish).
    pub fn adopt(&self, state: S, epoch: Epoch, sequence: Sequence) -> Result<Committed, Closed> {
        let committed = self.core.commit(|_| {
            let _applying = Applying::begin();
            Ok::<_, Closed>(Draft {
                state: state.clone(),
                updates: Vec::new(),
                needs_snapshot: true,
                labels: Labels::Given(epoch, sequence),
                closed: false,
            })
        });
        committed.map_err(|_| Closed)
    }

    /// The newest version. Holding it does not hinder anybody.
    ///
    /// # Progress
    /// Wait-free. A thread's first look at any head takes a node for it from the allocator.
    #[must_use]
    pub fn head(&self) -> Arc<Version<S>> {
        self.core.head.load()
    }

    /// Lets `read` look at the newest version in place, at half the price of [`head`](Self::head).
    ///
    /// `read` should be short: what it looks at stays alive meanwhile. It may publish, and goes on seeing the version before.
    ///
    /// # Progress
    /// As [`head`](Self::head), without touching a count that others touch.
    pub fn read_head<R>(&self, read: impl FnOnce(&Version<S>) -> R) -> R {
        self.core.head.peek(read)
    }

    /// A subscription with default options. Its first event is a snapshot, there at once.
    ///
    /// # Progress
    /// Lock-free, but for the short lock of the list for people. Costs the ring's allocation, whoever else is there;
    /// publishers do not notice.
    pub fn subscribe(&self) -> Subscription<S> {
        self.subscription().subscribe()
    }

    /// Options for a subscription.
    pub fn subscription(&self) -> SubscriptionBuilder<'_, S> {
        SubscriptionBuilder::new(self, self.core.ring_capacity)
    }

    /// Refuses from now on any publish that would spend a sequence beyond `limit`, with
    /// [`PublishError::SequenceLimit`]. For publishers that must record a sequence before anybody sees it: raise the
    /// limit after it has been recorded. A publish under way may still go by the limit before. Wait-free.
    pub fn set_sequence_limit(&self, limit: Sequence) {
        // Relaxed: a publish that must see it comes after it in its caller's own order.
        self.core
            .sequence_limit
            .store(limit.get(), Ordering::Relaxed);
    }

    /// Makes the head final. Subscriptions receive what precedes, then the end. Closing again does nothing.
    ///
    /// # Progress
    /// As [`publish`](Self::publish).
    ///
    /// # Panics
    /// As [`publish`](Self::publish).
    pub fn close(&self) {
        self.core.close();
    }

    /// Whether the head is final. Wait-free; `true` stays true.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.read_head(Version::is_closed)
    }

    /// Waits until `committed`, which a publish of this engine returned, has reached every
    /// subscription: its updates are in the ring, or the subscription's next event but those
    /// already in its ring is a snapshot that contains it.
    ///
    /// Blocks while another thread distributes, and distributes itself if none does. A publisher is
    /// not slowed by it. Must not be called by code that a publish runs, such as a waker:
    /// distribution waits for that, so the time would just pass.
    ///
    /// # Progress
    /// Wait-free when it has been distributed already; otherwise waits for rounds, which last as
    /// long as the slowest waker.
    ///
    /// # Errors
    /// When `timeout` passed first. The commit stands.
    ///
    /// # Panics
    /// As [`publish`](Self::publish).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # use configstream_engine::{Engine, Event, State, Transition};
    /// # #[derive(Clone)]
    /// # struct Total(i64);
    /// # impl State for Total {
    /// #     type Change = i64;
    /// #     type Update = i64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(&self, change: &i64) -> Result<Transition<Self>, Self::Rejection> {
    /// #         Ok(Transition::new(Total(self.0 + change), vec![*change]))
    /// #     }
    /// # }
    ///
    /// let engine = Engine::builder(Total(0)).build()?;
    /// let committed = engine.publish(&5)?;
    /// engine.wait_distributed(&committed, Duration::from_secs(5))?;
    /// assert_eq!(engine.stats().distributed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_distributed(
        &self,
        committed: &Committed,
        timeout: Duration,
    ) -> Result<(), NotDistributed> {
        let Core {
            distributor, head, ..
        } = &*self.core;
        if distributor.wait(head, committed.position, Deadline::after(timeout)) {
            Ok(())
        } else {
            Err(NotDistributed)
        }
    }

    /// Figures about this engine. Wait-free: a look at the head and four counters.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        // Before the head, so that it is not more than was published.
        let distributed = self.core.distributor.pushed();
        let (rounds, overflows) = self.core.distributor.figures();
        let subscriptions = self.core.registry.count();
        self.read_head(|head| EngineStats {
            epoch: head.epoch(),
            sequence: head.sequence(),
            published: head.ordinal,
            distributed: distributed.min(head.ordinal),
            subscriptions,
            rounds,
            overflows,
        })
    }

    /// Figures about each subscription, in the order of subscribing. O(subscriptions), under the registry's lock.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionStats> {
        self.core
            .registry
            .rings()
            .into_iter()
            .map(|ring| crate::subscription::observe(&self.core, &ring))
            .collect()
    }

    fn publish_draft(
        &self,
        apply: impl Fn(&Version<S>) -> Result<Transition<S>, S::Rejection>,
    ) -> Result<Committed, PublishError<S::Rejection>> {
        let committed = self.core.commit(|head| {
            let _applying = Applying::begin();
            let transition = apply(head)?;
            Ok(Draft {
                state: transition.state,
                updates: transition.updates,
                needs_snapshot: transition.needs_snapshot,
                labels: Labels::Next,
                closed: false,
            })
        });
        committed.map_err(|refusal| match refusal {
            Refusal::Draft(rejection) => PublishError::Rejected(rejection),
            Refusal::SequenceLimit(needed) => PublishError::SequenceLimit { needed },
            Refusal::Exhausted => PublishError::Exhausted,
            Refusal::Closed => PublishError::Closed,
        })
    }
}

impl<S: State> Core<S> {
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        name: Option<Arc<str>>,
        capacity: usize,
        wait_set: Option<WaitSet>,
    ) -> Subscription<S> {
        let mailbox = Mailbox::new(self.registry.next_id(), name);
        let (producer, consumer) = ring(capacity, mailbox);
        self.registry.enter(consumer.observer());
        self.distributor
            .join(Member::new(producer, wait_set.clone()));
        Subscription::new(self.clone(), consumer, wait_set)
    }

    /// An id that no subscription and no reader of this engine had before.
    pub(crate) fn next_id(&self) -> u64 {
        self.registry.next_id()
    }

    /// Counts a subscription out that is gone: no round that begins after this pushes to it.
    /// [`sweep`](Self::sweep) must follow.
    pub(crate) fn forget(&self, id: u64, capacity: usize) {
        self.registry.leave(id);
        self.distributor.leave(capacity);
    }

    /// Takes those that are gone out of the table, if they may take more memory than those that
    /// stay.
    pub(crate) fn sweep(&self) {
        self.distributor.sweep(&self.head);
    }

    /// Makes what `draft` wants the head, trying again while others are faster, and distributes.
    ///
    /// Between a load and its compare-and-swap somebody else commits at most as often as somebody gets on: lock-free.
    /// The swap compares pointers, and the pointer compared is held, so it cannot come back as another version.
    fn commit<E>(
        &self,
        draft: impl Fn(&Version<S>) -> Result<Draft<S>, E>,
    ) -> Result<Committed, Refusal<E>> {
        let mut attempts = Attempts::default();
        let committed = self.attempt(&mut attempts, draft);
        if let Some(reserved) = attempts.end() {
            // It was refused. What is reserved still links to the version before.
            drop(reserved);
            self.distributor.distribute(&self.head, None);
        }
        committed
    }

    #[inline]
    fn attempt<E>(
        &self,
        attempts: &mut Attempts,
        draft: impl Fn(&Version<S>) -> Result<Draft<S>, E>,
    ) -> Result<Committed, Refusal<E>> {
        loop {
            let mut head = self.head.load();
            if head.reservation.is_some() || attempts.must_reserve() {
                head = self.wait_or_reserve(head, attempts);
            }
            if head.is_closed() {
                return Err(Refusal::Closed);
            }
            let draft = draft(&head).map_err(Refusal::Draft)?;
            self.check_limit(&head, &draft)?;
            let updates = draft.updates.len() as u64;
            let needs_snapshot = draft.needs_snapshot;
            let linked = self.may_chain(&head);
            let next = Version::after(&head, draft, linked);
            let next = Arc::new(next.ok_or(Refusal::Exhausted)?);
            if self.head.compare_exchange(&head, next.clone()) {
                // Before distribution, which may take long, and needs no reservation.
                drop(attempts.end());
                let before = Before {
                    version: head,
                    cut: !linked,
                };
                self.distributor.distribute(&self.head, Some(before));
                return Ok(Committed {
                    epoch: next.epoch(),
                    sequence: next.sequence(),
                    updates: if needs_snapshot { 0 } else { updates },
                    needs_snapshot,
                    position: next.position,
                });
            }
            attempts.lose(updates);
        }
    }

    /// The head to attempt on: not one that another publisher has reserved, unless patience is
    /// over; and reserved by this publisher, if it has lost too much. Lock-free, but for the wait.
    #[cold]
    fn wait_or_reserve(
        &self,
        mut head: Arc<Version<S>>,
        attempts: &mut Attempts,
    ) -> Arc<Version<S>> {
        loop {
            let theirs = head.reservation.as_ref();
            let waited = theirs.is_some_and(|theirs| attempts.wait_for(theirs));
            if !waited {
                if head.is_closed() || !attempts.must_reserve() {
                    return head;
                }
                let reservation = attempts.reservation();
                let reserved = Arc::new(head.reserved(reservation.clone()));
                if self.head.compare_exchange(&head, reserved.clone()) {
                    attempts.begin(reservation);
                    return reserved;
                }
            }
            head = self.head.load();
        }
    }

    fn close(&self) {
        // Refused only when it is closed already.
        let _ = self.commit(|head| {
            Ok::<_, Closed>(Draft {
                state: head.state().clone(),
                updates: Vec::new(),
                needs_snapshot: false,
                labels: Labels::Next,
                closed: true,
            })
        });
    }

    fn check_limit<E>(&self, head: &Version<S>, draft: &Draft<S>) -> Result<(), Refusal<E>> {
        if !matches!(draft.labels, Labels::Next) || draft.spent() == 0 {
            return Ok(());
        }
        let needed = head.sequence().checked_add(draft.spent());
        let needed = needed.ok_or(Refusal::Exhausted)?;
        // Relaxed: see `set_sequence_limit`.
        if needed.get() > self.sequence_limit.load(Ordering::Relaxed) {
            return Err(Refusal::SequenceLimit(needed));
        }
        Ok(())
    }

    /// Whether the version after `head` may link to it: not if too much is undistributed already.
    fn may_chain(&self, head: &Version<S>) -> bool {
        let largest = self.registry.largest_ring();
        let bound = largest.saturating_mul(Engine::<S>::CHAIN_BOUND_IN_RINGS);
        head.position - self.distributor.distributed().min(head.position) <= bound
    }
}

thread_local! {
    static APPLYING: Cell<bool> = const { Cell::new(false) };
}

/// While a thread computes what to commit. A publish in there would be faster than the one that
/// computes, on every attempt.
struct Applying;

impl Applying {
    /// # Panics
    /// When this thread computes already.
    fn begin() -> Self {
        let nested = APPLYING.with(|applying| applying.replace(true));
        assert!(
            !nested,
            "publish within `State::apply`: apply runs once per attempt to commit, and must have no effect but its result"
        );
        Self
    }
}

impl Drop for Applying {
    fn drop(&mut self) {
        APPLYING.with(|applying| applying.set(false));
    }
}

impl<S: State> Drop for Closer<S> {
    fn drop(&mut self) {
        FirstPanic::default().run(|| self.0.close());
    }
}

impl<S: State> Clone for Engine<S> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            _closer: self._closer.clone(),
        }
    }
}

impl<S: State> fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

impl<S: State> fmt::Debug for Core<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.head.load();
        f.debug_struct("Engine")
            .field("head", &head)
            .field("distributor", &self.distributor)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::Event;

    #[derive(Clone)]
    struct Count(u64);

    impl State for Count {
        type Change = ();
        type Update = u64;
        type Rejection = Infallible;

        fn apply(&self, (): &()) -> Result<Transition<Self>, Infallible> {
            Ok(Transition::new(Count(self.0 + 1), vec![self.0 + 1]))
        }
    }

    /// Joining and leaving take the registry's lock. Whoever holds it holds up nobody but those.
    #[test]
    fn publishing_and_receiving_go_on_while_somebody_joins_or_leaves() {
        let engine = Engine::builder(Count(0)).ring_capacity(1).build().unwrap();
        let mut subscription = engine.subscribe();
        let _joining = engine.core.registry.hold();
        assert!(matches!(subscription.next(), Some(Event::Snapshot(_))));
        for publishes in [1, 2] {
            for _ in 0..publishes {
                engine.publish(&()).unwrap();
            }
            assert!(matches!(subscription.next(), Some(Event::Update(_))));
        }
        assert!(matches!(subscription.next(), Some(Event::Snapshot(_))));
        assert_eq!(subscription.stats().lag, 0);
        assert_eq!(engine.stats().subscriptions, 1);
    }
}
