//! What each operation costs, and why. n is the number of subscriptions, k of updates in a round.
//!
//! | operation | progress | cost |
//! | --- | --- | --- |
//! | [`Engine::publish`](crate::Engine::publish): commit | lock-free | `apply`, one allocation and one per update, and a list of several, one compare-and-swap, a look at one word for each thread that ever read a head |
//! | … distribute | one thread at a time, nobody waits | lists of several versions or updates; one byte of a table per member, one flag each if one has left or recovered, k pointer stores per member that keeps up; 1 KiB for one that is more than eight updates behind for the first time |
//! | [`Engine::head`](crate::Engine::head) | wait-free | a load and a count |
//! | [`Engine::read_head`](crate::Engine::read_head) | wait-free | a load |
//! | [`Subscription::try_next`](crate::Subscription::try_next): update | wait-free | a slot, a few plain stores, and one decrement when the update is dropped |
//! | … snapshot | wait-free | as `head`, whatever the size of the state |
//! | … nothing there | wait-free | two loads |
//! | [`Engine::subscribe`](crate::Engine::subscribe) | lock-free, but for the registry | two allocations and O(log n) in the registry; above 1,024, clearing its slots |
//! | dropping a subscription | as above | drops at most as many updates as its ring holds; a sweep, O(1) amortised, which is a round like any other |
//! | [`Engine::subscriptions`](crate::Engine::subscriptions), stats | cold | O(n), O(1) |
//!
//! # Where the time of a push goes
//!
//! Handing one update to one more subscription costs 0.23 ns (±7 %) with 64 subscriptions and 0.30 ns (±13 %) with 512, in bursts
//! of 64; one update alone, to 64, takes 0.54 µs with its commit, on a 2-core virtual machine (`distribute` and `burst` in
//! `benches/results.json`; `cargo reach` holds such figures against those of a floor and of peers in the same run). These
//! decisions make that:
//!
//! * **The reference count is raised by n at once.** An `Arc::clone` per subscription is a read-modify-write of one cache
//!   line each, 2 ns; here it is one per update and round.
//! * **A round streams through contiguous memory.** The table is a plain vector that only the role's holder touches; it
//!   knows where each ring's slots are and how far it is free, so that the consumer's cache line is looked at only when the ring
//!   seems full.
//! * **A push touches one line of a ring.** A slot says by itself whether it is filled, so no position is stored besides, and
//!   what a subscription and the distributor tell each other is elsewhere.
//! * **A ring has eight slots until it needs more.** Between two publishes, others drive all of it out of the caches, the page
//!   tables' included. With 1 KiB a ring, 512 of them are on 160 pages, and a walk to each of those took longer than
//!   anything else in a round; with 80 bytes they are on ten.
//! * **A round's updates are one list of pointers**, copied into each ring as two straight runs and shown by one store.
//!   Pushing one by one, with an index computed and checked for each, cost 1.9 ns an update instead of 0.5; walking the
//!   versions anew for each member, and asking for room twice, cost one update alone 7.3 ns a member instead of 3.5 (timed
//!   once, among 512).
//! * **One update alone has a path of its own**, spared what straight runs cost to set up.
//! * **The table remembers who lags.** Only rounds make a subscription lag, and that it has recovered is counted in one word;
//!   so a round need not read a flag of each, on a line that its consumer has. Publishing to 512 parked streams over sockets:
//!   10.6 to 9.9 µs.
//! * **A wait set is looked at once a round**, not once for each of its subscriptions, whose own waiters nobody needs to see:
//!   14.3 to 11.4 µs there.
//!
//! # Where the time of a commit goes
//!
//! Changing one setting among 350 costs 0.80 µs, among 35,000 1.20 µs (±1 %): half of it is copying the path of one persistent
//! tree and letting go of the old one. All layers of a key are in one node of one tree for that reason. With a tree for
//! each layer and one of the winners it was half as much again (1.29 and 2.14 µs beside 0.84 and 1.28, in one run).
//!
//! A publish after a pause comes to cold caches, and then takes as long as it goes over cache lines, of code as of data,
//! whatever these do. So what a publish of one setting does not run (batches, whole layers, refusals, a look at everybody's
//! flags) stands in functions of its own, a round looks for joiners only when there is news, and a round takes its updates
//! out of the version, so that the subscription which has one last lets go of it, and not the publisher of the next. Of before,
//! in turns within one process, a publish to eight wait sets takes 0.91 of the time (0.90 to 0.93 in five such measurements)
//! when all caches are overwritten in between, and 0.92 to 0.98 when the core's own are.
//!
//! A PATRICIA trie of the keys' bits in place of the balanced tree passes two lines a level where that passes four. It was
//! 0.95 times as long for sixteen keys that part from all others early, and 1.1 for keys that part late, 1.4 times the
//! instructions where caches are warm.
//!
//! A publish of a trivial state to nobody costs about 270 ns: three allocations, two looks at the head and one swap of it
//! (10 to 20 ns each, and the swap looks at one word for each thread that ever read a head), two fences and two swaps of the
//! role. A bare channel has none of that.
//!
//! # Parked subscribers
//!
//! Publishing to 512 parked tasks of one tokio runtime takes 13.5 µs, where tokio's `broadcast` takes 7.8; until all have
//! received it and wait again, 41 µs against 53 (`--bench parked`). To 512 subscriptions of eight tasks, each of which waits
//! at a wait set, it takes 2.1 µs.
//!
//! A profile showed the wake itself, about 4 ns a task in warm caches, as most of what `broadcast` does while it publishes, and
//! a third of what is done here: its receivers then do one by one what is done here before the wake. So publishing cannot cost
//! half of that, whatever else is spared, unless there are fewer to wake: where one task reads many subscriptions, a
//! [`WaitSet`](crate::WaitSet) makes their wake-ups one. What is left of a publish are the rings. Tried, and left out:
//!
//! * a waiter of one atomic state instead of a flag and a lock that is only tried: saves one read-modify-write of two, about
//!   1.4 ns, and needs a third file with unsafe code;
//! * waking by reference, so that the waker can stay: the distributor would hold the slot while somebody else's code runs,
//!   and a consumer would wait for it.
//!
//! # What was left alone
//!
//! * The table's mutex, never contended: 5 ns a round, against a third file with unsafe code.
//! * A ring's storage is the next power of two above its capacity, so that a slot is found by a mask. It does not shrink again.
//! * `delivered` and the sequence are plain stores into the mailbox with each update, so that onlookers can read them at
//!   any time; the cursor follows from the account. Under 1 ns.
//! * Four publishers on two cores do 1.01 times what one does alone (0.99 to 1.05), two 0.81 times (0.80 to 0.82), each of four
//!   at least 0.90 of its share. In another run it was 0.49 and 0.42: the virtual machine has two speeds, perhaps as its two
//!   processors share a core or not. A publish touches several cache lines that all publishers write, and a line that another
//!   core has written takes 100 ns to come.
//! * A burst of 64 updates to nobody takes 1.66 µs, where an earlier state took 1.21. An update's allocation has grown since, to
//!   keep its count off the line of its value; whether that is all was not looked into.
