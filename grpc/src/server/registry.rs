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
//! # When a table is full
//! The newcomer gets a place where that is fair, so that a peer that registers or streams without
//! end meets a limit of its own and leaves the others alone. What counts is how much one connection
//! holds: a name costs nothing, and all peers may have one address. A session belongs to the
//! connection that registered it, or, after that has ended, to the one that streams under it.
//! * A session without a stream goes first, unless it is the only one of a connection that is still
//!   open, since an agent registers and then opens its stream. Sessions of connections that have
//!   ended go before others, then those of the connection with the most sessions, then those that
//!   never had a stream, then the oldest.
//! * Without such a session, the connection with the most sessions loses its newest, if it has more
//!   than the newcomer's.
//! * Otherwise the oldest session without a stream goes. If all have streams, the registration is
//!   refused.
//! * A stream takes the place of one on the connection with the most streams, if that has more than
//!   the newcomer's would: of one that takes nothing, or else of the newest. Otherwise it is
//!   refused.
//!
//! So a connection with one session and one stream is never touched while another connection has
//! more, and a session without a stream never keeps an agent out. Registrations are limited to [a
//! rate](REGISTRATIONS_PER_SECOND) on each connection.
//!
//! Everything locks: this is the cold path, one call per registration, refresh, stream and sweep.
//! Nothing is logged under the lock.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use uuid::Uuid;

use crate::lock::Mutex;
use crate::metrics::Telemetry;
use crate::server::bounds::{Granted, ServerBounds};
use crate::server::connections::{Held, Link, REGISTRATIONS_PER_SECOND};
use crate::server::open_stream::OpenStream;
use crate::server::progress::Position;
use crate::server::registration::Registration;
use crate::server::session::{AgentReport, Sessions, StreamReport};
use crate::server::sparing::{Shown, Sparing};
use crate::status::Refusal;

/// The sessions and streams there are.
pub(crate) struct Registry {
    bounds: ServerBounds,
    /// As the server was built with it.
    clock: Arc<dyn Fn() -> Instant + Send + Sync>,
    telemetry: Arc<Telemetry>,
    tables: Mutex<Tables>,
    registered_log: Sparing,
    gone_log: Sparing,
    stalled_log: Sparing,
}

#[derive(Default)]
struct Tables {
    sessions: HashMap<String, Session>,
    streams: HashMap<u64, Attached>,
    next_stream: u64,
    closing: bool,
    /// What has happened under this lock, to be logged after it.
    news: News,
}

struct Session {
    registration: Arc<Registration>,
    registered: Instant,
    alive: Instant,
    /// By the connection that it belongs to.
    held: Held,
    /// Open now.
    streams: usize,
    /// Whether it ever had a stream.
    streamed: bool,
}

/// What has happened to sessions and streams.
#[derive(Default)]
struct News {
    expired: Vec<(String, Session)>,
    displaced: Vec<(String, Session)>,
    stalled: Vec<Arc<OpenStream>>,
}

struct Attached {
    stream: Arc<OpenStream>,
    /// By its connection.
    _held: Held,
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
            registered_log: Sparing::many(),
            gone_log: Sparing::many(),
            stalled_log: Sparing::few(),
        }
    }

    /// A new session that belongs to the connection `link`, and after how many seconds it had
    /// better be refreshed.
    pub(crate) fn register(
        &self,
        request: RegisterRemoteAgentRequest,
        link: &Arc<Link>,
    ) -> Result<(String, u32), Refusal> {
        let granted = self.enabled()?;
        let registration = Arc::new(Registration::check(request)?);
        let now = self.now();
        if !link.may_register(now) {
            return Err(Refusal::RegisteringTooFast {
                limit: REGISTRATIONS_PER_SECOND,
            });
        }
        let id = Uuid::new_v4().to_string();
        let session = Session {
            registration: registration.clone(),
            registered: now,
            alive: now,
            held: link.hold_session(),
            streams: 0,
            streamed: false,
        };
        self.with_tables(|tables| {
            if tables.closing {
                return Err(Refusal::ShuttingDown);
            }
            let limit = granted.sessions.limit;
            if tables.sessions.len() >= limit {
                tables.sweep(now, &granted);
            }
            // After a lower limit there may be more than one too many.
            while tables.sessions.len() >= limit {
                match tables.displace_session(link) {
                    None => return Err(Refusal::TooManySessions { limit }),
                    Some(streams) if streams > 0 => break,
                    Some(_) => {}
                }
            }
            tables.sessions.insert(id.clone(), session);
            Ok(())
        })?;
        if let Some(unsaid) = self.registered_log.admit() {
            tracing::info!(
                session_id = id,
                unsaid,
                "Remote agent '{}' registered",
                Shown::name(&registration.display_name)
            );
        }
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
        self.live(id, |session, now| session.alive = now)?
            .ok_or(Refusal::NoSessionForRefresh)
    }

    /// Who is behind a session.
    pub(crate) fn registration(&self, id: &str) -> Result<Arc<Registration>, Refusal> {
        self.live(id, |session, _| session.registration.clone())?
            .ok_or(Refusal::NoSessionForRefresh)
    }

    /// Whether `session_id`, as it stands in a request's metadata, may open a stream; the answer is who it is.
    pub(crate) fn authorise(
        &self,
        session_id: Option<&[u8]>,
    ) -> Result<(String, Arc<Registration>), Refusal> {
        self.enabled()?;
        let id = session_id.ok_or(Refusal::NoSessionId)?;
        if id.is_empty() {
            return Err(Refusal::EmptySessionId);
        }
        let id = String::from_utf8_lossy(id).into_owned();
        let registration = self.live(&id, |session, now| {
            session.alive = now;
            session.registration.clone()
        })?;
        match registration {
            Some(registration) => Ok((id, registration)),
            None => Err(Refusal::UnknownSession { id }),
        }
    }

    /// Enters a stream under its session, which may have gone since it was authorised. The answer is for
    /// [`detach`](Self::detach).
    pub(crate) fn attach(&self, stream: Arc<OpenStream>) -> Result<u64, Refusal> {
        let now = self.now();
        let limit = self.bounds.granted().limits.streams;
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
        if session.held.link().is_gone() {
            session.held = stream.link().hold_session();
        }
        if !tables.has_room_for_stream(stream.link(), limit) {
            return Err(Refusal::TooManyStreams { limit });
        }
        if let Some(session) = tables.sessions.get_mut(&stream.session_id) {
            session.streams += 1;
            session.streamed = true;
        }
        let number = tables.next_stream;
        tables.next_stream += 1;
        let attached = Attached {
            _held: stream.link().hold_stream(),
            steps: stream.progress.steps(),
            stream,
            stalled: None,
        };
        tables.streams.insert(number, attached);
        Ok(number)
    }

    pub(crate) fn detach(&self, stream: u64) {
        let mut tables = self.tables.lock();
        if let Some(Attached { stream, .. }) = tables.streams.remove(&stream)
            && let Some(session) = tables.sessions.get_mut(&stream.session_id)
        {
            session.streams -= 1;
        }
    }

    /// Looks at every stream and session once: who lives, who goes.
    pub(crate) fn sweep(&self) {
        let streams = self.with_tables(|tables| {
            tables.sweep(self.now(), &self.bounds.granted());
            tables.streams()
        });
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

    /// Does something with the session `id`, if it is there and its time is not up.
    fn live<R>(
        &self,
        id: &str,
        act: impl FnOnce(&mut Session, Instant) -> R,
    ) -> Result<Option<R>, Refusal> {
        let granted = self.enabled()?;
        let now = self.now();
        Ok(self.with_tables(|tables| {
            // That its time is up may be found here before the next sweep finds it.
            if is_expired(tables.sessions.get(id)?, now, &granted.sessions) {
                tables.sweep(now, &granted);
            }
            Some(act(tables.sessions.get_mut(id)?, now))
        }))
    }

    /// Does something under the lock, and then logs what has happened.
    fn with_tables<R>(&self, act: impl FnOnce(&mut Tables) -> R) -> R {
        let (result, news) = {
            let mut tables = self.tables.lock();
            let result = act(&mut tables);
            (result, std::mem::take(&mut tables.news))
        };
        self.tell(news);
        result
    }

    fn tell(&self, news: News) {
        let expired = news.expired.iter().map(|gone| (gone, "has expired"));
        let displaced = news.displaced.iter();
        let displaced = displaced.map(|gone| (gone, "made room for another: there are too many"));
        for ((id, session), what) in expired.chain(displaced) {
            if let Some(unsaid) = self.gone_log.admit() {
                let name = Shown::name(&session.registration.display_name);
                tracing::info!(session_id = id, unsaid, "Remote agent '{name}' {what}");
            }
        }
        for stream in news.stalled {
            if let Some(unsaid) = self.stalled_log.admit() {
                let name = Shown::name(&stream.name);
                tracing::warn!(
                    subscriber = %name,
                    unsaid,
                    "Hanging up on subscriber '{name}', which takes nothing"
                );
            }
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
                self.news.stalled.push(attached.stream.clone());
                attached.stream.hang_up();
            }
        }
        let expired = self
            .sessions
            .extract_if(|_, session| is_expired(session, now, &granted.sessions));
        self.news.expired.extend(expired);
        self.end_streams_without_session();
    }

    fn end_streams_without_session(&self) {
        for Attached { stream, .. } in self.streams.values() {
            if !stream.has_ended() && !self.sessions.contains_key(&stream.session_id) {
                stream.end(Refusal::UnknownSession {
                    id: stream.session_id.clone(),
                });
            }
        }
    }

    /// Makes room for a session that `newcomer` holds already, if that is fair: how many streams
    /// the session had that went.
    fn displace_session(&mut self, newcomer: &Link) -> Option<usize> {
        let first = self
            .sessions
            .iter()
            .max_by_key(|(_, session)| session.precedence());
        let first = first.filter(|(_, session)| {
            session.goes_first() || session.held.link().sessions() > newcomer.sessions()
        });
        let chosen = first.or_else(|| {
            let waiting = self
                .sessions
                .iter()
                .filter(|(_, session)| session.streams == 0);
            waiting.min_by_key(|(_, session)| session.alive)
        });
        let id = chosen?.0.clone();
        let session = self.sessions.remove(&id)?;
        let streams = session.streams;
        if streams > 0 {
            self.end_streams_without_session();
        }
        self.news.displaced.push((id, session));
        Some(streams)
    }

    /// Whether one more stream of `newcomer` may come, for which another may have to go.
    fn has_room_for_stream(&self, newcomer: &Link, limit: usize) -> bool {
        if self.streams.len() < limit {
            return true;
        }
        let open = || {
            self.streams
                .iter()
                .filter(|(_, open)| !open.stream.has_ended())
        };
        // Those that were told to end leave at their next turn.
        if self.streams.len() >= limit.saturating_mul(2) {
            return false;
        }
        if open().count() < limit {
            return true;
        }
        let chosen = open().max_by_key(|(number, open)| {
            (
                open.stream.link().streams(),
                open.stalled.is_some(),
                **number,
            )
        });
        match chosen {
            Some((_, Attached { stream, .. }))
                if stream.link().streams() > newcomer.streams() + 1 =>
            {
                let waits = stream.is_waiting();
                stream.end(Refusal::TooManyStreams { limit });
                // It would stay as long as its peer reads nothing.
                if waits {
                    stream.hang_up();
                }
                true
            }
            _ => false,
        }
    }
}

impl Session {
    /// Whether it makes room before any that is in use.
    fn goes_first(&self) -> bool {
        let link = self.held.link();
        self.streams == 0 && (link.is_gone() || link.sessions() > 1)
    }

    /// The greatest makes room first.
    fn precedence(&self) -> impl Ord + use<> {
        let (link, first) = (self.held.link(), self.goes_first());
        (
            first,
            first && link.is_gone(),
            link.sessions(),
            !self.streamed,
            if first {
                (Some(Reverse(self.alive)), None)
            } else {
                (None, Some(self.registered))
            },
        )
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
