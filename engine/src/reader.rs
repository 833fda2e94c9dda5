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
//! **An update is freed.** Each reader is counted at the entry that it reads next, or at the end.
//! An entry at the front at which none is counted has been read by all, or passed over. What a full
//! window pushes out has its readers counted at the next.
//!
//! # How long the lock is held
//! For [`PASS`] steps at most (an update read, skipped, or taken over from the ring), then it is
//! given to the one that has waited longest. What is freed is taken out of the window under the
//! lock, no more than that at a time, and dropped without it. `take` runs under the lock, and so
//! does the drop of an update that came straight from the ring.
//!
//! A thread that comes back to the subscription from there would wait for itself. `reading` is the
//! thread that has the lock, so that this is a panic in place of a deadlock. Relaxed suffices: a
//! thread compares with its own mark, which only it stores. A reader that is dropped there leaves
//! its place in `departed`, for the turn that has the lock.
//!
//! # Figures without the lock
//! Write g for the newest ordinal that has left the window, j for the one of the subscription's
//! last snapshot, b for the position before that, c for a reader's cursor. A reader that is at or
//! past both g and j comes to p by updates, and then by what the subscription gets. One that is
//! before either takes a snapshot: what follows it is not there any more. Up to b it still comes by
//! updates, if those have not left; one before the snapshot before j, up to where the subscription
//! was then. Before yet another, that says too much, so that too little is counted as dropped in
//! advance, never too much.
//!
//! * W: `left`, `jump`, `before` and `position` are stored with Release, and read with Acquire by
//!   an onlooker, before the account of the reader. So a cursor that the onlooker reads is never
//!   before a g that had waited for that reader to pass.
//! * T: a reader sets `taking`, passes `fence(SeqCst)`, loads the head, accounts for its snapshot,
//!   clears `taking` (Release). An onlooker loads the head h, passes `fence(SeqCst)` (O), reads
//!   `taking` (Acquire), then W. If it reads `taking` as it was before it was set, its fence
//!   precedes the reader's, whose snapshot then is at h or beyond: what lies between is certain to
//!   be missed. If it reads it cleared after the snapshot, it reads that account, too. If it reads
//!   it set, it counts nothing in advance.
//!
//! Models: `loom-tests/tests/readers.rs`.

use std::{collections::VecDeque, fmt, mem, ops::ControlFlow};

use smallvec::SmallVec;

use crate::{
    engine::Core,
    error::TryNextError,
    mailbox::{Account, Balance, Told},
    panics::FirstPanic,
    state::State,
    stats::SubscriptionStats,
    subscription::{Event, Head, Outlook, Snapshot, Subscription, SubscriptionObserver},
    sync::{
        Arc, ArcCell, AtomicBool, AtomicU64, AtomicUsize, ColdMutex, Mutex, MutexGuard, Ordering,
        fence, this_thread, unlock_fair,
    },
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
    /// The thread that has the lock for a reader's turn, by its mark; 0 for none.
    reading: AtomicUsize,
    /// Places of readers that were dropped by that thread, in its turn.
    departed: ColdMutex<Vec<u64>>,
    some_departed: AtomicBool,
    /// Of the subscription, while there is one.
    observer: ArcCell<Option<SubscriptionObserver<S>>>,
    shape: Shape,
}

/// What onlookers need to know of the window. Written under the lock.
#[derive(Default)]
struct Shape {
    /// The newest ordinal that has left the window.
    left: AtomicU64,
    /// Ordinal of the subscription's last snapshot.
    jump: AtomicU64,
    /// Up to which ordinal the subscription had handed out before that.
    before: AtomicU64,
    /// The same of the snapshot before.
    older_jump: AtomicU64,
    older_before: AtomicU64,
    /// Up to which ordinal the subscription has handed out.
    position: AtomicU64,
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
    /// Readers that have read the whole window.
    at_end: usize,
}

/// An update in the window.
struct Entry<S: State> {
    ordinal: u64,
    event: Event<S>,
    /// So many readers read it next.
    readers: usize,
}

/// What has left the window, to be dropped without the lock.
type Freed<S> = SmallVec<[Entry<S>; 4]>;

/// What a reader shares with its observers.
struct Seat {
    id: u64,
    name: Arc<str>,
    /// Changed under the lock.
    account: Account,
    /// A snapshot is being taken and accounted for.
    taking: AtomicBool,
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
                at_end: 0,
            }),
            reading: AtomicUsize::new(0),
            departed: ColdMutex::new(Vec::new()),
            some_departed: AtomicBool::new(false),
            observer: ArcCell::new(Arc::new(None)),
            shape: Shape::default(),
        }))
    }

    /// One more reader, which begins with a snapshot. The first one subscribes. `name` is for people.
    ///
    /// # Progress
    /// Waits for readers of this subscription, each for a bounded number of updates.
    ///
    /// # Panics
    /// When it is called in the `take` of one of them, with an update: see [`Reader::read`].
    pub fn reader(&self, name: impl Into<Arc<str>>) -> Reader<S> {
        let common = &self.0;
        let name = name.into();
        let mut inner = common.lock();
        if inner.subscription.is_none() {
            let wait_set = common.wait_set.clone();
            let subscription =
                common
                    .core
                    .subscribe(common.name.clone(), common.capacity, wait_set);
            common
                .observer
                .swap(Arc::new(Some(subscription.observer())));
            inner.subscription = Some(subscription);
        }
        inner.readers += 1;
        inner.at_end += 1;
        Reader {
            common: common.clone(),
            seat: Arc::new(Seat {
                id: common.core.next_id(),
                name,
                account: Account::default(),
                taking: AtomicBool::new(false),
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
    /// Hands events to `take` until that breaks, which is the result, or there is none any more.
    /// One lock for up to 32 of them, and no count of references to an update that others read.
    ///
    /// With an update, `take` runs under that lock, so it should be short, and must not wait for a
    /// thread that uses the same subscription. Figures can be read there, and other readers
    /// dropped. With a snapshot, which may be large, there is no lock.
    ///
    /// # Progress
    /// Waits for other readers of the same subscription: in turn, each for 32 updates at most.
    /// Otherwise as [`Subscription::try_next`], and O(capacity) for one that lags. Under a steady
    /// publisher it goes on until `take` breaks.
    ///
    /// # Errors
    /// [`TryNextError::Empty`] when there is nothing yet, [`TryNextError::Closed`] when there will be nothing.
    ///
    /// # Panics
    /// As `take` and the drop of an update do; what `take` was given has been handed out then. And
    /// when it is called in the `take` of another reader of the same subscription, with an update,
    /// where it would wait for itself.
    pub fn read<B>(
        &mut self,
        mut take: impl FnMut(&Event<S>) -> ControlFlow<B>,
    ) -> Result<B, TryNextError> {
        let mut turn = Turn::begin(&self.common, &mut self.place);
        let account = &self.seat.account;
        // So many updates are still taken out of the ring before the snapshot that is due; `None`
        // when none is.
        let mut due: Option<usize> = None;
        let read = loop {
            turn.step();
            let Turn {
                common,
                place,
                inner: Some(inner),
                ..
            } = &mut turn
            else {
                unreachable!("a turn has the lock")
            };
            if place.ended {
                break Err(TryNextError::Closed);
            }
            let own;
            let next = match due {
                Some(_) => Step::Snapshot,
                None => place.step(inner),
            };
            let event = match next {
                Step::Window(entry) => &entry.event,
                Step::Covered => continue,
                Step::Ring => match inner.pull(&common.shape) {
                    // No other reader wants it.
                    Ok(update) if inner.readers == 1 && place.is_next(&update) => {
                        place.cursor = Some(update.ordinal());
                        own = Event::Update(update);
                        &own
                    }
                    Ok(update) => {
                        let pushed_out = inner.push(update, common);
                        turn.freed.extend(pushed_out);
                        continue;
                    }
                    Err(_) if place.is_behind(inner.position) => continue,
                    Err(nothing) => break Err(nothing),
                },
                Step::Snapshot => {
                    // Once more than the ring holds: a subscription that lags takes its snapshot
                    // then. What comes meanwhile may stay.
                    let rest = due.unwrap_or(common.capacity + 1);
                    if rest > 0
                        && let Ok(update) = inner.pull(&common.shape)
                    {
                        let pushed_out = inner.push(update, common);
                        turn.freed.extend(pushed_out);
                        due = Some(rest - 1);
                        continue;
                    }
                    due = None;
                    let snapshot = place.resync(inner, &common.core, &self.seat);
                    turn.end();
                    drop(turn);
                    if let ControlFlow::Break(result) = take(&Event::Snapshot(snapshot)) {
                        return Ok(result);
                    }
                    turn = Turn::begin(&self.common, &mut self.place);
                    continue;
                }
            };
            account.deliver(event.sequence().get());
            if let ControlFlow::Break(result) = take(event) {
                break Ok(result);
            }
        };
        turn.end();
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
    fn step<'a, S: State>(&mut self, inner: &'a Inner<S>) -> Step<'a, S> {
        let Some(cursor) = self.cursor else {
            return Step::Snapshot;
        };
        // What has left before its turn is missed only if no snapshot has covered it: what comes next tells.
        self.next = self.next.max(inner.start);
        let nth = usize::try_from(self.next - inner.start).unwrap_or(usize::MAX);
        match inner.window.get(nth) {
            Some(entry) if entry.ordinal > cursor + 1 => Step::Snapshot,
            Some(entry) => {
                self.next += 1;
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
    fn resync<S: State>(&mut self, inner: &Inner<S>, core: &Core<S>, seat: &Seat) -> Snapshot<S> {
        self.next = inner.end();
        let since = self.cursor.map(|cursor| (cursor, self.forced));
        // Relaxed: ordered by the fence. Sync point T: partner of O in `Outlook::of`.
        seat.taking.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let snapshot = Snapshot::taken(core.head.load(), since, &seat.account);
        // Sync point T: pairs with the Acquire load in `figures`, which then sees the account.
        seat.taking.store(false, Ordering::Release);
        let version = snapshot.version();
        self.cursor = Some(version.ordinal);
        self.forced = version.forced;
        self.ended = version.is_closed();
        snapshot
    }
}

impl<S: State> Common<S> {
    /// Waits for the lock, which this thread must not have.
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        assert!(
            !self.is_reading(),
            "a reader of a shared subscription was made or read in the `take` of another: end that read first"
        );
        self.inner.lock()
    }

    /// Whether this thread is in a reader's turn.
    fn is_reading(&self) -> bool {
        // Relaxed: only this thread stores its mark, and takes it away.
        self.reading.load(Ordering::Relaxed) == this_thread()
    }

    /// A reader leaves from this place. Whether it was the last one.
    fn depart(inner: &mut Inner<S>, place: u64) {
        *inner.readers_at(place) -= 1;
        inner.readers -= 1;
    }

    /// What a reader with this account is to get.
    fn outlook(&self, seat: &Seat) -> (Outlook, Balance) {
        // The head, fence O, and the subscription's flag.
        let outlook = self
            .observer
            .peek(|observer| observer.as_ref().map(SubscriptionObserver::outlook));
        // Sync point T: pairs with the Release store in `resync`.
        let taking = seat.taking.load(Ordering::Acquire);
        // Sync point W: pairs with the Release stores in `pull` and `free`.
        let shape = &self.shape;
        let jump = shape.jump.load(Ordering::Acquire);
        let before = shape.before.load(Ordering::Acquire);
        let older_jump = shape.older_jump.load(Ordering::Acquire);
        let older_before = shape.older_before.load(Ordering::Acquire);
        let left = shape.left.load(Ordering::Acquire);
        let position = shape.position.load(Ordering::Acquire);
        let balance = seat.account.read();
        let cursor = balance.cursor().unwrap_or(0);
        let Some(outlook) = outlook else {
            // All readers have left.
            let head = Head::of(&self.core);
            let nothing = Outlook {
                head,
                filled: cursor,
                lagging: false,
            };
            return (nothing, balance);
        };
        let (filled, lagging) = if cursor >= left.max(jump) {
            (outlook.filled.max(position), outlook.lagging)
        } else if taking {
            // All of it may still come.
            (u64::MAX, true)
        } else if cursor < left {
            (cursor, true)
        } else if cursor < older_jump {
            (older_before.max(cursor), true)
        } else {
            (before.max(cursor), true)
        };
        let outlook = Outlook {
            filled,
            lagging,
            ..outlook
        };
        (outlook, balance)
    }
}

/// A reader's turn: it has the lock.
struct Turn<'a, S: State> {
    common: &'a Common<S>,
    place: &'a mut Place,
    /// `None` at its end.
    inner: Option<MutexGuard<'a, Inner<S>>>,
    /// Where the reader is counted.
    counted_at: u64,
    steps: usize,
    freed: Freed<S>,
}

impl<'a, S: State> Turn<'a, S> {
    fn begin(common: &'a Common<S>, place: &'a mut Place) -> Self {
        let inner = common.lock();
        common.reading.store(this_thread(), Ordering::Relaxed);
        Self {
            common,
            counted_at: place.next,
            place,
            inner: Some(inner),
            steps: 0,
            freed: Freed::new(),
        }
    }

    /// One more step. Others have their turns first when there were many.
    #[inline]
    fn step(&mut self) {
        self.steps += 1;
        if self.steps > PASS {
            self.give_way();
        }
    }

    #[inline(never)]
    fn give_way(&mut self) {
        self.release();
        self.inner = Some(self.common.lock());
        self.common.reading.store(this_thread(), Ordering::Relaxed);
        self.counted_at = self.place.next;
        self.steps = 0;
    }

    /// Goes on until all is dropped that is free.
    fn end(&mut self) {
        while self.release() {
            self.inner = Some(self.common.lock());
        }
    }

    /// Gives the lock back, and drops what is free, or a part of it. Whether there is more.
    fn release(&mut self) -> bool {
        self.settle();
        let Some(mut inner) = self.inner.take() else {
            return false;
        };
        if self.freed.is_empty() && !inner.has_free() {
            // The common case: other readers have yet to read what this one has.
            unlock_fair(inner);
            return false;
        }
        let more = inner.free(&self.common.shape, &mut self.freed);
        unlock_fair(inner);
        drop_each(&mut self.freed, &mut FirstPanic::default());
        more
    }

    /// Counts the reader where it is, and those out that were dropped in its turn.
    fn settle(&mut self) {
        let Some(inner) = &mut self.inner else {
            return;
        };
        if self.counted_at != self.place.next {
            *inner.readers_at(self.counted_at) -= 1;
            *inner.readers_at(self.place.next) += 1;
            self.counted_at = self.place.next;
        }
        // Relaxed: set by this thread, in this turn.
        if self.common.some_departed.load(Ordering::Relaxed) {
            self.common.some_departed.store(false, Ordering::Relaxed);
            for place in self.common.departed.lock().drain(..) {
                Common::depart(inner, place);
            }
        }
        self.common.reading.store(0, Ordering::Relaxed);
    }
}

/// Drops what has left the window, one by one: that is foreign code.
fn drop_each<S: State>(freed: &mut Freed<S>, panics: &mut FirstPanic) {
    panics.run_through(|| {
        while let Some(entry) = freed.pop() {
            drop(entry);
        }
    });
}

/// What `take` was given has been handed out, also when it panics.
impl<S: State> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        self.settle();
        self.inner = None;
        if !self.freed.is_empty() {
            drop_each(&mut self.freed, &mut FirstPanic::default());
        }
    }
}

impl<S: State> Inner<S> {
    /// Number of the entry that comes next into the window.
    fn end(&self) -> u64 {
        self.start + self.window.len() as u64
    }

    /// Readers that read the entry with this number next, or the first one that is there.
    fn readers_at(&mut self, next: u64) -> &mut usize {
        let nth = usize::try_from(next.saturating_sub(self.start)).unwrap_or(usize::MAX);
        match self.window.get_mut(nth) {
            Some(entry) => &mut entry.readers,
            None => &mut self.at_end,
        }
    }

    /// The next update in the ring, if there is one now.
    fn pull(&mut self, shape: &Shape) -> Result<Update<S>, TryNextError> {
        let Some(subscription) = &mut self.subscription else {
            return Err(TryNextError::Closed);
        };
        loop {
            // Sync point W, here and below: pairs with the Acquire loads in `outlook`.
            match subscription.try_next()? {
                Event::Update(update) => {
                    self.position = update.ordinal();
                    shape.position.store(self.position, Ordering::Release);
                    return Ok(update);
                }
                Event::Snapshot(snapshot) => {
                    // Each word after the one that bounds what it says.
                    let [jump, before] =
                        [&shape.jump, &shape.before].map(|word| word.load(Ordering::Relaxed));
                    shape.older_before.store(before, Ordering::Release);
                    shape.older_jump.store(jump, Ordering::Release);
                    shape.before.store(self.position, Ordering::Release);
                    self.position = snapshot.version().ordinal;
                    shape.position.store(self.position, Ordering::Release);
                    shape.jump.store(self.position, Ordering::Release);
                }
            }
        }
    }

    /// Puts an update into the window, for all readers. What it pushes out.
    fn push(&mut self, update: Update<S>, common: &Common<S>) -> Option<Entry<S>> {
        let full = self.window.len() >= common.capacity;
        let oldest = if full { self.pop() } else { None };
        if let Some(oldest) = &oldest {
            // Sync point W.
            common.shape.left.store(oldest.ordinal, Ordering::Release);
        }
        self.window.push_back(Entry {
            ordinal: update.ordinal(),
            event: Event::Update(update),
            readers: mem::take(&mut self.at_end),
        });
        oldest
    }

    /// Takes out what all have read, or as much of it as goes at a time. Whether there is more.
    fn free(&mut self, shape: &Shape, freed: &mut Freed<S>) -> bool {
        while freed.len() < PASS && self.has_free() {
            freed.extend(self.pop());
        }
        if let Some(newest) = freed.last() {
            // Sync point W. Those that a full window pushed out are among them.
            shape.left.store(newest.ordinal, Ordering::Release);
        }
        if self.window.is_empty() {
            self.window.shrink_to(SMALL_WINDOW);
        }
        self.has_free()
    }

    /// Whether all have read the oldest entry.
    fn has_free(&self) -> bool {
        self.window.front().is_some_and(|entry| entry.readers == 0)
    }

    fn pop(&mut self) -> Option<Entry<S>> {
        let oldest = self.window.pop_front()?;
        self.start += 1;
        // Readers that have not read it go on with what follows.
        *self.readers_at(self.start) += oldest.readers;
        Some(oldest)
    }
}

impl<S: State> ReaderObserver<S> {
    /// Published minus handed out, in updates; `None` before the first snapshot. Without the lock, and O(1).
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let head = Head::of(&self.common.core);
        self.seat.account.read().lag(head)
    }

    /// The figures now; `capacity` is that of the subscription. Without the lock, and O(1).
    ///
    /// While a snapshot is due, `queued` may count updates that a second one will stand in for.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        let Self { common, seat } = self;
        let (outlook, balance) = common.outlook(seat);
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
        let common = &self.common;
        if common.is_reading() {
            // In the `take` of another one, which is not the last.
            common.departed.lock().push(self.place.next);
            common.some_departed.store(true, Ordering::Relaxed);
            return;
        }
        let mut inner = common.inner.lock();
        Common::depart(&mut inner, self.place.next);
        let last = inner.readers == 0;
        let subscription = inner.subscription.take_if(|_| last);
        if last {
            common.observer.swap(Arc::new(None));
        }
        // Drops updates, as the subscription does, and more: foreign code, so not under the lock.
        let mut panics = FirstPanic::default();
        let mut inner = Some(inner);
        while let Some(mut guard) = inner.take() {
            let mut freed = Freed::new();
            let more = guard.free(&common.shape, &mut freed);
            unlock_fair(guard);
            drop_each(&mut freed, &mut panics);
            inner = more.then(|| common.inner.lock());
        }
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

/// Steps that a reader goes under one hold of the lock, and updates that are dropped at a time.
const PASS: usize = 32;

/// Updates that an empty window keeps room for: a burst, in 5 KiB.
const SMALL_WINDOW: usize = 128;
