//! The consuming end: events in order, and what was missed made good by a snapshot.

use std::{
    fmt,
    iter::FusedIterator,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    engine::Core,
    error::{NextTimeoutError, TryNextError},
    mailbox::{Account, Balance, Mailbox},
    panics::FirstPanic,
    ring::{Consumer, Observer},
    sequence::{Epoch, Sequence},
    state::State,
    stats::SubscriptionStats,
    sync::{Arc, Ordering, fence},
    version::{Labelled, Update, Version},
    wait_set::WaitSet,
    waiter::{Blocking, Deadline},
};

/// A subscription: owns a ring and a cursor. Dropping it unsubscribes.
///
/// # Contract
/// * The first event is a snapshot: the whole state as of one sequence.
/// * The update after a snapshot at n, or after update n, is exactly n + 1.
/// * Whoever falls so far behind that a round of updates does not fit the ring gets the updates already in the ring, and
///   then a snapshot of the head, without another publish. Nothing is lost for good, and publishers do not wait.
/// * After [`close`](crate::Engine::close), everything that was published, then the end.
///
/// Use it from one thread at a time, by blocking ([`next`](Self::next), [`next_timeout`](Self::next_timeout), or as an
/// iterator), by polling ([`try_next`](Self::try_next)), or in any async runtime ([`poll_next`](Self::poll_next), or as a
/// `futures_core::Stream` with the feature `stream`). These mix freely.
///
/// # Progress
/// Taking an update is wait-free. Taking a snapshot is one load of the head, whatever the size of
/// the state. Dropping it leaves first, so that later rounds push nothing more, and then drops at
/// most as many updates as its ring holds. The drop that finds departed subscriptions to take more
/// memory than live ones takes them out of the table, and, if it meets others that publish, may
/// distribute for them.
///
/// # Panics
/// Dropping it panics if the drop of a waker or an update does, unless its thread is panicking already.
///
/// # Examples
///
/// ```
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
/// let engine = Engine::builder(Total(0)).build()?;
/// engine.publish(&5)?;
/// let mut subscription = engine.subscribe();
/// engine.publish(&7)?;
///
/// let Some(Event::Snapshot(snapshot)) = subscription.next() else { panic!("the first event is a snapshot") };
/// assert_eq!(snapshot.state().0, 12);
/// engine.publish(&1)?;
/// let Some(Event::Update(update)) = subscription.next() else { panic!("then come updates") };
/// assert_eq!((*update, update.sequence().get()), (1, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It has one cursor, so it is no handle to clone, as an engine is:
///
/// ```
/// # use configstream_engine::{Engine, State, Transition};
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
/// # let engine = Engine::builder(Total(0)).build().unwrap();
/// let engine = engine.clone();
/// ```
///
/// ```compile_fail,E0599
/// # use configstream_engine::{Engine, State, Transition};
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
/// # let engine = Engine::builder(Total(0)).build().unwrap();
/// let subscription = engine.subscribe();
/// let other = subscription.clone();
/// ```
///
/// Any thread may look at it, but reading takes `&mut`, so one reads at a time:
///
/// ```
/// # use configstream_engine::{Engine, State, Transition};
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
/// # let engine = Engine::builder(Total(0)).build().unwrap();
/// let mut subscription = engine.subscribe();
/// std::thread::scope(|scope| {
///     scope.spawn(|| subscription.stats());
///     scope.spawn(|| subscription.stats());
/// });
/// ```
///
/// ```compile_fail,E0499
/// # use configstream_engine::{Engine, State, Transition};
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
/// # let engine = Engine::builder(Total(0)).build().unwrap();
/// let mut subscription = engine.subscribe();
/// std::thread::scope(|scope| {
///     scope.spawn(|| subscription.try_next());
///     scope.spawn(|| subscription.try_next());
/// });
/// ```
#[must_use = "dropping a Subscription unsubscribes"]
pub struct Subscription<S: State> {
    core: Arc<Core<S>>,
    consumer: Consumer<Labelled<S>, Mailbox>,
    /// Where it is woken with others, if it is.
    wait_set: Option<WaitSet>,
    /// Ordinal of the last event handed out; `None` before the first.
    cursor: Option<u64>,
    /// [`Version::forced`] at the cursor.
    forced: u64,
    /// The last version has been handed out.
    ended: bool,
    /// Of the thread that made the last blocking call.
    blocking: Option<Blocking>,
}

/// What a subscription receives.
#[non_exhaustive]
pub enum Event<S: State> {
    /// The whole state as of one sequence.
    Snapshot(Snapshot<S>),
    /// The change from the sequence before.
    Update(Update<S>),
}

/// A version as a subscription receives it, with why it came.
pub struct Snapshot<S: State> {
    version: Arc<Version<S>>,
    reason: SnapshotReason,
    missed: u64,
}

/// Why a snapshot came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotReason {
    /// Every subscription starts with one.
    First,
    /// Updates were missed: a round did not fit the ring, or more was published than distributors could keep a list of.
    Lagged,
    /// The state changed in a way that no update can say.
    Forced,
}

/// A look at a subscription's figures from any thread. Keeps the figures alive, and the engine's head and the ring's
/// storage with them; not the subscription.
pub struct SubscriptionObserver<S: State> {
    core: Arc<Core<S>>,
    ring: Observer<Labelled<S>, Mailbox>,
}

impl<S: State> Subscription<S> {
    pub(crate) fn new(
        core: Arc<Core<S>>,
        consumer: Consumer<Labelled<S>, Mailbox>,
        wait_set: Option<WaitSet>,
    ) -> Self {
        Self {
            core,
            consumer,
            wait_set,
            cursor: None,
            forced: 0,
            ended: false,
            blocking: None,
        }
    }

    /// The next event, if there is one now.
    ///
    /// # Progress
    /// Wait-free. O(1), and a step for each update in the ring that a snapshot has covered already.
    ///
    /// # Errors
    /// [`TryNextError::Empty`] when there is none yet, [`TryNextError::Closed`] when there will be none.
    pub fn try_next(&mut self) -> Result<Event<S>, TryNextError> {
        if self.ended {
            return Err(TryNextError::Closed);
        }
        loop {
            let mut next = self.consumer.pop();
            if next.is_none() {
                // Not set now: nor was it when the ring was empty.
                if !self.mailbox().is_lagging() {
                    return Err(TryNextError::Empty);
                }
                // The ring once more: all that was pushed before it was set is seen by this look.
                next = self.consumer.pop();
            }
            let Some(update) = next.map(Update::new) else {
                if let Some(snapshot) = self.resync()? {
                    return Ok(Event::Snapshot(snapshot));
                }
                continue;
            };
            // At or below the cursor: pushed by a round that was under way when a snapshot covered it.
            if self.cursor.is_none_or(|cursor| update.ordinal() > cursor) {
                debug_assert_eq!(self.cursor, Some(update.ordinal() - 1), "no gap");
                self.cursor = Some(update.ordinal());
                self.mailbox().account.deliver(update.sequence().get());
                return Ok(Event::Update(update));
            }
        }
    }

    /// Waits for the next event, blocking the thread. `None`: the engine closed, and all has been handed out.
    ///
    /// Looks before it parks, by `std::thread::park`: as with the channels of `std`, a token that
    /// other code has left for this thread may be used up by it.
    #[allow(clippy::should_implement_trait)] // it is implemented, by this
    pub fn next(&mut self) -> Option<Event<S>> {
        self.wait(Deadline::Never).unwrap_or_default()
    }

    /// Waits for the next event for at most `timeout`, blocking the thread.
    ///
    /// # Errors
    /// [`NextTimeoutError::Timeout`] when none came in time, [`NextTimeoutError::Closed`] when none will.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Event<S>, NextTimeoutError> {
        match self.wait(Deadline::after(timeout)) {
            Some(Some(event)) => Ok(event),
            Some(None) => Err(NextTimeoutError::Closed),
            None => Err(NextTimeoutError::Timeout),
        }
    }

    /// The next event, or a promise to wake `cx` when there is one. `Ready(None)`: the engine closed, and all has been
    /// handed out. Needs no runtime. The last waker given is the one that is woken.
    ///
    /// # Progress
    /// As [`try_next`](Self::try_next) when there is an event. Otherwise stores the waker. Waits
    /// for nothing; where it meets a publisher that takes the last waker out, it wakes `cx` before
    /// it returns.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<S>>> {
        loop {
            match self.try_next() {
                Ok(event) => return Poll::Ready(Some(event)),
                Err(TryNextError::Closed) => return Poll::Ready(None),
                Err(TryNextError::Empty) => {}
            }
            if let Some(set) = &self.wait_set {
                set.wait_alone();
            }
            self.mailbox().waiter().arm(cx.waker());
            // The look after the fence, at both: see `waiter.rs`.
            if self.consumer.is_empty() && !self.mailbox().is_lagging() {
                return Poll::Pending;
            }
            self.mailbox().waiter().disarm();
        }
    }

    /// The newest version, whatever this subscription has handed out.
    #[must_use]
    pub fn head(&self) -> Arc<Version<S>> {
        self.core.head.load()
    }

    /// Unique within the engine.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.mailbox().id
    }

    /// As given when subscribing, for people.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.mailbox().name.as_deref()
    }

    /// This subscription's figures, now. Wait-free.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.observer().stats()
    }

    /// A handle to read the figures from elsewhere.
    #[must_use]
    pub fn observer(&self) -> SubscriptionObserver<S> {
        SubscriptionObserver {
            core: self.core.clone(),
            ring: self.consumer.observer(),
        }
    }

    /// The head as a snapshot, if it is beyond the cursor.
    fn resync(&mut self) -> Result<Option<Snapshot<S>>, TryNextError> {
        self.core.distributor.recover(self.mailbox());
        let version = self.core.head.load();
        let account = &self.consumer.beside().account;
        let ordinal = version.ordinal;
        let snapshot = match self.cursor {
            Some(cursor) if ordinal <= cursor => {
                self.ended = version.is_closed();
                return if self.ended {
                    Err(TryNextError::Closed)
                } else {
                    Ok(None)
                };
            }
            cursor => {
                let since = cursor.map(|cursor| (cursor, self.forced));
                Snapshot::taken(version, since, account)
            }
        };
        self.cursor = Some(ordinal);
        self.forced = snapshot.version.forced;
        self.ended = snapshot.version.is_closed();
        Ok(Some(snapshot))
    }

    /// `None` when the deadline passed.
    fn wait(&mut self, deadline: Deadline) -> Option<Option<Event<S>>> {
        // Taken out for the call, since polling borrows all of `self`.
        let blocking = self.blocking.take();
        let blocking = blocking.filter(Blocking::is_of_this_thread);
        let blocking = blocking.unwrap_or_else(Blocking::new);
        let mut cx = Context::from_waker(blocking.waker());
        let outcome = loop {
            if let Poll::Ready(event) = self.poll_next(&mut cx) {
                break Some(event);
            }
            if !blocking.park(deadline) {
                self.mailbox().waiter().disarm();
                break match self.try_next() {
                    Ok(event) => Some(Some(event)),
                    Err(TryNextError::Closed) => Some(None),
                    Err(TryNextError::Empty) => None,
                };
            }
        };
        self.blocking = Some(blocking);
        outcome
    }

    fn mailbox(&self) -> &Mailbox {
        self.consumer.beside()
    }
}

impl<S: State> Drop for Subscription<S> {
    fn drop(&mut self) {
        self.mailbox().set_gone();
        // Before the ring is emptied: a publisher that is faster than the drain would refill it for
        // as long as it publishes.
        let (id, capacity) = (self.mailbox().id, self.consumer.capacity());
        self.core.forget(id, capacity);
        // Drops a waker and updates, and perhaps runs a round: foreign code, which must not keep
        // the subscription in the tables.
        let mut panics = FirstPanic::default();
        panics.run(|| drop(self.mailbox().waiter().clear()));
        // A round under way may still push: what it pushes goes with the ring.
        let mut left = capacity;
        panics.run_through(|| {
            while left > 0 {
                left -= 1;
                if self.consumer.pop().is_none() {
                    break;
                }
            }
        });
        panics.run(|| self.core.sweep());
    }
}

impl<S: State> Iterator for Subscription<S> {
    type Item = Event<S>;

    /// Blocks, as [`Subscription::next`].
    fn next(&mut self) -> Option<Event<S>> {
        Subscription::next(self)
    }
}

/// After the end there is nothing more.
impl<S: State> FusedIterator for Subscription<S> {}

#[cfg(feature = "stream")]
impl<S: State> futures_core::Stream for Subscription<S> {
    type Item = Event<S>;

    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Subscription::poll_next(self.get_mut(), cx)
    }
}

impl<S: State> Event<S> {
    /// The epoch in which [`sequence`](Self::sequence) counts.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Snapshot(snapshot) => snapshot.epoch(),
            Self::Update(update) => update.epoch(),
        }
    }

    /// The sequence that a consumer has reached with this event.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        match self {
            Self::Snapshot(snapshot) => snapshot.sequence(),
            Self::Update(update) => update.sequence(),
        }
    }
}

impl<S: State> Snapshot<S> {
    /// Of a version that is handed out, to one whose cursor was there `since`, with that many ordinals forced; and accounts for
    /// it.
    pub(crate) fn taken(
        version: Arc<Version<S>>,
        since: Option<(u64, u64)>,
        account: &Account,
    ) -> Self {
        let (ordinal, sequence) = (version.ordinal, version.sequence().get());
        let (reason, missed) = match since {
            Some((cursor, forced)) => {
                let forced = version.forced - forced;
                let missed = ordinal - cursor - forced;
                account.resync(sequence, missed, forced);
                let reason = match missed {
                    0 => SnapshotReason::Forced,
                    _ => SnapshotReason::Lagged,
                };
                (reason, missed)
            }
            None => {
                account.start(ordinal, sequence, version.forced);
                (SnapshotReason::First, 0)
            }
        };
        Self {
            version,
            reason,
            missed,
        }
    }

    /// The version itself.
    #[must_use]
    pub fn version(&self) -> &Arc<Version<S>> {
        &self.version
    }

    /// The whole state.
    #[must_use]
    pub fn state(&self) -> &S {
        self.version.state()
    }

    /// The epoch in which [`sequence`](Self::sequence) counts.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.version.epoch()
    }

    /// The sequence of the last update that it contains.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.version.sequence()
    }

    /// Why it came.
    #[must_use]
    pub const fn reason(&self) -> SnapshotReason {
        self.reason
    }

    /// How many updates it stands in for, that would have been handed out otherwise. 0 for the first.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }
}

impl<S: State> SubscriptionObserver<S> {
    /// The figures now. Reads a few words that the subscription writes; it does not wait for anything.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        observe(&self.core, &self.ring)
    }

    /// What the subscription is to get.
    pub(crate) fn outlook(&self) -> Outlook {
        Outlook::of(&self.core, self.ring.beside())
    }
}

/// The figures of the subscription that reads this ring. Outsiders see what a stuck subscription will have missed before
/// it says so itself.
///
/// Neither `dropped` nor `forced` ever falls: what is counted in advance is certain (point O in `mailbox.rs`), and while
/// the consumer is between clearing lagging and accounting for its snapshot, what was told before stands.
pub(crate) fn observe<S: State>(
    core: &Core<S>,
    ring: &Observer<Labelled<S>, Mailbox>,
) -> SubscriptionStats {
    let mailbox = ring.beside();
    let outlook = Outlook::of(core, mailbox);
    // Last, so that what a snapshot has brought meanwhile is not counted in advance as well.
    let figures = outlook.figures(&mailbox.account.read());
    mailbox.told.at_least(SubscriptionStats {
        id: mailbox.id,
        name: mailbox.name.clone(),
        capacity: ring.capacity(),
        ..figures
    })
}

/// What is still to come for somebody, as of a moment.
#[derive(Clone, Copy)]
pub(crate) struct Outlook {
    pub(crate) head: Head,
    /// Up to which ordinal it comes by updates.
    pub(crate) filled: u64,
    /// What is beyond comes by a snapshot.
    pub(crate) lagging: bool,
}

/// What counts of the head.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    ordinal: u64,
    forced: u64,
}

impl Head {
    pub(crate) fn of<S: State>(core: &Core<S>) -> Self {
        core.head.peek(|head| Self {
            ordinal: head.ordinal,
            forced: head.forced,
        })
    }
}

impl Balance {
    /// Published minus handed out, in updates; `None` before the first snapshot.
    pub(crate) fn lag(&self, head: Head) -> Option<u64> {
        // The head may be older than the cursor by now.
        Some(head.ordinal.saturating_sub(self.cursor()?))
    }
}

impl Outlook {
    fn of<S: State>(core: &Core<S>, mailbox: &Mailbox) -> Self {
        let head = Head::of(core);
        // O, partner of F2 in `Mailbox::clear_lagging`.
        fence(Ordering::SeqCst);
        let lagging = mailbox.is_lagging();
        let filled = if lagging {
            mailbox.filled()
        } else {
            core.distributor.pushed()
        };
        Self {
            head,
            filled,
            lagging,
        }
    }

    /// With what has come already, the figures of somebody without a name.
    pub(crate) fn figures(self, balance: &Balance) -> SubscriptionStats {
        let Self {
            head,
            filled,
            lagging,
        } = self;
        let cursor = balance.cursor();
        let lag = balance.lag(head).unwrap_or(0);
        let queued = cursor.map_or(0, |cursor| filled.saturating_sub(cursor).min(lag));
        let (mut dropped, mut forced) = (balance.dropped, balance.forced);
        if let Some(cursor) = cursor
            && lagging
        {
            let to_miss = head.ordinal.saturating_sub(filled.max(cursor));
            // Told apart as the snapshot will tell it. What comes by updates is not forced.
            let to_force = head
                .forced
                .saturating_sub(balance.forced_before + balance.forced);
            dropped += to_miss.saturating_sub(to_force);
            forced += to_force.min(to_miss);
        }
        SubscriptionStats {
            id: 0,
            name: None,
            capacity: 0,
            sequence: cursor.map(|_| Sequence::new(balance.sequence)),
            delivered: balance.delivered,
            dropped,
            forced,
            snapshots: balance.snapshots,
            queued,
            lag,
            lagging,
        }
    }
}

impl<S: State> Clone for SubscriptionObserver<S> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            ring: self.ring.clone(),
        }
    }
}

impl<S: State> Clone for Snapshot<S> {
    fn clone(&self) -> Self {
        Self {
            version: self.version.clone(),
            ..*self
        }
    }
}

impl<S: State> Clone for Event<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Snapshot(snapshot) => Self::Snapshot(snapshot.clone()),
            Self::Update(update) => Self::Update(update.clone()),
        }
    }
}

impl<S: State> fmt::Debug for Subscription<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("mailbox", self.mailbox())
            .field("cursor", &self.cursor)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl<S: State> fmt::Debug for SubscriptionObserver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SubscriptionObserver")
            .field(self.ring.beside())
            .finish()
    }
}

impl<S: State> fmt::Debug for Snapshot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("version", &self.version)
            .field("reason", &self.reason)
            .field("missed", &self.missed)
            .finish()
    }
}

impl<S: State> fmt::Debug for Event<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(snapshot) => snapshot.fmt(f),
            Self::Update(update) => update.fmt(f),
        }
    }
}
