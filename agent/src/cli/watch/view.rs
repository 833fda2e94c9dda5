//! What of a stream is shown, and how.

use configstream_grpc::printable;
use std::collections::BTreeMap;
use std::sync::Arc;

use configstream_engine::settings::{Resolved, Setting};
use configstream_engine::{Event, Snapshot, Update};
use serde_json::{Value as Json, json};

use super::super::output::Output;
use super::exec::{Changed, Exec};
use crate::exit::Failure;
use crate::json;
use crate::known::Known;
use crate::narration::say;
use crate::secrets::{SECRET_KEYS, Secrets};

type Shown = BTreeMap<String, Arc<Setting>>;

/// A key that differs, and what it is now; none if it is gone.
type Change = (String, Option<Arc<Setting>>);

/// Shows events.
pub(super) struct View<'a> {
    output: Output,
    prefixes: &'a [String],
    only_changes: bool,
    /// What the last snapshot and the updates since came to, as far as it is shown.
    known: Option<Shown>,
    secrets: Secrets,
    left: Option<u64>,
    pub(super) exec: Option<Exec>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        output: Output,
        prefixes: &'a [String],
        only_changes: bool,
        events: Option<u64>,
        exec: Option<Exec>,
    ) -> Self {
        Self {
            output,
            prefixes,
            only_changes,
            known: None,
            secrets: Secrets::known().clone(),
            left: events,
            exec,
        }
    }

    /// Shows an event. Says whether it was the last one to show.
    pub(super) fn show(&mut self, event: &Event<Resolved>, origin: &str) -> Result<bool, Failure> {
        match event {
            Event::Snapshot(snapshot) => self.snapshot(snapshot, origin)?,
            Event::Update(update) => self.update(update)?,
            _ => {}
        }
        Ok(self.is_over())
    }

    fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    fn count(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    fn snapshot(&mut self, snapshot: &Snapshot<Resolved>, origin: &str) -> Result<(), Failure> {
        self.secrets.follow(snapshot.state());
        let settings: Shown = snapshot
            .state()
            .iter()
            .filter(|setting| self.matches(setting.key().as_str()))
            .map(|setting| (setting.key().to_string(), setting.clone()))
            .collect();
        let sequence = snapshot.sequence().get();
        let before = self.known.replace(settings.clone());
        let changes = before.as_ref().map(|before| differences(before, &settings));
        if self.only_changes {
            let Some(changes) = changes else {
                say(format_args!(
                    "{} settings as of sequence {sequence}; changes show as they come",
                    settings.len()
                ));
                return Ok(());
            };
            for (key, setting) in changes {
                if !self.is_over() {
                    self.difference(&key, setting.as_deref(), sequence)?;
                    self.run(&key, setting.as_deref(), sequence);
                }
            }
            return Ok(());
        }
        // None was asked for: that a snapshot came is all there is to learn.
        if self.is_over() {
            return Ok(());
        }
        let changes = changes.as_deref();
        self.whole(snapshot, origin, &settings, changes)?;
        for (key, setting) in changes.unwrap_or_default() {
            self.run(key, setting.as_deref(), sequence);
        }
        self.count();
        Ok(())
    }

    /// A snapshot as an event of its own.
    fn whole(
        &self,
        snapshot: &Snapshot<Resolved>,
        origin: &str,
        settings: &Shown,
        changes: Option<&[Change]>,
    ) -> Result<(), Failure> {
        if self.output.is_json() {
            let settings: Vec<_> = settings
                .values()
                .map(|setting| self.json(setting))
                .collect();
            return self.output.object(&json!({
                "event": "snapshot",
                "epoch": snapshot.epoch().get(),
                "sequence": snapshot.sequence().get(),
                "origin": origin,
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
        match changes {
            // The first one: all that was asked for, or how to ask.
            None if self.prefixes.is_empty() => {
                say(format_args!(
                    "changes show below as they come; name sections to see their settings now: configstream watch apm_config"
                ));
                Ok(())
            }
            None => settings
                .values()
                .try_for_each(|setting| self.output.line(&format!("  {}", self.text(setting)))),
            Some(changes) => changes.iter().try_for_each(|(key, setting)| {
                self.output
                    .line(&format!("  {}", self.change_text(key, setting.as_deref())))
            }),
        }
    }

    /// What a snapshot shows to be different, as an event.
    fn difference(
        &mut self,
        key: &str,
        setting: Option<&Setting>,
        sequence: u64,
    ) -> Result<(), Failure> {
        if self.output.is_json() {
            self.output
                .object(&self.change_json(key, setting, sequence))?;
        } else {
            let head = self.output.dim(&format!("{sequence:>8}"));
            self.output
                .line(&format!("{head}  {}", self.change_text(key, setting)))?;
        }
        self.count();
        Ok(())
    }

    /// Shows an update, if it is one of those to show.
    fn update(&mut self, update: &Update<Resolved>) -> Result<(), Failure> {
        let setting = update.setting();
        if setting.key().as_str() == SECRET_KEYS {
            self.secrets = Secrets::listed(Some(setting.value()));
        }
        let key = setting.key().as_str();
        if !self.matches(key) {
            return Ok(());
        }
        if let Some(known) = &mut self.known {
            known.insert(key.to_owned(), setting.clone());
        }
        let sequence = update.sequence().get();
        let unset = update.unset();
        if self.output.is_json() {
            let mut object = self.update_json(setting, sequence);
            if let Some(source) = unset {
                object["unset_source"] = source.as_str().into();
            }
            self.output.object(&object)?;
        } else {
            let unset = unset
                .map(|source| self.output.dim(&format!(" ({source} was cleared)")))
                .unwrap_or_default();
            let head = self.output.dim(&format!("{sequence:>8}"));
            self.output
                .line(&format!("{head}  {}{unset}", self.text(setting)))?;
        }
        self.run(key, Some(setting), sequence);
        self.count();
        Ok(())
    }

    fn run(&mut self, key: &str, setting: Option<&Setting>, sequence: u64) {
        let event = self.change_json(key, setting, sequence);
        if let Some(exec) = &mut self.exec {
            exec.put(Changed {
                key: key.to_owned(),
                now: setting.map(|setting| {
                    let value = self.secrets.shown(key, setting.value()).into_owned();
                    (setting.source().to_string(), value)
                }),
                sequence,
                event,
            });
        }
    }

    fn json(&self, setting: &Setting) -> Json {
        let key = setting.key().as_str();
        json!({
            "key": key,
            "source": setting.source().as_str(),
            "value": json::of(&self.secrets.shown(key, setting.value())),
        })
    }

    fn update_json(&self, setting: &Setting, sequence: u64) -> Json {
        let key = setting.key().as_str();
        json!({
            "event": "update",
            "sequence": sequence,
            "key": key,
            "source": setting.source().as_str(),
            "value": json::of(&self.secrets.shown(key, setting.value())),
        })
    }

    /// A change that need not have come as an update: a key can vanish.
    fn change_json(&self, key: &str, setting: Option<&Setting>, sequence: u64) -> Json {
        match setting {
            Some(setting) => self.update_json(setting, sequence),
            None => json!({ "event": "vanished", "sequence": sequence, "key": key }),
        }
    }

    fn change_text(&self, key: &str, setting: Option<&Setting>) -> String {
        match setting {
            Some(setting) => self.text(setting),
            None => format!(
                "{} {}",
                self.output.bold(key),
                self.output.dim("is in no layer any more")
            ),
        }
    }

    fn text(&self, setting: &Setting) -> String {
        let key = setting.key().as_str();
        let value = json::of(&self.secrets.shown(key, setting.value()));
        let value = json::for_people(Known::embedded(), key, &value);
        let source = self.output.dim(&format!("(source: {})", setting.source()));
        format!("{} = {} {source}", self.output.bold(key), printable(&value))
    }

    fn matches(&self, key: &str) -> bool {
        self.prefixes.is_empty()
            || self.prefixes.iter().any(|prefix| {
                let section = prefix.trim_end_matches('.');
                section.is_empty()
                    || key
                        .strip_prefix(section)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
    }
}

/// What differs.
fn differences(before: &Shown, after: &Shown) -> Vec<Change> {
    let changed = after
        .iter()
        .filter(|(key, setting)| before.get(*key) != Some(setting))
        .map(|(key, setting)| (key.clone(), Some(setting.clone())));
    let gone = before
        .keys()
        .filter(|key| !after.contains_key(*key))
        .map(|key| (key.clone(), None));
    changed.chain(gone).collect()
}
