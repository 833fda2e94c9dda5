//! The engine's types as messages, and back.
//!
//! Both sides of each conversion are foreign to this crate, so `From` is not available: [`ToProto`] stands in for it
//! one way, functions the other.

use std::fmt;

use configstream_engine::settings::{Setting, SettingUpdate, Value, ValueError};
use configstream_proto::datadog::model::v1::ConfigSetting;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};

/// How a type of the engine looks on the wire.
pub(crate) trait ToProto {
    type Output;

    fn to_proto(&self) -> Self::Output;
}

impl ToProto for Setting {
    type Output = ConfigSetting;

    fn to_proto(&self) -> ConfigSetting {
        ConfigSetting {
            source: self.source().as_str().to_owned(),
            key: self.key().as_str().to_owned(),
            value: Some(self.value().to_proto()),
            unset_source: None,
        }
    }
}

impl ToProto for SettingUpdate {
    type Output = ConfigSetting;

    fn to_proto(&self) -> ConfigSetting {
        ConfigSetting {
            unset_source: self.unset().map(|source| source.as_str().to_owned()),
            ..self.setting().to_proto()
        }
    }
}

impl ToProto for Value {
    type Output = prost_types::Value;

    /// The wire knows one kind of number; the engine takes no integer that a double cannot carry.
    #[allow(clippy::cast_precision_loss)]
    fn to_proto(&self) -> prost_types::Value {
        let kind = match self {
            Self::Bool(value) => Kind::BoolValue(*value),
            Self::Int(number) => Kind::NumberValue(*number as f64),
            Self::Uint(number) => Kind::NumberValue(*number as f64),
            Self::Float(number) => Kind::NumberValue(*number),
            Self::String(text) => Kind::StringValue(text.to_string()),
            Self::List(values) => Kind::ListValue(ListValue {
                values: values.iter().map(Self::to_proto).collect(),
            }),
            Self::Map(values) => Kind::StructValue(Struct {
                fields: values
                    .iter()
                    .map(|(key, value)| (key.to_string(), value.to_proto()))
                    .collect(),
            }),
        };
        prost_types::Value { kind: Some(kind) }
    }
}

/// A message as a value.
///
/// A number without a fraction is an integer, within the range in which a double tells integers apart.
pub(crate) fn value_from_proto(message: prost_types::Value) -> Result<Value, UnreadableValue> {
    match message.kind {
        None | Some(Kind::NullValue(_)) => Err(UnreadableValue::Null),
        Some(Kind::BoolValue(value)) => Ok(Value::Bool(value)),
        Some(Kind::NumberValue(number)) => Ok(number_from_proto(number)),
        Some(Kind::StringValue(text)) => Ok(Value::String(text.into())),
        Some(Kind::ListValue(list)) => {
            let items = list
                .values
                .into_iter()
                .map(value_from_proto)
                .collect::<Result<Vec<_>, _>>()?;
            Value::list(items).map_err(UnreadableValue::Value)
        }
        Some(Kind::StructValue(map)) => {
            let entries = map
                .fields
                .into_iter()
                .map(|(name, value)| Ok((name, value_from_proto(value)?)));
            Value::map(entries.collect::<Result<Vec<_>, _>>()?).map_err(UnreadableValue::Value)
        }
    }
}

/// Why a message is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnreadableValue {
    /// There is a null in it, or nothing at all.
    Null,
    /// The settings do not take it.
    Value(ValueError),
}

impl fmt::Display for UnreadableValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("a setting has no null"),
            Self::Value(error) => error.fmt(f),
        }
    }
}

fn number_from_proto(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= EXACT_INTEGERS {
        // Cannot truncate: it has no fraction and lies within ±2^53.
        #[allow(clippy::cast_possible_truncation)]
        Value::Int(number as i64)
    } else {
        Value::Float(number)
    }
}

/// 2^53: up to here, either way, doubles and integers agree.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_went() {
        let map = [("a.b/C", Value::Int(-3)), ("d", Value::String("e".into()))];
        for value in [
            Value::Bool(true),
            Value::Int(0),
            Value::Int(9_007_199_254_740_992),
            Value::Float(0.5),
            Value::String("".into()),
            Value::list([Value::Bool(false), Value::list([]).unwrap()]).unwrap(),
            Value::map(map).unwrap(),
        ] {
            assert_eq!(value_from_proto(value.to_proto()), Ok(value));
        }
    }

    #[test]
    fn the_kind_of_a_number_does_not_travel() {
        assert_eq!(
            value_from_proto(Value::Uint(7).to_proto()),
            Ok(Value::Int(7))
        );
        assert_eq!(
            value_from_proto(Value::Float(7.0).to_proto()),
            Ok(Value::Int(7))
        );
        assert_eq!(
            value_from_proto(Value::Float(1e300).to_proto()),
            Ok(Value::Float(1e300))
        );
    }

    #[test]
    fn null_is_no_value_wherever_it_hides() {
        let null = prost_types::Value {
            kind: Some(Kind::NullValue(0)),
        };
        let absent = prost_types::Value { kind: None };
        for nothing in [null, absent] {
            let list = Kind::ListValue(ListValue {
                values: vec![nothing.clone()],
            });
            assert_eq!(value_from_proto(nothing), Err(UnreadableValue::Null));
            let list = prost_types::Value { kind: Some(list) };
            assert_eq!(value_from_proto(list), Err(UnreadableValue::Null));
        }
    }
}
