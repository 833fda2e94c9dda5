//! A consumer that stays: it registers, streams, keeps its session alive, and starts again whenever that ends.
//!
//! # Contract
//! * Events come in cycles: [`Connected`](ConsumerEvent::Connected), a snapshot, what follows it, and
//!   [`Disconnected`](ConsumerEvent::Disconnected) with the cause and the pause before the next attempt. An attempt that
//!   fails before it is connected is a `Disconnected` alone.
//! * Within a cycle events are in order and without a gap; across cycles the next snapshot makes good what was missed.
//! * A session is kept across connections. When the server no longer knows it, the consumer registers again, at once
//!   the first time.
//! * Pauses grow exponentially, with jitter, and start over once a stream has lasted.
//! * Whoever does not take events holds the stream up, and the server drops what does not fit and sends a snapshot
//!   later. Refreshing goes on meanwhile. Nothing is collected here.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use metrics::{counter, gauge, histogram};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval_at, sleep};
use tonic::{Code, Status};

use crate::client::{
    Client, ConfigEvent, ConfigSnapshot, ConfigUpdate, ConnectError, Connector, Events, StreamError,
};
use crate::server::Registration;

/// A subscriber over the wire that reconnects. Dropping it disconnects.
///
/// # Examples
///
/// ```no_run
/// # use configstream_grpc::{Connector, Consumer, ConsumerEvent, Registration};
/// # async fn example(connector: Connector) {
/// let mut consumer = Consumer::builder(connector, Registration::new("watch")).start();
/// loop {
///     match consumer.next().await {
///         ConsumerEvent::Snapshot(snapshot) => println!("{} settings", snapshot.settings.len()),
///         ConsumerEvent::Update(update) => println!("{}", update.update.setting().key().as_str()),
///         ConsumerEvent::Disconnected { cause, retry_in } => eprintln!("{cause}; again in {retry_in:?}"),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a Consumer disconnects"]
pub struct Consumer {
    events: mpsc::Receiver<ConsumerEvent>,
    task: AbortHandle,
}

/// What a consumer has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// A stream is open; its snapshot comes next.
    Connected {
        /// What authorises the stream.
        session_id: String,
    },
    /// Every setting as of one sequence.
    Snapshot(ConfigSnapshot),
    /// One changed setting.
    Update(ConfigUpdate),
    /// The stream has ended, or there is none yet.
    Disconnected {
        /// Why.
        cause: Disconnection,
        /// How long until the next attempt.
        retry_in: Duration,
    },
}

/// Why a consumer has no stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Disconnection {
    /// There is no connection.
    Connect(ConnectError),
    /// The server refused to register it.
    Register(Status),
    /// The server refused to refresh the session, or could not be reached for it.
    Refresh(Status),
    /// The stream was refused, broke, or broke the contract.
    Stream(StreamError),
}

impl Consumer {
    /// A consumer that connects as `connector` says, and describes itself as `registration` says.
    pub fn builder(connector: Connector, registration: Registration) -> ConsumerBuilder {
        ConsumerBuilder {
            connector,
            name: registration.display_name.clone(),
            registration,
            min_delay: ConsumerBuilder::DEFAULT_MIN_DELAY,
            max_delay: ConsumerBuilder::DEFAULT_MAX_DELAY,
        }
    }

    /// The next event. There always is one, sooner or later.
    ///
    /// # Panics
    /// When the consumer's task was lost with its runtime.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> ConsumerEvent {
        self.events
            .recv()
            .await
            .expect("the task runs as long as the consumer lives")
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Options of a [`Consumer`].
#[derive(Clone, Debug)]
#[must_use = "call `start`"]
pub struct ConsumerBuilder {
    connector: Connector,
    registration: Registration,
    name: String,
    min_delay: Duration,
    max_delay: Duration,
}

impl ConsumerBuilder {
    /// Default of the shortest pause between attempts.
    pub const DEFAULT_MIN_DELAY: Duration = Duration::from_millis(250);
    /// Default of the longest pause between attempts, but for jitter.
    pub const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(30);

    /// What the subscription is called. Default: the registration's display name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The shortest and the longest pause between attempts; up to the shortest comes on top, by chance.
    pub fn backoff(mut self, shortest: Duration, longest: Duration) -> Self {
        self.min_delay = shortest;
        self.max_delay = longest;
        self
    }

    /// Starts. Spawns onto the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Consumer {
        let (sender, events) = mpsc::channel(1);
        let task = tokio::spawn(Cycle::new(self, sender).run()).abort_handle();
        Consumer { events, task }
    }

    fn pauses(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .without_max_times()
            .build()
    }
}

impl fmt::Display for Disconnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Register(status) => write!(f, "cannot register: {}", status.message()),
            Self::Refresh(status) => write!(f, "cannot refresh the session: {}", status.message()),
            Self::Stream(error) => write!(f, "the stream ended: {error}"),
        }
    }
}

impl Error for Disconnection {}

/// The consumer's task.
struct Cycle {
    options: ConsumerBuilder,
    events: mpsc::Sender<ConsumerEvent>,
    pauses: ExponentialBackoff,
    session: Option<crate::client::Session>,
}

impl Cycle {
    fn new(options: ConsumerBuilder, events: mpsc::Sender<ConsumerEvent>) -> Self {
        Self {
            pauses: options.pauses(),
            options,
            events,
            session: None,
        }
    }

    /// Ends when nobody listens any more.
    async fn run(mut self) {
        loop {
            let begun = Instant::now();
            let had_session = self.session.is_some();
            let Err(cause) = self.connect(begun).await else {
                return;
            };
            if begun.elapsed() >= LASTING {
                self.pauses = self.options.pauses();
            }
            if cause.is_loss_of_session() {
                self.session = None;
            }
            let at_once = had_session && self.session.is_none();
            let retry_in = if at_once {
                Duration::ZERO
            } else {
                self.pauses.next().unwrap_or(self.options.max_delay)
            };
            counter!("configstream_consumer.reconnect_count").increment(1);
            if self
                .events
                .send(ConsumerEvent::Disconnected { cause, retry_in })
                .await
                .is_err()
            {
                return;
            }
            sleep(retry_in).await;
        }
    }

    /// One connection, from the first attempt to its end. `Ok`: nobody listens any more.
    async fn connect(&mut self, begun: Instant) -> Result<(), Disconnection> {
        let client = self
            .options
            .connector
            .connect()
            .await
            .map_err(Disconnection::Connect)?;
        let session = match &self.session {
            Some(session) => session.clone(),
            None => client
                .register(&self.options.registration)
                .await
                .map_err(Disconnection::Register)?,
        };
        self.session = Some(session.clone());
        let events = client.stream(&self.options.name, &session.id).await;
        let events = events.map_err(|status| Disconnection::Stream(StreamError::Status(status)))?;
        if self
            .events
            .send(ConsumerEvent::Connected {
                session_id: session.id.clone(),
            })
            .await
            .is_err()
        {
            return Ok(());
        }
        tokio::select! {
            forwarded = forward(events, &self.events, begun) => forwarded,
            refused = keep_alive(&client, &session) => Err(refused),
        }
    }
}

/// Hands events on, one at a time, until the stream ends. `Ok`: nobody listens any more.
async fn forward(
    mut events: Events,
    listener: &mpsc::Sender<ConsumerEvent>,
    begun: Instant,
) -> Result<(), Disconnection> {
    let mut first = true;
    // A place first, then the event: what nobody takes stays in the transport, where the server sees that.
    while let Ok(place) = listener.reserve().await {
        let event = tokio::select! {
            event = events.next() => event.map_err(Disconnection::Stream)?,
            () = listener.closed() => return Ok(()),
        };
        if std::mem::take(&mut first) {
            histogram!("configstream_consumer.time_to_first_snapshot_seconds")
                .record(begun.elapsed());
        }
        // A sequence is an `int32` on the wire, which a double holds.
        #[allow(clippy::cast_precision_loss)]
        gauge!("configstream_consumer.last_sequence_id").set(event.sequence().get() as f64);
        place.send(match event {
            ConfigEvent::Snapshot(snapshot) => ConsumerEvent::Snapshot(snapshot),
            ConfigEvent::Update(update) => ConsumerEvent::Update(update),
        });
    }
    Ok(())
}

/// Refreshes a session as often as the server asked for, until it refuses.
async fn keep_alive(client: &Client, session: &crate::client::Session) -> Disconnection {
    let period = session.refresh_interval.max(SHORTEST_REFRESH_INTERVAL);
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(status) = client.refresh(&session.id).await {
            return Disconnection::Refresh(status);
        }
    }
}

impl Disconnection {
    /// Whether only registering again can help.
    fn is_loss_of_session(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Register(_) => false,
            Self::Refresh(status) => status.code() == Code::NotFound,
            Self::Stream(StreamError::Status(status)) => {
                matches!(status.code(), Code::PermissionDenied | Code::NotFound)
            }
            Self::Stream(_) => false,
        }
    }
}

/// A stream that lasted this long was a good one: after it, pauses start over.
const LASTING: Duration = Duration::from_secs(10);

/// Whatever a server asks for.
const SHORTEST_REFRESH_INTERVAL: Duration = Duration::from_secs(1);
