//! What a subscription shares with the distributor and with onlookers, beside its ring.
//!
//! # Sync points
//! * L: `flags`, set to lagging by the distributor (Release), after all that it has pushed and after it loaded its head;
//!   read by the consumer (Acquire), which therefore sees those pushes and that head.
//! * L0: `flags`, lagging cleared by the consumer, then `news` raised (N, Release), then `fence(SeqCst)` F2, then it loads the
//!   head. Partner: a round loads the head, passes `fence(SeqCst)` F1, then reads `news` (Acquire), and `flags` if that has
//!   changed. See the argument in `distribute.rs`.
//! * G, N: `flags`, gone set by the consumer, before it is counted and `news` raised (see `distribute.rs`).
//! * S: `snapshots`, stored with Release behind what a snapshot changes in the account, and read
//!   with Acquire before and after it by an onlooker. A snapshot writes the book that the one
//!   before did not, so the other stays whole until the next: an onlooker that reads the same
//!   number twice has read a whole book. It reads again only when a snapshot has been accounted for
//!   meanwhile, so it never waits for a consumer that has stopped.
//! * O: an onlooker loads the head, passes `fence(SeqCst)`, reads `flags`. The argument is case 1 of `distribute.rs`: if
//!   lagging is still set, the snapshot to come is at that head or beyond, so what it will stand in for is certain.
//!
//! Models: `loom-tests/tests/delivery.rs`, `close.rs`, `onlooker.rs`.

use std::fmt;
#[cfg(all(not(loom), target_pointer_width = "64"))]
use std::mem::offset_of;

#[cfg(all(not(loom), target_pointer_width = "64"))]
use crate::ring::LEFT_OF_LINE;
use crate::{
    stats::SubscriptionStats,
    sync::{Arc, AtomicU8, AtomicU64, Ordering, fence},
    waiter::Waiter,
};

/// In this order: see [`Account`].
#[repr(C)]
pub(crate) struct Mailbox {
    /// Written by the consumer alone.
    pub(crate) account: Account,
    /// Written rarely, by both sides; read by the consumer when it finds the ring empty.
    flags: AtomicU8,
    /// Written by the consumer when it waits by itself, and read by the distributor then.
    waiter: Waiter,
    pub(crate) id: u64,
    pub(crate) name: Option<Arc<str>>,
    /// Up to which ordinal the ring holds updates, as of when lagging was last set: what is beyond comes by a snapshot.
    filled: AtomicU64,
    pub(crate) told: Told,
}

/// The most dropped and forced that any onlooker was told: figures that are certain never fall.
#[derive(Default)]
pub(crate) struct Told {
    dropped: AtomicU64,
    forced: AtomicU64,
}

/// The layout is for speed only, so it is promised only where speed was measured.
#[cfg(all(not(loom), target_pointer_width = "64"))]
const _: () = assert!(
    offset_of!(Account, forced_before) <= LEFT_OF_LINE,
    "what every update changes is on one line"
);

/// What `flags` said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u8);

/// What became of every update, by the consumer's count. Only the consumer stores, so plain stores do.
///
/// The cursor is not kept here: it is `first + delivered + dropped + forced`, which is the accounting equation (I4).
///
/// In this order, behind the consumer's position in the ring: what every update changes is on that line.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Account {
    /// One more than the ordinal of the first snapshot; 0 before it.
    first: AtomicU64,
    delivered: AtomicU64,
    /// Sequence of the last event handed out.
    sequence: AtomicU64,
    /// Snapshots handed out. Its lowest bit says which of the books is the newest.
    snapshots: AtomicU64,
    /// [`Version::forced`](crate::Version) of the first snapshot.
    forced_before: AtomicU64,
    books: [Book; 2],
}

/// What a later snapshot changes in the account.
#[derive(Default)]
#[repr(C)]
struct Book {
    dropped: AtomicU64,
    forced: AtomicU64,
}

/// [`Account`], read at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Balance {
    pub(crate) first: Option<u64>,
    pub(crate) forced_before: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    pub(crate) forced: u64,
    pub(crate) snapshots: u64,
    pub(crate) sequence: u64,
}

impl Mailbox {
    /// The mailbox of a subscription that has missed everything so far.
    pub(crate) fn new(id: u64, name: Option<Arc<str>>) -> Self {
        Self {
            flags: AtomicU8::new(Flags::LAGGING),
            waiter: Waiter::new(),
            account: Account::default(),
            id,
            name,
            filled: AtomicU64::new(0),
            told: Told::default(),
        }
    }

    /// The distributor's look, in rounds before which somebody left or recovered.
    pub(crate) fn flags(&self) -> Flags {
        // Relaxed: L0, ordered by the fence F1 of the round. A stale "lagging" skips one that has just caught up, whose
        // head is then at least the round's; "gone" decides only when memory is freed.
        Flags(self.flags.load(Ordering::Relaxed))
    }

    /// The distributor's word that this subscription needs a snapshot for what is beyond `filled`, an ordinal.
    pub(crate) fn set_lagging(&self, filled: u64) {
        // Relaxed: handed over by L.
        self.filled.store(filled, Ordering::Relaxed);
        // Sync point L: pairs with the Acquire load in `is_lagging`. A read-modify-write, so that a "gone" set meanwhile
        // stays.
        self.flags.fetch_or(Flags::LAGGING, Ordering::Release);
    }

    /// The consumer's look.
    pub(crate) fn is_lagging(&self) -> bool {
        // Sync point L: pairs with the Release in `set_lagging`.
        Flags(self.flags.load(Ordering::Acquire)).is_lagging()
    }

    /// The consumer says that the head it loads next is its snapshot, which is news to the distributor.
    pub(crate) fn clear_lagging(&self, news: &AtomicU64) {
        // Relaxed: L0, ordered by the fence. A plain store: while lagging is set the distributor leaves `flags` alone,
        // and the consumer that could set gone is this one.
        self.flags.store(0, Ordering::Relaxed);
        // Sync point N: pairs with the Acquire load in `look`, which then sees the flag cleared.
        news.fetch_add(1, Ordering::Release);
        // F2, partner of F1 in a round.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn set_gone(&self) {
        // Sync point G: Relaxed, since the count that follows it (Release) is what the distributor acts on. A
        // read-modify-write, as in `set_lagging`.
        self.flags.fetch_or(Flags::GONE, Ordering::Relaxed);
    }

    /// Up to which ordinal the ring was filled when lagging was last set. The caller has seen it set, by `is_lagging`.
    pub(crate) fn filled(&self) -> u64 {
        // Relaxed: handed over by L. A later one only lowers what the caller counts on.
        self.filled.load(Ordering::Relaxed)
    }

    pub(crate) fn waiter(&self) -> &Waiter {
        &self.waiter
    }
}

impl Told {
    /// These figures, or what an onlooker was told before, where that is more.
    pub(crate) fn at_least(&self, figures: SubscriptionStats) -> SubscriptionStats {
        let most = |word: &AtomicU64, now: u64| {
            // Relaxed: one word, whose own order is all that counts.
            word.fetch_max(now, Ordering::Relaxed).max(now)
        };
        let dropped = most(&self.dropped, figures.dropped);
        let forced = most(&self.forced, figures.forced);
        let before = dropped + forced - figures.dropped - figures.forced;
        SubscriptionStats {
            dropped,
            forced,
            // What a snapshot is known to stand in for does not come by an update.
            queued: figures.queued.saturating_sub(before),
            ..figures
        }
    }
}

impl Flags {
    const LAGGING: u8 = 1;
    const GONE: u8 = 2;

    pub(crate) fn is_lagging(self) -> bool {
        self.0 & Self::LAGGING != 0
    }

    pub(crate) fn is_gone(self) -> bool {
        self.0 & Self::GONE != 0
    }
}

impl Account {
    /// An update was handed out.
    pub(crate) fn deliver(&self, sequence: u64) {
        add(&self.delivered, 1);
        // Relaxed, here and below: a statistic; onlookers act on none of it.
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    /// The first snapshot was handed out.
    pub(crate) fn start(&self, ordinal: u64, sequence: u64, forced: u64) {
        // Relaxed: handed over by S, and not changed after that.
        self.forced_before.store(forced, Ordering::Relaxed);
        self.first.store(ordinal + 1, Ordering::Relaxed);
        self.snapshot(sequence, 0, 0);
    }

    /// A later snapshot was handed out, in place of `missed` updates, and of `forced` ordinals that nobody
    /// gets as updates.
    pub(crate) fn resync(&self, sequence: u64, missed: u64, forced: u64) {
        self.snapshot(sequence, missed, forced);
    }

    fn snapshot(&self, sequence: u64, missed: u64, forced: u64) {
        // Relaxed, of all: the consumer is the only writer, and reads its own words back.
        let before = self.snapshots.load(Ordering::Relaxed);
        let (last, next) = (self.book(before), self.book(before + 1));
        // Sync point S: an onlooker that reads a word stored below, then passes a fence, sees
        // `snapshots` as the last one left it.
        fence(Ordering::Release);
        let add = |word: fn(&Book) -> &AtomicU64, more| {
            word(next).store(word(last).load(Ordering::Relaxed) + more, Ordering::Relaxed);
        };
        add(|book| &book.dropped, missed);
        add(|book| &book.forced, forced);
        self.sequence.store(sequence, Ordering::Relaxed);
        // Sync point S: hands over the words above to `read`.
        self.snapshots.store(before + 1, Ordering::Release);
    }

    /// The one that so many snapshots have filled.
    fn book(&self, snapshots: u64) -> &Book {
        &self.books[usize::from(snapshots % 2 == 1)]
    }

    /// All of it, with each snapshot whole or not at all. The sequence may be that of an event
    /// after it.
    ///
    /// # Progress
    /// Lock-free: it reads again only when the consumer has accounted for one more snapshot
    /// meanwhile.
    pub(crate) fn read(&self) -> Balance {
        loop {
            // Sync point S: pairs with the Release store in `snapshot`.
            let snapshots = self.snapshots.load(Ordering::Acquire);
            let balance = self.read_words(snapshots);
            // Sync point S: pairs with the Release fence in `snapshot`.
            fence(Ordering::Acquire);
            if self.snapshots.load(Ordering::Relaxed) == snapshots {
                return balance;
            }
        }
    }

    fn read_words(&self, snapshots: u64) -> Balance {
        let book = self.book(snapshots);
        // Not what the first snapshot is about to write.
        let first = self.first.load(Ordering::Relaxed).checked_sub(1);
        Balance {
            first: first.filter(|_| snapshots > 0),
            forced_before: self.forced_before.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            dropped: book.dropped.load(Ordering::Relaxed),
            forced: book.forced.load(Ordering::Relaxed),
            snapshots,
            sequence: self.sequence.load(Ordering::Relaxed),
        }
    }
}

impl Balance {
    /// Ordinal of the last event handed out; `None` before the first.
    pub(crate) fn cursor(&self) -> Option<u64> {
        Some(self.first? + self.delivered + self.dropped + self.forced)
    }
}

fn add(counter: &AtomicU64, more: u64) {
    // Relaxed: the consumer is the only writer, and reads its own word back.
    let now = counter.load(Ordering::Relaxed);
    counter.store(now + more, Ordering::Relaxed);
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_lags_from_its_birth() {
        let mailbox = Mailbox::new(1, None);
        assert!(mailbox.is_lagging());
        assert!(!mailbox.flags().is_gone());
        mailbox.clear_lagging(&AtomicU64::new(0));
        assert!(!mailbox.is_lagging());
    }

    #[test]
    fn flags_do_not_disturb_each_other() {
        let mailbox = Mailbox::new(1, None);
        mailbox.clear_lagging(&AtomicU64::new(0));
        mailbox.set_gone();
        assert!(mailbox.flags().is_gone() && !mailbox.flags().is_lagging());
        mailbox.set_lagging(7);
        assert!(mailbox.flags().is_gone() && mailbox.flags().is_lagging());
        assert_eq!(mailbox.filled(), 7);
    }

    #[test]
    fn what_was_told_never_falls() {
        let told = Told::default();
        let tell = |dropped, forced| {
            let figures = told.at_least(SubscriptionStats {
                id: 1,
                name: None,
                capacity: 1,
                sequence: None,
                delivered: 0,
                dropped,
                forced,
                snapshots: 0,
                queued: 0,
                lag: 0,
                lagging: false,
            });
            (figures.dropped, figures.forced)
        };
        assert_eq!(tell(3, 1), (3, 1));
        assert_eq!(tell(2, 4), (3, 4));
    }

    #[test]
    fn the_account_balances() {
        let mailbox = Mailbox::new(1, None);
        let account = &mailbox.account;
        assert_eq!(account.read().first, None);
        assert_eq!(account.read().cursor(), None);
        account.start(10, 110, 2);
        assert_eq!(account.read().cursor(), Some(10));
        account.deliver(111);
        account.resync(120, 8, 1);
        account.deliver(121);
        let balance = account.read();
        assert_eq!((balance.first, balance.forced_before), (Some(10), 2));
        assert_eq!((balance.cursor(), balance.sequence), (Some(21), 121));
        assert_eq!(balance.snapshots, 2);
    }

    /// An onlooker reads the account of the snapshot before, whole.
    #[test]
    fn a_consumer_stopped_within_a_snapshots_account_delays_no_onlooker() {
        let account = Account::default();
        account.start(10, 110, 2);
        account.resync(120, 8, 1);
        // What the next snapshot writes before it is said to be there.
        account.book(3).dropped.store(100, Ordering::Relaxed);
        let balance = account.read();
        assert_eq!((balance.cursor(), balance.dropped), (Some(19), 8));
        assert_eq!(balance.snapshots, 2);
    }

    #[test]
    fn a_subscription_can_begin_at_nothing() {
        let mailbox = Mailbox::new(1, None);
        mailbox.account.start(0, 0, 0);
        assert_eq!(mailbox.account.read().cursor(), Some(0));
    }
}
