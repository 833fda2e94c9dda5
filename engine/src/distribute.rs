//! Handing committed updates to the subscriptions' rings: a role that one thread at a time plays.
//!
//! Whoever has committed tries to take the role. Whoever finds it taken leaves, because its holder looks again after
//! giving it up. So no publisher waits for another, and each ring has one producer at a time.
//!
//! # A round
//! 1. load the head;
//! 2. `fence(SeqCst)` F1;
//! 3. if there is news (somebody recovered or left, or a member was found not to fit, since a round last looked): take the
//!    joiners, whole. One who has not recovered yet would be skipped anyway;
//! 4. if there was news: look at everybody's flags, drop who is gone, and note whom step 7 is to wake, a wait set once. For
//!    each member: skip it if it lags; if the round does not fit its ring, or updates cannot say it, set lagging and push
//!    **nothing**; else push **all**;
//! 5. store `distributed`;
//! 6. `fence(SeqCst)` F3;
//! 7. wake those members that were served, or newly set lagging, and wait (one that was lagging already does not: nobody
//!    parks while lagging). They have been noted: who is served keeps up since step 4 last looked. Of those in a wait set, wake
//!    the set, and look at the members only if one has ever waited by itself. A waker that panics does not stop the round; the
//!    first panic resumes after step 9;
//! 8. give the role back, by `swap`;
//! 9. load the head again: if it is newer than what this round distributed, try to take the role again.
//!
//! # Sync points
//! * J: `joiners`, a [`Stack`], pushed to by `join`, taken in step 3. Hands over the producer half
//!   of the ring.
//! * D: `role`, taken (`fetch_or`) and given back (`swap`) by AcqRel read-modify-writes. Hands over
//!   the table, and `distributed`; and, by the bit `AWAITED`, which threads wait for it to be given
//!   back.
//! * V: `distributed`, stored in step 5 (Release), loaded (Acquire) by a thread that waits for
//!   distribution, which therefore sees all that was pushed.
//! * G: `gone`, raised by `leave` (Release), read by the thread that decides to sweep, whose round
//!   sees the flags after F1.
//! * N: `news`, raised by a consumer (Release) after it has changed its flags: cleared lagging, before F2 (L0), or set gone.
//!   Read (Acquire) before step 3. Who has seen it raised sees the flags changed, and that member in the list or the table. So
//!   a round may go by what it knows of them as long as this number stands.
//! * F1, F3: fences, partners of F2 (`mailbox.rs`) and P (`waiter.rs`).
//!
//! # Why it is right
//! Write h for the head that a round loads (step 1), d for what the round before it distributed, and s for the head that
//! a consumer takes as its snapshot, after clearing lagging and passing F2. Heads only grow.
//!
//! **No gap after a snapshot (I2).** The consumer's clear and head load, against this round's head load and flag read:
//! 1. The round reads lagging still set, or does not look since it finds `news` as it was. Then its read came before the
//!    clear in the flag's order, or before the raise in that of `news`, so F1 came before F2, and the consumer's
//!    load, after F2, sees at least what the round's load, before F1, saw: s ≥ h. The updates that were not pushed are in
//!    the snapshot.
//! 2. The round is the first to read lagging cleared, and pushes all of (d, h]. The round before had found lagging set, or
//!    had set it, so by case 1 (or because L handed that head over) s ≥ d. The ring then holds everything after d: what is
//!    at or below s is skipped by the consumer, and what follows is s + 1. Each later round that finds it cleared pushes
//!    all of its span, which begins where the one before ended, so the ring goes on without a gap.
//!
//! A joiner is the same: it is lagging from its birth, and not to be taken is one more way to be skipped (case 1: such a
//! round has read `news` before the raise, or the list before the push, which precedes the clear). If step 1 came after
//! step 4's reads, in case 1 an update could be committed in between, loaded by the round, and be in neither.
//!
//! **A drop leads to a snapshot, with no further publish (I3).** Lagging is set after the head was loaded and F1 passed,
//! so the consumer which sees it (L) loads that head or a newer one; and if it parks meanwhile, I8 wakes it.
//!
//! **Nothing stays undistributed (I5).** A publisher that leaves because `role` was "taken" has
//! committed before. Its attempt stands in the word's order before the give-back swap of some
//! holder, which reads it, directly or through a chain of other failed attempts: all are
//! read-modify-writes, so this is one release sequence. Step 9 of that holder then loads a head
//! that includes the commit. A give-back by plain store would read nothing, and miss it.
//!
//! **Waiting for distribution (I18).** A thread that waits for a commit leaves its waker on a
//! stack, then tries to take the role, with the bit `AWAITED` besides. If it gets the role, its own
//! round distributes the commit, which it has seen. If not, its attempt stands before the give-back
//! swap of the holder, as above, which therefore reads the bit, and then finds the waker. The
//! thread looks at `distributed` again after its attempt and after each wake, and starts over while
//! that is too old. So it sleeps only while a holder has yet to give the role back; and a publisher
//! that is not waited for reads no word more than before. The commit is then in each ring, or its
//! member was lagging when a round whose head was at least the commit read its flag or found no
//! news: then case 1 says that the snapshot to come, or just taken, covers it.
//!
//! **No wake-up is lost (I8).** Steps 4, 6, 7 against the waiter: `waiter.rs`.
//!
//! **Bounded.** Undistributed versions form a chain through `previous`. A commit that finds it
//! longer than the bound leaves its own link out, and takes the chain behind it apart, so that no
//! version that is held keeps it (`version.rs`); the walk then ends early, which means "a snapshot
//! for everyone".
//!
//! **Frees (I9).** Versions, their updates, gone members and joiners' nodes are collected during the round and dropped
//! after the role has been given back, since dropping them runs somebody else's code.
//!
//! Models: `loom-tests/tests/delivery.rs`, `role.rs`, `wake.rs`, `distributed.rs`.

use std::{fmt, iter, ptr, task::Waker};

use smallvec::SmallVec;

use crate::{
    mailbox::Mailbox,
    panics::FirstPanic,
    ring::{self, Producer, Room},
    shared::{Batch, Shared},
    stack::Stack,
    state::State,
    sync::{Arc, ArcCell, AtomicI64, AtomicU64, AtomicUsize, Exclusive, Ordering, Padded, fence},
    version::{Labelled, Step, Updates, Version},
    wait_set::WaitSet,
    waiter::{Blocking, Deadline, Waiter},
};

/// The table of members, and the right to touch it.
pub(crate) struct Distributor<S: State> {
    /// [`TAKEN`] by the thread that distributes, and [`AWAITED`]. Written by all publishers.
    role: Padded<AtomicUsize>,
    table: Exclusive<Table<S>>,
    /// Position of the newest version that a round has handled. Written by the role's holder.
    distributed: AtomicU64,
    /// Ordinal of that version.
    pushed: AtomicU64,
    /// Subscriptions on their way into the table.
    joiners: Stack<Member<S>>,
    /// Threads that wait for the role to be given back.
    awaiting: Stack<Waker>,
    /// Memory of members that left and are still in the table or on their way into it, in words, at
    /// most. Negative for a moment, when the table drops one before it was counted.
    gone_words: AtomicI64,
    /// Memory of members that have not left, in words, at least.
    live_words: AtomicI64,
    /// How often a consumer has cleared its lagging, or left. Written by consumers; on a line of its own.
    news: Padded<AtomicU64>,
    rounds: AtomicU64,
    overflows: AtomicU64,
}

struct Table<S: State> {
    members: Vec<Member<S>>,
    /// What `news` was when a round last looked at everybody's flags; `None` if somebody lags since.
    looked: Option<u64>,
    /// Whom to wake, by index: the members that kept up at that look, of each wait set the first one.
    due: Vec<usize>,
}

/// One subscription, as the distributor has it.
pub(crate) struct Member<S: State> {
    producer: Producer<Labelled<S>, Mailbox>,
    wait_set: Option<WaitSet>,
    /// As its flags said when a round last looked, or set since: a flag is a cache line that others have driven out.
    lagging: bool,
}

/// What a round found between the head and what was distributed before.
struct Span<S: State> {
    /// Newest first, and most often one. Holds what the round took out of the chain until the role has been given back.
    taken: SmallVec<[Taken<S>; 1]>,
    /// The version that had been distributed already.
    distributed: Option<Arc<Version<S>>>,
    /// The chain had been cut, or a version in it needs a snapshot.
    needs_snapshot: bool,
    updates: usize,
}

/// A version taken out of the chain, and the updates that led to it.
struct Taken<S: State> {
    updates: Updates<S>,
    _version: Arc<Version<S>>,
}

/// The head before a commit.
pub(crate) struct Before<S: State> {
    pub(crate) version: Arc<Version<S>>,
    /// The commit left out its link to that.
    pub(crate) cut: bool,
}

/// What a round leaves to be dropped by its thread, after the role has been given back.
struct Leavings<S: State> {
    /// Up to which version the round distributed.
    position: u64,
    head: Option<Arc<Version<S>>>,
    span: Span<S>,
    members: Vec<Member<S>>,
}

impl<S: State> Distributor<S> {
    pub(crate) fn new() -> Self {
        Self {
            role: Padded(AtomicUsize::new(0)),
            table: Exclusive::new(Table {
                members: Vec::new(),
                looked: None,
                due: Vec::new(),
            }),
            distributed: AtomicU64::new(0),
            pushed: AtomicU64::new(0),
            joiners: Stack::new(),
            awaiting: Stack::new(),
            gone_words: AtomicI64::new(0),
            live_words: AtomicI64::new(0),
            news: Padded(AtomicU64::new(0)),
            rounds: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
        }
    }

    /// Adds a subscription, from the first round on that hears of its recovery. Lock-free; O(1), whatever the number of members.
    pub(crate) fn join(&self, member: Member<S>) {
        let (at_least, _) = words(member.producer.capacity());
        // Relaxed: it decides only when memory is swept.
        self.live_words.fetch_add(at_least, Ordering::Relaxed);
        self.joiners.push(member);
    }

    /// The consumer of `mailbox`, which lags, says that the head it loads next is its snapshot. Wait-free.
    pub(crate) fn recover(&self, mailbox: &Mailbox) {
        mailbox.clear_lagging(&self.news);
    }

    /// Counts out a member with a ring of this capacity, which has set its mailbox gone. The next
    /// round drops it and pushes nothing to it. Wait-free.
    pub(crate) fn leave(&self, capacity: usize) {
        let (at_least, at_most) = words(capacity);
        // Relaxed: as in `join`.
        self.live_words.fetch_sub(at_least, Ordering::Relaxed);
        // Sync point N: pairs with the Acquire load in `look`.
        self.news.fetch_add(1, Ordering::Release);
        // Sync point G: pairs with the load in `wants_sweep`, and F1 after it.
        self.gone_words.fetch_add(at_most, Ordering::Release);
    }

    /// Drops the members that left, by a round, when their memory could exceed that of the members
    /// that stay.
    ///
    /// O(1) amortised: a sweep looks at each member, and each takes memory that is counted; so it
    /// is paid for by the making of what it frees. A ring that was small at first and had grown, or
    /// could have, is paid for up to 17 times (`ring::slots`).
    pub(crate) fn sweep(&self, head: &ArcCell<Version<S>>) {
        if self.wants_sweep() {
            self.distribute(head, None);
        }
    }

    /// Distributes what has been committed, unless another thread is at it, which then will. Takes
    /// the head before a commit, `before`, since dropping it runs foreign code.
    ///
    /// # Panics
    /// With the first panic of a subscriber's waker, or of the drop of a state or an update, after everybody has been
    /// served.
    pub(crate) fn distribute(&self, head: &ArcCell<Version<S>>, before: Option<Before<S>>) {
        self.play::<TAKEN>(head, before);
    }

    /// Waits until the version at `position`, which was the head, has been distributed, and runs
    /// the round if no other thread does. `false`: the deadline passed first.
    pub(crate) fn wait(
        &self,
        head: &ArcCell<Version<S>>,
        position: u64,
        deadline: Deadline,
    ) -> bool {
        // Sync point V: pairs with the Release store of step 5.
        let is_distributed = || self.distributed.load(Ordering::Acquire) >= position;
        if is_distributed() {
            return true;
        }
        let blocking = Blocking::new();
        loop {
            self.awaiting.push(blocking.waker().clone());
            self.play::<{ TAKEN | AWAITED }>(head, None);
            if is_distributed() {
                return true;
            }
            if !blocking.park(deadline) {
                // The stack gives up no single waker: those that wait on leave theirs again. So it
                // never has more than wait.
                self.awaiting.take(Waker::wake);
                return is_distributed();
            }
        }
    }

    /// As [`distribute`](Self::distribute), with these bits set in `role`, of which [`TAKEN`] is
    /// one.
    #[inline]
    fn play<const BITS: usize>(&self, head: &ArcCell<Version<S>>, before: Option<Before<S>>) {
        let mut panics = FirstPanic::default();
        let before = before.map(|before| before.take_apart(&mut panics));
        // Sync point D. A read-modify-write even when it fails: see I5 above.
        while self.role.fetch_or(BITS, Ordering::AcqRel) & TAKEN == 0 {
            let role = Role {
                word: &self.role,
                awaiting: &self.awaiting,
            };
            let mut leavings = self
                .table
                .with(|table| self.round(table, head, &mut panics));
            drop(role); // step 8
            // Step 9.
            let newer = head.peek(|head| head.position > leavings.position);
            panics.run_through(|| leavings.clear());
            if !newer && !self.wants_sweep() {
                break;
            }
        }
        panics.run(|| drop(before));
    }

    /// Position of the newest version that has been distributed: at most what it is now.
    pub(crate) fn distributed(&self) -> u64 {
        // Relaxed: it only bounds the chain, roughly.
        self.distributed.load(Ordering::Relaxed)
    }

    /// Ordinal of the newest version that has been distributed: up to there, rings hold what their subscriptions lack.
    pub(crate) fn pushed(&self) -> u64 {
        // Relaxed: a figure for people, and for holders of the role.
        self.pushed.load(Ordering::Relaxed)
    }

    /// How many rounds there were, how often one of them did not fit a ring.
    pub(crate) fn figures(&self) -> (u64, u64) {
        // Relaxed: figures for people.
        (
            self.rounds.load(Ordering::Relaxed),
            self.overflows.load(Ordering::Relaxed),
        )
    }

    fn wants_sweep(&self) -> bool {
        // Relaxed: G, ordered by the fence F1 of the round that sweeps: those counted have set
        // their flags.
        self.gone_words.load(Ordering::Relaxed) > self.live_words.load(Ordering::Relaxed).max(0)
    }

    /// Steps 1 to 7. The caller holds the role.
    fn round(
        &self,
        table: &mut Table<S>,
        head: &ArcCell<Version<S>>,
        panics: &mut FirstPanic,
    ) -> Leavings<S> {
        let head = head.load(); // step 1
        fence(Ordering::SeqCst); // step 2: F1, partner of F2 in `Mailbox::clear_lagging`
        let span = self.walk(&head);
        let gone = self.look(table); // steps 3 and 4
        let served = self.serve(table, &head, &span);
        // Relaxed: see `pushed`. Before V, so that a thread that waited sees it.
        self.pushed.store(head.ordinal, Ordering::Relaxed);
        // Sync point V: pairs with the Acquire load in `wait`. The next holder gets it with the
        // role.
        self.distributed.store(head.position, Ordering::Release); // step 5
        fence(Ordering::SeqCst); // step 6: F3, partner of P in `Waiter::arm`
        if served {
            table.wake_due(panics); // step 7
        }
        table.give_back_room();
        Leavings {
            position: head.position,
            head: Some(head),
            span,
            members: gone,
        }
    }

    /// Step 3: all who joined since this was done become members.
    fn take_joiners(&self, table: &mut Table<S>) {
        if !self.joiners.is_empty() {
            self.joiners.take(|member| table.members.push(member));
        }
    }

    /// Takes the versions since the last round out of the chain.
    fn walk(&self, head: &Arc<Version<S>>) -> Span<S> {
        // Relaxed: written by holders of the role, and this is one.
        let distributed = self.distributed.load(Ordering::Relaxed);
        let mut span = Span {
            taken: SmallVec::new(),
            distributed: None,
            needs_snapshot: false,
            updates: 0,
        };
        let mut version = head.clone();
        while version.position > distributed {
            let Step {
                previous, updates, ..
            } = version.take_step();
            span.updates += updates.len();
            span.needs_snapshot |= version.needs_snapshot;
            span.taken.push(Taken {
                updates,
                _version: version,
            });
            let Some(previous) = previous else {
                // Cut by a commit that found the chain too long, or is just cutting it.
                span.needs_snapshot = true;
                return span;
            };
            version = previous;
        }
        span.distributed = Some(version);
        span
    }

    /// Step 3 and the first half of step 4, if there is news. Returns the members that have left.
    fn look(&self, table: &mut Table<S>) -> Vec<Member<S>> {
        // Sync point N: pairs with the Release in `Mailbox::clear_lagging` and in `leave`. Before the list and the flags, so
        // that what is counted is seen there.
        let news = self.news.load(Ordering::Acquire);
        if table.looked == Some(news) {
            return Vec::new();
        }
        self.look_at_all(table, news)
    }

    /// Who has come, everybody's flags, and so whom to wake.
    #[inline(never)]
    fn look_at_all(&self, table: &mut Table<S>, news: u64) -> Vec<Member<S>> {
        self.take_joiners(table);
        table.due.clear();
        let mut gone = Vec::new();
        // Nobody else's while this engine lives; and no look ends with its mark on a set.
        let this = ptr::from_ref(self).addr();
        let mut index = 0;
        while let Some(member) = table.members.get_mut(index) {
            let flags = member.mailbox().flags();
            if flags.is_gone() {
                gone.push(table.members.swap_remove(index));
                continue;
            }
            member.lagging = flags.is_lagging();
            let set = member.wait_set.as_ref();
            if !member.lagging && set.is_none_or(|set| set.note(this)) {
                table.due.push(index);
            }
            index += 1;
        }
        for set in table.due_sets() {
            set.forget();
        }
        table.looked = Some(news);
        // Relaxed: a count whose readers act on nothing but memory.
        let at_most = |member: &Member<S>| words(member.producer.capacity()).1;
        self.gone_words
            .fetch_sub(gone.iter().map(at_most).sum(), Ordering::Relaxed);
        gone
    }

    /// Step 4, second half. Whether there was anything to tell those that keep up.
    fn serve(&self, table: &mut Table<S>, head: &Version<S>, span: &Span<S>) -> bool {
        // Once: a sweep after the close has nothing to tell.
        let closing = head.is_closed() && !span.taken.is_empty();
        let something = span.updates > 0 || span.needs_snapshot || closing;
        if !something || table.members.is_empty() {
            return false;
        }
        if span.needs_snapshot {
            table.all_lag(self.pushed());
        } else {
            let batch = Batch::new(span.to_push(), span.updates, table.members.len());
            let overflows = match batch.into_single() {
                // What a publisher of single updates meets.
                Ok(mut one) => {
                    self.push(table, 1, move |room| room.fill(iter::once(one.hand_out())))
                }
                Err(mut batch) => {
                    let updates = batch.len();
                    self.push(table, updates, |room| room.fill(batch.hand_out()))
                }
            };
            // Relaxed: a figure.
            self.overflows.fetch_add(overflows, Ordering::Relaxed);
        }
        if closing {
            table.all_lag(head.ordinal);
        }
        // Relaxed: a figure.
        self.rounds.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Pushes the updates to each member that keeps up, or sets it lagging, if they do not fit. How many these were.
    #[inline]
    fn push(
        &self,
        table: &mut Table<S>,
        updates: usize,
        mut fill: impl FnMut(Room<'_, Labelled<S>, Mailbox>),
    ) -> u64 {
        let mut overflows = 0;
        for member in &mut table.members {
            if member.lagging {
                continue;
            }
            match member.producer.room(updates) {
                Some(room) => fill(room),
                None => {
                    overflows += 1;
                    member.lag(self.pushed());
                    // After this round it is not due any more.
                    table.looked = None;
                }
            }
        }
        overflows
    }
}

/// Wakes who waits there, if somebody does.
fn wake(waiter: &Waiter, panics: &mut FirstPanic) {
    if let Some(waker) = waiter.take() {
        panics.run(|| waker.wake());
    }
}

impl<S: State> Before<S> {
    /// The version; without the chain behind it, if that was cut: held versions shall not keep it.
    /// O(chain), paid for by the commits that made it.
    fn take_apart(self, panics: &mut FirstPanic) -> Arc<Version<S>> {
        let mut step = if self.cut {
            self.version.take_step()
        } else {
            Step::default()
        };
        loop {
            panics.run_through(|| step.clear_updates());
            let Some(version) = step.previous.take() else {
                return self.version;
            };
            step = version.take_step();
            panics.run(|| drop(version));
        }
    }
}

impl<S: State> Table<S> {
    /// Step 7. The caller has passed F3.
    fn wake_due(&mut self, panics: &mut FirstPanic) {
        let mut some_waited_alone = false;
        for &member in &self.due {
            let member = &self.members[member];
            match &member.wait_set {
                None => wake(member.mailbox().waiter(), panics),
                Some(set) => {
                    some_waited_alone |= set.has_waited_alone();
                    wake(set.waiter(), panics);
                }
            }
        }
        if some_waited_alone {
            // Who was not served, too: a wake-up too many is harmless.
            for member in &self.members {
                if member.wait_set.is_some() {
                    wake(member.mailbox().waiter(), panics);
                }
            }
        }
    }

    /// All who keep up need a snapshot for what is beyond `filled`, an ordinal.
    fn all_lag(&mut self, filled: u64) {
        for member in self.members.iter_mut().filter(|member| !member.lagging) {
            member.lag(filled);
        }
        // After this round they are not due any more.
        self.looked = None;
    }

    /// The wait sets of who is due, each about once.
    fn due_sets(&self) -> impl Iterator<Item = &WaitSet> {
        let wait_set = |&member: &usize| self.members[member].wait_set.as_ref();
        self.due.iter().filter_map(wait_set)
    }

    /// Keeps room for twice the members there are, once they are a quarter of those there is room for: paid for by those
    /// that left since.
    fn give_back_room(&mut self) {
        let members = self.members.len().max(SMALL_TABLE);
        if self.members.capacity() > 4 * members {
            self.members.shrink_to(2 * members);
        }
        if self.due.capacity() > 4 * members {
            self.due.shrink_to(2 * members);
        }
    }
}

impl<S: State> Leavings<S> {
    /// Drops all of it, one by one.
    fn clear(&mut self) {
        while let Some(taken) = self.span.taken.last_mut() {
            while let Some(update) = taken.updates.pop() {
                drop(update);
            }
            drop(self.span.taken.pop());
        }
        drop(self.span.distributed.take());
        while let Some(member) = self.members.pop() {
            drop(member);
        }
        drop(self.head.take());
    }
}

impl<S: State> Span<S> {
    /// The updates for those who keep up, oldest first; all there were, unless a snapshot is needed.
    fn to_push(&self) -> impl Iterator<Item = &Shared<Labelled<S>>> {
        let oldest_first = self.taken.iter().rev();
        oldest_first.flat_map(|taken| taken.updates.iter())
    }
}

/// Holding it is holding the role; dropping it, even by a panic, gives the role back.
struct Role<'a> {
    word: &'a AtomicUsize,
    awaiting: &'a Stack<Waker>,
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        // Sync point D: a swap and not a store, so that it reads the failed attempts made meanwhile
        // (I5, I18).
        if self.word.swap(0, Ordering::AcqRel) & AWAITED != 0 {
            // These are wakers of our own, of parked threads: they do not panic.
            self.awaiting.take(Waker::wake);
        }
    }
}

impl<S: State> Member<S> {
    pub(crate) fn new(producer: Producer<Labelled<S>, Mailbox>, wait_set: Option<WaitSet>) -> Self {
        Self {
            producer,
            wait_set,
            lagging: true,
        }
    }

    fn mailbox(&self) -> &Mailbox {
        self.producer.beside()
    }

    /// It needs a snapshot for what is beyond `filled`, an ordinal.
    fn lag(&mut self, filled: u64) {
        self.mailbox().set_lagging(filled);
        self.lagging = true;
    }
}

impl<S: State> fmt::Debug for Distributor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distributor")
            .field("distributed", &self.distributed())
            .finish_non_exhaustive()
    }
}

/// In `role`: a thread distributes. A single bit, so that one instruction sets it and says what it
/// was.
const TAKEN: usize = 1;

/// In `role`, beside [`TAKEN`]: threads wait for it to be given back.
const AWAITED: usize = 2;

/// What a member with a ring of this capacity takes, in words: at least, at most. Its updates are
/// not counted: a subscription that leaves drops them.
fn words(capacity: usize) -> (i64, i64) {
    let (at_least, at_most) = ring::slots(capacity);
    let words = |slots| i64::try_from(slots).unwrap_or(i64::MAX / 4) + WORDS_BESIDE_SLOTS;
    (words(at_least), words(at_most))
}

/// The ring and the mailbox in it, the entry in the table, and the one in the list of joiners:
/// about half a KiB.
const WORDS_BESIDE_SLOTS: i64 = 64;

/// Members for which a table keeps room always, 56 bytes each.
const SMALL_TABLE: usize = 16;
