//! Values as people and programs may see them: without secrets.

use configstream_engine::settings::Value;
use configstream_grpc::Client;
use serde_json::{Value as Json, json};
use tonic::Code;

use super::target::refused;
use crate::exit::Failure;
use crate::json;
use crate::known::Known;
use crate::secrets::{REDACTED, SECRET_KEYS, Secrets};

/// Shows values of an agent the way that its own list of secrets says.
#[derive(Debug)]
pub(super) struct Shown {
    secrets: Secrets,
}

impl Shown {
    /// With the list that is in force there now.
    ///
    /// # Errors
    ///
    /// The agent does not tell it; then nothing can be shown.
    pub(super) async fn by(client: &Client) -> Result<Self, Failure> {
        let secrets = match client.get(SECRET_KEYS).await {
            Ok(reply) => {
                let value = reply.setting.and_then(|setting| setting.value);
                Secrets::listed(value.as_ref().and_then(engine_value).as_ref())
            }
            Err(status) if status.code() == Code::NotFound => Secrets::listed(None),
            Err(status) => return Err(refused("cannot tell which settings are secret", &status)),
        };
        Ok(Self { secrets })
    }

    /// A value as JSON; null if there is none.
    pub(super) fn json(&self, key: &str, value: Option<&prost_types::Value>) -> Json {
        value.map_or(Json::Null, |value| match engine_value(value) {
            Some(value) => json::of(&self.secrets.shown(key, &value)),
            // It is no value of a setting, so it cannot be looked into.
            None => REDACTED.into(),
        })
    }

    /// A value for a person: a duration as a span of time.
    pub(super) fn text(&self, key: &str, value: Option<&prost_types::Value>) -> String {
        match value {
            Some(_) => json::for_people(Known::embedded(), key, &self.json(key, value)),
            None => String::new(),
        }
    }

    /// A setting as an object.
    pub(super) fn setting(
        &self,
        setting: &configstream_proto::configstream::admin::v1::Setting,
    ) -> Json {
        let mut object = json!({
            "key": setting.key,
            "source": setting.source,
            "value": self.json(&setting.key, setting.value.as_ref()),
        });
        if let Some(sequence) = setting.changed_sequence {
            object["changed_sequence"] = sequence.into();
        }
        object
    }
}

fn engine_value(value: &prost_types::Value) -> Option<Value> {
    json::value(&json::of_proto(value).to_string()).ok()
}
