//! A bounded queue of log lines, and the thread that writes them.
//!
//! # Contract
//! * [`push`](Queue::push) never waits for the reader of the log, so a reader that stops stops
//!   nothing else.
//! * Lines come out whole and in order. A line that finds no room is dropped, and so are all lines
//!   after it until the thread has taken those before. Once these are written, a line says how many
//!   are missing there.
//! * A line that cannot be written, because the disk is full or the reader has gone, counts as
//!   dropped. The next line that can be written is followed by one that says so.
//! * At most [`QUEUE_BYTES`] wait, and as many are being written.
//!
//! Not tracing-appender: its guard prints to standard output when it is dropped while the queue is
//! full, which blocks the end of a program whose output is one stalled pipe, and its queue counts
//! lines rather than bytes.

use std::cell::Cell;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The most bytes that wait to be written.
pub const QUEUE_BYTES: usize = 1024 * 1024;

/// Lines on their way into the log. Clones are the same.
#[derive(Clone)]
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something waits for the thread.
    filled: Condvar,
    /// The thread has written all there was.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// Lines that are missing behind those that wait.
    missing: u64,
    /// Lines dropped since the start.
    dropped: u64,
    writing: bool,
}

impl Queue {
    /// Starts the thread that writes to `log`. Where lines are missing, `report` is to push a line
    /// that says how many.
    pub(super) fn start(
        mut log: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let state = State {
            waiting: Vec::with_capacity(QUEUE_BYTES),
            ..State::default()
        };
        let queue = Self(Arc::new(Shared {
            state: Mutex::new(state),
            filled: Condvar::new(),
            drained: Condvar::new(),
        }));
        let lines = queue.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || lines.write(&mut log, &report))?;
        Ok(queue)
    }

    /// Puts a line into the queue, if there is room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        let full = state.missing > 0 || state.waiting.len() + line.len() > QUEUE_BYTES;
        // The report of lines that are missing has to get in. It is one line for each batch.
        if full && !REPORTING.get() {
            state.missing += 1;
            state.dropped += 1;
        } else {
            state.waiting.extend_from_slice(line);
        }
        drop(state);
        self.0.filled.notify_one();
    }

    /// How many lines have been dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.0.state.lock().dropped
    }

    /// Waits until everything is written, but no longer than `limit`. Whether it is.
    pub(super) fn drain(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.0.state.lock();
        while state.writing || state.has_work() {
            if self.0.drained.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Writes, one batch after the other.
    fn write(&self, log: &mut impl Write, report: &impl Fn(u64)) {
        let mut lines = Vec::with_capacity(QUEUE_BYTES);
        let mut missing = 0;
        loop {
            missing += self.take(&mut lines);
            let (mut written, mut failed) = (false, 0);
            // A line in one write, so that lines of several processes do not mix.
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                match log.write_all(line) {
                    Ok(()) => written = true,
                    Err(_) => failed += 1,
                }
            }
            lines.clear();
            if failed > 0 {
                self.0.state.lock().dropped += failed;
                missing += failed;
            }
            if missing > 0 && written {
                REPORTING.set(true);
                report(mem::take(&mut missing));
                REPORTING.set(false);
            }
        }
    }

    /// Waits for lines and takes all of them. How many are missing behind them.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut state = self.0.state.lock();
        state.writing = false;
        while !state.has_work() {
            self.0.drained.notify_all();
            self.0.filled.wait(&mut state);
        }
        state.writing = true;
        mem::swap(&mut state.waiting, lines);
        mem::take(&mut state.missing)
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.missing > 0
    }
}

thread_local! {
    /// Whether this is the thread that writes, and it says what is missing.
    static REPORTING: Cell<bool> = const { Cell::new(false) };
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A log whose reader takes a line when it wants to.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            match self.0.send(line.to_vec()) {
                Ok(()) => Ok(line.len()),
                Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue whose report is a line, and the reader of its log.
    fn queue() -> (Queue, Receiver<Vec<u8>>) {
        let (sender, reader) = sync_channel(0);
        (start(Slow(sender)), reader)
    }

    fn start(log: impl Write + Send + 'static) -> Queue {
        let reporter: Arc<Mutex<Option<Queue>>> = Arc::default();
        let through = reporter.clone();
        let report = move |missing| {
            let queue = through.lock().clone().unwrap();
            queue.push(format!("{missing} missing\n").as_bytes());
        };
        let queue = Queue::start(log, report).unwrap();
        *reporter.lock() = Some(queue.clone());
        queue
    }

    fn line(number: usize) -> Vec<u8> {
        format!("{number:01023}\n").into_bytes()
    }

    #[test]
    fn lines_come_out_in_order_and_drain_waits_for_the_last() {
        let (queue, reader) = queue();
        for number in 0..100 {
            queue.push(&line(number));
        }
        assert!(!queue.drain(Duration::ZERO));
        for number in 0..100 {
            assert_eq!(reader.recv_timeout(PATIENCE).unwrap(), line(number));
        }
        assert!(queue.drain(PATIENCE));
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn lines_for_a_reader_that_stops_are_dropped_counted_and_reported_where_they_are_missing() {
        let (queue, reader) = queue();
        // The thread has taken the first, and waits for its reader.
        queue.push(&line(0));
        while queue.0.state.lock().has_work() {
            thread::yield_now();
        }
        let fit = QUEUE_BYTES / 1024;
        for number in 1..=fit + 7 {
            queue.push(&line(number));
        }
        // A short one would fit, and would stand in the wrong place.
        queue.push(b"\n");
        assert_eq!(queue.dropped(), 8);
        assert!(queue.0.state.lock().waiting.len() <= QUEUE_BYTES);
        for number in 0..=fit {
            assert_eq!(reader.recv_timeout(PATIENCE).unwrap(), line(number));
        }
        assert_eq!(reader.recv_timeout(PATIENCE).unwrap(), b"8 missing\n");
        queue.push(&line(1));
        assert_eq!(reader.recv_timeout(PATIENCE).unwrap(), line(1));
        assert_eq!(queue.dropped(), 8);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_with_the_next_that_can() {
        /// Full until a line comes that says otherwise.
        struct Full(SyncSender<Vec<u8>>, bool);

        impl Write for Full {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.1 &= line != b"room\n";
                if self.1 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.send(line.to_vec()).unwrap();
                Ok(line.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (sender, reader) = sync_channel(0);
        let queue = start(Full(sender, true));
        for text in ["a\n", "b\n"] {
            queue.push(text.as_bytes());
            assert!(queue.drain(PATIENCE));
        }
        assert_eq!(queue.dropped(), 2);
        queue.push(b"room\n");
        assert_eq!(reader.recv_timeout(PATIENCE).unwrap(), b"room\n");
        assert_eq!(reader.recv_timeout(PATIENCE).unwrap(), b"2 missing\n");
    }
}
