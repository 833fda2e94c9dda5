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
//! # A log that is not read
//!
//! The agent hands its lines to a thread of their own, by a queue of [`QUEUE_BYTES`]: whatever
//! reads standard error may stop, and only the log stops with it. Lines that do not fit are
//! dropped, counted (`configstream_log_lines_dropped_total`), and reported in the log as soon as it
//! takes lines again. At its end the agent waits for the reader of its last lines for
//! [`DRAIN_DEADLINE`] at most. The tools write each line before they go on.
//!
//! A line has at most [`LINE_BYTES`]; a longer one is cut, in JSON by its longest texts.
//!
//! # Libraries
//!
//! `debug` and `trace` are for this program's own events; the libraries beneath it stay at `info`. `RUST_LOG` reaches those:
//! where it is set, it alone says what is logged, the trail included (`RUST_LOG=warn,configstream_grpc::audit=info` keeps
//! it), and [`set_level`] does nothing.

mod line;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use configstream_grpc::{AUDIT_LOG, Printable, lock, printable};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use self::queue::Queue;

pub use self::line::LINE_BYTES;
pub use self::queue::QUEUE_BYTES;

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

/// Starts the log of a tool at a level, or as `RUST_LOG` says: each line is written before the
/// program goes on. Only the first log of a process counts: another that was set up before stays,
/// with its levels.
pub fn start(style: Style, level: LevelFilter) {
    start_to(Sink::Direct, style, level);
}

/// Starts the log of an agent, likewise, but for its lines, which a thread writes; and so it does
/// what goes with them, such as the message of a panic.
///
/// # Errors
///
/// The system has no thread to give.
pub fn start_queued(style: Style, level: LevelFilter) -> io::Result<()> {
    let report = |missing| {
        tracing::warn!(
            dropped_since_start = dropped(),
            "{missing} log lines were dropped here: the log was not read, or could not be written"
        );
    };
    let queue = Queue::start(Stderr, report)?;
    if start_to(Sink::Queue(queue), style, level) {
        std::panic::set_hook(Box::new(tell_panic));
    }
    Ok(())
}

/// Whether this log is the one that counts.
fn start_to(sink: Sink, style: Style, level: LevelFilter) -> bool {
    let asked = env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let (filter, wrong) = match asked.as_deref().map(str::parse::<EnvFilter>) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (filter(level), Some(error)),
        None => (filter(level), None),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let coloured = style == Style::Text && has_colour();
    let lines = tracing_subscriber::fmt::layer().with_writer(Lines {
        sink: sink.clone(),
        style,
        coloured,
    });
    let lines = match style {
        Style::Text => lines.fmt_fields(fields()).with_ansi(coloured).boxed(),
        Style::Journal => lines
            .fmt_fields(fields())
            .with_ansi(false)
            .event_format(ForJournal(format().without_time()))
            .boxed(),
        Style::Json => lines.json().boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(lines);
    if started.try_init().is_err() {
        return false;
    }
    let follows = asked.is_none() || wrong.is_some();
    let _ = LOG.set(Log {
        sink,
        style,
        handle: follows.then_some(handle),
    });
    if let Some(error) = wrong {
        tracing::warn!("RUST_LOG is ignored: {error}; write a level, such as debug");
    }
    true
}

/// Writes text for people beside the log, by the same way as its lines: so it neither overtakes
/// them nor waits, if they do not.
pub(crate) fn print(text: &str) {
    let mut lines = String::new();
    for line in text.lines() {
        lines += &line::of_text(&printable(line), false);
        lines.push('\n');
    }
    match LOG.get().map(|log| &log.sink) {
        Some(Sink::Queue(queue)) => lines
            .split_inclusive('\n')
            .for_each(|line| queue.push(line.as_bytes())),
        // Where nothing reads standard error any more (`2>&1 | head`) it is lost, and that is all:
        // `eprintln!` would panic, and end with it a program that may have work to do, or an exit
        // code to give. One write, so that lines of several processes do not mix.
        _ => drop(io::Write::write_all(&mut io::stderr(), lines.as_bytes())),
    }
}

/// Waits until the log is written, but not for a reader that has stopped. Before the program ends.
pub fn drain() {
    if let Some(Sink::Queue(queue)) = LOG.get().map(|log| &log.sink) {
        queue.drain(DRAIN_DEADLINE);
    }
}

/// How many lines of the log have been dropped.
#[must_use]
pub fn dropped() -> u64 {
    match LOG.get().map(|log| &log.sink) {
        Some(Sink::Queue(queue)) => queue.dropped(),
        _ => 0,
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

/// How long the end of an agent may wait for the reader of its log.
pub const DRAIN_DEADLINE: Duration = Duration::from_millis(500);

/// The log of this process.
struct Log {
    sink: Sink,
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
        "{},configstream={level},{AUDIT_LOG}=info,{DROPPED_LOG}=warn,notify={}",
        level.min(LevelFilter::INFO),
        level.min(LevelFilter::ERROR)
    ))
}

/// What the report of dropped lines is logged as: a part of the trail may be among them.
const DROPPED_LOG: &str = module_path!();

/// Message and fields as text that stays on its line: peers choose some of it, and could forge lines otherwise.
fn fields() -> impl for<'writer> FormatFields<'writer> {
    let fields = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(Printable(writer), "{value:?}"),
        // Where a library logged it, which the target says.
        name if name.starts_with("log.") => Ok(()),
        name => write!(Printable(writer), "{name}={value:?}"),
    });
    fields.delimited(" ")
}

/// Where lines go.
#[derive(Clone)]
enum Sink {
    /// To standard error at once.
    Direct,
    /// To the thread that writes them there.
    Queue(Queue),
}

/// Makes what the formatter gives, an event at a time, the line that goes into the log.
#[derive(Clone)]
struct Lines {
    sink: Sink,
    style: Style,
    coloured: bool,
}

impl io::Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        lock::assert_none_held();
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut line = match self.style {
            Style::Json => line::of_json(text),
            Style::Text | Style::Journal => line::of_text(text, self.coloured),
        }
        .into_owned();
        line.push('\n');
        match &self.sink {
            Sink::Direct => io::Write::write_all(&mut io::stderr(), line.as_bytes())?,
            Sink::Queue(queue) => queue.push(line.as_bytes()),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Standard error, which waits also where another program has made it not to.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let stderr = io::stderr();
            match io::Write::write(&mut stderr.lock(), bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(
                        &mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)],
                        PollTimeout::NONE,
                    )?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What std says of a panic, but into the log.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    if !is_for_people() {
        // A program that reads the log reads nothing else.
        tracing::error!("{panic}");
        return;
    }
    let thread = thread::current();
    print(&format!(
        "thread '{}' {panic}",
        thread.name().unwrap_or("<unnamed>")
    ));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        print(&trace.to_string());
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
            let directives = format!("{AUDIT_LOG}=info,{DROPPED_LOG}=warn,{directives}");
            assert_eq!(filter(level).to_string(), directives);
        }
    }
}
