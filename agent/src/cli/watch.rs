//! `configstream watch`: the stream as it comes.
//!
//! It is a replica like any other, shown: it registers, follows, and starts again when the stream ends for whatever
//! reason, saying why. What a person sees after a later snapshot is what differs from before.

mod exec;
mod view;

use std::future::poll_fn;
use std::time::Duration;

use clap::Args;
use configstream_grpc::consumer::{Access, Consumer, ConsumerState};
use configstream_grpc::{Registration, printable};

use self::exec::Exec;
use self::view::View;
use super::output::Output;
use super::target::Target;
use crate::exit::{Exit, Failure};
use crate::narration::say;

/// What `configstream watch` takes.
#[derive(Clone, Debug, Args)]
pub(super) struct WatchOptions {
    /// Show only these settings, or those in these sections. None, or an empty one: all.
    prefixes: Vec<String>,
    /// Stop after this many events, a snapshot that is shown being one. 0: show none, and stop once the stream has come.
    #[arg(long, value_name = "COUNT")]
    events: Option<u64>,
    /// Show no snapshot, neither at the start nor later: only what differs, one event for each setting.
    #[arg(long)]
    only_changes: bool,
    /// Run this by `sh -c` for each change, one at a time; of changes that wait meanwhile, for each setting the newest.
    /// It finds CONFIGSTREAM_KEY, _VALUE, _SOURCE, _SEQUENCE and _EVENT (a line of JSON) in its environment; without
    /// _VALUE and _SOURCE the key is gone.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

/// Shows events until interrupted, or until as many have been shown as are asked for.
pub(super) async fn watch(
    target: &Target,
    output: Output,
    options: &WatchOptions,
) -> Result<(), Failure> {
    output.end_with_reader()?;
    let exec = options.exec.clone().map(Exec::new);
    let mut view = View::new(
        output,
        &options.prefixes,
        options.only_changes,
        options.events,
        exec,
    );
    // What cannot get better by waiting ends the watch: no credentials at the very start, for instance.
    let _connector = target.connector()?;
    let target = target.clone();
    // Asked again for each attempt: after a restart the agent may have another certificate and another address.
    let access = Access::new(move || target.connector().map_err(|failure| failure.to_string()));
    let consumer = Consumer::builder(access, registration())
        .backoff(Duration::from_millis(200), Duration::from_secs(10))
        .ring_capacity(BURST)
        .start();
    let mut states = consumer.states();
    let mut narrator = Narrator::default();
    let mut subscription = loop {
        match consumer.subscribe() {
            Ok(subscription) => break subscription,
            Err(error) => match states.next().await {
                Some(state) => narrator.tell(&state),
                None => {
                    return Err(Failure::new(
                        Exit::Failed,
                        "the watch has stopped",
                        error,
                        "start it again, and report this",
                    ));
                }
            },
        }
    };
    loop {
        let event = tokio::select! {
            event = poll_fn(|cx| subscription.poll_next(cx)) => event,
            () = turn(&mut view.exec) => continue,
            state = states.next() => {
                state.iter().for_each(|state| narrator.tell(state));
                continue;
            }
        };
        let over = match event {
            Some(event) => view.show(&event, &consumer.origin())?,
            None => true,
        };
        if over {
            if let Some(exec) = &mut view.exec {
                exec.finish().await;
            }
            return Ok(());
        }
    }
}

/// Waits for the command that runs, if one does.
async fn turn(exec: &mut Option<Exec>) {
    match exec {
        Some(exec) => exec.turn().await,
        None => std::future::pending().await,
    }
}

/// Says why nothing comes, once for each cause, however often it is tried again.
#[derive(Debug, Default)]
struct Narrator {
    /// Why nothing comes, as it was said; empty while all is well.
    said: String,
}

impl Narrator {
    fn tell(&mut self, state: &ConsumerState) {
        if let Some(line) = self.line(state) {
            say(format_args!("{line}"));
        }
    }

    /// What there is to say, if anything is new.
    fn line(&mut self, state: &ConsumerState) -> Option<String> {
        let (cause, retry_in) = match state {
            ConsumerState::Connecting {
                cause: Some(cause),
                retry_in,
            }
            | ConsumerState::Stale {
                cause, retry_in, ..
            } => (cause, retry_in.as_secs_f64()),
            ConsumerState::Ready => {
                let was_away = !std::mem::take(&mut self.said).is_empty();
                return was_away.then(|| "the stream is back".to_owned());
            }
            _ => return None,
        };
        let why: Vec<_> = cause
            .to_string()
            .lines()
            .take(2)
            .map(|line| printable(line.trim()).into_owned())
            .collect();
        let why = why.join("; ");
        if why == self.said {
            return None;
        }
        let line = format!("{why}; again in {retry_in:.1} s, and on until it works");
        self.said = why;
        Some(line)
    }
}

fn registration() -> Registration {
    let mut registration = Registration::default();
    registration.display_name = NAME.to_owned();
    registration.flavor = "configstream-watch".to_owned();
    registration.pid = std::process::id().to_string();
    registration
}

const NAME: &str = "configstream-watch";

/// Updates that may come faster than they can be shown, before a snapshot stands in for some: more than what is on its
/// way from the agent at any time, so that what it could send is shown.
const BURST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use configstream_grpc::consumer::Disconnection;

    use super::*;

    #[test]
    fn a_cause_is_told_once_until_it_is_another_or_all_is_well() {
        let mut narrator = Narrator::default();
        let silent = |awaited| Disconnection::Silent {
            awaited,
            waited: Duration::from_secs(1),
        };
        let mut told = |cause: Option<Disconnection>, seconds| {
            let retry_in = Duration::from_secs(seconds);
            narrator.line(&match cause {
                Some(cause) if seconds % 2 == 0 => ConsumerState::Connecting {
                    cause: Some(cause),
                    retry_in,
                },
                Some(cause) => ConsumerState::Stale {
                    cause,
                    since: SystemTime::now(),
                    retry_in,
                },
                None => ConsumerState::Ready,
            })
        };
        assert_eq!(told(None, 0), None);
        let first = told(Some(silent("one answer")), 1).unwrap();
        assert!(
            first.contains("one answer") && first.contains("; again in 1.0 s"),
            "{first}"
        );
        for seconds in [2, 4, 5] {
            assert_eq!(told(Some(silent("one answer")), seconds), None);
        }
        assert!(told(Some(silent("another")), 6).is_some());
        assert!(told(Some(silent("one answer")), 7).is_some());
        assert_eq!(told(None, 0).as_deref(), Some("the stream is back"));
        assert_eq!(told(None, 0), None);
        assert!(told(Some(silent("one answer")), 8).is_some());
    }
}
