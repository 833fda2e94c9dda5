//! One subscription that several readers share: a publish costs one push, however many they are.
//!
//! # The argument
//! A feed takes from its subscription what its readers have yet to take, into a window: consecutive updates, from the one
//! after `base` up to the end. What it takes is the update after the end, or a snapshot; by the contract of [`Subscription`].
//! After a snapshot the window begins anew, empty, with that snapshot's ordinal for `base`, as soon as a reader has read what
//! preceded. So, with c for where a reader stands:
//! 1. c ≥ base. What it gets next is the update c + 1, if the window has it. If not, the window's end is at most c, and more
//!    is taken, of which what is at or below c is passed over (its own snapshot had it). No gap (I2).
//! 2. c < base, or it stands nowhere yet. It gets the head as a snapshot, loaded after the window was filled, so at the end
//!    or beyond: from then on it is at 1.
//!
//! Everything is done by readers, under the window's lock: publishers know nothing of it, and what holds for their ring
//! holds here. A reader that takes nothing for as long as `capacity` updates go by is left behind by the window, as it
//! would be by a full ring of its own, and nobody waits for it.
//!
//! Model: `loom-tests/tests/feed.rs`.

use std::{collections::VecDeque, fmt};

use crate::{
    engine::Core,
    error::TryNextError,
    mailbox::{Account, Told},
    state::State,
    stats::SubscriptionStats,
    subscription::{Event, Snapshot, Subscription},
    sync::{Arc, Mutex, Weak},
};

/// One subscription, and any number of readers that each see all of it: for those that run on one thread or task, such as
/// the streams of one connection.
///
/// A publish costs one push into the feed's ring in place of one for each reader. What readers have yet to take is kept
/// once, and each is resynchronised on its own, as if it had a ring of the feed's capacity.
///
/// # Contract
/// To each reader that of [`Subscription`]: a snapshot first, then each update at the sequence after the one before; who
/// is left behind by more than the capacity gets a snapshot of the head; nothing is lost for good, and nobody waits for a
/// reader that does not read. Only, from a reader that is left behind, the updates after the last one that it took are
/// replaced, where a full ring keeps the oldest.
///
/// Readers wait by [`SubscriptionBuilder::wait_set`](crate::SubscriptionBuilder::wait_set): arm it, then read until there is
/// [nothing](TryNextError::Empty).
///
/// # Progress
/// A lock per event, which only readers of the same feed, and onlookers at their figures, take. Publishers never do.
///
/// # Memory
/// The capacity twice at most, in updates, whatever the number of readers: in the ring, and in the window. A window whose
/// updates everybody has taken is empty.
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
/// let feed = engine.subscription().name("connection 7").feed();
/// let mut readers = [feed.reader("one"), feed.reader("two")];
/// for reader in &mut readers {
///     assert!(matches!(reader.try_next()?, Event::Snapshot(_)));
/// }
/// engine.publish(&5)?;
/// for reader in &mut readers {
///     let five = reader.try_next_with(|event| matches!(event, Event::Update(update) if **update == 5));
///     assert!(five?);
///     assert!(reader.try_next().is_err());
/// }
/// assert_eq!(engine.stats().subscriptions, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Feed<S: State>(Arc<Inner<S>>);

/// A [`Feed`] that is there only while somebody else keeps it: one of its readers, or an onlooker.
pub struct WeakFeed<S: State>(Weak<Inner<S>>);

/// One of those that share a [`Feed`].
#[must_use = "a Reader that is dropped reads nothing"]
pub struct Reader<S: State> {
    feed: Arc<Inner<S>>,
    mark: Arc<Mark>,
    /// Ordinal of the last event taken; `None` before the first.
    cursor: Option<u64>,
    /// [`Version::forced`](crate::Version) at the cursor.
    forced: u64,
    /// How often the window had been filled when this reader last reached its end.
    seen: u64,
    /// The last version has been taken.
    ended: bool,
}

/// A look at a reader's figures from any thread. Keeps the feed; not the reader.
pub struct ReaderObserver<S: State> {
    feed: Arc<Inner<S>>,
    mark: Arc<Mark>,
}

struct Inner<S: State> {
    core: Arc<Core<S>>,
    capacity: usize,
    window: Mutex<Window<S>>,
}

/// What a reader shares with its onlookers. Written under the window's lock.
struct Mark {
    id: u64,
    name: Arc<str>,
    account: Account,
    told: Told,
}

struct Window<S: State> {
    subscription: Subscription<S>,
    /// Ordinal before the first of `updates`.
    base: u64,
    /// Consecutive, the oldest first; not more than the capacity.
    updates: VecDeque<Event<S>>,
    /// The ordinal of a snapshot that came after them: where the window begins once they have been read.
    jump: Option<u64>,
    /// How often something was taken from the subscription.
    fills: u64,
    readers: usize,
    /// Readers that have not reached the end since the last fill.
    behind: usize,
}

impl<S: State> Feed<S> {
    pub(crate) fn new(core: Arc<Core<S>>, capacity: usize, subscription: Subscription<S>) -> Self {
        let mut window = Window {
            subscription,
            base: 0,
            updates: VecDeque::new(),
            jump: None,
            fills: 0,
            readers: 0,
            behind: 0,
        };
        // Its first snapshot, which readers do not get, says where the window begins.
        let filled = window.fill(capacity);
        debug_assert!(filled.is_ok(), "a subscription begins with a snapshot");
        Self(Arc::new(Inner {
            core,
            capacity,
            window: Mutex::new(window),
        }))
    }

    /// One more reader. O(1), and nothing to publishers.
    pub fn reader(&self, name: impl Into<Arc<str>>) -> Reader<S> {
        let feed = self.0.clone();
        let seen = {
            let mut window = feed.window.lock();
            window.readers += 1;
            // Its snapshot will be at the end or beyond.
            window.fills
        };
        let mark = Arc::new(Mark {
            id: feed.core.registry.next_id(),
            name: name.into(),
            account: Account::default(),
            told: Told::default(),
        });
        Reader {
            feed,
            mark,
            cursor: None,
            forced: 0,
            seen,
            ended: false,
        }
    }

    /// Updates that a reader may fall behind, and that the ring holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// The same feed, not kept.
    #[must_use]
    pub fn downgrade(&self) -> WeakFeed<S> {
        WeakFeed(Arc::downgrade(&self.0))
    }
}

impl<S: State> WeakFeed<S> {
    /// The feed, if it is still there.
    #[must_use]
    pub fn upgrade(&self) -> Option<Feed<S>> {
        self.0.upgrade().map(Feed)
    }
}

impl<S: State> Reader<S> {
    /// The next event, if there is one now.
    ///
    /// # Errors
    /// [`TryNextError::Empty`] when there is none yet, [`TryNextError::Closed`] when there will be none.
    pub fn try_next(&mut self) -> Result<Event<S>, TryNextError> {
        self.try_next_with(Event::clone)
    }

    /// What `look` makes of the next event, if there is one now. The event stays where it is: readers on several threads
    /// that count references to one update are in each other's way. `look` runs under the feed's lock, so it must not use
    /// this feed, nor any reader or observer of it.
    ///
    /// O(1), and a step for each update taken from the ring on the way, which is the capacity at most, once for all readers.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn try_next_with<R>(
        &mut self,
        look: impl FnOnce(&Event<S>) -> R,
    ) -> Result<R, TryNextError> {
        if self.ended {
            return Err(TryNextError::Closed);
        }
        let feed = &*self.feed;
        let mut window = feed.window.lock();
        loop {
            let cursor = self.cursor.filter(|cursor| *cursor >= window.base);
            let Some(cursor) = cursor else {
                // 2. of the argument above.
                let version = feed.core.head.load();
                let from = self.cursor.map(|cursor| (cursor, self.forced));
                let snapshot = Snapshot::in_place_of(version, from, &self.mark.account);
                let version = snapshot.version();
                self.cursor = Some(version.ordinal);
                self.forced = version.forced;
                self.ended = version.is_closed();
                window.reach_end(&mut self.seen);
                return Ok(look(&Event::Snapshot(snapshot)));
            };
            // 1. of the argument above.
            if let Some(event) = window.after(cursor) {
                self.cursor = Some(cursor + 1);
                self.mark.account.deliver(event.sequence().get());
                return Ok(look(event));
            }
            window.reach_end(&mut self.seen);
            window.fill(feed.capacity)?;
        }
    }

    /// A handle to read the figures from elsewhere.
    #[must_use]
    pub fn observer(&self) -> ReaderObserver<S> {
        ReaderObserver {
            feed: self.feed.clone(),
            mark: self.mark.clone(),
        }
    }
}

impl<S: State> Drop for Reader<S> {
    fn drop(&mut self) {
        let mut window = self.feed.window.lock();
        window.reach_end(&mut self.seen);
        window.readers -= 1;
    }
}

impl<S: State> Window<S> {
    /// The update after the one at `cursor`, which is not before `base`.
    fn after(&self, cursor: u64) -> Option<&Event<S>> {
        let index = usize::try_from(cursor - self.base).ok()?;
        self.updates.get(index)
    }

    /// A reader, which had done so `seen` fills ago, has taken all there is. What all have taken is let go.
    fn reach_end(&mut self, seen: &mut u64) {
        if *seen == self.fills {
            return;
        }
        *seen = self.fills;
        self.behind -= 1;
        if self.behind == 0 {
            self.base = self.end();
            self.updates.clear();
        }
    }

    /// Takes what the subscription has, as much as the window holds at most; or begins the window anew. The reader that asks
    /// has reached the end.
    fn fill(&mut self, capacity: usize) -> Result<(), TryNextError> {
        if let Some(ordinal) = self.jump.take() {
            self.base = ordinal;
            self.updates.clear();
        } else {
            self.extend(capacity)?;
        }
        self.fills += 1;
        self.behind = self.readers;
        Ok(())
    }

    fn extend(&mut self, capacity: usize) -> Result<(), TryNextError> {
        for taken in 0..capacity {
            match self.subscription.try_next() {
                Ok(Event::Snapshot(snapshot)) => {
                    self.jump = Some(snapshot.version().ordinal);
                    break;
                }
                Ok(update) => {
                    if self.updates.len() == capacity {
                        self.base += 1;
                        self.updates.pop_front();
                    }
                    self.updates.push_back(update);
                }
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        self.base + self.updates.len() as u64
    }
}

impl<S: State> ReaderObserver<S> {
    /// The figures now. Waits for the feed's lock.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        let window = self.feed.window.lock();
        let mut outlook = window.subscription.outlook();
        let balance = self.mark.account.read();
        let mut at_hand = 0;
        match balance.cursor() {
            Some(cursor) if cursor >= window.base => {
                at_hand = window.end().saturating_sub(cursor);
                if window.jump.is_some_and(|ordinal| cursor < ordinal) {
                    outlook.filled = Some(window.end());
                }
            }
            // It gets no more updates before its snapshot.
            cursor => outlook.filled = Some(cursor.unwrap_or(0)),
        }
        drop(window);
        let figures = outlook.figures(&balance, at_hand);
        let (dropped, forced) = self.mark.told.tell(figures.dropped, figures.forced);
        SubscriptionStats {
            id: self.mark.id,
            name: Some(self.mark.name.clone()),
            capacity: self.feed.capacity,
            dropped,
            forced,
            ..figures
        }
    }
}

impl<S: State> Clone for Feed<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: State> Clone for WeakFeed<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: State> fmt::Debug for Feed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("capacity", &self.0.capacity)
            .finish_non_exhaustive()
    }
}

impl<S: State> fmt::Debug for WeakFeed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakFeed").finish_non_exhaustive()
    }
}

impl<S: State> fmt::Debug for Reader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("name", &self.mark.name)
            .field("cursor", &self.cursor)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl<S: State> fmt::Debug for ReaderObserver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderObserver")
            .field("name", &self.mark.name)
            .finish_non_exhaustive()
    }
}
