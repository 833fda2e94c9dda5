//! What can go wrong.

use std::fs;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::core::Core;
use crate::proxy::{Half, Mode, Proxy};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// SIGKILL, and another process after a while.
    Kill(Duration),
    /// SIGTERM, and another process after a while.
    Terminate(Duration),
    /// SIGSTOP, and SIGCONT after a while.
    Stop(Duration),
    Cut,
    HalfClose(Half),
    /// Nothing gets through for a while, and nobody is told.
    Freeze(Duration),
    /// Everything takes longer for a while.
    Delay(Duration),
    RotateToken,
    RotateCertificate,
}

impl Fault {
    pub(crate) const KINDS: usize = 10;

    /// All, and how often each is to be, for faults that last.
    pub(crate) fn weighed(duration: Duration) -> [(Self, u32); Self::KINDS] {
        [
            (Self::Kill(duration), 10),
            (Self::Terminate(duration), 5),
            (Self::Stop(duration * 3), 12),
            (Self::Cut, 20),
            (Self::HalfClose(Half::ToClient), 10),
            (Self::HalfClose(Half::ToServer), 10),
            (Self::Freeze(duration * 3), 12),
            (Self::Delay(duration / 8), 10),
            (Self::RotateToken, 4),
            (Self::RotateCertificate, 4),
        ]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Terminate(_) => "terminate",
            Self::Stop(_) => "stop",
            Self::Cut => "cut",
            Self::HalfClose(_) => "half-close",
            Self::Freeze(_) => "freeze",
            Self::Delay(_) => "delay",
            Self::RotateToken => "rotate token",
            Self::RotateCertificate => "rotate certificate",
        }
    }

    /// Does it, and undoes what would not heal by itself.
    pub(crate) fn inflict(self, core: &mut Core, proxy: &Proxy) {
        match self {
            Self::Kill(pause) => restart(core, proxy, Signal::SIGKILL, || wait(pause)),
            Self::Terminate(pause) => restart(core, proxy, Signal::SIGTERM, || wait(pause)),
            Self::Stop(duration) => {
                core.signal(Signal::SIGSTOP);
                wait(duration);
                core.signal(Signal::SIGCONT);
            }
            Self::Cut => proxy.cut(),
            Self::HalfClose(half) => proxy.half_close(half),
            Self::Freeze(duration) => {
                proxy.set(Mode::Freeze);
                wait(duration);
                proxy.set(Mode::Pass);
            }
            Self::Delay(each) => {
                proxy.set(Mode::Delay(each));
                wait(each * 8);
                proxy.set(Mode::Pass);
            }
            Self::RotateToken => rotate(core, proxy, |core| core.token()),
            Self::RotateCertificate => rotate(core, proxy, |core| core.certificate()),
        }
    }
}

fn restart(core: &mut Core, proxy: &Proxy, signal: Signal, between: impl FnOnce()) {
    core.end(signal);
    between();
    core.begin();
    proxy.lead_to(core.address());
}

/// The next process makes what is missing.
fn rotate(core: &mut Core, proxy: &Proxy, file: impl FnOnce(&Core) -> std::path::PathBuf) {
    let path = file(core);
    restart(core, proxy, Signal::SIGTERM, || {
        fs::remove_file(path).unwrap();
    });
}

/// Lasts for as long as the fault is to last: this is no waiting for something to have happened.
fn wait(duration: Duration) {
    let end = Instant::now() + duration;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        park_timeout(left);
    }
}
