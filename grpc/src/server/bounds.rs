//! What a server grants at the moment, and how its host changes that.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::server::limits::Limits;
use crate::server::session::Sessions;

/// The bounds of a running server, to be read and changed from anywhere; see [`ServerHandle::bounds`]. Clones are the
/// same bounds.
///
/// A lower count ends no connection, session or stream: each that comes takes the place of one, if
/// it may.
///
/// | bound | a change holds for |
/// | --- | --- |
/// | [`Sessions::idle_timeout`] | all sessions, at once |
/// | [`Sessions::sweep_interval`] | at once: a sweep follows, and then one after each new interval |
/// | [`Sessions::recommended_refresh_interval`] | the next registration; agents keep the interval they were told |
/// | [`Sessions::limit`] | the next registration |
/// | [`Sessions::disabled`] | the next call; open streams go on, and their sessions live as long as they do |
/// | [`Sessions::clock`] | nobody: stays as the server was built |
/// | [`Limits::connections`] | the next peer that is trusted |
/// | [`Limits::handshakes`], [`Limits::handshake_timeout`] | handshakes that begin |
/// | [`Limits::request_timeout`] | the next request |
/// | [`Limits::streams`] | the next stream |
/// | [`Limits::stall_timeout`] | all streams and connections, at once; as the time for a ping's answer, as `keepalive` |
/// | [`Limits::streams_per_connection`], [`Limits::ring_capacity`], [`Limits::keepalive`], [`Limits::header_bytes`], [`Limits::send_buffer_bytes`] | connections whose handshake ends from now on |
/// | [`Limits::credentials_overlap`] | the next change of certificate or token |
/// | [`Limits::request_bytes`], [`Limits::event_bytes`] | nobody: stay as the server was built |
///
/// ```no_run
/// # use configstream_grpc::{Limits, ServerHandle, Sessions};
/// # use configstream_engine::settings::Settings;
/// # fn example(handle: &ServerHandle<Settings>) {
/// let bounds = handle.bounds();
/// bounds.set_limits(bounds.limits().streams(100).ring_capacity(1_024));
/// bounds.set_sessions(Sessions::default().limit(50));
/// # }
/// ```
///
/// [`ServerHandle::bounds`]: crate::ServerHandle::bounds
#[derive(Clone)]
pub struct ServerBounds(Arc<Shared>);

struct Shared {
    granted: ArcSwap<Granted>,
    changed: Notify,
}

/// Everything that is granted at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) limits: Limits,
    pub(crate) sessions: Sessions,
}

impl ServerBounds {
    pub(crate) fn new(limits: Limits, sessions: Sessions) -> Self {
        Self(Arc::new(Shared {
            granted: ArcSwap::from_pointee(Granted { limits, sessions }),
            changed: Notify::new(),
        }))
    }

    /// Replaces the limits. What stays as the server was built is taken from those in force.
    pub fn set_limits(&self, limits: Limits) {
        self.change(|old| Granted {
            limits: Limits {
                request_bytes: old.limits.request_bytes,
                event_bytes: old.limits.event_bytes,
                ..limits.clone()
            },
            sessions: old.sessions.clone(),
        });
    }

    /// Replaces how sessions are treated. The clock stays.
    pub fn set_sessions(&self, sessions: Sessions) {
        self.change(|old| Granted {
            limits: old.limits.clone(),
            sessions: Sessions {
                clock: old.sessions.clock.clone(),
                ..sessions.clone()
            },
        });
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.granted().limits.clone()
    }

    /// How sessions are treated now.
    pub fn sessions(&self) -> Sessions {
        self.granted().sessions.clone()
    }

    /// What is granted now. Wait-free.
    pub(crate) fn granted(&self) -> Arc<Granted> {
        self.0.granted.load_full()
    }

    /// Hears of every change from this call on.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    fn change(&self, change: impl Fn(&Granted) -> Granted) {
        self.0.granted.rcu(|old| change(old));
        self.0.changed.notify_waiters();
    }
}

impl fmt::Debug for ServerBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Granted { limits, sessions } = &*self.granted();
        f.debug_struct("ServerBounds")
            .field("limits", limits)
            .field("sessions", sessions)
            .finish()
    }
}
