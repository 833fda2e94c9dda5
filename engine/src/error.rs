//! Why an operation did not do what it was asked: one type per operation.

use std::{error, fmt};

use crate::sequence::Sequence;

/// Why [`EngineBuilder::build`](crate::EngineBuilder::build) made no engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The first sequence is already past the limit.
    StartPastLimit,
}

/// Why [`Engine::publish`](crate::Engine::publish) committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError<R> {
    /// The state refused the change.
    Rejected(R),
    /// The change is fine, but its last sequence would be `needed`, past
    /// [the limit](crate::Engine::set_sequence_limit).
    SequenceLimit {
        /// The limit that would have let it pass.
        needed: Sequence,
    },
    /// Sequences end at 2^64 - 1.
    Exhausted,
    /// The engine is closed.
    Closed,
}

/// Why [`Engine::follow`](crate::Engine::follow) made no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowError {
    /// The updates do not continue the head: a whole state has to be adopted.
    Discontinuity {
        /// The sequence after the head's.
        expected: Sequence,
        /// The first one offered.
        found: Sequence,
    },
    /// As [`PublishError::SequenceLimit`].
    SequenceLimit {
        /// The limit that would have let it pass.
        needed: Sequence,
    },
    /// Sequences end at 2^64 - 1.
    Exhausted,
    /// The engine is closed.
    Closed,
}

/// The engine is closed: its head is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// [`Engine::wait_distributed`](crate::Engine::wait_distributed) waited for as long as it was asked
/// to. The commit stands, and will be distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDistributed;

/// Why [`Subscription::try_next`](crate::Subscription::try_next) had no event to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryNextError {
    /// Nothing yet; the engine is open and more may come.
    Empty,
    /// The engine closed, and all that preceded the close has been handed out.
    Closed,
}

/// Why [`Subscription::next_timeout`](crate::Subscription::next_timeout) had no event to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextTimeoutError {
    /// Nothing came in time; the engine is open and more may come.
    Timeout,
    /// The engine closed, and all that preceded the close has been handed out.
    Closed,
}

impl<R> PublishError<R> {
    /// The state's reason, if that is what it was.
    pub fn into_rejection(self) -> Option<R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// Whether the engine was closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartPastLimit => {
                f.write_str("the sequence to start at is past the sequence limit")
            }
        }
    }
}

impl<R: fmt::Display> fmt::Display for PublishError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::SequenceLimit { needed } => past_limit(f, *needed),
            Self::Exhausted => f.write_str(EXHAUSTED),
            Self::Closed => Closed.fmt(f),
        }
    }
}

impl fmt::Display for FollowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discontinuity { expected, found } => {
                write!(f, "expected sequence {expected}, found {found}")
            }
            Self::SequenceLimit { needed } => past_limit(f, *needed),
            Self::Exhausted => f.write_str(EXHAUSTED),
            Self::Closed => Closed.fmt(f),
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the engine is closed")
    }
}

impl fmt::Display for NotDistributed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("committed, but not distributed within the time given")
    }
}

impl fmt::Display for TryNextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no event yet"),
            Self::Closed => Closed.fmt(f),
        }
    }
}

impl fmt::Display for NextTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no event within the time given"),
            Self::Closed => Closed.fmt(f),
        }
    }
}

fn past_limit(f: &mut fmt::Formatter<'_>, needed: Sequence) -> fmt::Result {
    write!(f, "sequence {needed} is past the sequence limit")
}

const EXHAUSTED: &str = "sequences are exhausted";

impl error::Error for BuildError {}
impl<R: fmt::Debug + fmt::Display> error::Error for PublishError<R> {}
impl error::Error for FollowError {}
impl error::Error for Closed {}
impl error::Error for NotDistributed {}
impl error::Error for TryNextError {}
impl error::Error for NextTimeoutError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn predicates_say_what_their_names_say() {
        assert!(PublishError::<()>::Closed.is_closed());
        assert!(!PublishError::Rejected(1).is_closed());
        assert_eq!(PublishError::Rejected(1).into_rejection(), Some(1));
        let limit = PublishError::<u8>::SequenceLimit {
            needed: Sequence::new(9),
        };
        assert!(!limit.is_closed());
        assert_eq!(limit.into_rejection(), None);
    }
}
