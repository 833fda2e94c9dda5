//! Log lines that peers cause: some of them are enough.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets so many lines through in a second, and counts the others.
pub(crate) struct Sparing {
    lines: u32,
    now: Mutex<While>,
}

#[derive(Default)]
struct While {
    begun: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Sparing {
    /// Of what is of no use to anybody in great numbers.
    pub(crate) fn few() -> Self {
        Self::new(10)
    }

    /// Of what a thousand good peers may cause at once, when a server comes back: within 4 s, as consumers do.
    pub(crate) fn many() -> Self {
        Self::new(300)
    }

    fn new(lines: u32) -> Self {
        Self {
            lines,
            now: Mutex::default(),
        }
    }

    /// Whether one more may be said: then how many were not, since the last that was.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut now = self.now.lock();
        if now.begun.is_none_or(|begun| begun.elapsed() >= WHILE) {
            now.begun = Some(Instant::now());
            now.said = 0;
        }
        if now.said == self.lines {
            now.unsaid += 1;
            return None;
        }
        now.said += 1;
        Some(std::mem::take(&mut now.unsaid))
    }
}

const WHILE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_is_counted_and_told_with_the_next() {
        let lines = Sparing::new(7);
        for _ in 0..7 {
            assert_eq!(lines.admit(), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(lines.admit(), None);
        }
        tokio::time::advance(WHILE).await;
        assert_eq!(lines.admit(), Some(1_000));
        assert_eq!(lines.admit(), Some(0));
    }
}
