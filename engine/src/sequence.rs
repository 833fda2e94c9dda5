//! The labels of a version: its sequence, and the epoch in which that sequence counts.

use std::fmt;

/// The number of an update, given at commit: one more than the update before it, within an [`Epoch`].
///
/// A label for people and for remote consumers. The engine itself compares ordinals, which never restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

/// One lifetime of the sequence counter. Sequences compare only within an epoch. The default is [`NONE`](Self::NONE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Sequence {
    /// The greatest sequence there is.
    pub const MAX: Self = Self(u64::MAX);

    /// The sequence with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sequence `count` further on, or `None` past [`MAX`](Self::MAX).
    #[must_use]
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The sequence of the next update; [`MAX`](Self::MAX) stays where it is.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Epoch {
    /// No epoch was given: the sequence begins anew with each process that publishes. So nobody can rely on its not going
    /// back, and whoever keeps it over restarts has to give an epoch. What an engine starts in by default.
    pub const NONE: Self = Self(0);

    /// The epoch with this number; 0 is [`NONE`](Self::NONE).
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one; the last stays where it is.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sequences_end_instead_of_wrapping() {
        assert_eq!(Sequence::new(1).checked_add(2), Some(Sequence::new(3)));
        assert_eq!(Sequence::MAX.checked_add(1), None);
        assert_eq!(Sequence::MAX.next(), Sequence::MAX);
        assert_eq!(Epoch::new(u64::MAX).next(), Epoch::new(u64::MAX));
    }
}
