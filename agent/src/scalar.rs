//! Texts as values: the types a setting can have, and how a text is read as each of them.
//!
//! Three sources read texts: YAML scalars, environment variables and `--set`. They share these rules:
//!
//! | the known default is | accepted |
//! | --- | --- |
//! | a boolean | `true`, `false`, `yes`, `no`, `on`, `off`, in any letter case |
//! | an integer | decimal, `0x` or `0o`, within ±2^53 |
//! | a number (float) | an integer or a decimal fraction, finite |
//! | a span of time | `30s`, `1m30s`, or a whole number of nanoseconds |
//! | a string | anything; the text is kept as written (`010` stays `010`) |
//!
//! A key without a known default is read by YAML's core schema ([`plain`]): `true`, `12`, `1.5`, and all else is a
//! string.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use configstream_engine::settings::Value;

use crate::duration::{self, DurationError};

/// The largest integer a setting may have, either way: 2^53.
pub const MAX_INTEGER: i64 = Value::MAX_INTEGER;

/// The type of a setting, as its known default tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// A text.
    String,
    /// A span of time, carried as nanoseconds.
    Duration,
    /// A list.
    List,
    /// A map with text keys.
    Map,
}

impl Kind {
    /// The type a value has. A duration is an integer by its looks.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Bool(_) => Self::Bool,
            Value::Float(_) => Self::Float,
            Value::String(_) => Self::String,
            Value::List(_) => Self::List,
            Value::Map(_) => Self::Map,
            _ => Self::Int,
        }
    }

    /// What a value of this type looks like.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number such as 10",
            Self::Float => "a number such as 0.5",
            Self::String => "a text such as \"info\"",
            Self::Duration => "a span of time such as 30s or 1m30s, or nanoseconds",
            Self::List => "a list such as [a, b]",
            Self::Map => "a map such as {key: value}",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bool => "a boolean",
            Self::Int => "an integer",
            Self::Float => "a number",
            Self::String => "a string",
            Self::Duration => "a duration",
            Self::List => "a list",
            Self::Map => "a map",
        })
    }
}

/// Why a text is not the value it should be.
///
/// It never quotes the text: that may be a secret, and which keys are secret is not known while settings are still being
/// read. Who reports it says where the text stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScalarError {
    /// Null: nothing after the colon, `null` or `~`.
    Null,
    /// NaN or an infinity.
    NotFinite,
    /// Beyond ±2^53.
    IntegerTooBig,
    /// Not of the type the key has, which is this.
    Expected(Kind),
    /// A span of time whose nanoseconds go beyond 2^53.
    DurationTooLong,
    /// No span of time.
    Duration(DurationError),
}

impl ScalarError {
    /// What to do about it.
    #[must_use]
    pub fn mend(&self) -> String {
        match self {
            Self::Null => "give a value (\"\" for an empty text), or remove the line so that the layer below shows".to_owned(),
            Self::NotFinite => "give a finite number".to_owned(),
            Self::IntegerTooBig => "keep within 9007199254740992 either way, or quote it to make it a text".to_owned(),
            Self::Expected(kind) => format!("write {}", kind.example()),
            Self::DurationTooLong => "keep within 2501h".to_owned(),
            Self::Duration(_) => format!("write {}", Kind::Duration.example()),
        }
    }
}

impl fmt::Display for ScalarError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("has no value (null)"),
            Self::NotFinite => formatter.write_str("is not a finite number"),
            Self::IntegerTooBig => formatter.write_str("is an integer that a double cannot carry exactly (beyond 2^53)"),
            Self::Expected(kind) => write!(formatter, "is {kind}, but its value is not"),
            Self::DurationTooLong => {
                formatter.write_str("is a duration whose nanoseconds a double cannot carry exactly (beyond 2^53, 104 days)")
            }
            Self::Duration(error) => write!(formatter, "is a duration, but its value is not: {error}"),
        }
    }
}

impl Error for ScalarError {}

/// Reads a text as a value of a type.
///
/// # Errors
///
/// It is not of that type. A list or a map is never read from a text here: how depends on the source.
pub fn typed(kind: Kind, text: &str) -> Result<Value, ScalarError> {
    let expected = || ScalarError::Expected(kind);
    match kind {
        Kind::String => Ok(Value::String(text.into())),
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(Value::Bool(true)),
            "false" | "no" | "off" => Ok(Value::Bool(false)),
            _ => Err(expected()),
        },
        Kind::Int => match integer(text) {
            Some(number) => bounded(number),
            None => Err(expected()),
        },
        Kind::Float => match (integer(text), float(text)) {
            (Some(number), _) => match bounded(number)? {
                // Within ±2^53, so the conversion is exact.
                #[allow(clippy::cast_precision_loss)]
                Value::Int(number) => Ok(Value::Float(number as f64)),
                other => Ok(other),
            },
            (None, Some(number)) => finite(number),
            (None, None) => Err(expected()),
        },
        Kind::Duration => match integer(text) {
            Some(number) if number >= 0 => bounded(number),
            _ => duration::parse(text)
                .map(nanoseconds)
                .map_err(ScalarError::Duration)?,
        },
        Kind::List | Kind::Map => Err(expected()),
    }
}

/// Reads a text by YAML's core schema.
///
/// # Errors
///
/// Null, a number that is not finite, or an integer beyond ±2^53.
pub fn plain(text: &str) -> Result<Value, ScalarError> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Err(ScalarError::Null),
        "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
        _ => match (integer(text), float(text)) {
            (Some(number), _) => bounded(number),
            (None, Some(number)) => finite(number),
            (None, None) => Ok(Value::String(text.into())),
        },
    }
}

/// A span of time as a value, if a double can carry its nanoseconds exactly, which is up to 104 days.
fn nanoseconds(span: Duration) -> Result<Value, ScalarError> {
    match i64::try_from(span.as_nanos()) {
        Ok(number) if number <= MAX_INTEGER => Ok(Value::Int(number)),
        _ => Err(ScalarError::DurationTooLong),
    }
}

fn bounded(number: i64) -> Result<Value, ScalarError> {
    if (-MAX_INTEGER..=MAX_INTEGER).contains(&number) {
        Ok(Value::Int(number))
    } else {
        Err(ScalarError::IntegerTooBig)
    }
}

fn finite(number: f64) -> Result<Value, ScalarError> {
    if number.is_finite() {
        Ok(Value::Float(number))
    } else {
        Err(ScalarError::NotFinite)
    }
}

/// An integer of the core schema. One that overflows is still an integer, as far away as possible.
fn integer(text: &str) -> Option<i64> {
    let (digits, radix, sign) = if let Some(digits) = text.strip_prefix("0x") {
        (digits, 16, 1)
    } else if let Some(digits) = text.strip_prefix("0o") {
        (digits, 8, 1)
    } else if let Some(digits) = text.strip_prefix('-') {
        (digits, 10, -1)
    } else {
        (text.strip_prefix('+').unwrap_or(text), 10, 1)
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    Some(i64::from_str_radix(digits, radix).map_or(i64::MAX, |number| number * sign))
}

/// A float of the core schema, NaN and infinities included.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        _ if matches!(text, ".nan" | ".NaN" | ".NAN") => return Some(f64::NAN),
        _ => {}
    }
    // What Rust reads beyond that ("inf", "nan", "infinity") is text in YAML.
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        || !unsigned.contains(|digit: char| digit.is_ascii_digit())
    {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_text_is_what_the_core_schema_says() {
        for (text, value) in [
            ("true", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("yes", Value::String("yes".into())),
            ("12", Value::Int(12)),
            ("+12", Value::Int(12)),
            ("-12", Value::Int(-12)),
            ("0x1F", Value::Int(31)),
            ("0o17", Value::Int(15)),
            ("9007199254740992", Value::Int(MAX_INTEGER)),
            ("1.5", Value::Float(1.5)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1000.0)),
            ("-1.", Value::Float(-1.0)),
            ("1.2.3", Value::String("1.2.3".into())),
            ("inf", Value::String("inf".into())),
            ("nan", Value::String("nan".into())),
            ("0x", Value::String("0x".into())),
            (".", Value::String(".".into())),
            ("-", Value::String("-".into())),
            ("12abc", Value::String("12abc".into())),
        ] {
            assert_eq!(plain(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_cannot_travel_is_refused() {
        for (text, error) in [
            ("", ScalarError::Null),
            ("~", ScalarError::Null),
            ("null", ScalarError::Null),
            (".nan", ScalarError::NotFinite),
            ("-.inf", ScalarError::NotFinite),
            ("1e999", ScalarError::NotFinite),
            ("9007199254740993", ScalarError::IntegerTooBig),
            ("-9007199254740993", ScalarError::IntegerTooBig),
            ("123456789012345678901234567890", ScalarError::IntegerTooBig),
        ] {
            assert_eq!(plain(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_known_type_decides() {
        for (kind, text, value) in [
            (Kind::Bool, "YES", Value::Bool(true)),
            (Kind::Bool, "off", Value::Bool(false)),
            (Kind::Float, "10", Value::Float(10.0)),
            (Kind::Float, "0.25", Value::Float(0.25)),
            (Kind::Int, "0x10", Value::Int(16)),
            (Kind::String, "010", Value::String("010".into())),
            (Kind::String, "true", Value::String("true".into())),
            (Kind::Duration, "1m30s", Value::Int(90_000_000_000)),
            (Kind::Duration, "5000", Value::Int(5000)),
        ] {
            assert_eq!(typed(kind, text), Ok(value), "{kind} {text}");
        }
        for (kind, text) in [
            (Kind::Bool, "1"),
            (Kind::Int, "1.5"),
            (Kind::Int, ""),
            (Kind::Float, "fast"),
            (Kind::Duration, "-5s"),
            (Kind::Duration, "-5"),
            (Kind::Duration, "3000h"),
            (Kind::List, "[a]"),
        ] {
            assert!(typed(kind, text).is_err(), "{kind} {text}");
        }
    }
}
