//! What the engine does not do, so that nobody finds out at a bad moment.
//!
//! * **It keeps no history.** A subscription that falls behind by more than its ring gets the newest state, not the steps
//!   in between. [`Snapshot::missed`](crate::Snapshot::missed) says how many there were. Who prefers to stop rather than
//!   to skip looks at that, and drops the subscription.
//! * **A round that does not fit enters no ring in part.** A batch larger than a ring always costs that subscription a
//!   snapshot, however empty the ring is. Capacity should exceed the largest batch that is to arrive as updates.
//! * **Publishing is lock-free, not wait-free.** A publisher may lose the compare-and-swap while
//!   others win. How often is bounded: once it has lost attempts worth 256 updates, it reserves the
//!   head, and others wait for it, by blocking. They wait for 250 ms, and for twice as long each
//!   time that this does not suffice, up to 4 s: a publisher that is stopped meanwhile delays them
//!   by that, and a change that takes longer to apply than 4 s may starve. And the one that holds
//!   the role distributes what others commit meanwhile: under steady contention one publisher's
//!   call can go on for as long as the others do. None of the others waits for it. Dropping a
//!   subscription can be that call: the one that finds that departed subscriptions take more memory
//!   than live ones sweeps, which is a round.
//! * **Departed subscriptions linger until the next round**, but never take more memory than the
//!   live ones: rings count in full where they have left, and with the slots that they began with
//!   (eight, all beyond a capacity of 1,024) where they live.
//! * **`State::apply` runs once per attempt.** With two publishers it may run more than once per publish.
//! * **Publishing costs O(subscriptions).** A shared ring (as tokio's `broadcast`) publishes in O(1), and readers pay
//!   instead, by sharing one capacity and one fate. Readers of a [`SharedSubscription`](crate::SharedSubscription) cost a publisher
//!   one subscription; they take turns, and one that lags within a batch has read a part of it before its snapshot.
//! * **Somebody else's code runs in your call.** Wakers are called, and states and updates dropped,
//!   by whoever publishes or lets go last. A waker that blocks holds up distribution, and nothing
//!   else: commits and reads go on, and the chain of what waits is bounded: four of the largest
//!   rings there are, in versions. For as long as it blocks, the rings of subscriptions that leave
//!   stay, since only a round can take them out. A version that is held keeps its own state, and
//!   besides, while it waits to be distributed, its part of that chain. A panic in a waker reaches
//!   the publisher after all other subscriptions have been served.
//! * **A publish may return before its updates are in any ring**, when another thread distributes.
//!   [`EngineStats::distributed`](crate::EngineStats::distributed) shows how far distribution is,
//!   and [`Engine::wait_distributed`](crate::Engine::wait_distributed) waits for it.
//! * **Wake-ups are what costs.** Waking a parked thread costs the publisher about 6 µs each, a thousand times a push.
//!   Async tasks of one runtime are much cheaper to wake.
//! * **Sequences end at 2^64 - 1** (and earlier where you [say so](crate::Engine::set_sequence_limit)): a publish is then
//!   refused.
//! * **One process.** Memory is shared by reference; for other processes there is `configstream-grpc`.
//! * **The registry locks.** Subscribing and unsubscribing take a short lock to enter and leave the list that
//!   [`Engine::subscriptions`](crate::Engine::subscriptions) shows. Publishing and receiving never touch it.
