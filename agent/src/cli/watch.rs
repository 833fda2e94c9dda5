//! `configstream watch`: the stream as it comes.
//!
//! It is a replica like any other, shown: it registers, follows, and starts again when the stream ends for whatever
//! reason, saying why. What a person sees after a later snapshot is what differs from before.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use configstream_engine::settings::{Resolved, Setting};
use configstream_engine::{Event, Snapshot, Update};
use configstream_grpc::Registration;
use configstream_grpc::consumer::{Access, Consumer, ConsumerState};
use serde_json::json;

use super::output::{Output, printable};
use super::target::Target;
use crate::exit::{Exit, Failure};
use crate::json;
use crate::known::Known;

/// Shows events until interrupted, or until `events` of them have been shown.
pub(super) async fn watch(
    target: &Target,
    output: Output,
    prefixes: &[String],
    events: Option<u64>,
) -> Result<(), Failure> {
    let mut view = View {
        output,
        prefixes,
        known: None,
        left: events,
    };
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
            state = states.next() => {
                tell(state);
                continue;
            }
        };
        let Some(event) = event else {
            return Ok(());
        };
        if view.show(&event, &consumer.origin())? {
            return Ok(());
        }
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

struct View<'a> {
    output: Output,
    prefixes: &'a [String],
    /// What the last snapshot and the updates since came to, as far as it is shown.
    known: Option<BTreeMap<String, Arc<Setting>>>,
    left: Option<u64>,
}

impl View<'_> {
    /// Shows an event. Says whether it was the last one to show.
    fn show(&mut self, event: &Event<Resolved>, origin: &str) -> Result<bool, Failure> {
        let counts = match event {
            Event::Snapshot(snapshot) => {
                self.snapshot(snapshot, origin)?;
                true
            }
            Event::Update(update) => self.update(update)?,
            _ => false,
        };
        if counts {
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        Ok(self.left == Some(0))
    }

    fn snapshot(&mut self, snapshot: &Snapshot<Resolved>, origin: &str) -> Result<(), Failure> {
        let settings: BTreeMap<String, Arc<Setting>> = snapshot
            .state()
            .iter()
            .filter(|setting| self.matches(setting.key().as_str()))
            .map(|setting| (setting.key().to_string(), setting.clone()))
            .collect();
        let before = self.known.replace(settings.clone());
        if self.output.is_json() {
            let settings: Vec<_> = settings
                .values()
                .map(|setting| setting_json(setting))
                .collect();
            return self.output.object(&json!({
                "event": "snapshot",
                "origin": origin,
                "epoch": snapshot.epoch().get(),
                "sequence": snapshot.sequence().get(),
                "settings": settings,
            }));
        }
        let head = format!("snapshot {}", snapshot.sequence());
        let facts = format!(
            "{} settings of {}",
            snapshot.state().len(),
            printable(origin)
        );
        self.output
            .line(&format!("{}  {facts}", self.output.bold(&head)))?;
        match before {
            // The first one: all that was asked for, or how to ask.
            None if self.prefixes.is_empty() => {
                eprintln!(
                    "changes show below as they come; name sections to see their settings now: configstream watch apm_config"
                );
                Ok(())
            }
            None => settings
                .values()
                .try_for_each(|setting| self.output.line(&format!("  {}", self.text(setting)))),
            Some(before) => {
                for (key, setting) in &settings {
                    let same = before.get(key).is_some_and(|old| {
                        old.source() == setting.source() && old.value() == setting.value()
                    });
                    if !same {
                        self.output.line(&format!("  {}", self.text(setting)))?;
                    }
                }
                for key in before.keys().filter(|key| !settings.contains_key(*key)) {
                    self.output.line(&format!(
                        "  {} {}",
                        self.output.bold(key),
                        self.output.dim("is in no layer any more")
                    ))?;
                }
                Ok(())
            }
        }
    }

    /// Shows an update, if it is one of those to show.
    fn update(&mut self, update: &Update<Resolved>) -> Result<bool, Failure> {
        let setting = update.setting();
        if !self.matches(setting.key().as_str()) {
            return Ok(false);
        }
        if let Some(known) = &mut self.known {
            known.insert(setting.key().to_string(), setting.clone());
        }
        let unset = update.unset();
        if self.output.is_json() {
            let mut object = json!({
                "event": "update",
                "sequence": update.sequence().get(),
                "key": setting.key().as_str(),
                "source": setting.source().as_str(),
                "value": json::of(setting.value()),
            });
            if let Some(source) = unset {
                object["unset_source"] = source.as_str().into();
            }
            self.output.object(&object)?;
        } else {
            let unset = unset
                .map(|source| self.output.dim(&format!(" ({source} was cleared)")))
                .unwrap_or_default();
            let head = format!("{:>8}", update.sequence().get());
            self.output.line(&format!(
                "{}  {}{unset}",
                self.output.dim(&head),
                self.text(setting)
            ))?;
        }
        Ok(true)
    }

    fn text(&self, setting: &Setting) -> String {
        let key = setting.key().as_str();
        let value = json::for_people(Known::embedded(), key, &json::of(setting.value()));
        let source = self.output.dim(&format!("(source: {})", setting.source()));
        format!("{} = {} {source}", self.output.bold(key), printable(&value))
    }

    fn matches(&self, key: &str) -> bool {
        self.prefixes.is_empty()
            || self.prefixes.iter().any(|prefix| {
                let section = prefix.trim_end_matches('.');
                key.strip_prefix(section)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
    }
}

fn setting_json(setting: &Setting) -> serde_json::Value {
    json!({ "key": setting.key().as_str(), "source": setting.source().as_str(), "value": json::of(setting.value()) })
}

const NAME: &str = "configstream-watch";

/// Updates that may come faster than they can be shown, before a snapshot stands in for some: more than what is on its
/// way from the agent at any time, so that what it could send is shown.
const BURST: usize = 16 * 1024;
