//! `configstream apply`: a file of changes, made as one.

use std::path::{Path, PathBuf};

use clap::Args;
use configstream_engine::settings::{Key, Source};
use configstream_grpc::Edit;
use serde_json::Value as Json;

use super::change::{ChangeOptions, committed_json, difference_json, differences, finish};
use super::output::Output;
use super::shown::Shown;
use super::target::{Target, refused};
use crate::exit::{Exit, Failure};
use crate::known::Known;
use crate::narration::say;
use crate::yaml::{self, Budget, Document, FileError};

/// What `configstream apply` takes.
#[derive(Clone, Debug, Args)]
pub(super) struct ApplyOptions {
    /// A YAML file like a configuration file, or - for standard input. A key without a value (`key: null`) is unset.
    file: PathBuf,
    /// The layer to change.
    #[arg(long, default_value = "agent-runtime", value_parser = super::parse_source)]
    source: Source,
    /// Change nothing: show what would differ.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    change: ChangeOptions,
}

/// `configstream apply`.
pub(super) async fn apply(
    target: &Target,
    output: Output,
    options: &ApplyOptions,
) -> Result<(), Failure> {
    let name = options.file.display();
    let what = format!("cannot apply {name}");
    let edits = read(&options.file, options.source).map_err(|error| {
        let error = error.to_string();
        let (why, mend) = error.rsplit_once("; ").unwrap_or((&error, ""));
        Failure::new(Exit::Configuration, what.clone(), why, mend)
    })?;
    if edits.is_empty() {
        return Err(Failure::new(
            Exit::Configuration,
            what,
            "there is nothing in it to change",
            "write a line such as `log_level: debug`, or `log_level: null` to unset it",
        ));
    }
    let count = edits.len();
    let mut request = options.change.request(edits)?;
    request.dry_run = options.dry_run;
    let client = target.connect().await?;
    let reply = client.apply(&request).await;
    let reply = reply.map_err(|status| refused(&what, &status))?;
    // After the change: it may be one of the list of secrets itself.
    let shown = Shown::by(&client).await?;
    if output.is_json() {
        for difference in &reply.differences {
            output.object(&difference_json(&shown, difference))?;
        }
    } else {
        differences(output, &shown, &reply.differences)?;
    }
    let same = count - reply.differences.len().min(count);
    if options.dry_run {
        if output.is_json() {
            let mut object = committed_json(&reply.committed.unwrap_or_default());
            object["dry_run"] = Json::Bool(true);
            return output.object(&object);
        }
        say(format_args!(
            "{} of {count} keys would change, {same} are so already; nothing was changed",
            reply.differences.len()
        ));
        return Ok(());
    }
    let done = format!(
        "{} of {count} keys changed in {}",
        reply.differences.len(),
        options.source
    );
    finish(&client, output, &reply, &done, options.change.wait()).await
}

/// The edits that a file stands for: typed by the known defaults, in the order of the keys.
fn read(path: &Path, source: Source) -> Result<Vec<Edit>, FileError> {
    let from_stdin = path == Path::new("-");
    let (path, text) = match from_stdin {
        true => (
            Path::new("standard input"),
            yaml::read_from(Path::new("standard input"), std::io::stdin().lock())?,
        ),
        false => (path, yaml::read(path)?),
    };
    edits(path, &text, source)
}

fn edits(path: &Path, text: &str, source: Source) -> Result<Vec<Edit>, FileError> {
    let mut budget = Budget::default();
    let document = Document::parse_within(path, text, &mut budget)?;
    let (settings, nulls) =
        yaml::settings_and_nulls(path, &document, Known::embedded(), &mut budget)?;
    let unset = |key: Key| Edit::Unset { source, key };
    let set = |(key, typed): (Key, yaml::Typed)| Edit::Set {
        source,
        key,
        value: typed.value,
    };
    // Unset first: a key may make room for another one that is below it.
    Ok(nulls
        .into_iter()
        .map(unset)
        .chain(settings.into_iter().map(set))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_a_value_is_unset_and_the_others_have_the_types_of_their_defaults() {
        let text = "log_level: null\nforwarder_timeout: 90s\nmine:\n  key: 1\n  other: ~\napm_config.enabled:\n";
        let key = |text| Key::parse(text).unwrap();
        let source = Source::AgentRuntime;
        let unset = |name| Edit::Unset {
            source,
            key: key(name),
        };
        let set = |name, value: i64| Edit::Set {
            source,
            key: key(name),
            value: value.into(),
        };
        assert_eq!(
            edits(Path::new("x.yaml"), text, source).unwrap(),
            [
                unset("apm_config.enabled"),
                unset("log_level"),
                unset("mine.other"),
                set("forwarder_timeout", 90_000_000_000),
                set("mine.key", 1),
            ]
        );
    }

    #[test]
    fn what_no_change_can_be_is_refused_with_its_place() {
        for (text, part) in [
            ("log_level: [1]\n", "x.yaml:1"),
            ("a: 1\na: null\n", "x.yaml:2"),
            ("a.b: null\na: {b: 1}\n", "x.yaml:2"),
            ("apm_config: null\n", "section"),
            ("a: [null]\n", "null"),
            ("a: 1\n---\nb: 1\n", "x.yaml:"),
        ] {
            let error = edits(Path::new("x.yaml"), text, Source::Cli).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
