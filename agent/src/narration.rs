//! Narration: what a person is told on standard error, beside the data on standard output and the events of the log.

use std::fmt;

use crate::log;

/// Says a line, or several.
pub(crate) fn say(lines: fmt::Arguments<'_>) {
    log::print(&lines.to_string());
}

/// Says what is wrong with a command line, or prints the help that it asks for.
pub(crate) fn complain(error: &clap::Error) {
    if error.use_stderr() {
        // It quotes the argument as it is.
        log::print(&error.render().to_string());
    } else {
        let _ = error.print();
    }
}
