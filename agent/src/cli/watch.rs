//! `configstream watch`: the stream as it comes.
//!
//! It registers like any remote agent, takes the stream, and when the stream ends for whatever reason it starts
//! again, after a pause that grows with each failure. What a person sees after a later snapshot is what differs from
//! before.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use configstream_engine::settings::Setting;
use configstream_grpc::{Client, ConfigEvent, ConfigSnapshot, ConfigUpdate, Registration, Session};
use serde_json::json;

use super::output::{Output, printable};
use super::target::{Target, refused, unreachable};
use crate::exit::Failure;
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
        shown: 0,
    };
    // Doubling, up to ten seconds, with jitter, so that many who lost the same agent do not return at once.
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times();
    let mut pauses = backoff.build();
    // What cannot get better by waiting ends the watch: no credentials at the very start, for instance.
    let _connector = target.connector()?;
    loop {
        let shown = view.shown;
        match follow(target, &mut view).await {
            Ok(()) => return Ok(()),
            Err(Interruption::Output(failure)) => return Err(failure),
            Err(Interruption::Stream(failure)) => {
                if view.shown > shown {
                    pauses = backoff.build();
                }
                let pause = pauses.next().unwrap_or(Duration::from_secs(10));
                let why = failure.to_string();
                let mut lines = why.lines().map(str::trim);
                eprintln!(
                    "{}; {}; again in {:.1} s",
                    lines.next().unwrap_or(""),
                    lines.next().unwrap_or(""),
                    pause.as_secs_f64()
                );
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Why a stream is over.
enum Interruption {
    /// It may come back.
    Stream(Failure),
    /// Nobody takes what is shown.
    Output(Failure),
}

/// Follows one stream to its end.
async fn follow(target: &Target, view: &mut View<'_>) -> Result<(), Interruption> {
    // Read again each time: after a restart the agent may have another certificate and another address.
    let connector = target.connector().map_err(Interruption::Stream)?;
    let client = connector
        .connect()
        .await
        .map_err(|error| Interruption::Stream(unreachable(&error)))?;
    let refuse = |what: &str, status: tonic::Status| Interruption::Stream(refused(what, &status));
    let session = client
        .register(&registration())
        .await
        .map_err(|status| refuse("cannot register", status))?;
    let mut events = client
        .stream(NAME, &session.id)
        .await
        .map_err(|status| refuse("cannot open the stream", status))?;
    let refreshing = refresh(&client, &session);
    tokio::pin!(refreshing);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut refreshing => continue,
        };
        let event = event.map_err(|error| {
            Interruption::Stream(Failure::new(
                crate::exit::Exit::Unreachable,
                "the stream ended",
                error,
                "",
            ))
        })?;
        if view.show(event).map_err(Interruption::Output)? {
            return Ok(());
        }
    }
}

/// Keeps the session alive; never ends. A refresh that fails shows soon enough in the stream.
async fn refresh(client: &Client, session: &Session) {
    if session.refresh_interval.is_zero() {
        return pending().await;
    }
    loop {
        tokio::time::sleep(session.refresh_interval).await;
        if let Err(status) = client.refresh(&session.id).await {
            tracing::debug!("cannot refresh the session: {status}");
        }
    }
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
    shown: u64,
}

impl View<'_> {
    /// Shows an event. Says whether it was the last one to show.
    fn show(&mut self, event: ConfigEvent) -> Result<bool, Failure> {
        let counts = match event {
            ConfigEvent::Snapshot(snapshot) => {
                self.snapshot(&snapshot)?;
                true
            }
            ConfigEvent::Update(update) => self.update(&update)?,
            _ => false,
        };
        if counts {
            self.shown += 1;
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        Ok(self.left == Some(0))
    }

    fn snapshot(&mut self, snapshot: &ConfigSnapshot) -> Result<(), Failure> {
        let settings: BTreeMap<String, Arc<Setting>> = snapshot
            .settings
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
                "origin": snapshot.origin,
                "epoch": snapshot.epoch.get(),
                "sequence": snapshot.sequence.get(),
                "settings": settings,
            }));
        }
        let head = format!("snapshot {}", snapshot.sequence);
        let facts = format!(
            "{} settings of {}",
            snapshot.settings.len(),
            printable(&snapshot.origin)
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
    fn update(&mut self, update: &ConfigUpdate) -> Result<bool, Failure> {
        let setting = update.update.setting();
        if !self.matches(setting.key().as_str()) {
            return Ok(false);
        }
        if let Some(known) = &mut self.known {
            known.insert(setting.key().to_string(), setting.clone());
        }
        let unset = update.update.unset();
        if self.output.is_json() {
            let mut object = json!({
                "event": "update",
                "sequence": update.sequence.get(),
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
            let head = format!("{:>8}", update.sequence.get());
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
