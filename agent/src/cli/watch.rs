//! `configstream watch`: the stream as it comes.
//!
//! It is a replica like any other, shown: it registers, follows, and starts again when the stream ends for whatever
//! reason, saying why. What a person sees after a later snapshot is what differs from before.

mod exec;
mod view;

use std::future::poll_fn;
use std::time::Duration;

use clap::Args;
use configstream_grpc::Registration;
use configstream_grpc::consumer::{Access, Consumer, ConsumerState};

use self::exec::Exec;
use self::view::View;
use super::output::{Output, printable};
use super::target::Target;
use crate::exit::{Exit, Failure};

/// What `configstream watch` takes.
#[derive(Clone, Debug, Args)]
pub(super) struct WatchOptions {
    /// Show only these settings, or those in these sections. None: all.
    prefixes: Vec<String>,
    /// Stop after this many events.
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
    let mut subscription = loop {
        match consumer.subscribe() {
            Ok(subscription) => break subscription,
            Err(error) => match states.next().await {
                Some(state) => tell(Some(state)),
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
                tell(state);
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

/// Says why nothing comes, if that is so.
fn tell(state: Option<ConsumerState>) {
    let (cause, retry_in) = match state {
        Some(ConsumerState::Connecting {
            cause: Some(cause),
            retry_in,
        }) => (cause, retry_in),
        Some(ConsumerState::Stale {
            cause, retry_in, ..
        }) => (cause, retry_in),
        _ => return,
    };
    let why: Vec<_> = cause
        .to_string()
        .lines()
        .take(2)
        .map(|line| printable(line.trim()))
        .collect();
    let retry_in = retry_in.as_secs_f64();
    eprintln!("{}; again in {retry_in:.1} s", why.join("; "));
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
