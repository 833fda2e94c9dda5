//! Why the delivery protocol is right: each race, and the cases it can end in.
//!
//! # The parts
//!
//! A *version* is an immutable value, state and labels, beside the updates that led to it, which its round takes. The *head* is
//! the newest one, in an atomic pointer. Publishing is two things:
//!
//! * **commit**: load the head, compute the next version, compare-and-swap. Whoever loses computes again; somebody has
//!   got on, so this is lock-free. From here on every reader of the head sees the change.
//! * **distribute**: hand the committed updates to the subscriptions' rings, in order. One thread at a time does this, in
//!   *rounds*; it is a role that is taken and given back, not a lock that is waited for.
//!
//! A *subscription* is a ring (one producer: the role's holder; one consumer: the subscriber), a cursor (what the
//! consumer has handed out), and a flag, *lagging*. A new subscription is one that has missed everything: it starts
//! lagging. So there is one way to become current, and it is the same for the first snapshot and for the hundredth.
//!
//! Each version has an *ordinal* that only grows. Sequences, which users see, are labels: they restart when a replica
//! adopts another state.
//!
//! # The round and the consumer
//!
//! ```text
//! round (role's holder)                      consumer, ring empty and lagging set
//!   R1  h = load head                          C1  clear lagging, raise news
//!   R2  fence(SeqCst)               F1         C2  fence(SeqCst)               F2
//!   R3  news? take the joiners                 C3  s = load head: the snapshot, if beyond the cursor
//!   R4  and look at the flags.
//!       For each member:
//!       lagging? skip. fits? push all.
//!       else set lagging
//!   R5  note h as distributed
//!   R6  fence(SeqCst)               F3       consumer, nothing there
//!   R7  wake who waits                         W1  store the waker, set waiting
//!   R8  give the role back (swap)              W2  fence(SeqCst)               P
//!   R9  head newer than h? again               W3  look at ring and lagging again; park
//! ```
//!
//! # Race 1: a snapshot against a round
//!
//! *Claim*: after a snapshot at ordinal s the next update handed out is s + 1. Let d be what the round before had
//! distributed, h what this round loads.
//!
//! 1. **R4 reads lagging set, before C1 clears it.** The read precedes the clear in the flag's modification order, so F1
//!    precedes F2 in the order of fences. Then C3, after F2, sees at least what R1, before F1, saw: s ≥ h. Nothing was
//!    pushed, and nothing up to h needs to be: it is in the snapshot.
//! 2. **R4 reads lagging cleared, for the first time since.** The round pushes (d, h]. The round before either skipped this
//!    member (then case 1, for that round, says s ≥ d) or set its flag, after it had loaded d (and the consumer, which saw
//!    the flag, loads d or newer). So s ≥ d: nothing between s and the ring's first update is missing. The consumer skips
//!    what is at or below its cursor, and continues at s + 1.
//! 3. **R4 reads lagging cleared, again.** The round before has pushed all of its span, and this one's begins where that
//!    ended: the ring goes on without a gap.
//!
//! R4 need not read a flag to know it. That it is set only rounds can bring about, and that it is cleared shows in
//! `news`: raised with Release after the clear, read with Acquire before the flags. If R4 finds this number as it was
//! at the last look, either the consumer's raise comes after that, and case 1 holds with the raise in the place of the clear;
//! or it was counted at that look, which then saw the flag cleared. So who lags, and stays so, costs a round no look at a
//! cache line that its consumer has. Each recovery costs the next round a look at everybody.
//!
//! *What breaks it*: C3 before C1 (an update falls between the head loaded and the flag read); F1 or F2 left out (R4 may
//! read a flag older than the head that R1 loaded); flags, news or joiners read before R1; news raised before
//! the clear, or after F2, or either side of it Relaxed, or read after the flags or the joiners; who joins not looked at (it
//! may have recovered, and been counted, before it was in the table).
//!
//! One who joins is the same with the push onto the joiners' list in the place of C1: it precedes F2, and a round that
//! does not find it in the list has skipped it. A round that finds no news does not look into the list: who has recovered
//! since has raised the number after that look, and who has not would be skipped anyway.
//!
//! # Race 2: overflow against a consumer that drains
//!
//! *Claim*: what was dropped is in a later snapshot, and no further publish is needed for it.
//!
//! R4 sets lagging after R1 loaded h. A consumer that sees the flag (Acquire, after F1 on the other side) loads h or newer
//! in C3. A consumer that does not see it finds the ring empty and parks: race 4. And what was pushed in earlier rounds is
//! visible to whoever sees the flag, since the flag is read *before* the ring: it is delivered, not counted as dropped.
//!
//! The consumer may clear the flag, load s ≥ h, and then be told again by the round of s that it lags, because R4 found no
//! room. Then C3 finds the head at the cursor, and hands nothing out: there are never two snapshots at one ordinal.
//!
//! # Race 3: giving back the role against leaving because it is taken
//!
//! *Claim*: when all publishers have returned, nothing committed is undistributed.
//!
//! A publisher commits, then does `fetch_or(role, taken)`. If it reads "free", it distributes. If
//! it reads "taken", it leaves. Its attempt is then followed, in the role's modification order, by
//! the swap that gives the role back, with nothing but other failed attempts in between. All of
//! them are read-modify-writes, so the give-back reads the end of a release sequence that includes
//! the leaver's attempt, and with it the leaver's commit. R9 therefore loads a head that contains
//! it.
//!
//! *What breaks it*: a plain store in R8 (reads nothing); an attempt that fails without writing (nothing to read); R9
//! before R8; a role that a panic does not give back.
//!
//! # Race 4: parking against waking
//!
//! *Claim*: if something is there for a consumer that parks, it is woken.
//!
//! F3 and P have an order:
//! 1. **P first.** R7 reads waiting set, and takes the waker. Its `try_lock` on the slot cannot
//!    fail because of the W1 that came before P: that lock was released before P, and R7 comes
//!    after F3. If it fails because of a *later* W1, that one's P comes after F3: case 2. If it
//!    fails because of another engine's R7 at the set, that one wakes the waker, and the W1 that
//!    follows comes after this R7, too.
//! 2. **F3 first.** W3 finds what R4 pushed or set, and does not park.
//!
//! `waiting` is cleared under the slot's lock. Cleared before, the store could overtake the one in W1 of the consumer that
//! holds the lock, and the next round would find nobody waiting.
//!
//! A blocking call waits by the token of its thread (`std::thread::park`), and a flag that tells a
//! wake from any other end of a park: set, then the token left; looked at, parked, looked at again.
//! A wake before the look is seen by it. After one that comes later the park ends, and the flag is
//! seen, since `unpark` hands over what precedes it.
//!
//! A consumer of several subscriptions can wait at one set: W1 and P once, then C1 to C3 of each, then the park. The
//! claim holds for each of them by the same two cases, since each is looked at after P. A waker that was taken meanwhile is
//! a wake-up that is due, after which the consumer starts over with W1.
//!
//! Whom R7 looks at is noted when R4 looks at the flags: who did not lag then. R4 serves no others until it looks again, which it
//! does once somebody has recovered, left, or been found not to fit. Of a set, the first is noted: R4 marks the set with the
//! engine's address, which nobody else writes there, and takes the mark out when all are noted. Who overwrites it, another
//! engine's round, makes this one note the set twice, never leave it out. The subscriptions' own waiters are looked at if one
//! of them has ever been armed, which its consumer says before P and R7 asks after F3.
//!
//! # Race 5: two publishers
//!
//! The compare-and-swap makes versions a chain, each made from the one before; so sequences are unique and contiguous. A
//! round walks the chain from h back to what was distributed, and pushes oldest first; so every ring has them in order.
//! The swap compares pointers, and the pointer compared is held by the committer, so it cannot return as another version.
//!
//! # Race 6: leaving against a round
//!
//! Leaving sets *gone*, raises `news`, and counts its memory; then it drains the ring, by at most
//! its capacity. In this order the drain has an end: a round that reads `news` after the raise
//! drops the member before it pushes. A round that has read it before may still push; what it
//! pushes is freed with the ring, when the table drops the member. *Lagging* is set by a
//! read-modify-write, so it cannot wipe out *gone*. At last the leaver sweeps when those that left
//! may take more memory than those that stay; if the role is taken, its holder looks at that count
//! in R9, by the argument of race 3.
//!
//! # Race 7: close
//!
//! Closing is a commit. The compare-and-swap refuses any later one. Its round pushes what precedes and then sets every
//! *lagging*; the consumer drains its ring, loads the head, and finds it closed and at its cursor: the end. Here a push and
//! the flag come from one round, behind one F1, so it is the flag's own Release that hands the push over.
//!
//! # Race 8: figures against the one they are about
//!
//! *Claim*: `dropped` and `forced`, read from any thread, never fall, and never exceed what they will be.
//!
//! While *lagging* is set, what lies between the ring and the head is counted in advance. That is certain if it is taken
//! from a head loaded **before** the flag was read, with a `SeqCst` fence between: if the flag is still set, the consumer
//! has yet to clear it and to pass F2, so it will load that head or a newer one (race 1, case 1). What the ring holds is
//! not looked up but noted by the round that set the flag, so that a consumer who drains meanwhile changes nothing.
//!
//! The consumer clears the flag before it accounts for its snapshot. An onlooker in between finds
//! less than was counted in advance, and so keeps the most that any onlooker was told. A snapshot's
//! account is several words, of which there are two books: a snapshot writes the one that its
//! predecessor did not, then the number of snapshots, which says which book is the newest. An
//! onlooker reads that number, the book, and the number again. It reads again only when a snapshot
//! has been accounted for meanwhile, so that a consumer that has stopped delays no onlooker.
//!
//! Of the readers of a shared subscription no round sets a flag. What a reader can still get by
//! updates follows from where the window begins and where the subscription last had to jump, and
//! that its snapshot is to come from a flag of its own, set before it loads the head, by the same
//! two fences. The argument stands in `reader.rs`; the lock of the readers plays no part in it.
//!
//! # Race 9: waiting for distribution against a round
//!
//! *Claim*: [`wait_distributed`](crate::Engine::wait_distributed) of commit c returns only when c
//! is in every ring or left to a snapshot, and it does return.
//!
//! *Only then*: the waiting thread returns when it has read `distributed` at or past c, Acquire. R5
//! stores it, Release, after R4: so the thread sees what R4 pushed. A member that R4 skipped was
//! lagging, and takes a snapshot that is at least R4's head, by race 1, case 1.
//!
//! *It does*: the thread (1) leaves its waker on a stack, (2) tries to take the role and marks it
//! as awaited, by one read-modify-write, (3) reads `distributed`, (4) parks. If (2) takes the role,
//! the thread's own round loads a head that is at least c, which it has seen. If not, the give-back
//! swap (R8) follows (2) in the role's order, so it reads the mark, and finds the waker. The thread
//! then starts over with (1): if R9 has found c, the holder has the role again, or it is free.
//!
//! *What breaks it*: R5 before R4; either side of `distributed` Relaxed; (2) before (1); a mark
//! that R8 does not read.
//!
//! # Race 10: a reader that stops
//!
//! *Claim* (I17): a reader that has stopped, at any instruction, delays no publisher. The scheduler
//! may take its processor away anywhere, and so may a debugger.
//!
//! A publisher waits for nothing that a reader does. Its loops go round again only when another
//! publisher or a subscriber that comes has got on; and what it locks it only tries:
//!
//! * the slot of a waker (`waiter.rs`): if a reader has it, race 4 says that there is nothing to
//!   wake. The reader only tries, too. If it waited, then a publisher that gave the lock back would
//!   have to take the lock of the queue in which the reader is, perhaps stopped with that lock
//!   taken;
//! * what led to a version, the table and the joiners: one thread at a time has them, which is not
//!   a reader;
//! * the thread that waits: `unpark` is an exchange of one word, and a system call if the thread is
//!   parked.
//!
//! The lock of a shared subscription and that of the list of subscriptions are taken by readers,
//! and by those that join and leave. A publisher takes neither. What this cannot speak for is
//! foreign code that a publisher runs (wakers, the drops of states and updates), and the allocator,
//! in whose locks a reader may stop.
//!
//! # Race 11: the end of a reservation against a publisher that waits for it
//!
//! A publisher that has lost too often makes a version that differs from the head in nothing but a
//! *reservation*, by the usual compare-and-swap, and attempts on top of it. A publisher that loads
//! that version as the head waits for the end of the reservation.
//!
//! *Claim*: the end wakes all publishers that wait, and later ones do not wait.
//!
//! The end stores `over`, then takes the stack of wakers. A publisher pushes its waker, then reads
//! `over`. Push and take are read-modify-writes of one word, so they have an order. **Push first**:
//! the take finds the waker. **Take first**: the push reads what the take wrote, Acquire, and so
//! the publisher reads `over` as stored before it, and does not park.
//!
//! *What breaks it*: `over` read before the push, or stored after the take; no end when the attempt
//! is refused.
//!
//! Attempts that others began before the reservation fail, since it has changed the head. An
//! attempt that outlasts the patience of others fails as any other does.
//!
//! # What is proved, and what is not
//!
//! Each claim is a `loom` model that runs this very code (`loom-tests/`), and each "what breaks it" is a seeded fault that
//! a model catches (`loom-tests/teeth.py`). `loom` does not explore load buffering; it stands in for `arc_swap` by that
//! crate's contract (Acquire loads, AcqRel exchanges), and orders stores as they execute, so that the last paragraph of
//! race 4 is an argument only. ThreadSanitizer and the stress tests are the other two nets.
