//! `configstream init`: everything that a first start needs, and what to type next.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::output::Output;
use crate::credentials::Credentials;
use crate::exit::{Exit, Failure};
use crate::run::quote;
use crate::run_dir::RunDir;

/// What `configstream init` takes.
#[derive(Clone, Debug, Args)]
pub(super) struct InitOptions {
    /// Where to write the configuration. A file that is there already is left as it is.
    #[arg(default_value = "configstream.yaml")]
    file: PathBuf,
}

/// `configstream init`.
pub(super) fn init(
    asked: Option<&Path>,
    output: Output,
    options: &InitOptions,
    program: &str,
) -> Result<(), Failure> {
    let file = &options.file;
    // Looked at before anything is made; whoever comes between is refused below.
    if fs::symlink_metadata(file).is_ok() {
        return Err(exists(file));
    }
    let run_dir = RunDir::locate(asked)?;
    run_dir.create(asked.is_some())?;
    Credentials::open_or_create(&run_dir)?;
    write_new(file)?;
    if output.is_json() {
        return output.object(&json!({
            "config": file.display().to_string(),
            "run_dir": run_dir.path().display().to_string(),
        }));
    }
    let program = quote(program);
    let dir = match asked {
        Some(dir) => format!(" --run-dir {}", quote(&dir.display().to_string())),
        None => String::new(),
    };
    let config = quote(&file.display().to_string());
    output.line(&format!(
        "configuration: {}\ncertificate and token: {}\n\nTo start the agent, type:\n\n    {program} run --config {config}{dir}\n",
        file.display(),
        run_dir.path().display(),
    ))
}

fn write_new(file: &Path) -> Result<(), Failure> {
    let mut created = match File::create_new(file) {
        Ok(created) => created,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(file)),
        Err(error) => return Err(unwritable(file, &error)),
    };
    created
        .write_all(STARTER.as_bytes())
        .and_then(|()| created.sync_all())
        .map_err(|error| {
            // Half a configuration would be worse than none.
            let _ = fs::remove_file(file);
            unwritable(file, &error)
        })
}

fn exists(file: &Path) -> Failure {
    Failure::new(
        Exit::Exists,
        format!("{} is there already", file.display()),
        "nothing is overwritten",
        "name another file, or start the agent with this one: configstream run --config FILE",
    )
}

fn unwritable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Configuration,
        format!("cannot write {}", file.display()),
        error,
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "make room on the disk, or name a file on another"
            }
            _ => "name a file in a folder that is there and can be written to",
        },
    )
}

const STARTER: &str = include_str!("../embedded/starter.yaml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::Known;
    use crate::yaml::{self, Document};

    #[test]
    fn the_starter_is_a_good_configuration_with_and_without_its_comments() {
        let path = Path::new("starter.yaml");
        let settings = |text: &str| {
            let document = Document::parse(path, text).unwrap();
            yaml::assignments(&[(path, &document)], Known::embedded())
                .unwrap_or_else(|error| panic!("{error}"))
                .len()
        };
        let uncommented: String = STARTER
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert!(settings(STARTER) > 0);
        assert!(settings(&uncommented) > settings(STARTER));
    }
}
