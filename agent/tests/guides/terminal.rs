//! A program on a terminal: what a person would see.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How long anything may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program, alone in its group, with a terminal of 120 columns as its output and nothing as its input.
/// Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Terminal {
    child: Child,
    pieces: Receiver<String>,
    /// What it has said so far.
    said: String,
    /// How much of that has been looked at.
    seen: usize,
}

impl Terminal {
    pub(crate) fn start(command: &mut Command) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: 50,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let screen = || {
            let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let mut options = OpenOptions::new();
            // Nobody's controlling terminal: a signal goes to whom it is sent.
            std::os::unix::fs::OpenOptionsExt::custom_flags(
                options.read(true).write(true),
                OpenptFlags::NOCTTY.bits().cast_signed(),
            );
            options.open(path).unwrap()
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(screen())
            .stderr(screen())
            .process_group(0)
            .spawn()
            .unwrap();
        // Whoever holds the screen keeps it from ending.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, pieces) = channel();
        let mut master = File::from(master);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut held = Vec::new();
            // The screen has ended when reading it is an error.
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                held.extend_from_slice(&buffer[..count]);
                // Whole lines, and so whole letters.
                let whole = held
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1);
                let lines: Vec<u8> = held.drain(..whole).collect();
                if sender.send(plain(&lines)).is_err() {
                    return;
                }
            }
            let _ = sender.send(plain(&held));
        });
        Self {
            child,
            pieces,
            said: String::new(),
            seen: 0,
        }
    }

    /// Waits until what it says beyond what has been looked at is as wanted; `wanted` gives how much of it that takes.
    /// An error holds what was said instead.
    pub(crate) fn until(
        &mut self,
        mut wanted: impl FnMut(&str) -> Option<usize>,
    ) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let new = &self.said[self.seen..];
            if let Some(length) = wanted(new) {
                let found = new[..length].to_owned();
                self.seen += length;
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.said.push_str(&piece),
                Err(_) => return Err(self.said.clone()),
            }
        }
    }

    /// Waits for its end, and gives its exit code and all it has said.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.said.push_str(&piece),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; it said\n{}", self.said),
            }
        }
        // The screen is closed, so what is left to do is little.
        let status = self.child.wait().unwrap();
        (status.code(), self.said.clone())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        // It may have ended by itself.
        let _ = killpg(group, signal);
    }

    /// All it has said, up to now.
    pub(crate) fn said(&mut self) -> &str {
        self.said.extend(self.pieces.try_iter());
        &self.said
    }

    /// What it had said when it was last listened to.
    pub(crate) fn so_far(&self) -> &str {
        &self.said
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}
