//! What goes to standard output, and how it looks.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::thread;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use configstream_grpc::printable;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value as Json;

use crate::exit::{Exit, Failure};
use crate::json;

/// Writes data for a person or for a program.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    style: bool,
}

/// When output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[allow(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Also where nobody may see it.
    Always,
    /// Not at all.
    Never,
}

impl Output {
    /// For a person if standard output is a terminal, unless JSON is asked for.
    #[must_use]
    pub fn new(json: bool, color: Color) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json: json || !terminal,
            style: match color {
                Color::Auto => terminal && !plain,
                Color::Always => true,
                Color::Never => false,
            },
        }
    }

    /// Whether a program reads it.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json
    }

    /// One JSON object on a line.
    ///
    /// # Errors
    ///
    /// Nobody takes it.
    pub fn object(self, object: &Json) -> Result<(), Failure> {
        self.raw(format!("{}\n", json::printable(&object.to_string())).as_bytes())
    }

    /// A line of text, or several. Nothing in it moves or hides what a terminal shows, but for
    /// styles of ours.
    ///
    /// # Errors
    ///
    /// Nobody takes it.
    pub fn line(self, lines: &str) -> Result<(), Failure> {
        let mut safe = String::with_capacity(lines.len() + 1);
        for line in lines.split('\n') {
            safe += &self.safe(line);
            safe.push('\n');
        }
        self.raw(safe.as_bytes())
    }

    fn safe(self, line: &str) -> String {
        if !self.style {
            return printable(line).into_owned();
        }
        let mut safe = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(escape) = rest.find('\u{1b}') {
            let (before, from) = rest.split_at(escape);
            safe += &printable(before);
            let style = STYLES.iter().find(|style| from.starts_with(**style));
            let (shown, after) = from.split_at(style.map_or(1, |style| style.len()));
            safe += &match style {
                Some(_) => shown.into(),
                None => printable(shown),
            };
            rest = after;
        }
        safe + &printable(rest)
    }

    /// A table with a header.
    ///
    /// # Errors
    ///
    /// Nobody takes it.
    pub fn table<const N: usize>(
        self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<(), Failure> {
        let mut table = Table::new();
        table
            .load_preset(NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(header.map(str::to_uppercase));
        // A terminal that does not tell its width, or is too narrow for a table, had better wrap lines by itself.
        if table.width().is_none_or(|columns| columns < 20) {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        for row in rows {
            // A control character in a value must not reach the terminal.
            table.add_row(row.map(|cell| printable(&cell).into_owned()));
        }
        self.line(&table.to_string())
    }

    /// Bytes as they are. A reader that has gone (`| head`) ends the program quietly.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written.
    pub fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::new(
                Exit::Failed,
                "cannot write to standard output",
                error,
                "give it room",
            )),
        }
    }

    /// Also ends the program quietly when its reader goes while there is nothing to write. For verbs that write now and
    /// then; takes a thread.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub(super) fn end_with_reader(self) -> Result<(), Failure> {
        let watch = || {
            let stdout = io::stdout();
            // No event is asked for: that the other end has gone is told all the same, and of a file there is nothing to tell.
            let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
            while let Ok(_) | Err(Errno::EINTR) = poll(&mut polled, PollTimeout::NONE) {
                match polled[0].revents() {
                    Some(told) if told.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) => {
                        std::process::exit(0)
                    }
                    Some(told) if told.contains(PollFlags::POLLNVAL) => return,
                    _ => {}
                }
            }
        };
        let thread = thread::Builder::new().name("reader".to_owned());
        match thread.spawn(watch) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::new(
                Exit::Failed,
                "cannot start a thread",
                error,
                "free some",
            )),
        }
    }

    /// Text that stands out on a terminal.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.styled(text, "1")
    }

    /// Text that stands back on a terminal.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.styled(text, "2")
    }

    /// Text that is coloured on a terminal.
    #[must_use]
    pub fn red(self, text: &str) -> String {
        self.styled(text, "31")
    }

    /// Text that is coloured on a terminal.
    #[must_use]
    pub fn green(self, text: &str) -> String {
        self.styled(text, "32")
    }

    /// Text that is coloured on a terminal.
    #[must_use]
    pub fn yellow(self, text: &str) -> String {
        self.styled(text, "33")
    }

    /// A part of `text` that is styled already keeps its own style, and what follows it goes on in this one.
    fn styled(self, text: &str, code: &str) -> String {
        if !self.style {
            return text.to_owned();
        }
        let on = format!("\u{1b}[{code}m");
        let text = text.replace(OFF, &format!("{OFF}{on}"));
        format!("{on}{text}{OFF}")
    }
}

/// Ends every style.
const OFF: &str = "\u{1b}[0m";

/// What starts and ends each style.
const STYLES: [&str; 6] = [
    OFF,
    "\u{1b}[1m",
    "\u{1b}[2m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_any_number_of_escapes_is_made_safe() {
        let coloured = Output::new(false, Color::Always);
        let styles = "\u{1b}[1mx\u{1b}[0m".repeat(200_000);
        assert_eq!(coloured.safe(&styles), styles);
        let other = "\u{1b}[2J\u{9b}";
        assert_eq!(coloured.safe(other), r"\u{1b}[2J\u{9b}");
        let plain = Output::new(false, Color::Never);
        assert_eq!(plain.safe("\u{1b}[1m"), r"\u{1b}[1m");
    }

    #[test]
    fn a_style_goes_on_behind_a_part_that_has_its_own() {
        let output = Output {
            json: false,
            style: true,
        };
        let text = output.red(&format!("- {} = 1", output.bold("a")));
        assert_eq!(
            text,
            "\u{1b}[31m- \u{1b}[1ma\u{1b}[0m\u{1b}[31m = 1\u{1b}[0m"
        );
        let plain = Output::new(false, Color::Never);
        assert_eq!(plain.red(&plain.bold("a")), "a");
    }
}
