//! The log, on standard error: one event per line, as text or as JSON.
//!
//! A line of text has a time (UTC), a level, the module that speaks, a message and fields; a line of JSON has `timestamp`,
//! `level`, `target`, and `fields` with the `message` among them. Messages are the same in both. No event holds the value
//! of a setting, the token or the key.
//!
//! Where standard error is the journal's (`JOURNAL_STREAM`), a line of text has its priority in front, as `journalctl -p`
//! wants it, and neither time nor colour: the journal has the time.
//!
//! # Levels
//!
//! | `log_level` | shows |
//! | --- | --- |
//! | `off` | nothing but the trail of changes |
//! | `error`, `critical` | what needs somebody's hands |
//! | `warn`, `warning` | and what somebody should know |
//! | `info` | and what happens to agents, streams and files: a line or two for each |
//! | `debug` | and each change, and why each stream and connection ends |
//! | `trace` | and whatever else there may be |
//!
//! Who changed what by hand, or tried to, is logged at each of them, `off` included, as [`AUDIT_LOG`]: the level is itself a
//! setting, and who changes it must not take the trail of changes with it.
//!
//! `debug` and `trace` are for this program's own events; the libraries beneath it stay at `info`. `RUST_LOG` reaches those:
//! where it is set, it alone says what is logged, the trail included (`RUST_LOG=warn,configstream_grpc::audit=info` keeps
//! it), and [`set_level`] does nothing.

use std::env;
use std::fmt::{self, Write};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use configstream_grpc::AUDIT_LOG;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "programs match on it")]
pub enum Style {
    /// Text for a terminal or a file.
    Text,
    /// Text for the journal.
    Journal,
    /// JSON.
    Json,
}

impl Style {
    /// JSON if it is asked for, else text for whoever reads standard error.
    #[must_use]
    pub fn choose(json: bool) -> Self {
        match json {
            true => Self::Json,
            false if is_journal() => Self::Journal,
            false => Self::Text,
        }
    }
}

/// Starts the log at a level, or as `RUST_LOG` says. Only the first log of a process counts: whoever has set up one before
/// keeps it, with its levels.
pub fn start(style: Style, level: LevelFilter) {
    let asked = env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let (filter, wrong) = match asked.as_deref().map(str::parse::<EnvFilter>) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (filter(level), Some(error)),
        None => (filter(level), None),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match style {
        Style::Text => lines.fmt_fields(fields()).with_ansi(has_colour()).boxed(),
        Style::Journal => lines
            .fmt_fields(fields())
            .with_ansi(false)
            .event_format(ForJournal(format().without_time()))
            .boxed(),
        Style::Json => lines.json().boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(lines);
    if started.try_init().is_err() {
        return;
    }
    let follows = asked.is_none() || wrong.is_some();
    let _ = LOG.set(Log {
        style,
        handle: follows.then_some(handle),
    });
    if style != Style::Text {
        // A program that reads the log reads nothing else.
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
    if let Some(error) = wrong {
        tracing::warn!("RUST_LOG is ignored: {error}; write a level, such as debug");
    }
}

/// Changes the level at once, unless [`is_fixed`]; or does nothing, if this process has another log than [`start`]'s.
pub fn set_level(level: LevelFilter) {
    if let Some(handle) = LOG.get().and_then(|log| log.handle.as_ref()) {
        // Fails only if the log has gone, which lives as long as the process.
        let _ = handle.reload(filter(level));
    }
}

/// Whether `RUST_LOG` says what is logged.
#[must_use]
pub fn is_fixed() -> bool {
    LOG.get().is_some_and(|log| log.handle.is_none())
}

/// The level that a text names, as in the table above, whatever the case of its letters.
#[must_use]
pub fn parse_level(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" | "critical" => LevelFilter::ERROR,
        "warn" | "warning" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

/// Whether a person reads the log, rather than a program: then longer texts may stand between its lines.
#[must_use]
pub fn is_for_people() -> bool {
    LOG.get().is_none_or(|log| log.style == Style::Text)
}

/// The log of this process.
struct Log {
    style: Style,
    /// None where `RUST_LOG` says what is logged.
    handle: Option<reload::Handle<EnvFilter, Registry>>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Our own events at a level, but for the trail of changes, which stays; those of libraries at most at `info`.
fn filter(level: LevelFilter) -> EnvFilter {
    // An event is shown by the longest directive that its target starts with. `notify` warns of each watched directory that
    // is swapped for another, as Kubernetes does, though that is noticed and dealt with (`sources::file`).
    EnvFilter::new(format!(
        "{},configstream={level},{AUDIT_LOG}=info,notify={}",
        level.min(LevelFilter::INFO),
        level.min(LevelFilter::ERROR)
    ))
}

/// Message and fields as text that stays on its line: peers choose some of it, and could forge lines otherwise.
fn fields() -> impl for<'writer> FormatFields<'writer> {
    let fields = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(OneLine(writer), "{value:?}"),
        // Where a library logged it, which the target says.
        name if name.starts_with("log.") => Ok(()),
        name => write!(OneLine(writer), "{name}={value:?}"),
    });
    fields.delimited(" ")
}

/// Writes control characters as a Rust string would have them.
struct OneLine<'a, 'writer>(&'a mut Writer<'writer>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| match letter {
            letter if letter.is_control() => write!(self.0, "{}", letter.escape_default()),
            letter => self.0.write_char(letter),
        })
    }
}

/// Text as the journal wants it: with the priority in front.
struct ForJournal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// Whether a terminal reads, and nobody has asked for plain text (<https://no-color.org>).
fn has_colour() -> bool {
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !plain
}

/// Whether standard error goes to the journal: systemd names the device and inode that it has put there.
fn is_journal() -> bool {
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let named = env::var("JOURNAL_STREAM");
    match (named, stderr.and_then(|file| file.metadata())) {
        (Ok(named), Ok(stderr)) => named == format!("{}:{}", stderr.dev(), stderr.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_of_a_level_is_known_and_no_other() {
        for (text, level) in [
            ("off", LevelFilter::OFF),
            ("critical", LevelFilter::ERROR),
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("WARNING", LevelFilter::WARN),
            ("Info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("trace", LevelFilter::TRACE),
        ] {
            assert_eq!(parse_level(text), Some(level), "{text}");
        }
        for text in ["", "loud", "3", "info,h2=debug", " info"] {
            assert_eq!(parse_level(text), None, "{text}");
        }
    }

    #[test]
    fn libraries_do_not_get_louder_than_info() {
        for (level, directives) in [
            (LevelFilter::OFF, "configstream=off,notify=off,off"),
            (LevelFilter::WARN, "configstream=warn,notify=error,warn"),
            (LevelFilter::INFO, "configstream=info,notify=error,info"),
            (LevelFilter::TRACE, "configstream=trace,notify=error,info"),
        ] {
            let directives = format!("{AUDIT_LOG}=info,{directives}");
            assert_eq!(filter(level).to_string(), directives);
        }
    }
}
