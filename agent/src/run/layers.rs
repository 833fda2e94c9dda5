//! The settings that an agent starts with: gathered, put together, and reported.

use configstream_engine::State;
use configstream_engine::settings::{Assignment, Change, Settings, Source};
use configstream_grpc::Server;

use super::Options;
use crate::command_line;
use crate::environment;
use crate::exit::{Exit, Failure};
use crate::known::Known;
use crate::persisted::Persisted;
use crate::sources::SourceReport;
use crate::sources::file;
use crate::status::NamedSource;

/// The layers that are there from the start.
pub(super) struct Layers {
    defaults: Vec<Assignment>,
    file: Vec<Assignment>,
    environment: Vec<Assignment>,
    command_line: Vec<Assignment>,
}

impl Layers {
    pub(super) fn gather(options: &Options, known: &Known) -> Result<Self, Failure> {
        let refuse = |what: &str, error: String| {
            // The errors of sources end in what to do, behind the last semicolon.
            let (why, mend) = error.rsplit_once("; ").unwrap_or((error.as_str(), ""));
            Failure::new(Exit::Configuration, what, why, mend)
        };
        Ok(Self {
            defaults: known.defaults(),
            file: file::load(&options.files, known)
                .map_err(|error| refuse("the configuration file is refused", error.to_string()))?,
            environment: environment::assignments(known, &options.env_prefix, std::env::vars_os())
                .map_err(|error| refuse("an environment variable is refused", error.to_string()))?,
            command_line: command_line::assignments(known, &options.set).map_err(|error| {
                refuse(
                    "a setting of the command line is refused",
                    error.to_string(),
                )
            })?,
        })
    }

    /// The state to start with.
    pub(super) fn resolve(&self) -> Result<Settings, Failure> {
        let change = Change::batch([
            Change::replace_layer(Source::Default, self.defaults.clone()),
            Change::replace_layer(Source::File, self.file.clone()),
            Change::replace_layer(Source::EnvironmentVariable, self.environment.clone()),
            Change::replace_layer(Source::Cli, self.command_line.clone()),
        ]);
        match Settings::default().apply(&change) {
            Ok(transition) => Ok(transition.state),
            Err(rejection) => Err(Failure::new(
                Exit::Configuration,
                "the settings do not go together",
                rejection,
                "remove or rename one of the keys",
            )),
        }
    }

    pub(super) fn origin(&self, options: &Options) -> String {
        let name = options.files.first().and_then(|path| path.file_name());
        name.map_or_else(
            || Server::<Settings>::DEFAULT_ORIGIN.to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// A report for each layer, and the one that the file source keeps current.
    pub(super) fn reports(&self, options: &Options) -> (Vec<NamedSource>, SourceReport) {
        let named = |source, detail: String, settings: usize| {
            let report = SourceReport::default();
            report.good(settings);
            NamedSource {
                source,
                detail,
                report,
            }
        };
        let mut sources = vec![named(
            Source::Default,
            "embedded example".to_owned(),
            self.defaults.len(),
        )];
        let mut file_report = SourceReport::default();
        if !options.files.is_empty() {
            let paths: Vec<String> = options
                .files
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let file = named(Source::File, paths.join(", "), self.file.len());
            file_report = file.report.clone();
            sources.push(file);
        }
        let prefix = format!("{}_*", options.env_prefix.trim_end_matches('_'));
        sources.push(named(
            Source::EnvironmentVariable,
            prefix,
            self.environment.len(),
        ));
        sources.push(named(
            Source::Cli,
            "--set".to_owned(),
            self.command_line.len(),
        ));
        (sources, file_report)
    }
}

/// The state with the changes that were to survive the restart.
pub(super) fn restore(state: &Settings, persisted: &Persisted) -> Result<Settings, Failure> {
    if persisted.is_empty() {
        return Ok(state.clone());
    }
    let path = persisted.path().display();
    let restored = state.apply(&persisted.changes()).map_err(|rejection| {
        Failure::new(
            Exit::Configuration,
            "a persisted change does not go together with the settings of this start",
            rejection,
            format!(
                "change the other one; or remove {path}: all that persisted is then gone, and has to be set again"
            ),
        )
    })?;
    tracing::info!("restored {} persisted changes from {path}", persisted.len());
    Ok(restored.state)
}
