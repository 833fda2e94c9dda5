//! The layer of the command line: `--set key=value`.
//!
//! A value is read as the type of the known default, like a scalar in a file ([`scalar`]); a list or a
//! map is written the way YAML writes it on one line (`[a, b]`, `{key: value}`). A key that is not known is read as
//! YAML by its looks.

use std::error::Error;
use std::fmt;
use std::path::Path;

use configstream_engine::settings::{Assignment, Key, Provenance, Value};

use crate::known::Known;
use crate::scalar::{self, Kind};
use crate::yaml::{self, Budget, Document, FileError};

/// Why a `--set` is refused. Prints what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLineError {
    argument: String,
    problem: CommandLineProblem,
}

/// What is wrong with a `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandLineProblem {
    /// There is no `=`.
    NoEqualsSign,
    /// What stands before the `=` is no key.
    BadKey(String),
    /// The value is not what it should be.
    Value(String),
}

impl fmt::Display for CommandLineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "--set {}: ", self.argument)?;
        match &self.problem {
            CommandLineProblem::NoEqualsSign => {
                formatter.write_str("there is no `=`; write KEY=VALUE")
            }
            CommandLineProblem::BadKey(key) => {
                write!(
                    formatter,
                    "`{key}` is no key; write lower-case words joined by dots, such as apm_config.enabled"
                )
            }
            CommandLineProblem::Value(why) => formatter.write_str(why),
        }
    }
}

impl Error for CommandLineError {}

/// The settings that `--set` arguments make. The last one of a key wins.
///
/// # Errors
///
/// The first argument that is no setting.
pub fn assignments(
    known: &Known,
    arguments: &[String],
) -> Result<Vec<Assignment>, CommandLineError> {
    let mut found: Vec<Assignment> = Vec::new();
    let mut budget = Budget::default();
    for argument in arguments {
        // The value may be a secret: messages show the key only.
        let name = argument
            .split_once(['=', ':'])
            .map_or(argument.as_str(), |(key, _)| key);
        let fail = |problem| CommandLineError {
            argument: name.to_owned(),
            problem,
        };
        let (key, text) = argument
            .split_once('=')
            .ok_or_else(|| fail(CommandLineProblem::NoEqualsSign))?;
        let key = Key::parse(key.trim())
            .map_err(|_| fail(CommandLineProblem::BadKey(name.to_owned())))?;
        let value = value_within(known, &key, text, &mut budget)
            .map_err(|why| fail(CommandLineProblem::Value(why)))?;
        found.retain(|earlier| earlier.key != key);
        found.push(Assignment {
            key,
            value,
            provenance: Some(Provenance::CommandLine),
        });
    }
    Ok(found)
}

/// Reads the text of one value, for `--set` and for `configstream set`.
///
/// # Errors
///
/// What is wrong with it, and what to do.
pub fn value(known: &Known, key: &Key, text: &str) -> Result<Value, String> {
    value_within(known, key, text, &mut Budget::default())
}

fn value_within(
    known: &Known,
    key: &Key,
    text: &str,
    budget: &mut Budget,
) -> Result<Value, String> {
    let kind = known.kind(key.as_str());
    match kind {
        Some(kind) if !matches!(kind, Kind::List | Kind::Map) => {
            let text = if kind == Kind::String {
                text
            } else {
                text.trim()
            };
            return scalar::typed(kind, text)
                .map_err(|error| format!("`{key}` {error}; {}", error.mend()));
        }
        // An empty text is no YAML value, but a good string.
        None if text.is_empty() => return Ok(Value::String("".into())),
        _ => {}
    }
    let path = Path::new("--set");
    let explain = |error: FileError| {
        let error = error.to_string();
        error
            .strip_prefix("--set")
            .unwrap_or(&error)
            .trim_start_matches(|c: char| c == ':' || c == ' ' || c.is_ascii_digit())
            .to_owned()
    };
    let document = Document::parse_within(path, text, budget).map_err(explain)?;
    yaml::lone_value(path, &document, key, known).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(argument: &str) -> Result<Value, String> {
        assignments(Known::embedded(), &[argument.to_owned()])
            .map(|mut found| found.remove(0).value)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_read_as_the_type_of_their_key() {
        for (argument, value) in [
            ("log_level=debug", Value::String("debug".into())),
            ("log_level=", Value::String("".into())),
            ("api_key=0x10=", Value::String("0x10=".into())),
            ("apm_config.enabled=no", Value::Bool(false)),
            ("apm_config.max_cpu_percent=80", Value::Float(80.0)),
            ("forwarder_timeout=1m30s", Value::Int(90_000_000_000)),
            (
                "tags=[a, 'b']",
                Value::list(["a".into(), "b".into()]).unwrap(),
            ),
            (
                "container_env_as_tags={HOME: home}",
                Value::map([("HOME", "home".into())]).unwrap(),
            ),
            ("mine.is_new=12", Value::Int(12)),
            ("mine.is_new='12'", Value::String("12".into())),
            ("mine.is_new=", Value::String("".into())),
            ("mine.is_new=!duration 1s", Value::Int(1_000_000_000)),
            ("mine.is_new={a: 1}", Value::map([("a", 1.into())]).unwrap()),
        ] {
            assert_eq!(set(argument), Ok(value), "{argument}");
        }
    }

    #[test]
    fn a_bad_argument_says_what_and_what_to_do() {
        for (argument, parts) in [
            ("log_level", ["--set log_level:", "no `=`", "KEY=VALUE"]),
            ("Log_Level=x", ["--set Log_Level:", "no key", "lower-case"]),
            (
                "apm_config.enabled=maybe",
                ["--set apm_config.enabled:", "is a boolean", "true or false"],
            ),
            ("tags=a", ["--set tags:", "is a list", "[a, b]"]),
            ("tags=[a", ["--set tags:", "no valid YAML", "correct it"]),
            (
                "apm_config=1",
                ["--set apm_config:", "is a section", "set the keys inside"],
            ),
            (
                "log_level.x=1",
                [
                    "--set log_level.x:",
                    "not a section",
                    "set `log_level` itself",
                ],
            ),
            (
                "mine.is_new=null",
                ["--set mine.is_new:", "null", "give a value"],
            ),
            (
                "mine.is_new=.nan",
                ["--set mine.is_new:", "finite", "give a finite"],
            ),
        ] {
            let error = set(argument).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
    }

    #[test]
    fn no_error_quotes_a_value() {
        for argument in [
            "api_key:hunter2",
            "api_key: hun=ter2",
            "mine.password=!int hunter2",
            "mine.password=!!int hunter2",
            "mine.password=[hunter2",
            "mine.password={a: !hunter2 x}",
            "apm_config.enabled=hunter2",
            "expvar_port=hunter2",
            "forwarder_timeout=hunter2",
            "tags=hunter2",
            "container_env_as_tags=[hunter2]",
            "secret_backend_arguments=hunter2",
            "secret_backend_config=!!bool hunter2",
        ] {
            let error = set(argument).unwrap_err();
            assert!(!error.contains("hun"), "{argument}: {error}");
        }
    }

    #[test]
    fn the_last_of_a_key_wins() {
        let arguments = ["log_level=debug".to_owned(), "log_level=warn".to_owned()];
        let found = assignments(Known::embedded(), &arguments).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].value, Value::String("warn".into()));
    }
}
