//! A replica of a server's configuration, which never gets lost.
//!
//! # Contract
//! * **Reading** is local and wait-free, whatever the server does: [`head`](Consumer::head) and
//!   [`get`](Consumer::get). [`subscribe`](Consumer::subscribe) gives an engine's subscription: a snapshot first, then
//!   each sequence, and a snapshot again when its reader was too slow or the stream had to begin again. Within an epoch
//!   no reader ever sees a step back. Nothing is there to read before the first snapshot: "not known yet" is not "empty".
//! * **Batches** are one version here, as they were at the server.
//! * **Healing.** It registers, streams, refreshes its session, and starts again when that ends, for whatever reason: the
//!   server restarted, the session is lost (it registers again), certificate or token were changed (it reads them again),
//!   a sequence is missing, an answer is overdue, the connection is dead (HTTP/2 pings), the stream ended with any status.
//!   Each stream's events are checked against each other and against the replica; what does not fit ends the stream, and
//!   the snapshot of the next one puts it right.
//! * **Pauses** between attempts grow exponentially, with jitter, and start over once a stream has lasted: to 2 s, or 4 with
//!   jitter, while nobody answers at the address, so that all are back within 5 s of a restart, however long it took; to
//!   30 s, or 60, when a server refuses, which is dear. 1,000 consumers without a server knock 333 times a second, and come
//!   back at that rate. Once, a lost session or new credentials are tried at once.
//! * **State.** [`Connecting`](ConsumerState::Connecting) until there is something to read, then
//!   [`Ready`](ConsumerState::Ready) or [`Stale`](ConsumerState::Stale), with why and since when.
//! * **Slow readers** of the replica hold nothing up: its engine makes good what they missed. What a consumer holds is
//!   bounded by the settings, one batch, and the rings of its subscriptions.
//! * **Metrics**, each with the label `consumer` and its name: how long a snapshot took
//!   (`configstream_consumer.time_to_first_snapshot_seconds`), how often there was no stream any more (`.reconnect_count`), where it
//!   is (`.last_sequence_id`), and what it refused because it knew better (`.dropped_stale_updates`). The recorder has to be
//!   installed before it starts.
//! * **On disk**, if a [path](ConsumerBuilder::snapshot_path) is given, the last good snapshot, so that a process starts
//!   while its server is down: it is then stale from the first moment on, and heals like any other. A disk that hangs keeps
//!   nobody from reading, nor a consumer from [starting](Consumer::LOAD_TIMEOUT) and [ending](Consumer::SAVE_TIMEOUT).
//! * **Nobody but the server changes a replica.** It can be read, subscribed to and [served](Consumer::serve) again (see the
//!   `relay` example), but its engine is not handed out, so nothing can be published on it:
//!
//! ```
//! # use configstream_grpc::Consumer;
//! fn read(consumer: &Consumer) {
//!     let mut subscription = consumer.subscription().unwrap().capacity(16).subscribe();
//!     subscription.try_next().unwrap();
//! }
//! ```
//!
//! ```compile_fail,E0599
//! # use configstream_grpc::Consumer;
//! fn write(consumer: &Consumer) {
//!     let mut subscription = consumer.engine().unwrap().subscribe();
//!     subscription.try_next().unwrap();
//! }
//! ```
//!
//! # Examples
//!
//! Async:
//!
//! ```no_run
//! use configstream_grpc::consumer::{Access, Consumer};
//! use configstream_grpc::Registration;
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let access = Access::files("localhost:5001".parse()?, "/run/cs/ipc_cert.pem", "/run/cs/auth_token");
//! let consumer = Consumer::builder(access, Registration::new("example"))
//!     .snapshot_path("/var/lib/example/configuration")
//!     .start();
//! if let Err(error) = consumer.wait_ready(Duration::from_secs(5)).await {
//!     eprintln!("{error}"); // There may be something saved to go on with.
//! }
//! let enabled: bool = consumer.get("apm_config.enabled")?;
//! let mut changes = consumer.subscribe_section("apm_config")?;
//! while let Some(change) = changes.next().await {
//!     for setting in &change.set {
//!         println!("{} = {}", setting.key(), setting.value());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Without a runtime, everything is there too:
//!
//! ```no_run
//! # use configstream_grpc::consumer::{Access, Consumer};
//! # use configstream_grpc::Registration;
//! # use std::time::Duration;
//! # fn example(access: Access) -> Result<(), Box<dyn std::error::Error>> {
//! let consumer = Consumer::builder(access, Registration::new("example")).start_thread()?;
//! let head = consumer.wait_ready_blocking(Duration::from_secs(5))?;
//! println!("{} settings as of {}", head.state().len(), head.sequence());
//! for event in consumer.subscribe()? {
//!     println!("{event:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod access;
mod backoff;
mod builder;
mod cycle;
mod follower;
#[cfg(feature = "internals")]
pub(crate) mod replay;
mod replica;
mod saved;
mod saver;
mod section;
mod state;
mod typed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use configstream_engine::settings::Resolved;
use configstream_engine::{Engine, NextTimeoutError, Subscription, SubscriptionBuilder, Version};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

pub use self::access::{Access, AccessError};
pub use self::builder::ConsumerBuilder;
pub use self::saved::{SavedError, SavedErrorReason};
pub use self::section::{SectionChange, SectionSubscription};
pub use self::state::{ConsumerState, Disconnection, NotReady, States};
pub use self::typed::{FromValue, GetError};

use self::replica::Replica;
use crate::server::{Registration, Server, ServerBuilder};
use crate::tls::Identity;
use crate::token::Token;

/// A replica that follows a server. Dropping it disconnects and ends the subscriptions, soon; [`shutdown`](Self::shutdown)
/// waits for that, and for what is not saved yet, but not for ever.
///
/// See the [module](self) for what it promises.
#[derive(Debug)]
#[must_use = "dropping a Consumer disconnects"]
pub struct Consumer {
    replica: Arc<Replica>,
    refused: Option<SavedError>,
    stop: DropGuard,
}

impl Consumer {
    /// How long the end of a consumer waits for the last write of its [snapshot](ConsumerBuilder::snapshot_path). Past it, the
    /// log has a warning, and the file holds what it held before.
    pub const SAVE_TIMEOUT: Duration = Duration::from_secs(5);
    /// How long a start waits for its saved [snapshot](ConsumerBuilder::snapshot_path) to be read. Past it, that is
    /// [refused](Self::refused_snapshot) as unreadable. Long, as it is for disks that hang, not for those that are slow.
    pub const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

    /// A consumer that gets at its server by `access`, or by a fixed [`Connector`](crate::Connector), and describes
    /// itself as `registration` says.
    pub fn builder(access: impl Into<Access>, registration: Registration) -> ConsumerBuilder {
        ConsumerBuilder::new(access.into(), registration)
    }

    /// The newest version, once there is one. Wait-free.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Version<Resolved>>> {
        self.replica.engine().map(Engine::head)
    }

    /// What wins for `key`, as a `T`. Wait-free but for O(log n).
    ///
    /// # Errors
    /// No settings yet, none with this key, or one of another type.
    pub fn get<T: FromValue>(&self, key: &str) -> Result<T, GetError> {
        let engine = self.replica.ready_engine().map_err(GetError::NotReady)?;
        engine.read_head(|head| typed::get(head.state(), key))
    }

    /// A subscription to every event: blocking, polled (`poll_fn(|cx| subscription.poll_next(cx)).await`), or tried.
    ///
    /// # Errors
    /// There is nothing to read yet.
    pub fn subscribe(&self) -> Result<Subscription<Resolved>, NotReady> {
        Ok(self.replica.ready_engine()?.subscribe())
    }

    /// A subscription to what changes about `section` itself and the keys below it, by whole segments; about everything,
    /// if it is empty.
    ///
    /// # Errors
    /// There is nothing to read yet.
    pub fn subscribe_section(&self, section: &str) -> Result<SectionSubscription, NotReady> {
        Ok(SectionSubscription::new(section, self.subscribe()?))
    }

    /// Options for a subscription: its name, and a ring of its own size.
    ///
    /// # Errors
    /// There is nothing to read yet.
    pub fn subscription(&self) -> Result<SubscriptionBuilder<'_, Resolved>, NotReady> {
        Ok(self.replica.ready_engine()?.subscription())
    }

    /// A server over the replica, of the same [`origin`](Self::origin): downstream holds what holds upstream. It can be
    /// read only.
    ///
    /// # Errors
    /// There is nothing to serve yet: whoever connected would be told that there are no settings.
    pub fn serve(
        &self,
        identity: Identity,
        token: Token,
    ) -> Result<ServerBuilder<Resolved>, NotReady> {
        let engine = self.replica.ready_engine()?.clone();
        Ok(Server::builder(engine, identity, token).origin(self.origin()))
    }

    /// What the server says it describes: the name of a configuration file, for instance. Empty before the first
    /// snapshot.
    #[must_use]
    pub fn origin(&self) -> Arc<str> {
        self.replica.origin()
    }

    /// How it is. Wait-free.
    #[must_use]
    pub fn state(&self) -> ConsumerState {
        self.replica.state()
    }

    /// How it is from now on.
    pub fn states(&self) -> States {
        States(self.replica.states().subscribe())
    }

    /// Why the saved snapshot was not used, if there was one and it was refused.
    #[must_use]
    pub fn refused_snapshot(&self) -> Option<&SavedError> {
        self.refused.as_ref()
    }

    /// Waits for at most `timeout` until it is [`Ready`](ConsumerState::Ready), and gives the head.
    ///
    /// # Errors
    /// It is not ready in time, or has stopped: says how it is, and why. There may be a head all the same.
    pub async fn wait_ready(&self, limit: Duration) -> Result<Arc<Version<Resolved>>, NotReady> {
        let mut states = self.states();
        let ready = async {
            while let Some(state) = states.next().await {
                if state.is_ready() {
                    return true;
                }
            }
            false
        };
        let was_ready = timeout(limit, ready).await;
        self.head_if(was_ready.unwrap_or(false))
    }

    /// As [`wait_ready`](Self::wait_ready), blocking the thread.
    ///
    /// # Errors
    /// As [`wait_ready`](Self::wait_ready).
    pub fn wait_ready_blocking(&self, limit: Duration) -> Result<Arc<Version<Resolved>>, NotReady> {
        let begun = Instant::now();
        let mut states = self.states();
        let mut left = limit;
        while let Ok(state) = states.next_timeout(left) {
            if state.is_ready() {
                return self.head_if(true);
            }
            left = limit.saturating_sub(begun.elapsed());
        }
        self.head_if(false)
    }

    /// Disconnects, saves what is not saved yet, and ends the subscriptions. Takes little more than
    /// [`SAVE_TIMEOUT`](Self::SAVE_TIMEOUT), even if the disk hangs.
    pub async fn shutdown(self) {
        let mut states = self.states();
        self.stop.disarm().cancel();
        while states.next().await.is_some() {}
    }

    /// As [`shutdown`](Self::shutdown), blocking the thread: not for threads of the runtime it was started on.
    pub fn shutdown_blocking(self) {
        let mut states = self.states();
        self.stop.disarm().cancel();
        while !matches!(
            states.next_timeout(Duration::MAX),
            Err(NextTimeoutError::Closed)
        ) {}
    }

    /// Whoever saw it ready may have the head, though it may be stale again by now.
    fn head_if(&self, was_ready: bool) -> Result<Arc<Version<Resolved>>, NotReady> {
        let state = self.state();
        self.head().filter(|_| was_ready).ok_or(NotReady { state })
    }
}
