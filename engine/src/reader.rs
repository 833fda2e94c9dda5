//! Many readers of one subscription.
//!
//! A publisher serves the subscription, once. What it has published waits in the subscription's ring until a reader comes that
//! has read all before it: that reader takes it over into the *window*, where it stays until all have read it. A window that is
//! full makes room for the newest, and who has not read the oldest lags.
//!
//! # Why it is right
//! Everything happens under one lock, so it is enough to look at one reader. Write p for the position: up to which ordinal the
//! subscription has handed out, by updates or by a snapshot.
//!
//! **No gap after a snapshot.** A reader that needs one takes over all that the ring has, then loads the head s. Heads only
//! grow, and what the subscription hands out is never beyond the head, so s ≥ p. What it hands out later is in order and begins
//! at p + 1 (or with a jump, below), so everything beyond s comes by the window, and the reader skips what is at or below s.
//!
//! **Nothing is missed unnoticed.** What a reader misses has left the window before its turn, or never was in it, because the
//! subscription itself had to jump to a snapshot. Either way the next update in the window is not the one after its cursor, or
//! there is none and the cursor is before p. Then it takes a snapshot, which is beyond its cursor, since p is. What has left, but
//! was covered by its last snapshot, it has not missed: then the next update is the one after the cursor, or covered, too.
//!
//! **An update is freed.** `left` is the number of readers whose next number is at or before the entry's. Who takes a snapshot or
//! leaves takes itself off every entry that it passes over.

use std::{collections::VecDeque, fmt, ops::ControlFlow};

use crate::{
    engine::Core,
    error::TryNextError,
    mailbox::{Account, Told},
    panics::FirstPanic,
    state::State,
    stats::SubscriptionStats,
    subscription::{Event, Head, Outlook, Snapshot, Subscription},
    sync::{Arc, Mutex},
    version::Update,
    wait_set::WaitSet,
};

/// One subscription for any number of [`Reader`]s in one place: a publisher pays for one, whatever their number.
///
/// Made by [`SubscriptionBuilder::share`](crate::SubscriptionBuilder::share). For readers that are served together, such as the
/// streams of a connection: they take turns under a lock, and share the bound. It is subscribed while there are readers. Clones
/// are the same one.
///
/// Each reader has the contract of a [`Subscription`]: a snapshot first, then each update at the sequence after the one before,
/// and a snapshot for who has missed any, counted to the last one. It lags when more updates than the capacity have come since
/// the one that it read last, however many the others have read; that may be within a batch, which the snapshot then contains. To
/// wait for something to read, give the subscription a [`WaitSet`].
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow::Continue;
///
/// use configstream_engine::{Engine, Event, State, Transition, TryNextError};
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
/// let shared = engine.subscription().share();
/// let mut readers = ["left", "right"].map(|name| shared.reader(name));
/// let mut totals = [0, 0];
/// for change in [3, 4] {
///     for (reader, total) in readers.iter_mut().zip(&mut totals) {
///         let read = reader.read(|event| {
///             match event {
///                 Event::Snapshot(snapshot) => *total = snapshot.state().0,
///                 Event::Update(update) => *total += **update,
///                 _ => {}
///             }
///             Continue::<()>(())
///         });
///         assert_eq!(read, Err(TryNextError::Empty));
///     }
///     engine.publish(&change)?;
/// }
/// assert_eq!(totals, [3, 3]);
/// assert_eq!(readers[0].observer().stats().queued, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedSubscription<S: State>(Arc<Common<S>>);

/// One reader of a [`SharedSubscription`]. Dropping it is leaving.
///
/// # Panics
/// Dropping it panics as dropping a [`Subscription`] does.
#[must_use = "dropping a Reader is leaving"]
pub struct Reader<S: State> {
    common: Arc<Common<S>>,
    seat: Arc<Seat>,
    place: Place,
}

/// A look at a reader's figures from any thread.
pub struct ReaderObserver<S: State> {
    common: Arc<Common<S>>,
    seat: Arc<Seat>,
}

struct Common<S: State> {
    core: Arc<Core<S>>,
    name: Option<Arc<str>>,
    capacity: usize,
    wait_set: Option<WaitSet>,
    inner: Mutex<Inner<S>>,
}

struct Inner<S: State> {
    /// As long as there are readers.
    subscription: Option<Subscription<S>>,
    readers: usize,
    window: VecDeque<Entry<S>>,
    /// Number of the window's first entry: how many have left it.
    start: u64,
    /// Up to which ordinal the subscription has handed out.
    position: u64,
}

/// An update in the window.
struct Entry<S: State> {
    ordinal: u64,
    event: Event<S>,
    /// So many readers have yet to pass it.
    left: usize,
}

/// What a reader shares with its observers.
struct Seat {
    id: u64,
    name: Arc<str>,
    /// Changed under the lock.
    account: Account,
    told: Told,
}

/// Where a reader is.
struct Place {
    /// Number of the entry that it reads next.
    next: u64,
    /// Ordinal of the last event handed out; `None` before the first.
    cursor: Option<u64>,
    /// [`Version::forced`](crate::Version) at the cursor.
    forced: u64,
    /// The last version has been handed out.
    ended: bool,
}

impl<S: State> SharedSubscription<S> {
    pub(crate) fn new(
        core: Arc<Core<S>>,
        name: Option<Arc<str>>,
        capacity: usize,
        wait_set: Option<WaitSet>,
    ) -> Self {
        Self(Arc::new(Common {
            core,
            name,
            capacity,
            wait_set,
            inner: Mutex::new(Inner {
                subscription: None,
                readers: 0,
                window: VecDeque::new(),
                start: 0,
                position: 0,
            }),
        }))
    }

    /// One more reader, which begins with a snapshot. The first one subscribes. `name` is for people.
    pub fn reader(&self, name: impl Into<Arc<str>>) -> Reader<S> {
        let common = &self.0;
        let mut inner = common.inner.lock();
        inner.subscription.get_or_insert_with(|| {
            let wait_set = common.wait_set.clone();
            common
                .core
                .subscribe(common.name.clone(), common.capacity, wait_set)
        });
        inner.readers += 1;
        Reader {
            common: common.clone(),
            seat: Arc::new(Seat {
                id: common.core.next_id(),
                name: name.into(),
                account: Account::default(),
                told: Told::default(),
            }),
            place: Place {
                next: inner.end(),
                cursor: None,
                forced: 0,
                ended: false,
            },
        }
    }
}

impl<S: State> Reader<S> {
    /// Hands events to `take` until that breaks, which is the result, or there is none any more. One lock for all of them, and
    /// no count of references to an update that others read.
    ///
    /// With an update, `take` runs under that lock, and so may the drop of an update or a state: these must not touch another
    /// reader of the same subscription, nor the figures of one. With a snapshot, which may be large, it does not.
    ///
    /// # Progress
    /// Waits for other readers of the same subscription. Otherwise as [`Subscription::try_next`], and O(capacity) for who lags.
    ///
    /// # Errors
    /// [`TryNextError::Empty`] when there is nothing yet, [`TryNextError::Closed`] when there will be nothing.
    ///
    /// # Panics
    /// As `take` and the drop of an update do. What `take` was given has been handed out then.
    pub fn read<B>(
        &mut self,
        mut take: impl FnMut(&Event<S>) -> ControlFlow<B>,
    ) -> Result<B, TryNextError> {
        let Self {
            common,
            seat,
            place,
        } = self;
        let mut inner = common.inner.lock();
        let read = loop {
            if place.ended {
                break Err(TryNextError::Closed);
            }
            let own;
            let event = match place.step(&mut inner) {
                Step::Window(entry) => &entry.event,
                Step::Covered => continue,
                Step::Ring => match inner.pull() {
                    // Nobody else wants it.
                    Ok(update) if inner.readers == 1 && place.is_next(&update) => {
                        place.cursor = Some(update.ordinal());
                        own = Event::Update(update);
                        &own
                    }
                    Ok(update) => {
                        inner.push(update, common.capacity);
                        continue;
                    }
                    Err(_) if place.is_behind(inner.position) => continue,
                    Err(nothing) => break Err(nothing),
                },
                Step::Snapshot => {
                    inner.empty_ring(common.capacity);
                    let snapshot = place.resync(&mut inner, &common.core, &seat.account);
                    inner.let_go();
                    drop(inner);
                    if let ControlFlow::Break(result) = take(&Event::Snapshot(snapshot)) {
                        return Ok(result);
                    }
                    inner = common.inner.lock();
                    continue;
                }
            };
            seat.account.deliver(event.sequence().get());
            if let ControlFlow::Break(result) = take(event) {
                break Ok(result);
            }
        };
        inner.let_go();
        read
    }

    /// Unique within the engine.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.seat.id
    }

    /// A handle to read the figures from elsewhere.
    #[must_use]
    pub fn observer(&self) -> ReaderObserver<S> {
        ReaderObserver {
            common: self.common.clone(),
            seat: self.seat.clone(),
        }
    }
}

/// Where a reader finds what comes next.
enum Step<'a, S: State> {
    /// In the window.
    Window(&'a Entry<S>),
    /// In the window, and covered by a snapshot.
    Covered,
    /// It has read all that was taken out of the ring.
    Ring,
    /// It has missed something, or just come.
    Snapshot,
}

impl Place {
    fn step<'a, S: State>(&mut self, inner: &'a mut Inner<S>) -> Step<'a, S> {
        let Some(cursor) = self.cursor else {
            return Step::Snapshot;
        };
        // What has left before its turn is missed only if no snapshot has covered it: what comes next tells.
        self.next = self.next.max(inner.start);
        let nth = usize::try_from(self.next - inner.start).unwrap_or(usize::MAX);
        match inner.window.get_mut(nth) {
            Some(entry) if entry.ordinal > cursor + 1 => Step::Snapshot,
            Some(entry) => {
                self.next += 1;
                entry.left -= 1;
                if entry.ordinal <= cursor {
                    return Step::Covered;
                }
                self.cursor = Some(entry.ordinal);
                Step::Window(entry)
            }
            None if self.is_behind(inner.position) => Step::Snapshot,
            None => Step::Ring,
        }
    }

    fn is_next<S: State>(&self, update: &Update<S>) -> bool {
        self.cursor
            .is_some_and(|cursor| update.ordinal() == cursor + 1)
    }

    fn is_behind(&self, position: u64) -> bool {
        self.cursor.is_some_and(|cursor| cursor < position)
    }

    /// The head as a snapshot. All that the ring had has been taken out of it.
    fn resync<S: State>(
        &mut self,
        inner: &mut Inner<S>,
        core: &Core<S>,
        account: &Account,
    ) -> Snapshot<S> {
        inner.pass(self.next);
        self.next = inner.end();
        let since = self.cursor.map(|cursor| (cursor, self.forced));
        let snapshot = Snapshot::taken(core.head.load(), since, account);
        let version = snapshot.version();
        self.cursor = Some(version.ordinal);
        self.forced = version.forced;
        self.ended = version.is_closed();
        snapshot
    }
}

impl<S: State> Inner<S> {
    /// Number of the entry that comes next into the window.
    fn end(&self) -> u64 {
        self.start + self.window.len() as u64
    }

    /// The next update in the ring, if there is one now.
    fn pull(&mut self) -> Result<Update<S>, TryNextError> {
        let Some(subscription) = &mut self.subscription else {
            return Err(TryNextError::Closed);
        };
        loop {
            match subscription.try_next()? {
                Event::Update(update) => {
                    self.position = update.ordinal();
                    return Ok(update);
                }
                Event::Snapshot(snapshot) => self.position = snapshot.version().ordinal,
            }
        }
    }

    /// Puts an update into the window, for all readers.
    fn push(&mut self, update: Update<S>, capacity: usize) {
        let full = self.window.len() >= capacity;
        let oldest = if full { self.pop() } else { None };
        self.window.push_back(Entry {
            ordinal: update.ordinal(),
            event: Event::Update(update),
            left: self.readers,
        });
        drop(oldest);
    }

    /// A reader passes over all from number `next` on.
    fn pass(&mut self, next: u64) {
        let first = usize::try_from(next.saturating_sub(self.start)).unwrap_or(usize::MAX);
        for entry in self.window.iter_mut().skip(first) {
            entry.left -= 1;
        }
    }

    /// Puts all that is in the ring into the window. What comes meanwhile may stay.
    fn empty_ring(&mut self, capacity: usize) {
        // Once more than the ring holds: a subscription that lags takes its snapshot then.
        for _ in 0..=capacity {
            match self.pull() {
                Ok(update) => self.push(update, capacity),
                Err(_) => return,
            }
        }
    }

    /// Lets go of what all have read.
    fn let_go(&mut self) {
        while self.window.front().is_some_and(|entry| entry.left == 0) {
            drop(self.pop());
        }
        if self.window.is_empty() {
            self.window.shrink_to(SMALL_WINDOW);
        }
    }

    fn pop(&mut self) -> Option<Entry<S>> {
        self.start += 1;
        self.window.pop_front()
    }

    /// What a reader with this cursor is to get. O(window).
    fn outlook(&self, core: &Core<S>, cursor: u64) -> Outlook {
        let first = self.window.partition_point(|entry| entry.ordinal <= cursor);
        let mut reach = cursor;
        for entry in self.window.range(first..) {
            if entry.ordinal != reach + 1 {
                break;
            }
            reach += 1;
        }
        match &self.subscription {
            Some(subscription) if reach >= self.position => {
                let outlook = subscription.outlook();
                Outlook {
                    filled: outlook.filled.max(reach),
                    ..outlook
                }
            }
            lagging => Outlook {
                head: Head::of(core),
                filled: reach,
                lagging: lagging.is_some(),
            },
        }
    }
}

impl<S: State> ReaderObserver<S> {
    /// Published minus handed out, in updates; `None` before the first snapshot. Without the lock, and O(1).
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let head = Head::of(&self.common.core);
        self.seat.account.read().lag(head)
    }

    /// The figures now; `capacity` is that of the subscription. O(capacity), under the lock that readers take.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        let Self { common, seat } = self;
        let inner = common.inner.lock();
        // The reader, and the subscription's consumer, stand still meanwhile.
        let balance = seat.account.read();
        let outlook = inner.outlook(&common.core, balance.cursor().unwrap_or(0));
        drop(inner);
        seat.told.at_least(SubscriptionStats {
            id: seat.id,
            name: Some(seat.name.clone()),
            capacity: common.capacity,
            ..outlook.figures(&balance)
        })
    }
}

impl<S: State> Drop for Reader<S> {
    fn drop(&mut self) {
        let mut inner = self.common.inner.lock();
        inner.pass(self.place.next);
        inner.readers -= 1;
        let last = inner.readers == 0;
        let subscription = inner.subscription.take_if(|_| last);
        // Drops updates, as the subscription does, and more: foreign code.
        let mut panics = FirstPanic::default();
        panics.run_through(|| inner.let_go());
        drop(inner);
        panics.run(|| drop(subscription));
    }
}

impl<S: State> Clone for SharedSubscription<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: State> Clone for ReaderObserver<S> {
    fn clone(&self) -> Self {
        Self {
            common: self.common.clone(),
            seat: self.seat.clone(),
        }
    }
}

impl<S: State> fmt::Debug for SharedSubscription<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSubscription")
            .field("name", &self.0.name)
            .field("capacity", &self.0.capacity)
            .finish_non_exhaustive()
    }
}

impl<S: State> fmt::Debug for Reader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("id", &self.seat.id)
            .field("name", &self.seat.name)
            .field("cursor", &self.place.cursor)
            .finish_non_exhaustive()
    }
}

impl<S: State> fmt::Debug for ReaderObserver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderObserver")
            .field("id", &self.seat.id)
            .field("name", &self.seat.name)
            .finish_non_exhaustive()
    }
}

/// Updates that an empty window keeps room for: a burst, in 5 KiB.
const SMALL_WINDOW: usize = 128;
