//! Narration: what a person is told on standard error, beside the data on standard output and the events of the log.

use std::fmt;

use crate::log;

/// Says a line, or several.
pub(crate) fn say(lines: fmt::Arguments<'_>) {
    log::print(&lines.to_string());
}
