//! The registry of remote agents: their sessions, and the streams these authorise.
//!
//! # Contract
//! * A session lives while it shows life within the idle timeout. Life is a register, a refresh, a stream's start, and
//!   an open stream that took a frame, or had none to take.
//! * When a session goes, its streams end with `PermissionDenied`. Attaching a stream and losing a session exclude
//!   each other, so no stream outlives its session unnoticed.
//! * A stream that takes nothing although something waits for it loses its connection after the stall timeout, since
//!   HTTP/2 has no way to tell it anything.
//! * Both tables are bounded. Bounds may change at any time, and hold from the next call or sweep on.
//! * The clock is the host's, so a test can move it.
//!
//! Everything locks: this is the cold path, one call per registration, refresh, stream and sweep.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::metrics::Telemetry;
use crate::server::bounds::{Granted, ServerBounds};
use crate::server::open_stream::OpenStream;
use crate::server::progress::Position;
use crate::server::registration::Registration;
use crate::server::session::{AgentReport, Sessions, StreamReport};
use crate::status::Refusal;

/// The sessions and streams there are.
pub(crate) struct Registry {
    bounds: ServerBounds,
    /// As the server was built with it.
    clock: Arc<dyn Fn() -> Instant + Send + Sync>,
    telemetry: Arc<Telemetry>,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    sessions: HashMap<String, Session>,
    streams: HashMap<u64, Attached>,
    next_stream: u64,
    closing: bool,
}

struct Session {
    registration: Registration,
    registered: Instant,
    alive: Instant,
}

struct Attached {
    stream: Arc<OpenStream>,
    steps: u64,
    /// Since when the stream has not taken what waits for it.
    stalled: Option<Instant>,
}

impl Registry {
    pub(crate) fn new(bounds: ServerBounds, telemetry: Arc<Telemetry>) -> Self {
        Self {
            clock: bounds.granted().sessions.clock.clone(),
            bounds,
            telemetry,
            tables: Mutex::default(),
        }
    }

    /// A new session, and after how many seconds it had better be refreshed.
    pub(crate) fn register(
        &self,
        request: RegisterRemoteAgentRequest,
    ) -> Result<(String, u32), Refusal> {
        let granted = self.enabled()?;
        let registration = Registration::check(request)?;
        let now = self.now();
        let mut tables = self.tables.lock();
        if tables.closing {
            return Err(Refusal::ShuttingDown);
        }
        let limit = granted.sessions.limit;
        if tables.sessions.len() >= limit {
            tables.sweep(now, &granted);
            if tables.sessions.len() >= limit {
                return Err(Refusal::TooManySessions { limit });
            }
        }
        let id = Uuid::new_v4().to_string();
        tracing::info!(
            session_id = id,
            "Remote agent '{}' registered",
            registration.display_name
        );
        let session = Session {
            registration,
            registered: now,
            alive: now,
        };
        tables.sessions.insert(id.clone(), session);
        // Whole seconds on the wire, where 0 would make a client's ticker panic.
        let interval = granted
            .sessions
            .recommended_refresh_interval
            .as_secs()
            .max(1);
        Ok((id, u32::try_from(interval).unwrap_or(u32::MAX)))
    }

    /// Shows that the agent behind a session is alive.
    pub(crate) fn refresh(&self, id: &str) -> Result<(), Refusal> {
        let granted = self.enabled()?;
        let now = self.now();
        let mut tables = self.tables.lock();
        match tables.live(id, now, &granted) {
            Some(session) => session.alive = now,
            None => return Err(Refusal::NoSessionForRefresh),
        }
        Ok(())
    }

    /// Who is behind a session.
    pub(crate) fn registration(&self, id: &str) -> Result<Registration, Refusal> {
        let granted = self.enabled()?;
        let now = self.now();
        let mut tables = self.tables.lock();
        match tables.live(id, now, &granted) {
            Some(session) => Ok(session.registration.clone()),
            None => Err(Refusal::NoSessionForRefresh),
        }
    }

    /// Whether `session_id`, as it stands in a request's metadata, may open a stream; the answer is who it is.
    pub(crate) fn authorise(
        &self,
        session_id: Option<&[u8]>,
    ) -> Result<(String, Registration), Refusal> {
        let granted = self.enabled()?;
        let id = session_id.ok_or(Refusal::NoSessionId)?;
        if id.is_empty() {
            return Err(Refusal::EmptySessionId);
        }
        let id = String::from_utf8_lossy(id).into_owned();
        let now = self.now();
        let mut tables = self.tables.lock();
        match tables.live(&id, now, &granted) {
            Some(session) => {
                session.alive = now;
                Ok((id, session.registration.clone()))
            }
            None => Err(Refusal::UnknownSession { id }),
        }
    }

    /// Enters a stream under its session, which may have gone since it was authorised. The answer is for
    /// [`detach`](Self::detach).
    pub(crate) fn attach(&self, stream: Arc<OpenStream>) -> Result<u64, Refusal> {
        let now = self.now();
        let mut tables = self.tables.lock();
        if tables.closing {
            return Err(Refusal::ShuttingDown);
        }
        let Some(session) = tables.sessions.get_mut(&stream.session_id) else {
            return Err(Refusal::UnknownSession {
                id: stream.session_id.clone(),
            });
        };
        session.alive = now;
        let limit = self.bounds.granted().limits.streams;
        if tables.streams.len() >= limit {
            return Err(Refusal::TooManyStreams { limit });
        }
        let number = tables.next_stream;
        tables.next_stream += 1;
        let attached = Attached {
            steps: stream.progress.steps(),
            stream,
            stalled: None,
        };
        tables.streams.insert(number, attached);
        Ok(number)
    }

    pub(crate) fn detach(&self, stream: u64) {
        self.tables.lock().streams.remove(&stream);
    }

    /// Looks at every stream and session once: who lives, who goes.
    pub(crate) fn sweep(&self) {
        let streams = {
            let mut tables = self.tables.lock();
            tables.sweep(self.now(), &self.bounds.granted());
            tables.streams()
        };
        // Figures may wait for a stream, for which nobody else is to wait.
        for stream in streams {
            stream.report_dropped(&self.telemetry.dropped_updates);
        }
    }

    /// Ends every stream, and takes no more.
    pub(crate) fn close(&self, reason: &Refusal) {
        let mut tables = self.tables.lock();
        tables.closing = true;
        for attached in tables.streams.values() {
            attached.stream.end(reason.clone());
        }
    }

    pub(crate) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Sessions and streams there are now.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let tables = self.tables.lock();
        (tables.sessions.len(), tables.streams.len())
    }

    /// Whether every stream has been handed everything published.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.tables
            .lock()
            .streams
            .values()
            .all(|attached| !attached.stream.is_waiting())
    }

    /// How many updates each stream has yet to take, if it has its first snapshot.
    pub(crate) fn lags(&self) -> Vec<u64> {
        let tables = self.tables.lock();
        let streams = tables.streams.values();
        streams
            .filter_map(|attached| attached.stream.lag())
            .collect()
    }

    /// The streams that have not passed `position` and are not about to end.
    pub(crate) fn behind(&self, position: Position) -> Vec<Arc<OpenStream>> {
        let tables = self.tables.lock();
        tables
            .streams
            .values()
            .map(|attached| &attached.stream)
            .filter(|stream| !stream.has_ended() && !stream.progress.has_passed(position))
            .cloned()
            .collect()
    }

    /// How many streams have passed `position`.
    pub(crate) fn count_passed(&self, position: Position) -> usize {
        let tables = self.tables.lock();
        let streams = tables.streams.values();
        streams
            .filter(|attached| attached.stream.progress.has_passed(position))
            .count()
    }

    /// Every session, oldest first.
    pub(crate) fn report(&self) -> Vec<AgentReport> {
        self.report_streams(|_| true)
    }

    /// The sessions with streams that have not passed `position`, and those streams.
    pub(crate) fn report_behind(&self, position: Position) -> Vec<AgentReport> {
        let mut agents = self.report_streams(|stream| !stream.progress.has_passed(position));
        agents.retain(|agent| !agent.streams.is_empty());
        agents
    }

    fn report_streams(&self, wanted: impl Fn(&OpenStream) -> bool) -> Vec<AgentReport> {
        let now = self.now();
        let tables = self.tables.lock();
        let streams = tables.streams();
        let mut agents: HashMap<String, AgentReport> = tables
            .sessions
            .iter()
            .map(|(id, session)| {
                let report = AgentReport {
                    session_id: id.clone(),
                    registration: session.registration.clone(),
                    age: now.saturating_duration_since(session.registered),
                    idle: now.saturating_duration_since(session.alive),
                    streams: Vec::new(),
                };
                (id.clone(), report)
            })
            .collect();
        // Figures may wait for a stream, for which nobody else is to wait.
        drop(tables);
        for stream in streams {
            if !wanted(&stream) {
                continue;
            }
            if let Some(agent) = agents.get_mut(stream.session_id.as_str()) {
                agent.streams.push(StreamReport {
                    name: stream.name.clone(),
                    age: now.saturating_duration_since(stream.opened),
                    handed: stream.progress.position().map(|handed| handed.sequence),
                    figures: stream.figures(),
                });
            }
        }
        let mut agents: Vec<_> = agents.into_values().collect();
        agents.sort_by(|a, b| {
            b.age
                .cmp(&a.age)
                .then_with(|| a.session_id.cmp(&b.session_id))
        });
        for agent in &mut agents {
            agent.streams.sort_by_key(|stream| stream.figures.id);
        }
        agents
    }

    /// Whether the server goes on.
    pub(crate) fn check_open(&self) -> Result<(), Refusal> {
        if self.tables.lock().closing {
            Err(Refusal::ShuttingDown)
        } else {
            Ok(())
        }
    }

    /// What is granted, if anything is.
    fn enabled(&self) -> Result<Arc<Granted>, Refusal> {
        let granted = self.bounds.granted();
        if granted.sessions.enabled {
            Ok(granted)
        } else {
            Err(Refusal::RegistryDisabled)
        }
    }
}

impl Tables {
    fn streams(&self) -> Vec<Arc<OpenStream>> {
        let streams = self.streams.values();
        streams.map(|attached| attached.stream.clone()).collect()
    }

    /// The session `id`, unless its time is up, which may be found here before the next sweep does.
    fn live(&mut self, id: &str, now: Instant, granted: &Granted) -> Option<&mut Session> {
        if is_expired(self.sessions.get(id)?, now, &granted.sessions) {
            self.sweep(now, granted);
        }
        self.sessions.get_mut(id)
    }

    fn sweep(&mut self, now: Instant, granted: &Granted) {
        let stall_timeout = granted.limits.stall_timeout;
        for attached in self.streams.values_mut() {
            let takes = attached.look(now);
            if takes
                && !attached.stream.has_ended()
                && let Some(session) = self.sessions.get_mut(&attached.stream.session_id)
            {
                session.alive = now;
            }
            if attached
                .stalled
                .is_some_and(|since| now.saturating_duration_since(since) >= stall_timeout)
            {
                tracing::warn!(
                    subscriber = attached.stream.name,
                    "Hanging up on subscriber '{}', which takes nothing",
                    attached.stream.name
                );
                attached.stream.hang_up();
            }
        }
        self.sessions.retain(|id, session| {
            let expired = is_expired(session, now, &granted.sessions);
            if expired {
                tracing::info!(
                    session_id = id,
                    "Remote agent '{}' has expired",
                    session.registration.display_name
                );
            }
            !expired
        });
        for Attached { stream, .. } in self.streams.values() {
            if !stream.has_ended() && !self.sessions.contains_key(&stream.session_id) {
                stream.end(Refusal::UnknownSession {
                    id: stream.session_id.clone(),
                });
            }
        }
    }
}

impl Attached {
    /// Whether the stream took something since the last look, or had nothing to take.
    fn look(&mut self, now: Instant) -> bool {
        let steps = self.stream.progress.steps();
        let takes = steps != self.steps || !self.stream.is_waiting();
        self.steps = steps;
        if takes {
            self.stalled = None;
        } else {
            self.stalled.get_or_insert(now);
        }
        takes
    }
}

fn is_expired(session: &Session, now: Instant, settings: &Sessions) -> bool {
    now.saturating_duration_since(session.alive) >= settings.idle_timeout
}

#[cfg(test)]
mod tests;
