//! The consumer's task: connect, register, follow, and start again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Connector, Events, Session, StreamError};
use crate::consumer::ConsumerBuilder;
use crate::consumer::access::Finder;
use crate::consumer::backoff::Backoff;
use crate::consumer::follower::{Follower, Taken};
use crate::consumer::replica::Replica;
use crate::consumer::saver::Saver;
use crate::consumer::state::Disconnection;
use crate::metrics::ConsumerTelemetry;

/// Everything the task needs.
pub(super) struct Cycle {
    attempts: Attempts,
    saver: Option<Saver>,
    stop: CancellationToken,
}

/// One attempt after the other.
struct Attempts {
    options: ConsumerBuilder,
    finder: Finder,
    replica: Stopping,
    telemetry: ConsumerTelemetry,
    backoff: Backoff,
    session: Option<Session>,
    /// Since when there is a snapshot from the stream, or was one until just now.
    ready: Option<Instant>,
    /// The last pause was left out.
    hurried: bool,
}

/// Why an attempt is over.
enum End {
    Disconnected(Disconnection),
    /// The engine is closed.
    Closed,
}

/// Says that the consumer has stopped, whether its task ended or went with its runtime.
struct Stopping(Arc<Replica>);

impl Cycle {
    pub(super) fn new(
        options: ConsumerBuilder,
        replica: Arc<Replica>,
        saver: Option<Saver>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            attempts: Attempts {
                backoff: options.pauses.start(),
                finder: Finder::new(options.access.clone()),
                telemetry: ConsumerTelemetry::new(&options.name),
                options,
                replica: Stopping(replica),
                session: None,
                ready: None,
                hurried: false,
            },
            saver,
            stop,
        }
    }

    pub(super) async fn run(mut self) {
        let saving = async {
            match &mut self.saver {
                Some(saver) => saver.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.attempts.run() => {}
            () = saving => {}
            () = self.stop.cancelled() => {}
        }
        if let Some(saver) = &mut self.saver {
            saver.save_at_last().await;
        }
    }
}

impl Attempts {
    /// Ends when the replica's engine is closed.
    async fn run(&mut self) {
        loop {
            let found = self.finder.find(self.options.answer_timeout).await;
            let end = match &found {
                Ok(connector) => self.attempt(connector).await,
                Err(error) => Disconnection::Access(error.clone()).into(),
            };
            let End::Disconnected(cause) = end else {
                return;
            };
            self.recover(cause, found.ok()).await;
        }
    }

    /// One connection, from the first call to its end.
    async fn attempt(&mut self, connector: &Connector) -> End {
        let limit = self.options.answer_timeout;
        match self.connect(connector).await {
            Ok((client, session, events, begun)) => tokio::select! {
                end = self.follow(events, begun) => end,
                refused = keep_alive(connector, client, &session, limit) => refused.into(),
            },
            Err(cause) => cause.into(),
        }
    }

    async fn connect(
        &mut self,
        connector: &Connector,
    ) -> Result<(Client, Session, Events, Instant), Disconnection> {
        let begun = Instant::now();
        let client = connector.connect().await.map_err(Disconnection::Connect)?;
        let (session, events) = self.open(&client).await?;
        Ok((client, session, events, begun))
    }

    /// A stream, with the session there is, or with another one if there is none or the server does not know it any more:
    /// after its restart one connection is enough.
    async fn open(&mut self, client: &Client) -> Result<(Session, Events), Disconnection> {
        let limit = self.options.answer_timeout;
        let known = self.session.take();
        let was_known = known.is_some();
        let mut session = match known {
            Some(session) => session,
            None => self.register(client).await?,
        };
        let name = &self.options.name;
        let mut opened = open_stream(client, name, &session, limit).await;
        if was_known
            && opened
                .as_ref()
                .is_err_and(Disconnection::is_loss_of_session)
        {
            session = self.register(client).await?;
            opened = open_stream(client, name, &session, limit).await;
        }
        let usable = !opened
            .as_ref()
            .is_err_and(Disconnection::is_refusal_of_session);
        self.session = usable.then(|| session.clone());
        opened.map(|events| (session, events))
    }

    async fn register(&self, client: &Client) -> Result<Session, Disconnection> {
        let registering = client.register(&self.options.registration);
        let limit = self.options.answer_timeout;
        let answer = within(limit, "answer to registering", registering).await?;
        answer.map_err(Disconnection::Register)
    }

    /// Applies events until there are no more.
    async fn follow(&mut self, mut events: Events, begun: Instant) -> End {
        let mut follower = Follower::new(self.replica.0.clone());
        let mut due = Some("first snapshot");
        loop {
            let event = match due {
                Some(awaited) => {
                    let received = events.received().clone();
                    let limit = self.options.answer_timeout;
                    let event = received.within(limit, events.next()).await;
                    event.map_err(|_| silent(awaited, limit))
                }
                None => Ok(events.next().await),
            };
            let event = event.and_then(|event| event.map_err(Disconnection::Stream));
            let sequence = event.as_ref().ok().map(|event| event.sequence().get());
            match event.and_then(|event| follower.take(event)) {
                Ok(Taken::Applied) => due = None,
                Ok(Taken::Collected) => due = Some("rest of a batch"),
                Ok(Taken::Closed) => return End::Closed,
                Err(cause) => return cause.into(),
            }
            if let Some(sequence) = sequence {
                // A sequence is an `int32` on the wire, which a double holds.
                #[allow(clippy::cast_precision_loss)]
                self.telemetry.last_sequence_id.set(sequence as f64);
            }
            if self.ready.is_none() {
                self.telemetry
                    .time_to_first_snapshot
                    .record(begun.elapsed());
                self.ready = Some(Instant::now());
                self.replica.0.set_ready();
            }
        }
    }

    /// Says what happened, and waits as long as is good.
    async fn recover(&mut self, cause: Disconnection, refused: Option<Connector>) {
        let ready = self.ready.take();
        if ready.is_some_and(|since| since.elapsed() >= self.options.healthy_after) {
            self.backoff.start_over();
            self.hurried = false;
        }
        self.telemetry.reconnect_count.increment(1);
        if cause.is_stale_event() {
            self.telemetry.dropped_stale_updates.increment(1);
        }
        let lost = cause.is_loss_of_session();
        if lost {
            self.session = None;
        }
        // Never twice in a row, or two sides that do not get on with each other would keep each other busy.
        let may_hurry = !std::mem::take(&mut self.hurried);
        let retry_in = if may_hurry && lost {
            self.hurried = true;
            Duration::ZERO
        } else {
            self.backoff.next(cause.is_unanswered())
        };
        tracing::info!(%cause, ?retry_in, "not connected to the config stream: {cause}");
        // Said before anything is asked: to find out about credentials may take its time.
        self.replica.0.set_disconnected(cause, retry_in);
        self.pause(retry_in, refused, may_hurry).await;
    }

    /// Ends early when another attempt would be another one: at once, if it may `hurry`.
    async fn pause(&mut self, duration: Duration, refused: Option<Connector>, hurry: bool) {
        let begun = Instant::now();
        let left = || duration.saturating_sub(begun.elapsed());
        if hurry && self.has_changed(refused.as_ref(), left()).await {
            self.hurried = true;
            return;
        }
        while !left().is_zero() {
            sleep(left().min(ASK_AGAIN)).await;
            if self.has_changed(refused.as_ref(), left()).await {
                return;
            }
        }
    }

    /// Whether there is another way to connect than the one that failed, as far as that is known in time.
    async fn has_changed(&mut self, refused: Option<&Connector>, left: Duration) -> bool {
        if left.is_zero() {
            return false;
        }
        let limit = left.min(self.options.answer_timeout);
        let found = self.finder.find(limit).await;
        found.is_ok_and(|found| refused.is_none_or(|refused| !found.leads_where(refused)))
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl From<Disconnection> for End {
    fn from(cause: Disconnection) -> Self {
        Self::Disconnected(cause)
    }
}

/// Refreshes a session as often as the server asked for, until it refuses twice in a row: the
/// second time over a connection of its own. A proxy may send the first connection away, or a large
/// snapshot may be in front of the answer, and neither says anything about the stream. What the
/// second attempt connected with is what refreshes from then on; the stream stays where it is.
async fn keep_alive(
    connector: &Connector,
    mut client: Client,
    session: &Session,
    limit: Duration,
) -> Disconnection {
    let period = session.refresh_interval.max(SHORTEST_REFRESH_INTERVAL);
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Err(first) = refresh(&client, session, limit).await else {
            continue;
        };
        tracing::debug!(cause = %first, "refreshing again, over another connection");
        client = match connector.connect().await {
            Ok(another) => another,
            Err(error) => return Disconnection::Connect(error),
        };
        if let Err(second) = refresh(&client, session, limit).await {
            return second;
        }
    }
}

async fn refresh(client: &Client, session: &Session, limit: Duration) -> Result<(), Disconnection> {
    within(limit, "answer to refreshing", client.refresh(&session.id))
        .await?
        .map_err(Disconnection::Refresh)
}

async fn within<T>(
    limit: Duration,
    awaited: &'static str,
    answer: impl Future<Output = T>,
) -> Result<T, Disconnection> {
    timeout(limit, answer)
        .await
        .map_err(|_| silent(awaited, limit))
}

fn silent(awaited: &'static str, waited: Duration) -> Disconnection {
    Disconnection::Silent { awaited, waited }
}

async fn open_stream(
    client: &Client,
    name: &str,
    session: &Session,
    limit: Duration,
) -> Result<Events, Disconnection> {
    let opening = client.stream(name, &session.id);
    let answer = within(limit, "answer to opening the stream", opening).await?;
    answer.map_err(|status| Disconnection::Stream(StreamError::Status(status)))
}

/// Whatever a server asks for.
const SHORTEST_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How often a pause is interrupted to see whether credentials or address have changed.
const ASK_AGAIN: Duration = Duration::from_secs(1);
