//! Log lines that peers cause: some of them are enough, and the beginning of what peers say.

use std::fmt::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::Mutex;
use crate::printable::printable;

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

/// What a peer says, as a part of a line: on that line, and of a bounded length.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    text: &'a str,
    bytes: usize,
}

impl<'a> Shown<'a> {
    /// How a peer calls itself.
    pub(crate) fn name(text: &'a str) -> Self {
        Self { text, bytes: 256 }
    }

    /// A whole sentence.
    pub(crate) fn message(text: &'a str) -> Self {
        Self { text, bytes: 1_024 }
    }
}

impl fmt::Display for Shown<'_> {
    /// Escapes first, since an escape is longer than its letter, and then cuts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.bytes;
        for letter in self.text.chars() {
            let mut bytes = [0; 4];
            let escaped = printable(letter.encode_utf8(&mut bytes));
            let Some(rest) = left.checked_sub(escaped.len()) else {
                return f.write_char('…');
            };
            left = rest;
            f.write_str(&escaped)?;
        }
        Ok(())
    }
}

const WHILE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_stays_on_its_line_and_is_cut_after_it_is_escaped() {
        let shown = |text: &str| Shown::name(text).to_string();
        assert_eq!(shown("it's \\ \"ä\""), "it's \\ \"ä\"");
        assert_eq!(shown("a\nb\u{1b}[2J\u{202e}"), "a\\nb\\u{1b}[2J\\u{202e}");
        assert_eq!(shown(&"x".repeat(256)), "x".repeat(256));
        assert_eq!(shown(&"x".repeat(257)), "x".repeat(256) + "…");
        assert_eq!(shown(&"ä".repeat(8_000)), "ä".repeat(128) + "…");
        assert_eq!(shown(&"\u{1b}".repeat(8_000)), "\\u{1b}".repeat(42) + "…");
    }

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
