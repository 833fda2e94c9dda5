//! What a host offers to whoever administers it, and what the two say to each other.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::{Key, Setting, Source, Value};
use configstream_engine::{Committed, Epoch, Sequence};
use tonic::async_trait;

use crate::status::Refusal;

/// What a host offers to whoever administers it. A server built without one can be read, not changed.
#[async_trait]
pub trait AdminBackend: Send + Sync + 'static {
    /// Makes a change, all of it or nothing, and tells what differs.
    ///
    /// # Errors
    /// See [`AdminError`].
    async fn apply(&self, request: ChangeRequest) -> Result<Applied, AdminError>;

    /// Every layer that holds `key`, highest first; empty if none does.
    ///
    /// # Errors
    /// See [`AdminError`].
    async fn explain(&self, key: Key) -> Result<Vec<Explanation>, AdminError>;

    /// How the host is.
    async fn status(&self) -> HostStatus;

    /// The epoch and the sequence at which what wins for `key` last changed. May be earlier than true for a moment after a
    /// change, never later. `None`: the host does not keep it.
    fn changed_at(&self, key: &str) -> Option<(Epoch, Sequence)> {
        let _ = key;
        None
    }
}

/// What somebody wants to be changed: all of it as one version, or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "clients build it")]
pub struct ChangeRequest {
    /// In this order; for a key that is named twice the last one counts.
    pub edits: Vec<Edit>,
    /// What must still be so.
    pub conditions: Conditions,
    /// Who asks, for people; may be empty. A server hands on a line of at most 200 letters.
    pub requested_by: String,
    /// Keep it over a restart of the host.
    pub persist: bool,
    /// Change nothing, only tell what would come of it.
    pub dry_run: bool,
}

/// A change to one key of one layer.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a layer holds a key or it does not"
)]
pub enum Edit {
    /// Put a value into the layer.
    Set {
        /// The layer.
        source: Source,
        /// The name.
        key: Key,
        /// The value.
        value: Value,
    },
    /// Take the key out of the layer. If it is not in there, nothing changes.
    Unset {
        /// The layer.
        source: Source,
        /// The name.
        key: Key,
    },
}

impl Edit {
    /// The name of what it changes.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Set { key, .. } | Self::Unset { key, .. } => key,
        }
    }

    /// The layer that it changes.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Self::Set { source, .. } | Self::Unset { source, .. } => *source,
        }
    }
}

/// What must still be so when a change is made. Nothing, unless said.
///
/// Only what streams counts: a change beneath what wins has no sequence, so no condition sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "clients build it")]
pub struct Conditions {
    /// The epoch that the sequences count in; `None` means the present one.
    pub epoch: Option<Epoch>,
    /// Nothing at all has changed after this sequence.
    pub head: Option<Sequence>,
    /// None of these keys has changed after its sequence.
    pub keys: Vec<(Key, Sequence)>,
}

/// What a change led to, or would lead to.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct Applied {
    /// The head's epoch after it.
    pub epoch: Epoch,
    /// The head's sequence after it.
    pub sequence: Sequence,
    /// How many updates stream for it.
    pub updates: u64,
    /// Whether every subscriber gets a snapshot for it instead.
    pub needs_snapshot: bool,
    /// Each key of which some layer differs after it, in the order in which the edits first name them. Empty: everything
    /// was so already.
    pub differences: Vec<Difference>,
    /// Whether what a restart of the host brings back has changed.
    pub persisted: bool,
}

impl Applied {
    /// What a commit led to.
    #[must_use]
    pub fn new(committed: Committed, differences: Vec<Difference>) -> Self {
        Self {
            epoch: committed.epoch,
            sequence: committed.sequence,
            updates: committed.updates,
            needs_snapshot: committed.needs_snapshot,
            differences,
            persisted: false,
        }
    }
}

/// What a change does to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct Difference {
    /// The name.
    pub key: Key,
    /// What won before; `None` if no layer held it.
    pub before: Option<Arc<Setting>>,
    /// What wins after it; `None` if no layer holds it any more.
    pub after: Option<Arc<Setting>>,
}

/// What one layer says about a key.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct Explanation {
    /// The layer.
    pub source: Source,
    /// Its value.
    pub value: Value,
    /// Whether this is the one that streams.
    pub wins: bool,
    /// Where it came from, for people; may be empty.
    pub provenance: String,
    /// Who asked for it at run time; empty unless somebody did.
    pub requested_by: String,
    /// When that was.
    pub requested_at: Option<SystemTime>,
}

/// What only the host knows of its status.
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct HostStatus {
    /// The program's version.
    pub version: String,
    /// Since it started.
    pub uptime: Duration,
    /// Where its settings come from.
    pub sources: Vec<SourceReport>,
    /// What else is wrong although it serves, for people.
    pub problems: Vec<String>,
    /// Changes that wait to be made.
    pub queued_changes: u64,
}

/// How one place that settings come from is doing.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "hosts build it")]
pub struct SourceReport {
    /// The layer it fills.
    pub source: Source,
    /// What it reads: a path, a prefix.
    pub detail: String,
    /// Why its newest content is not in force.
    pub error: Option<String>,
    /// How many settings its layer holds.
    pub settings: u64,
    /// When its content last took effect.
    pub loaded_at: Option<SystemTime>,
    /// Since when its newest content is not in force.
    pub failing_since: Option<SystemTime>,
    /// Why its content last did not take effect, and when, even if it has since.
    pub last_error: Option<(String, SystemTime)>,
    /// How often it took effect.
    pub loads: u64,
    /// How often it could not.
    pub failures: u64,
}

/// Why an administrator's wish was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminError {
    /// The settings refuse the change, for this reason: `InvalidArgument`.
    Rejected(String),
    /// A condition does not hold. Says which, what was found, and what to do: `Aborted`.
    Conflict(String),
    /// The host cannot do this, for this reason: `Unimplemented`.
    Unsupported(String),
    /// It was asked to persist, and cannot, for this reason: `FailedPrecondition`. Nothing has changed.
    NotPersisted(String),
    /// No sequence can be reserved for it, for this reason: `ResourceExhausted`. Nothing has changed; it may work again.
    NoSequence(String),
    /// Too many changes wait already: `ResourceExhausted`.
    Overloaded,
    /// The host can read, not write: `FailedPrecondition`.
    ReadOnly,
    /// The host is closing: `Unavailable`.
    Closed,
}

impl From<AdminError> for Refusal {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Rejected(reason) => Self::Rejected { reason },
            AdminError::Conflict(reason) => Self::Conflict { reason },
            AdminError::Unsupported(reason) => Self::Unsupported { reason },
            AdminError::NotPersisted(reason) => Self::NotPersisted { reason },
            AdminError::NoSequence(reason) => Self::NoSequence { reason },
            AdminError::Overloaded => Self::Overloaded,
            AdminError::ReadOnly => Self::ReadOnly,
            AdminError::Closed => Self::ShuttingDown,
        }
    }
}
