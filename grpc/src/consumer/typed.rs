//! Settings as the types that a program wants.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use configstream_engine::settings::{Key, List, Map, Resolved, Source, Value};

use crate::consumer::state::NotReady;

/// A type that a setting's value can be read as.
pub trait FromValue: Sized {
    /// What it is called in an error.
    const NAME: &'static str;

    /// The value, if it is one. Nothing is converted that could lose something.
    fn from_value(value: &Value) -> Option<Self>;
}

/// Why there is no such value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GetError {
    /// There are no settings yet.
    NotReady(NotReady),
    /// No setting has this key.
    Missing {
        /// As it was asked for.
        key: String,
    },
    /// The setting has another type. Its value is not told, since it can be private.
    WrongType {
        /// The key.
        key: Key,
        /// Where the value was set.
        source: Source,
        /// The type asked for.
        wanted: &'static str,
        /// The type there is.
        found: &'static str,
    },
}

/// What wins for `key`, as a `T`.
pub(super) fn get<T: FromValue>(settings: &Resolved, key: &str) -> Result<T, GetError> {
    let setting = settings.get(key).ok_or_else(|| GetError::Missing {
        key: key.to_owned(),
    })?;
    T::from_value(setting.value()).ok_or_else(|| GetError::WrongType {
        key: setting.key().clone(),
        source: setting.source(),
        wanted: T::NAME,
        found: setting.value().type_name(),
    })
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady(error) => error.fmt(f),
            Self::Missing { key } => write!(f, "no setting has the key '{key}'"),
            Self::WrongType {
                key,
                source,
                wanted,
                found,
            } => write!(
                f,
                "'{key}' was asked for as {wanted}, but {source} sets a value of type {found} that is none"
            ),
        }
    }
}

impl Error for GetError {}

macro_rules! from_value {
    ($($type:ty, $name:literal, $value:ident => $read:expr;)*) => {$(
        impl FromValue for $type {
            const NAME: &'static str = $name;

            fn from_value($value: &Value) -> Option<Self> {
                $read
            }
        }
    )*};
}

from_value! {
    bool, "bool", value => value.as_bool();
    i64, "integer", value => value.as_i64();
    u64, "integer of 64 bits without a sign", value => value.as_i64()?.try_into().ok();
    i32, "integer of 32 bits", value => value.as_i64()?.try_into().ok();
    u32, "integer of 32 bits without a sign", value => value.as_i64()?.try_into().ok();
    u16, "integer of 16 bits without a sign", value => value.as_i64()?.try_into().ok();
    usize, "size", value => value.as_i64()?.try_into().ok();
    f64, "number", value => value.as_f64();
    String, "string", value => value.as_str().map(str::to_owned);
    Arc<str>, "string", value => match value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    Duration, "duration in nanoseconds", value => value.as_duration();
    List, "list", value => value.as_list().cloned();
    Map, "map", value => value.as_map().cloned();
    Value, "value", value => Some(value.clone());
    Vec<String>, "list of strings", value => value.as_list()?.iter().map(String::from_value).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use configstream_engine::settings::Setting;

    fn settings(value: impl Into<Value>) -> Resolved {
        let key = Key::parse("a.b").unwrap();
        Resolved::from_settings([Setting::new(Source::File, key, value).unwrap()]).unwrap()
    }

    fn read<T: FromValue>(value: impl Into<Value>) -> Option<T> {
        get(&settings(value), "a.b").ok()
    }

    #[test]
    fn values_are_read_as_what_they_are() {
        assert_eq!(read::<bool>(true), Some(true));
        assert_eq!(read::<i64>(-3), Some(-3));
        assert_eq!(read::<f64>(-3), Some(-3.0));
        assert_eq!(read::<f64>(0.5), Some(0.5));
        assert_eq!(read::<String>("x").as_deref(), Some("x"));
        assert_eq!(read::<Arc<str>>("x").as_deref(), Some("x"));
        let second = Duration::from_secs(1);
        assert_eq!(read::<Duration>(Value::duration(second)), Some(second));
        let names = || Value::list(["x".into(), "y".into()]).unwrap();
        assert_eq!(
            read::<Vec<String>>(names()),
            Some(vec!["x".into(), "y".into()])
        );
        assert_eq!(read::<List>(names()).map(|list| list.len()), Some(2));
        assert_eq!(read::<Value>(names()), Some(names()));
        let map = Value::map([("k", 1.into())]).unwrap();
        assert_eq!(read::<Map>(map).map(|map| map.len()), Some(1));
    }

    #[test]
    fn nothing_is_bent_to_fit() {
        assert_eq!(read::<bool>(1), None);
        assert_eq!(read::<bool>("true"), None);
        assert_eq!(read::<i64>(0.5), None);
        assert_eq!(read::<u64>(-1), None);
        assert_eq!(read::<u16>(65_536), None);
        assert_eq!(read::<u16>(65_535), Some(65_535));
        assert_eq!(read::<i32>(i64::from(i32::MAX) + 1), None);
        assert_eq!(read::<u32>(-1), None);
        assert_eq!(read::<usize>(-1), None);
        assert_eq!(read::<String>(1), None);
        assert_eq!(read::<Duration>(-1), None);
        let mixed = Value::list(["x".into(), 1.into()]).unwrap();
        assert_eq!(read::<Vec<String>>(mixed), None);
    }

    #[test]
    fn an_error_says_what_and_where_and_not_the_value() {
        let settings = settings("hunter2");
        let error = get::<bool>(&settings, "a.b").unwrap_err().to_string();
        assert_eq!(
            error,
            "'a.b' was asked for as bool, but file sets a value of type string that is none"
        );
        let error = get::<bool>(&settings, "a.c").unwrap_err().to_string();
        assert_eq!(error, "no setting has the key 'a.c'");
    }
}
