//! Every way in which the server says no: its code and its text, in one table.

use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};

/// Why a call, or a stream, came to nothing. The texts are interface: clients and people match them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    // Who may call at all.
    NoToken,
    WrongToken,
    RequestTooSlow {
        limit: Duration,
    },

    // Remote agents and their sessions.
    RegistryDisabled,
    BlankDisplayName,
    UnsupportedScheme {
        scheme: String,
    },
    MalformedVsock {
        uri: String,
    },
    RegistrationTooLarge {
        size: usize,
        field: &'static str,
        most: usize,
        limit: usize,
    },
    NameTooLong {
        size: usize,
        limit: usize,
    },
    TooManySessions {
        limit: usize,
    },
    RegisteringTooFast {
        limit: u32,
    },
    NoSessionForRefresh,
    NoSessionId,
    EmptySessionId,
    UnknownSession {
        id: String,
    },

    // Streams of events.
    TooManyStreams {
        limit: usize,
    },
    ShuttingDown,
    EngineClosed,
    SequencesUsedUp,
    NewEpoch,
    EventTooLarge {
        size: usize,
        limit: usize,
    },

    // Administration.
    Malformed {
        reason: String,
    },
    UnknownKey {
        key: String,
    },
    NotHeld {
        key: String,
        source: String,
    },
    Rejected {
        reason: String,
    },
    Conflict {
        reason: String,
    },
    Unsupported {
        reason: String,
    },
    NotPersisted {
        reason: String,
    },
    NoSequence {
        reason: String,
    },
    Overloaded,
    ReadOnly,
}

impl Refusal {
    fn code(&self) -> Code {
        match self {
            Self::NoToken | Self::WrongToken | Self::NoSessionId | Self::EmptySessionId => {
                Code::Unauthenticated
            }
            Self::RequestTooSlow { .. } => Code::DeadlineExceeded,
            Self::UnknownSession { .. } => Code::PermissionDenied,
            Self::RegistryDisabled | Self::Unsupported { .. } => Code::Unimplemented,
            Self::Conflict { .. } => Code::Aborted,
            Self::BlankDisplayName
            | Self::UnsupportedScheme { .. }
            | Self::MalformedVsock { .. }
            | Self::RegistrationTooLarge { .. }
            | Self::NameTooLong { .. }
            | Self::Malformed { .. }
            | Self::Rejected { .. } => Code::InvalidArgument,
            Self::NoSessionForRefresh | Self::UnknownKey { .. } | Self::NotHeld { .. } => {
                Code::NotFound
            }
            Self::TooManySessions { .. }
            | Self::RegisteringTooFast { .. }
            | Self::EventTooLarge { .. }
            | Self::NoSequence { .. }
            | Self::Overloaded => Code::ResourceExhausted,
            Self::TooManyStreams { .. }
            | Self::ShuttingDown
            | Self::EngineClosed
            | Self::SequencesUsedUp
            | Self::NewEpoch => Code::Unavailable,
            Self::ReadOnly | Self::NotPersisted { .. } => Code::FailedPrecondition,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("authorization required in metadata: Bearer <token>"),
            Self::WrongToken => f.write_str("invalid authorization token"),
            Self::RequestTooSlow { limit } => {
                write!(f, "the request did not end within {limit:?}")
            }
            Self::RegistryDisabled => f.write_str("remote agent registry not enabled"),
            Self::BlankDisplayName => {
                f.write_str("remote agent display name must not be empty or whitespace-only")
            }
            Self::UnsupportedScheme { scheme } => write!(
                f,
                "unsupported api_endpoint_uri scheme \"{scheme}\" (expected one of: unix, https, vsock)"
            ),
            Self::MalformedVsock { uri } => {
                write!(
                    f,
                    "malformed vsock api_endpoint_uri \"{uri}\" (expected vsock://<cid>:<port>)"
                )
            }
            Self::RegistrationTooLarge {
                size,
                field,
                most,
                limit,
            } => write!(
                f,
                "remote agent registration takes {size} bytes, {field} alone {most}: the limit is {limit}"
            ),
            Self::NameTooLong { size, limit } => {
                write!(
                    f,
                    "subscriber name of {size} bytes exceeds the limit of {limit}"
                )
            }
            Self::TooManySessions { limit } => {
                write!(f, "too many remote agents (at most {limit})")
            }
            Self::RegisteringTooFast { limit } => write!(
                f,
                "too many registrations on one connection (at most {limit} a second)"
            ),
            Self::NoSessionForRefresh => f.write_str("no remote agent found with session ID"),
            Self::NoSessionId => write!(f, "session_id required in metadata: {REGISTER_FIRST}"),
            Self::EmptySessionId => write!(f, "session_id cannot be empty: {REGISTER_FIRST}"),
            Self::UnknownSession { id } => {
                write!(f, "session_id '{id}' not found: {REGISTER_FIRST}")
            }
            Self::TooManyStreams { limit } => {
                write!(f, "too many config streams (at most {limit})")
            }
            Self::ShuttingDown => f.write_str("the server is shutting down"),
            Self::EngineClosed => f.write_str("the configuration is no longer published"),
            Self::SequencesUsedUp => {
                f.write_str("the sequence numbers are used up: a new epoch has to begin")
            }
            Self::NewEpoch => f.write_str("a new epoch has begun"),
            Self::EventTooLarge { size, limit } => {
                write!(f, "an event of {size} bytes exceeds the limit of {limit}")
            }
            Self::Malformed { reason }
            | Self::Rejected { reason }
            | Self::Conflict { reason }
            | Self::Unsupported { reason }
            | Self::NotPersisted { reason }
            | Self::NoSequence { reason } => f.write_str(reason),
            Self::UnknownKey { key } => write!(f, "no setting has the key '{key}'"),
            Self::NotHeld { key, source } => {
                write!(f, "layer '{source}' does not hold the key '{key}'")
            }
            Self::Overloaded => f.write_str("too many changes are waiting"),
            Self::ReadOnly => f.write_str("this server cannot be changed: it follows another"),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut text = refusal.to_string();
        if text.len() > LONGEST_TEXT_BYTES {
            text.truncate(text.floor_char_boundary(LONGEST_TEXT_BYTES));
            text.push('…');
        }
        Self::new(refusal.code(), text)
    }
}

/// A text may repeat what a peer sent, which may be as large as a request. It travels in a header, where a byte can take
/// three, no window holds it back, and libraries take 16 KiB by default.
const LONGEST_TEXT_BYTES: usize = 4 * 1024;

const REGISTER_FIRST: &str =
    "remote agent must register with RAR before subscribing to config stream";
