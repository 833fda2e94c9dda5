//! How a consumer is, and what it says when it is not well.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::DuplicateKey;
use configstream_engine::{Event, NextTimeoutError, Sequence, State, Subscription, Transition};
use tonic::{Code, Status};

use crate::client::{ConnectError, StreamError};
use crate::consumer::access::AccessError;

/// How a consumer is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConsumerState {
    /// There is nothing to read yet.
    Connecting {
        /// Why the last attempt failed, if there was one.
        cause: Option<Disconnection>,
        /// How long the next attempt will wait, at most: new credentials are tried at once.
        retry_in: Duration,
    },
    /// What is read is what the server sends: a stream is open, and its snapshot is in.
    Ready,
    /// What is read was true once.
    Stale {
        /// Why it is not kept up.
        cause: Disconnection,
        /// When it was last known to be true: the end of the stream, or the time at which it was saved.
        since: SystemTime,
        /// How long the next attempt will wait, at most: new credentials are tried at once.
        retry_in: Duration,
    },
    /// It was shut down, or its runtime was. What can be read stays.
    Stopped,
}

/// Why a consumer has no stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Disconnection {
    /// It has only begun: the first attempt is under way.
    Starting,
    /// Address or credentials cannot be read, or not in time.
    Access(AccessError),
    /// There is no connection.
    Connect(ConnectError),
    /// The server refused to register it.
    Register(Status),
    /// The server refused to refresh the session, or could not be reached for it.
    Refresh(Status),
    /// The stream was refused, broke, or broke the contract.
    Stream(StreamError),
    /// The connection stands, but an answer that was due did not come.
    Silent {
        /// What was waited for.
        awaited: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// The snapshot of a new stream is older than what is known, in the same epoch: to take it would be a step back for
    /// whoever reads here. That is over when the server has come as far again, or begins another epoch.
    Behind {
        /// The sequence already reached.
        reached: Sequence,
        /// The snapshot's.
        found: Sequence,
    },
    /// A snapshot has a key twice.
    Duplicate(DuplicateKey),
    /// The updates of a batch do not count down to its end.
    Batch {
        /// The sequence of the update that is out of line.
        sequence: Sequence,
        /// How many updates should have followed it.
        expected: u32,
        /// How many it said.
        found: u32,
    },
    /// A batch is too large to be collected.
    BatchTooLarge {
        /// The sequence at which it was given up.
        sequence: Sequence,
    },
}

/// There is nothing to read yet, or not any more: with why.
#[derive(Clone, Debug)]
pub struct NotReady {
    pub(super) state: ConsumerState,
}

/// The states of a consumer, as they come. See [`Consumer::states`](super::Consumer::states).
#[derive(Debug)]
#[must_use = "dropping it ends the observation"]
pub struct States(pub(super) Subscription<Current>);

impl ConsumerState {
    /// Whether what is read is what the server sends.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    /// Why there is no stream, if that is so and known.
    #[must_use]
    pub const fn cause(&self) -> Option<&Disconnection> {
        match self {
            Self::Connecting { cause, .. } => cause.as_ref(),
            Self::Stale { cause, .. } => Some(cause),
            Self::Ready | Self::Stopped => None,
        }
    }
}

impl NotReady {
    /// How the consumer was.
    #[must_use]
    pub const fn state(&self) -> &ConsumerState {
        &self.state
    }
}

impl States {
    /// The next state; the first one is the state now. Whoever does not look for a while gets the newest.
    /// `None`: the consumer has stopped, and has said so.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<ConsumerState> {
        poll_fn(|cx| self.0.poll_next(cx)).await.map(read)
    }

    /// As [`next`](Self::next), blocking the thread for at most `timeout`.
    ///
    /// # Errors
    /// [`NextTimeoutError::Timeout`] when nothing changed in time, [`NextTimeoutError::Closed`] when nothing will.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<ConsumerState, NextTimeoutError> {
        self.0.next_timeout(timeout).map(read)
    }
}

fn read(event: Event<Current>) -> ConsumerState {
    match event {
        Event::Snapshot(snapshot) => snapshot.state().0.clone(),
        Event::Update(update) => (*update).clone(),
        _ => ConsumerState::Stopped,
    }
}

impl Disconnection {
    /// Whether only registering again can help.
    pub(super) fn is_loss_of_session(&self) -> bool {
        match self {
            Self::Refresh(status) => status.code() == Code::NotFound,
            Self::Stream(StreamError::Status(status)) => {
                matches!(status.code(), Code::PermissionDenied | Code::NotFound)
            }
            _ => false,
        }
    }

    /// Of a stream that was not opened: whether it may be for its session, so that another one is worth a try. As a server
    /// says it of a session that is lost or none, and as this side does of one that cannot be sent.
    pub(super) fn is_refusal_of_session(&self) -> bool {
        let wrong = |code| matches!(code, Code::Unauthenticated | Code::InvalidArgument);
        self.is_loss_of_session()
            || matches!(self, Self::Stream(StreamError::Status(status)) if wrong(status.code()))
    }

    /// Whether there was nobody to ask, so that asking again costs nobody anything.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Connect(error) if error.is_unanswered())
    }

    /// Whether the server sent something that was overtaken already.
    pub(super) fn is_stale_event(&self) -> bool {
        match self {
            Self::Stream(StreamError::Discontinuity { expected, found }) => found < expected,
            Self::Stream(StreamError::Backwards { .. }) | Self::Behind { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for ConsumerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting { cause: None, .. } => f.write_str("connecting"),
            Self::Connecting {
                cause: Some(cause), ..
            } => write!(f, "connecting: {cause}"),
            Self::Ready => f.write_str("ready"),
            Self::Stale { cause, since, .. } => {
                let age = since.elapsed().unwrap_or_default().as_secs();
                write!(f, "stale for {age} s: {cause}")
            }
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl fmt::Display for Disconnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("no attempt to connect has ended yet"),
            Self::Access(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Register(status) => write!(f, "cannot register: {}", status.message()),
            Self::Refresh(status) => write!(f, "cannot refresh the session: {}", status.message()),
            Self::Stream(error) => write!(f, "the stream ended: {error}"),
            Self::Silent { awaited, waited } => {
                write!(f, "the server is silent: no {awaited} within {waited:?}")
            }
            Self::Behind { reached, found } => write!(
                f,
                "the server is behind: it is at sequence {found}, where {reached} of the same epoch has been reached"
            ),
            Self::Duplicate(error) => write!(f, "a snapshot cannot be: {error}"),
            Self::Batch {
                sequence,
                expected,
                found,
            } => write!(
                f,
                "update {sequence} of a batch says that {found} follow, where {expected} should"
            ),
            Self::BatchTooLarge { sequence } => {
                write!(
                    f,
                    "the batch with update {sequence} is too large to collect"
                )
            }
        }
    }
}

impl Error for Disconnection {}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not ready: {}", self.state)
    }
}

impl Error for NotReady {}

/// The state as an engine replicates it: readers get it without waiting, observers in order, in any runtime or none.
#[derive(Clone, Debug)]
pub(super) struct Current(pub(super) ConsumerState);

impl State for Current {
    type Change = ConsumerState;
    type Update = ConsumerState;
    type Rejection = Infallible;

    fn apply(&self, next: &ConsumerState) -> Result<Transition<Self>, Infallible> {
        Ok(Transition::new(Self(next.clone()), vec![next.clone()]))
    }
}
