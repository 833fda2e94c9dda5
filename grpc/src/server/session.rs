//! How sessions are treated, and how they look from outside. What happens to them stands in `registry.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use configstream_engine::{Sequence, SubscriptionStats};

use crate::server::registration::Registration;

/// How the registry of remote agents treats its sessions. A running server can be told otherwise: see
/// [`ServerBounds`](crate::ServerBounds).
#[derive(Clone)]
#[must_use = "these take effect when a server is given them"]
pub struct Sessions {
    pub(crate) enabled: bool,
    pub(crate) idle_timeout: Duration,
    pub(crate) recommended_refresh_interval: Duration,
    pub(crate) sweep_interval: Duration,
    pub(crate) limit: usize,
    pub(crate) clock: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl Sessions {
    /// Default of [`idle_timeout`](Self::idle_timeout).
    pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
    /// Default of [`recommended_refresh_interval`](Self::recommended_refresh_interval).
    pub const DEFAULT_RECOMMENDED_REFRESH_INTERVAL: Duration = Duration::from_secs(10);
    /// Default of [`sweep_interval`](Self::sweep_interval).
    pub const DEFAULT_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
    /// Default of [`limit`](Self::limit).
    pub const DEFAULT_LIMIT: usize = 4_096;

    /// No registry: registering and streaming answer `Unimplemented`.
    pub fn disabled() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }

    /// How long a session may show no life before it goes.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How often remote agents are told to refresh; whole seconds.
    pub fn recommended_refresh_interval(mut self, interval: Duration) -> Self {
        self.recommended_refresh_interval = interval;
        self
    }

    /// How often sessions and streams are looked at. Less than a millisecond counts as one.
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval;
        self
    }

    /// How many sessions there may be. The next takes the place of one without a stream, or of one
    /// of a connection that has more than its own. If there is none, registering answers
    /// `ResourceExhausted`.
    pub fn limit(mut self, sessions: usize) -> Self {
        self.limit = sessions;
        self
    }

    /// What time it is, for all of the above but the sweep itself. Default: [`Instant::now`].
    pub fn clock(mut self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            enabled: true,
            idle_timeout: Self::DEFAULT_IDLE_TIMEOUT,
            recommended_refresh_interval: Self::DEFAULT_RECOMMENDED_REFRESH_INTERVAL,
            sweep_interval: Self::DEFAULT_SWEEP_INTERVAL,
            limit: Self::DEFAULT_LIMIT,
            clock: Arc::new(Instant::now),
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("enabled", &self.enabled)
            .field("idle_timeout", &self.idle_timeout)
            .field(
                "recommended_refresh_interval",
                &self.recommended_refresh_interval,
            )
            .field("sweep_interval", &self.sweep_interval)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// A registered remote agent, as the server sees it now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentReport {
    /// What authorises its streams.
    pub session_id: String,
    /// How it described itself.
    pub registration: Arc<Registration>,
    /// Since it registered.
    pub age: Duration,
    /// Since it last showed life.
    pub idle: Duration,
    /// Its open streams, oldest first.
    pub streams: Vec<StreamReport>,
}

/// An open stream, as the server sees it now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamReport {
    /// As the subscriber gave it.
    pub name: String,
    /// Since it was opened.
    pub age: Duration,
    /// The sequence of the last event handed to the transport, wholly; `None` before the first.
    pub handed: Option<Sequence>,
    /// Its subscription's figures. The sequence there is that of the last event taken from the subscription, of which
    /// a part may still be here.
    pub figures: SubscriptionStats,
}
