//! JSON texts as values, for environment variables and `--set`, and values as JSON, for people and scripts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use configstream_engine::settings::{Value, ValueError};
use configstream_grpc::is_printable;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::duration;
use crate::known::Known;
use crate::scalar::{Kind, MAX_INTEGER, ScalarError};

/// A JSON text of which every character is printable: another is written as `\u` and its number in
/// UTF-16, which reads the same. Outside of strings JSON has no such character but white space, of
/// which there must be none.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_printable(letter) {
            shown.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = fmt::Write::write_fmt(&mut shown, format_args!("\\u{unit:04x}"));
            }
        }
    }
    Cow::Owned(shown)
}

/// Why a text is not the JSON it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(String);

impl fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for JsonError {}

impl From<ValueError> for JsonError {
    fn from(error: ValueError) -> Self {
        Self(error.to_string())
    }
}

/// Reads a JSON array.
///
/// # Errors
///
/// It is no JSON, no array, or holds what no setting can be.
pub fn list(text: &str) -> Result<Value, JsonError> {
    match value(text)? {
        list @ Value::List(_) => Ok(list),
        _ => Err(JsonError("it is JSON, but no array".to_owned())),
    }
}

/// Reads a JSON object.
///
/// # Errors
///
/// It is no JSON, no object, or holds what no setting can be.
pub fn map(text: &str) -> Result<Value, JsonError> {
    match value(text)? {
        map @ Value::Map(_) => Ok(map),
        _ => Err(JsonError("it is JSON, but no object".to_owned())),
    }
}

/// Reads any JSON that a setting can be: null, a key twice, and integers beyond ±2^53 are refused.
///
/// # Errors
///
/// It is no JSON, or holds what no setting can be.
pub fn value(text: &str) -> Result<Value, JsonError> {
    serde_json::from_str::<Json>(text)
        .map(|Json(value)| value)
        .map_err(|error| JsonError(error.to_string()))
}

/// Makes every text in a JSON value [`printable`](configstream_grpc::printable), for a page that
/// shows them as they are. Names of fields are left alone.
pub fn make_printable(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if let Cow::Owned(shown) = configstream_grpc::printable(text) {
                *text = shown;
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(make_printable),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(make_printable),
        _ => {}
    }
}

/// A value as JSON.
#[must_use]
pub fn of(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => (**text).into(),
        Value::List(items) => items.iter().map(of).collect(),
        Value::Map(map) => map
            .iter()
            .map(|(key, value)| (key.to_string(), of(value)))
            .collect(),
        // A kind of value that came after this program: its text is better than nothing.
        #[allow(unreachable_patterns)]
        other => format!("{other:?}").into(),
    }
}

/// A value of the wire as JSON. A number without a fraction is an integer again.
#[must_use]
pub fn of_proto(value: &prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(flag)) => (*flag).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        Some(Kind::NumberValue(number))
            if number.fract() == 0.0 && number.abs() <= MAX_INTEGER as f64 =>
        {
            (*number as i64).into()
        }
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(of_proto).collect(),
        Some(Kind::StructValue(map)) => map
            .fields
            .iter()
            .map(|(key, value)| (key.clone(), of_proto(value)))
            .collect(),
    }
}

/// A value for a person: JSON, but nanoseconds as a span of time where the key is known to be one.
#[must_use]
pub fn for_people(known: &Known, key: &str, value: &serde_json::Value) -> String {
    match (known.kind(key), value.as_u64()) {
        (Some(Kind::Duration), Some(nanoseconds)) => {
            duration::show(Duration::from_nanos(nanoseconds))
        }
        _ => value.to_string(),
    }
}

/// A value, for where JSON holds one.
pub(crate) struct Json(pub(crate) Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Self)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        if (-MAX_INTEGER..=MAX_INTEGER).contains(&number) {
            Ok(Value::Int(number))
        } else {
            // Which one is not said: it may be a secret.
            Err(E::custom(format_args!(
                "a number {}",
                ScalarError::IntegerTooBig
            )))
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        if number.is_finite() {
            Ok(Value::Float(number))
        } else {
            Err(E::custom(ScalarError::NotFinite))
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Err(E::custom("null is no value"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            list.push(item);
        }
        Value::list(list).map_err(de::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        while let Some((key, Json(value))) = entries.next_entry::<String, Json>()? {
            if map.contains_key(key.as_str()) {
                return Err(de::Error::custom(format_args!(
                    "the key `{key}` is given twice"
                )));
            }
            map.insert(Arc::from(key), value);
        }
        Value::map(map).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let text = r#"{"a":[1,-2.5,true,"x"],"b":{"C.d":9007199254740992}}"#;
        assert_eq!(of(&value(text).unwrap()).to_string(), text);
    }

    #[test]
    fn what_no_setting_can_be_is_refused() {
        for (text, why) in [
            ("", "EOF"),
            ("[1", "EOF"),
            ("null", "null"),
            ("[null]", "null"),
            (r#"{"a":1,"a":2}"#, "twice"),
            ("9007199254740993", "2^53"),
            ("[18446744073709551615]", "2^53"),
            ("1e999", "number"),
            (
                &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
                "recursion",
            ),
        ] {
            let error = value(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error} lacks {why}");
        }
    }
}
