//! A synchronous, lock-free, in-process publish/subscribe engine: a complete snapshot first, then strictly ordered
//! updates.
//!
//! One [`Engine`] replicates one [`State`] to any number of [`Subscription`]s. Needs no async runtime, starts no thread,
//! reads no clock, does no I/O.
//!
//! # Contract
//! * **Order.** The first event of a subscription is a snapshot; after a snapshot or update at sequence n comes exactly
//!   n + 1.
//! * **Loss.** Each subscription has a bounded ring. What does not fit is dropped, counted, and made good by a snapshot
//!   of the newest version as soon as the subscription has read its ring, without a further publish.
//! * **Isolation.** Publishers never wait: not for subscriptions, not for each other. A subscription that lags costs a
//!   publisher a look at one byte of a table per round, and when it has recovered, one look at everybody.
//! * **Atomicity.** A batch is one version: in a snapshot, in a ring, it is there whole or not at all.
//! * **Sharing.** Many readers in one place can have one subscription between them, a [`SharedSubscription`]: each of them
//!   has all of the above, except that one which lags may have read a part of a batch, and a publisher serves one.
//! * **Closing.** After [`Engine::close`], subscriptions receive all that preceded, then the end.
//!
//! # Examples
//!
//! ```
//! use std::thread;
//!
//! use configstream_engine::{Engine, Event, State, Transition};
//!
//! #[derive(Clone)]
//! struct Total(i64);
//!
//! impl State for Total {
//!     type Change = i64;
//!     type Update = i64;
//!     type Rejection = std::convert::Infallible;
//!
//!     fn apply(&self, change: &i64) -> Result<Transition<Self>, Self::Rejection> {
//!         Ok(Transition::new(Total(self.0 + change), vec![*change]))
//!     }
//! }
//!
//! let engine = Engine::builder(Total(0)).ring_capacity(16).build()?;
//! let subscription = engine.subscribe();
//! let reader = thread::spawn(move || {
//!     let mut total = 0;
//!     for event in subscription {
//!         match event {
//!             Event::Snapshot(snapshot) => total = snapshot.state().0,
//!             Event::Update(update) => total += *update,
//!             _ => {}
//!         }
//!     }
//!     total
//! });
//! for change in 1..=100 {
//!     engine.publish(&change)?;
//! }
//! engine.close();
//! assert_eq!(reader.join().unwrap(), 5050);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! * `stream`: [`Subscription`] implements `futures_core::Stream`.

#![deny(unsafe_code)]

mod builder;
mod distribute;
pub mod docs;
mod engine;
mod error;
mod mailbox;
mod memo;
#[cfg(loom)]
#[doc(hidden)]
pub mod model;
mod panics;
mod reader;
mod registry;
mod reservation;
#[allow(unsafe_code)] // the ring itself
mod ring;
mod sequence;
pub mod settings;
#[allow(unsafe_code)] // a reference count that is raised by many at once
mod shared;
mod stack;
mod state;
mod stats;
mod subscription;
mod sync;
mod version;
mod wait_set;
mod waiter;

pub use builder::{EngineBuilder, SubscriptionBuilder};
pub use engine::{Committed, Engine};
pub use error::{
    BuildError, Closed, FollowError, NextTimeoutError, NotDistributed, PublishError, TryNextError,
};
pub use memo::Memo;
pub use reader::{Reader, ReaderObserver, SharedSubscription};
pub use sequence::{Epoch, Sequence};
pub use state::{Replica, State, Transition};
pub use stats::{EngineStats, SubscriptionStats};
pub use subscription::{Event, Snapshot, SnapshotReason, Subscription, SubscriptionObserver};
pub use version::{Update, Version};
pub use wait_set::WaitSet;
