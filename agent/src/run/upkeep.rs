//! What an agent looks after in its run directory while it runs: that the directory is still its
//! own, and that it lives by the certificate and the token that are there.
//!
//! It looks on a thread of its own, since a file system can hang, and by polling: a look costs a
//! few system calls, and what it looks for may happen to the directories above, where no event
//! would tell. A certificate or token that was replaced is taken at the next look, or at once when
//! a reload is asked for. Both are taken together or not at all. What cannot be used leaves those
//! before in force; it is reported if it still looks the same at the next look, since it may just
//! be being written.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use configstream_grpc::ServerCredentials;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::oneshot;

use super::trust;
use crate::claim::Claim;
use crate::credentials::Credentials;
use crate::problems::Problems;
use crate::run_dir::{RunDir, mend_write};

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Upkeep {
    looks: Option<Sender<oneshot::Sender<()>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Upkeep {
    pub(super) fn start(keeper: Keeper) -> io::Result<Self> {
        let (looks, asked) = crossbeam_channel::bounded(1);
        let thread = thread::Builder::new()
            .name("run-directory".to_owned())
            .spawn(move || keeper.run(&asked))?;
        Ok(Self {
            looks: Some(looks),
            thread: Some(thread),
        })
    }

    /// Looks now. Returns once what is there is in force, or reported.
    pub(super) async fn look(&self) {
        let (done, looked) = oneshot::channel();
        // A look that is waited for already will do; it fails only when the agent stops.
        if let Some(looks) = &self.looks
            && looks.try_send(done).is_ok()
        {
            let _ = looked.await;
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.looks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread does.
pub(super) struct Keeper {
    pub(super) run_dir: RunDir,
    pub(super) claim: Claim,
    pub(super) server: ServerCredentials,
    pub(super) problems: Problems,
    pub(super) seen: Seen,
}

impl Keeper {
    fn run(mut self, asked: &Receiver<oneshot::Sender<()>>) {
        let mut done = None;
        loop {
            self.look(done.is_some());
            if let Some(done) = done.take() {
                let _ = oneshot::Sender::send(done, ());
            }
            match asked.recv_timeout(LOOK_INTERVAL) {
                Ok(asker) => done = Some(asker),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self, asked: bool) {
        if self.check_claim() {
            self.check_credentials(asked);
        }
    }

    fn check_claim(&self) -> bool {
        let problem = self.claim.check().err();
        let problem = problem.map(|error| format!("{error}; {}", mend_write(&error)));
        let is_ours = problem.is_none();
        self.report(RUN_DIRECTORY, problem);
        is_ours
    }

    fn check_credentials(&mut self, asked: bool) {
        let looks = Looks::of(&self.run_dir);
        let is_settled = looks == self.seen.at_last_look;
        if is_settled && looks == self.seen.when_judged && !asked {
            return;
        }
        self.seen.at_last_look = looks.clone();
        let read = Credentials::open(&self.run_dir)
            .and_then(|credentials| trust(&self.run_dir, &credentials));
        // If the directory has become another agent's meanwhile, so may the credentials be.
        if self.claim.check().is_err() {
            return;
        }
        match read {
            Ok((identity, token)) => {
                let replaced = self.server.replace(&identity, &token);
                for (what, replaced_one) in [
                    ("certificate", replaced.certificate),
                    ("token", replaced.token),
                ] {
                    if replaced_one {
                        tracing::info!(
                            "the {what} was replaced: the new one is in force, and the one before is accepted for another {:?}",
                            replaced.overlap
                        );
                    }
                }
                self.seen.when_judged = looks;
                self.report(CREDENTIALS, None);
            }
            Err(failure) if is_settled || asked => {
                self.seen.when_judged = looks;
                let problem = format!("{}; those before stay in force", failure.line());
                self.report(CREDENTIALS, Some(problem));
            }
            Err(_) => {}
        }
    }

    /// Says what is new about a part.
    fn report(&self, part: &'static str, problem: Option<String>) {
        let healthy = f64::from(u8::from(problem.is_none()));
        let metric = match part {
            RUN_DIRECTORY => "configstream_run_directory_healthy",
            _ => "configstream_credentials_healthy",
        };
        metrics::gauge!(metric).set(healthy);
        if self.problems.set(part, problem.clone()) {
            match problem {
                Some(problem) => tracing::error!("{part}: {problem}"),
                None => tracing::info!("{part}: good again"),
            }
        }
    }
}

/// What the files of certificate and token looked like.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// When they were last taken or reported.
    when_judged: Looks,
    at_last_look: Looks,
}

impl Seen {
    /// As they are before they are read for the first time.
    pub(super) fn now(run_dir: &RunDir) -> Self {
        let looks = Looks::of(run_dir);
        Self {
            when_judged: looks.clone(),
            at_last_look: looks,
        }
    }
}

/// What they look like from outside: device, inode, size, and the time of the last change, which
/// nothing can set back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Looks([Option<[i128; 5]>; 2]);

impl Looks {
    fn of(run_dir: &RunDir) -> Self {
        let look = |path: &Path| {
            let found = fs::symlink_metadata(path).ok()?;
            Some([
                found.dev().into(),
                found.ino().into(),
                found.size().into(),
                found.ctime().into(),
                found.ctime_nsec().into(),
            ])
        };
        Self([look(&run_dir.certificate()), look(&run_dir.token())])
    }
}

const RUN_DIRECTORY: &str = "run directory";
const CREDENTIALS: &str = "certificate and token";
