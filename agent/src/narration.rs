//! Narration: what a person is told on standard error, beside the data on standard output and the events of the log.

use std::fmt;
use std::io::{self, Write};

/// Says a line. Where nobody reads standard error any more (`2>&1 | head`) it is lost, and that is all: `eprintln!` would
/// panic, and end with it a program that may have work to do, or an exit code to give.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    // One write, so that lines of several processes do not mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
