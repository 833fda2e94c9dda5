//! Administration: changes at run time go through the resolver, questions are answered from the head.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::{Change, Key, Layered, Provenance, Setting, Settings, Value};
use configstream_engine::{Engine, Epoch, Sequence};
use configstream_grpc::{
    AdminBackend, AdminError, Applied, ChangeRequest, Difference, Edit, Explanation, HostStatus,
};
use tonic::async_trait;

use crate::granted;
use crate::known::Known;
use crate::resolver::{ResolveError, ResolverHandle, Wish};
use crate::scalar;
use crate::status::StatusSource;

/// What the agent offers to whoever administers it.
#[derive(Debug)]
pub struct Backend {
    pub(crate) engine: Engine<Settings>,
    pub(crate) known: &'static Known,
    pub(crate) resolver: ResolverHandle,
    pub(crate) status: StatusSource,
}

impl Backend {
    /// Where a value came from, and what a restart makes of it.
    fn provenance(&self, layered: &Layered) -> String {
        let setting = &layered.setting;
        let place = layered.provenance.as_ref().map(ToString::to_string);
        let place = place.unwrap_or_default();
        match self.resolver.persisted(setting.source(), setting.key()) {
            None => place,
            Some(kept) if kept.value == *setting.value() => {
                format!("{place}, persisted {}", kept.origin())
            }
            Some(kept) => format!(
                "{place}; a restart brings back the value persisted {}",
                kept.origin()
            ),
        }
    }

    /// The change asked for, with values of the types that their keys have, and that the agent itself can live by.
    fn change(&self, edits: Vec<Edit>, requested_by: &str) -> Result<Change, AdminError> {
        let who: Arc<str> = match requested_by {
            "" => "somebody".into(),
            name => name.into(),
        };
        let now = SystemTime::now();
        let change = |edit| match edit {
            Edit::Set { source, key, value } => {
                let value = self.known.fit(&key, value).map_err(AdminError::Rejected)?;
                if let Some(why) = granted::unfit(key.as_str(), &value) {
                    return Err(AdminError::Rejected(why));
                }
                let provenance = Provenance::runtime_at(who.clone(), now);
                Ok(Change::set(source, key, value).with_provenance(provenance))
            }
            Edit::Unset { source, key } => Ok(Change::unset(source, key)),
        };
        let changes: Result<Vec<_>, _> = edits.into_iter().map(change).collect();
        changes.map(Change::batch)
    }
}

/// What differs between two states for these keys, in any layer.
fn differences(keys: Vec<Key>, before: &Settings, after: &Settings) -> Vec<Difference> {
    let mut seen = HashSet::new();
    let held = |layers: &[Layered]| -> Vec<Arc<Setting>> {
        layers.iter().map(|layer| layer.setting.clone()).collect()
    };
    keys.into_iter()
        .filter(|key| seen.insert(key.clone()))
        .filter_map(|key| {
            let before = held(&before.explain(&key));
            let after = held(&after.explain(&key));
            (before != after).then(|| Difference {
                key,
                before: before.into_iter().next(),
                after: after.into_iter().next(),
            })
        })
        .collect()
}

#[async_trait]
impl AdminBackend for Backend {
    async fn apply(&self, request: ChangeRequest) -> Result<Applied, AdminError> {
        let keys = request
            .edits
            .iter()
            .map(|edit| edit.key().clone())
            .collect();
        let wish = Wish {
            change: self.change(request.edits, &request.requested_by)?,
            conditions: request.conditions,
            persist: request.persist,
            dry_run: request.dry_run,
        };
        let outcome = self
            .resolver
            .grant(wish)
            .await
            .map_err(|error| match error {
                ResolveError::Rejected(rejection) => AdminError::Rejected(rejection.to_string()),
                ResolveError::Conflict(conflict) => AdminError::Conflict(conflict.to_string()),
                ResolveError::NotPersisted(why) => AdminError::NotPersisted(why),
                ResolveError::QueueFull => AdminError::Overloaded,
                ResolveError::Closed => AdminError::Closed,
                error @ ResolveError::Sequence(_) => AdminError::NoSequence(error.to_string()),
            })?;
        Ok(Applied {
            epoch: outcome.epoch,
            sequence: outcome.sequence,
            updates: outcome.updates,
            needs_snapshot: outcome.needs_snapshot,
            persisted: outcome.persisted,
            differences: differences(keys, &outcome.before, &outcome.after),
        })
    }

    fn changed_at(&self, key: &str) -> Option<(Epoch, Sequence)> {
        Some(self.resolver.last_changed(key))
    }

    async fn explain(&self, key: Key) -> Result<Vec<Explanation>, AdminError> {
        let head = self.engine.head();
        let explain = |layered: Layered| {
            let (requested_by, requested_at) = match &layered.provenance {
                Some(Provenance::Runtime { who, when }) => (who.to_string(), *when),
                _ => (String::new(), None),
            };
            Explanation {
                source: layered.setting.source(),
                value: layered.setting.value().clone(),
                wins: layered.wins,
                provenance: self.provenance(&layered),
                requested_by,
                requested_at,
            }
        };
        Ok(head
            .state()
            .explain(&key)
            .into_iter()
            .map(explain)
            .collect())
    }

    async fn status(&self) -> HostStatus {
        self.status.host_status()
    }
}

impl Known {
    /// A value that somebody sets at run time, as the type that the key is known to have.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to do.
    pub fn fit(&self, key: &Key, value: Value) -> Result<Value, String> {
        use scalar::Kind;
        if let Some(inside) = self.below(key.as_str()) {
            return Err(format!(
                "`{key}` is a section (it holds `{inside}`), not a value; set the keys inside it"
            ));
        }
        if let Some((parent, kind)) = self.above(key.as_str()) {
            return Err(format!(
                "`{key}` cannot be, because `{parent}` is {kind}, not a section; set `{parent}` itself"
            ));
        }
        let Some(kind) = self.kind(key.as_str()) else {
            return Ok(value);
        };
        match (kind, value) {
            // Over the wire every number is a double, and 2.0 arrives as the integer 2.
            #[allow(clippy::cast_precision_loss)]
            (Kind::Float, Value::Int(number))
                if number.unsigned_abs() <= scalar::MAX_INTEGER.unsigned_abs() =>
            {
                Ok(Value::Float(number as f64))
            }
            (Kind::Duration, Value::Int(number)) if number >= 0 => {
                Ok(Value::duration(Duration::from_nanos(number.unsigned_abs())))
            }
            (Kind::Duration, Value::String(text)) => scalar::typed(kind, &text)
                .map_err(|error| format!("`{key}` {error}; {}", error.mend())),
            (kind, value) if kind == Kind::of(&value) => Ok(value),
            (kind, value) => Err(format!(
                "`{key}` is {kind}, but {} was given; write {}",
                Kind::of(&value),
                kind.example()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_set_at_run_time_has_the_type_of_its_key() {
        let known = Known::embedded();
        let fit = |key: &str, value: Value| known.fit(&Key::parse(key).unwrap(), value);
        assert_eq!(
            fit("apm_config.max_cpu_percent", Value::Int(80)),
            Ok(Value::Float(80.0))
        );
        assert_eq!(
            fit("forwarder_timeout", Value::from("1m")),
            Ok(Value::Int(60_000_000_000))
        );
        assert_eq!(fit("forwarder_timeout", Value::Int(5)), Ok(Value::Int(5)));
        assert_eq!(fit("mine", Value::from("x")), Ok(Value::from("x")));
        for (key, value, parts) in [
            (
                "apm_config.enabled",
                Value::Int(1),
                ["is a boolean", "an integer was given", "true or false"],
            ),
            (
                "forwarder_timeout",
                Value::Int(-1),
                ["is a duration", "was given", "30s"],
            ),
            (
                "forwarder_timeout",
                Value::from("soon"),
                ["is a duration", "a number is missing", "30s"],
            ),
            (
                "apm_config",
                Value::Int(1),
                ["is a section", "`apm_config.", "inside it"],
            ),
            (
                "log_level.x",
                Value::Int(1),
                [
                    "cannot be",
                    "`log_level` is a string",
                    "set `log_level` itself",
                ],
            ),
        ] {
            let error = fit(key, value).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
    }
}
