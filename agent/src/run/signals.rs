//! What a running agent does on a signal: SIGTERM and SIGINT stop it, SIGHUP reloads the files.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGXFSZ as FILE_SIZE;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Agent;
use crate::exit::{Exit, Failure};
use crate::service_manager::ServiceManager;

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn install() -> Result<Self, Failure> {
        let install = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Exit::Failed, "cannot listen for signals", error, ""))
        };
        // A file beyond the limit of file sizes is an error where it is written, not the end of the agent. Caught once, it
        // stays caught.
        drop(install(SignalKind::from_raw(FILE_SIZE as i32))?);
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            hangup: install(SignalKind::hangup())?,
        })
    }

    /// Returns when the agent is to stop; serves SIGHUP meanwhile. Whoever asks for a reload during another gets one after
    /// it, and a stop does not wait for any.
    pub(super) async fn until_stop(&mut self, agent: &Agent, manager: &ServiceManager) {
        let reloads = async {
            while self.hangup.recv().await.is_some() {
                tracing::info!("SIGHUP: reloading");
                manager.reloading();
                agent.reload().await;
                manager.ready(&agent.status_line());
            }
            // No signal can come any more; the others may.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: stopping"),
            () = reloads => {}
        }
    }

    /// Returns when another signal asks for the stop, after [`REPEAT`] since the first. What comes
    /// before is the same one again: `timeout` signals the program and its process group, and so do
    /// terminals and supervisors.
    pub(super) async fn second(&mut self, first: Instant) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if first.elapsed() >= REPEAT {
                return;
            }
        }
    }
}

/// Within this time a repeated signal counts as one.
const REPEAT: Duration = Duration::from_millis(500);
