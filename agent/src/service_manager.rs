//! What systemd is told of a running agent, by its notification protocol (`sd_notify(3)`).
//!
//! | when | message |
//! | --- | --- |
//! | it serves | `READY=1`, and `STATUS=` with a line about it |
//! | SIGHUP | `RELOADING=1` with `MONOTONIC_USEC=`; once it is decided what came of it, `READY=1` |
//! | it stops | `STOPPING=1` |
//! | every half of `WATCHDOG_USEC` | `WATCHDOG=1` |
//! | then, or every ten seconds | `STATUS=`, if the line reads differently |
//!
//! The watchdog is fed by an ordinary task of the runtime, and only after the resolver's thread has answered through its
//! queue. Where either stands still, so does this, and systemd ends and restarts the agent.
//!
//! Without `NOTIFY_SOCKET` nothing is sent; a socket without a path (`@…`), which systemd itself does not use, is not
//! supported. Nothing waits for a service manager that does not read: what finds no room is
//! left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::resolver::ResolverHandle;

/// Where systemd wants this service to keep its state (`StateDirectory=`); the first place, if there are several.
#[must_use]
pub fn state_directory() -> Option<PathBuf> {
    let named = std::env::var_os("STATE_DIRECTORY")?;
    let first = named
        .as_encoded_bytes()
        .split(|byte| *byte == b':')
        .next()?;
    let path = PathBuf::from(OsStr::from_bytes(first));
    path.is_absolute().then_some(path)
}

/// The service manager that has started this process, if one has.
#[derive(Debug)]
#[must_use = "messages are sent by a task that `close` waits for"]
pub struct ServiceManager {
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    messages: mpsc::Sender<String>,
    sending: JoinHandle<()>,
    beating: Option<JoinHandle<()>>,
}

impl ServiceManager {
    /// The one that the environment names. Spawns onto the current tokio runtime.
    pub fn from_environment() -> Self {
        let connection = std::env::var_os("NOTIFY_SOCKET").map(|_| {
            let (messages, waiting) = mpsc::channel(ROOM);
            Connection {
                messages,
                sending: tokio::spawn(send(waiting)),
                beating: None,
            }
        });
        Self { connection }
    }

    /// The agent serves.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload has begun; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        let mut message = vec![NotifyState::Reloading, NotifyState::Status("reloading")];
        // systemd from 253 on wants to know when. A clock that cannot be read is no reason not to reload.
        message.extend(NotifyState::monotonic_usec_now());
        self.tell(&message);
    }

    /// The agent stops, and the watchdog with it: from here on systemd counts the time to stop.
    pub fn stopping(&mut self) {
        if let Some(beating) = self.connection.as_mut().and_then(|to| to.beating.take()) {
            beating.abort();
        }
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Keeps status and watchdog going until the agent stops. Spawns onto the current tokio runtime.
    pub fn watch(
        &mut self,
        resolver: ResolverHandle,
        status: impl Fn() -> String + Send + 'static,
    ) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        let every = watchdog.map_or(STATUS_INTERVAL, |time| STATUS_INTERVAL.min(time / 2));
        connection.beating = Some(tokio::spawn(beat(
            connection.messages.clone(),
            every,
            watchdog.is_some(),
            resolver,
            status,
        )));
    }

    /// Waits until all has been sent, but not long: whoever has not read it by then does not read.
    pub async fn close(self) {
        if let Some(Connection {
            messages, sending, ..
        }) = self.connection
        {
            drop(messages);
            let _ = timeout(Duration::from_millis(500), sending).await;
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Some(connection) = &self.connection {
            tell(&connection.messages, states);
        }
    }
}

fn tell(messages: &mpsc::Sender<String>, states: &[NotifyState<'_>]) {
    let lines: Vec<String> = states.iter().map(NotifyState::to_string).collect();
    // No room: the service manager does not read, and has been told enough that it can read once it does.
    let _ = messages.try_send(lines.join("\n"));
}

/// Sends one message after the other.
async fn send(mut waiting: mpsc::Receiver<String>) {
    let mut failing = false;
    while let Some(message) = waiting.recv().await {
        // Not here: it blocks while the service manager does not read.
        let sent =
            spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(&message)])).await;
        let error = sent.ok().and_then(Result::err);
        if let (Some(error), false) = (&error, failing) {
            tracing::warn!("cannot tell the service manager (NOTIFY_SOCKET): {error}");
        }
        failing = error.is_some();
    }
}

async fn beat(
    messages: mpsc::Sender<String>,
    every: Duration,
    watchdog: bool,
    resolver: ResolverHandle,
    status: impl Fn() -> String,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = String::new();
    loop {
        // This comes back if the runtime turns, the next if the resolver does.
        ticks.tick().await;
        let mut answer = std::pin::pin!(resolver.ping());
        let answer = match timeout(every, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::error!(
                    "the resolver has not answered for {every:?}; until it does, the service manager's watchdog is not fed"
                );
                let answer = answer.await;
                tracing::info!("the resolver answers again");
                answer
            }
        };
        if answer.is_err() {
            return;
        }
        let line = one_line(&status());
        let mut message = Vec::new();
        if watchdog {
            message.push(NotifyState::Watchdog);
        }
        if line != shown {
            message.push(NotifyState::Status(&line));
        }
        if !message.is_empty() {
            tell(&messages, &message);
        }
        shown = line;
    }
}

/// A message has a line for each of its parts.
fn one_line(text: &str) -> String {
    text.split(char::is_control).collect::<Vec<_>>().join(" ")
}

/// Messages that may wait.
const ROOM: usize = 16;

const STATUS_INTERVAL: Duration = Duration::from_secs(10);
