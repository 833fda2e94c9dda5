//! Administration: changes at run time go through the resolver, questions are answered from the head.

use std::time::Duration;

use configstream_engine::settings::{Change, Key, Layered, Provenance, Settings, Source, Value};
use configstream_engine::{Committed, Engine};
use configstream_grpc::{AdminBackend, AdminError, Explanation, HostStatus};
use tonic::async_trait;

use crate::known::Known;
use crate::resolver::{ResolveError, ResolverHandle};
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
        let mut text = layered
            .provenance
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        if let Some(kept) = self.resolver.persisted(setting.source(), setting.key()) {
            text += &if kept.value == *setting.value() {
                format!(", persisted {}", kept.origin())
            } else {
                format!(
                    "; a restart brings back the value persisted {}",
                    kept.origin()
                )
            };
        }
        text
    }

    async fn submit(&self, change: Change) -> Result<Committed, AdminError> {
        let answer = match self.resolver.try_submit(change) {
            Ok(pending) => pending.answer().await,
            Err(error) => Err(error),
        };
        answer.map_err(|error| match error {
            ResolveError::Rejected(rejection) => AdminError::Rejected(rejection.to_string()),
            ResolveError::NotPersisted(why) => AdminError::Rejected(why),
            ResolveError::QueueFull => AdminError::Overloaded,
            ResolveError::Closed => AdminError::Closed,
            // Nothing was changed, and it may work again later, as under overload.
            ResolveError::Sequence(_) => AdminError::Overloaded,
        })
    }
}

#[async_trait]
impl AdminBackend for Backend {
    async fn set(
        &self,
        source: Source,
        key: Key,
        value: Value,
        requested_by: String,
    ) -> Result<Committed, AdminError> {
        let value = self.known.fit(&key, value).map_err(AdminError::Rejected)?;
        let who = if requested_by.is_empty() {
            "somebody".to_owned()
        } else {
            shorten(requested_by)
        };
        self.submit(Change::set(source, key, value).with_provenance(Provenance::runtime(who)))
            .await
    }

    async fn unset(
        &self,
        source: Source,
        key: Key,
        _requested_by: String,
    ) -> Result<Committed, AdminError> {
        // Between this look and the change another may unset it too; then nothing happens, and nothing is wrong.
        if !self
            .engine
            .head()
            .state()
            .explain(&key)
            .iter()
            .any(|layered| layered.setting.source() == source)
        {
            return Err(AdminError::NotHeld);
        }
        self.submit(Change::unset(source, key)).await
    }

    async fn explain(&self, key: Key) -> Result<Vec<Explanation>, AdminError> {
        let head = self.engine.head();
        let lowest_first = head.state().explain(&key).into_iter().rev();
        Ok(lowest_first
            .map(|layered| Explanation {
                source: layered.setting.source(),
                value: layered.setting.value().clone(),
                wins: layered.wins,
                provenance: self.provenance(&layered),
            })
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

/// Names are for people; nobody needs a long one.
fn shorten(mut name: String) -> String {
    const LONGEST: usize = 200;
    if let Some((end, _)) = name.char_indices().nth(LONGEST) {
        name.truncate(end);
    }
    name
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
                ["is a duration", "`soon`", "30s"],
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
