//! What an agent looks after in its run directory while it runs: that the directory is still its own.
//!
//! It looks on a thread of its own, since a file system can hang, and by polling: a look costs a few system calls, and what
//! it looks for may happen to the directories above, where no event would tell.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::claim::Claim;
use crate::problems::Problems;
use crate::run_dir::mend_write;

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Upkeep {
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Upkeep {
    pub(super) fn start(claim: Claim, problems: Problems) -> io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let keeper = Keeper { claim, problems };
        let thread = thread::Builder::new()
            .name("run-directory".to_owned())
            .spawn(move || keeper.run(&stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    claim: Claim,
    problems: Problems,
}

impl Keeper {
    fn run(self, stopped: &Receiver<()>) {
        loop {
            self.look();
            match stopped.recv_timeout(LOOK_INTERVAL) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&self) {
        let problem = self.claim.check().err();
        let problem = problem.map(|error| format!("{error}; {}", mend_write(&error)));
        let healthy = problem.is_none();
        metrics::gauge!("configstream_run_directory_healthy").set(f64::from(u8::from(healthy)));
        if self.problems.set(RUN_DIRECTORY, problem.clone()) {
            match problem {
                Some(problem) => tracing::error!("{problem}"),
                None => tracing::info!("the run directory is this agent's again"),
            }
        }
    }
}

const RUN_DIRECTORY: &str = "run directory";
