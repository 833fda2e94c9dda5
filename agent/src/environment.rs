//! The layer of environment variables.
//!
//! The variable of a key is the prefix (`DD_` unless told otherwise), then the key in upper case with `.` as `_`:
//! `apm_config.enabled` is `DD_APM_CONFIG_ENABLED`. Only known keys have variables, since `_` does not say where a
//! dot was. An empty variable is unset.
//!
//! A value is read as the type of the known default: scalars as in [`scalar`]; a list as JSON if it
//! starts with `[`, else cut at commas, or at white space if there is no comma; a map as JSON.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;

use configstream_engine::settings::{Assignment, Key, Provenance, Value};

use crate::json;
use crate::known::Known;
use crate::scalar::{self, Kind, ScalarError};

/// Why an environment variable is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentError {
    variable: String,
    key: String,
    problem: EnvironmentProblem,
}

/// What is wrong with an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvironmentProblem {
    /// It is not UTF-8.
    NotUtf8(Kind),
    /// It is not of the type of its key.
    Scalar(ScalarError),
    /// It is no JSON of the type of its key.
    Json {
        /// That type.
        kind: Kind,
        /// What is wrong.
        error: json::JsonError,
    },
    /// It could be either of two keys, so it is neither.
    Ambiguous(String),
}

impl fmt::Display for EnvironmentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            variable,
            key,
            problem,
        } = self;
        write!(formatter, "{variable}: `{key}` ")?;
        match problem {
            EnvironmentProblem::NotUtf8(kind) => write!(
                formatter,
                "is {kind}, but the variable is not UTF-8; write {}",
                kind.example()
            ),
            EnvironmentProblem::Scalar(error) => write!(formatter, "{error}; {}", error.mend()),
            EnvironmentProblem::Json {
                kind: Kind::List,
                error,
            } => {
                write!(
                    formatter,
                    "is a list, but the variable is not: {error}; write JSON such as [\"a\",\"b\"], or a,b"
                )
            }
            EnvironmentProblem::Json { kind, error } => {
                write!(
                    formatter,
                    "is {kind}, but the variable is not: {error}; write JSON such as {{\"key\":\"value\"}}"
                )
            }
            EnvironmentProblem::Ambiguous(other) => write!(
                formatter,
                "and `{other}` share this variable; set them in a file or by --set"
            ),
        }
    }
}

impl Error for EnvironmentError {}

/// The settings that a set of environment variables makes.
///
/// # Errors
///
/// The first variable, in the order of the keys, that cannot be what its key is.
pub fn assignments(
    known: &Known,
    prefix: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Assignment>, EnvironmentError> {
    let variables: std::collections::HashMap<OsString, OsString> = variables
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let mut found: Vec<(String, Assignment)> = Vec::new();
    for (key, kind) in known.iter() {
        let variable = variable_of(prefix, key);
        let Some(text) = variables.get(std::ffi::OsStr::new(&variable)) else {
            continue;
        };
        let fail = |problem| EnvironmentError {
            variable: variable.clone(),
            key: key.to_string(),
            problem,
        };
        if let Some((_, other)) = found.iter().find(|(earlier, _)| *earlier == variable) {
            return Err(fail(EnvironmentProblem::Ambiguous(other.key.to_string())));
        }
        let text = text
            .to_str()
            .ok_or_else(|| fail(EnvironmentProblem::NotUtf8(kind)))?;
        let value = read(kind, text).map_err(fail)?;
        let provenance = Some(Provenance::environment(variable.clone()));
        found.push((
            variable,
            Assignment {
                key: key.clone(),
                value,
                provenance,
            },
        ));
    }
    Ok(found
        .into_iter()
        .map(|(_, assignment)| assignment)
        .collect())
}

/// The environment variable of a key.
#[must_use]
pub fn variable_of(prefix: &str, key: &Key) -> String {
    let mut name = prefix.to_owned();
    if !name.ends_with('_') && !name.is_empty() {
        name.push('_');
    }
    name.extend(key.as_str().chars().map(|letter| match letter {
        '.' | '-' => '_',
        letter => letter.to_ascii_uppercase(),
    }));
    name
}

fn read(kind: Kind, text: &str) -> Result<Value, EnvironmentProblem> {
    match kind {
        Kind::Map => json::map(text).map_err(|error| EnvironmentProblem::Json { kind, error }),
        Kind::List if text.trim_start().starts_with('[') => {
            json::list(text).map_err(|error| EnvironmentProblem::Json { kind, error })
        }
        Kind::List => {
            let items: Vec<&str> = if text.contains(',') {
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .collect()
            } else {
                text.split_whitespace().collect()
            };
            let items = items.into_iter().map(|item| Value::String(item.into()));
            Value::list(items).map_err(|error| EnvironmentProblem::Json {
                kind,
                error: error.into(),
            })
        }
        // A string is kept as it is; a stray blank around anything else means nothing.
        Kind::String => scalar::typed(kind, text).map_err(EnvironmentProblem::Scalar),
        _ => scalar::typed(kind, text.trim()).map_err(EnvironmentProblem::Scalar),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Result<Vec<(String, Value)>, String> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        match assignments(Known::embedded(), "DD", variables) {
            Ok(found) => Ok(found
                .into_iter()
                .map(|assignment| (assignment.key.to_string(), assignment.value))
                .collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn known_keys_are_read_as_their_type() {
        let list = |items: &[&str]| {
            Value::list(items.iter().map(|item| Value::String((*item).into()))).unwrap()
        };
        for (variable, text, key, value) in [
            (
                "DD_LOG_LEVEL",
                "debug",
                "log_level",
                Value::String("debug".into()),
            ),
            (
                "DD_API_KEY",
                "0123",
                "api_key",
                Value::String("0123".into()),
            ),
            (
                "DD_APM_CONFIG_ENABLED",
                "false",
                "apm_config.enabled",
                Value::Bool(false),
            ),
            (
                "DD_APM_CONFIG_RECEIVER_PORT",
                " 8127 ",
                "apm_config.receiver_port",
                Value::Int(8127),
            ),
            (
                "DD_FORWARDER_BACKOFF_BASE",
                "3",
                "forwarder_backoff_base",
                Value::Float(3.0),
            ),
            (
                "DD_FORWARDER_TIMEOUT",
                "45s",
                "forwarder_timeout",
                Value::Int(45_000_000_000),
            ),
            ("DD_TAGS", "a:b c:d", "tags", list(&["a:b", "c:d"])),
            ("DD_TAGS", "a:b, c:d", "tags", list(&["a:b", "c:d"])),
            (
                "DD_TAGS",
                r#"["a b", "c,d"]"#,
                "tags",
                list(&["a b", "c,d"]),
            ),
            (
                "DD_CONTAINER_ENV_AS_TAGS",
                r#"{"HOME": "home"}"#,
                "container_env_as_tags",
                Value::map([("HOME", "home".into())]).unwrap(),
            ),
        ] {
            assert_eq!(
                environment(&[(variable, text)]),
                Ok(vec![(key.to_owned(), value)]),
                "{variable}={text}"
            );
        }
    }

    #[test]
    fn unknown_and_empty_variables_are_no_settings() {
        assert_eq!(
            environment(&[
                ("DD_LOG_LEVEL", ""),
                ("DD_NOBODY_KNOWS", "x"),
                ("LOG_LEVEL", "x"),
                ("dd_log_level", "x")
            ]),
            Ok(vec![])
        );
    }

    #[test]
    fn a_bad_value_names_variable_key_and_type() {
        for (variable, text, parts) in [
            (
                "DD_APM_CONFIG_ENABLED",
                "maybe",
                [
                    "`apm_config.enabled`",
                    "a boolean",
                    "its value is not",
                    "write true or false",
                ],
            ),
            (
                "DD_EXPVAR_PORT",
                "5e3x",
                ["`expvar_port`", "an integer", "is not", "whole number"],
            ),
            (
                "DD_FORWARDER_TIMEOUT",
                "20 s",
                [
                    "`forwarder_timeout`",
                    "a duration",
                    "a unit is unknown",
                    "30s",
                ],
            ),
            (
                "DD_TAGS",
                "[1,",
                ["`tags`", "a list", "line 1", "write JSON"],
            ),
            (
                "DD_CONTAINER_ENV_AS_TAGS",
                "a:b",
                ["`container_env_as_tags`", "a map", "line 1", "write JSON"],
            ),
            (
                "DD_CONTAINER_ENV_AS_TAGS",
                r#"{"a":null}"#,
                ["`container_env_as_tags`", "a map", "null", "write JSON"],
            ),
            (
                "DD_CONTAINER_ENV_AS_TAGS",
                r#"{"a":1,"a":2}"#,
                ["`container_env_as_tags`", "a map", "twice", "write JSON"],
            ),
        ] {
            let error = environment(&[(variable, text)]).unwrap_err();
            assert!(error.starts_with(variable), "{error}");
            for part in parts {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
        let odd = [("DD_LOG_LEVEL".into(), OsString::from_vec(vec![0xff]))];
        let error = assignments(Known::embedded(), "DD_", odd)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("DD_LOG_LEVEL") && error.contains("not UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn no_error_quotes_a_value() {
        for (variable, text) in [
            ("DD_APM_CONFIG_ENABLED", "hunter2"),
            ("DD_EXPVAR_PORT", "hunter2"),
            ("DD_FORWARDER_BACKOFF_BASE", "hunter2"),
            ("DD_FORWARDER_TIMEOUT", "hunter2"),
            ("DD_TAGS", r#"["hunter2", null]"#),
            ("DD_CONTAINER_ENV_AS_TAGS", "hunter2"),
            ("DD_SECRET_BACKEND_ARGUMENTS", r#"["hunter2", null]"#),
            ("DD_SECRET_BACKEND_CONFIG", "hunter2"),
            ("DD_SECRET_BACKEND_CONFIG", r#"{"pin":41414141414141414}"#),
            ("DD_ADDITIONAL_ENDPOINTS", "https://x: hunter2"),
        ] {
            let error = environment(&[(variable, text)]).unwrap_err();
            assert!(
                !error.contains("hunter2") && !error.contains("4141"),
                "{error}"
            );
        }
    }

    #[test]
    fn every_known_key_has_a_variable_of_its_own() {
        let mut names: Vec<String> = Known::embedded()
            .iter()
            .map(|(key, _)| variable_of("DD", key))
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        let known = Known::parse("known.yaml", "a_b: 1\na: {b: 2}\n").unwrap();
        let error = assignments(&known, "X", [("X_A_B".into(), "3".into())])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`a_b`") && error.contains("`a.b`"),
            "{error}"
        );
    }
}
