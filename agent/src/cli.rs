//! `configstream`: the command line, and what each verb does.
//!
//! Data goes to standard output, narration to standard error. On a terminal data is a table; elsewhere, or with
//! `--json`, it is one JSON object per line. Exit codes: [`exit`](crate::exit).

mod apply;
mod change;
mod doctor;
mod init;
mod manual;
mod output;
mod shown;
mod target;
mod verbs;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand};
use configstream_engine::settings::{Key, Source};
use configstream_grpc::Address;
use tracing::level_filters::LevelFilter;

use crate::exit::{Exit, Failure};
use crate::listen;
use crate::log::{self, Style};
use crate::narration;
use crate::run;
use crate::run_dir::RUN_DIR;
use crate::service_manager;

use apply::ApplyOptions;
use change::ChangeOptions;
use init::InitOptions;
use manual::ManOptions;
use watch::WatchOptions;

pub use output::{Color, Output};
pub use target::Target;

/// The command line of `configstream`.
#[derive(Debug, Parser)]
#[command(name = "configstream", version, about = ABOUT, after_help = AFTER_HELP, max_term_width = WIDTH)]
struct Cli {
    #[command(flatten)]
    target: TargetOptions,
    /// Print one JSON object per line, also on a terminal.
    #[arg(long, global = true)]
    json: bool,
    /// When to colour output. NO_COLOR turns `auto` off.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct TargetOptions {
    /// Where the agent keeps certificate, token and sequence. Default: $XDG_STATE_HOME/configstream, or
    /// ~/.local/state/configstream.
    // An empty one is taken here, so that `RunDir::locate` can say which of the two is empty.
    #[arg(long, global = true, value_name = "DIR", env = RUN_DIR, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    run_dir: Option<PathBuf>,
    /// Where the agent listens: HOST:PORT or unix:PATH. Default: what the agent wrote into its run directory, or
    /// 127.0.0.1:5001.
    #[arg(long, global = true, value_name = "ADDR", value_parser = listen::parse)]
    address: Option<Address>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the core agent.
    Run(RunOptions),
    /// Show the stream as it comes, reconnecting by itself.
    Watch(WatchOptions),
    /// Show what wins for one setting.
    Get {
        /// The setting.
        #[arg(value_parser = parse_key)]
        key: Key,
    },
    /// Show what wins for all settings, or for those of a section.
    List {
        /// The section. None, or an empty one: all.
        prefix: Option<String>,
    },
    /// Set a value while the agent runs.
    Set {
        /// The setting.
        #[arg(value_parser = parse_key)]
        key: Key,
        /// The value, as in YAML; read as the type of the known default.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// The layer to set it in.
        #[arg(long, default_value = "agent-runtime", value_parser = parse_source)]
        source: Source,
        #[command(flatten)]
        options: ChangeOptions,
    },
    /// Remove a value from a layer while the agent runs, so that the next layer shows.
    Unset {
        /// The setting.
        #[arg(value_parser = parse_key)]
        key: Key,
        /// The layer to remove it from.
        #[arg(long, default_value = "agent-runtime", value_parser = parse_source)]
        source: Source,
        #[command(flatten)]
        options: ChangeOptions,
    },
    /// Make the changes of a file as one: all of them or none.
    Apply(ApplyOptions),
    /// Show every layer that holds a setting, and where it has it from. A table starts with the one that wins; JSON starts
    /// with the lowest.
    Explain {
        /// The setting.
        #[arg(value_parser = parse_key)]
        key: Key,
    },
    /// List the remote agents and how far each has got.
    Agents,
    /// Show how the agent is doing.
    Status,
    /// Check everything that has to be right for a client to reach the agent.
    Doctor,
    /// Write a commented configuration to start with, and create the run directory with certificate and token.
    Init(InitOptions),
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or that of a verb, or write all of them into a folder.
    Man(ManOptions),
}

#[derive(Debug, Args)]
struct RunOptions {
    /// A configuration file, or a folder of *.yaml and *.yml in the order of their names; reloaded when it changes. Of
    /// several, the later one wins. None: the embedded example.
    #[arg(long = "config", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to listen for gRPC: HOST:PORT or unix:PATH. May be given several times.
    #[arg(long, value_name = "ADDR", default_value = listen::DEFAULT_ADDRESS, value_parser = listen::parse)]
    listen: Vec<Address>,
    /// Where to listen for HTTP: a status page, health and metrics, without values, for anybody who can reach it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5002", value_parser = listen::parse_http)]
    http: String,
    /// What the names of environment variables start with.
    #[arg(long, value_name = "PREFIX", default_value = "DD")]
    env_prefix: String,
    /// Set a value above all other layers: KEY=VALUE, the value as in YAML. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write the log, and an error that ends the agent, as JSON, one object per line.
    #[arg(long)]
    log_json: bool,
}

/// Runs the program with these arguments.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let program = arguments.first().map_or_else(
        || "configstream".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap knows.
            let code = error.exit_code();
            narration::complain(&error);
            return if code == 0 {
                ExitCode::SUCCESS
            } else {
                Exit::Usage.into()
            };
        }
    };
    let code = match cli.execute(program) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    };
    log::drain();
    code
}

impl Cli {
    fn execute(self, program: String) -> Result<ExitCode, Failure> {
        let output = Output::new(self.json, self.color);
        let TargetOptions { run_dir, address } = self.target;
        if let Verb::Run(options) = self.verb {
            return options.execute(run_dir, program);
        }
        let offline = match &self.verb {
            Verb::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(*shell, &mut Self::command(), "configstream", &mut text);
                Some(output.raw(&text))
            }
            Verb::Man(options) => Some(manual::man(Self::command(), output, options)),
            Verb::Init(options) => Some(init::init(run_dir.as_deref(), output, options, &program)),
            _ => None,
        };
        if let Some(done) = offline {
            return done.map(|()| ExitCode::SUCCESS);
        }
        log::start(Style::Text, LevelFilter::WARN);
        let target = Target::new(run_dir, address);
        // One connection and one stream need no second thread.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    "cannot start",
                    error,
                    "free some threads or memory",
                )
            })?;
        runtime.block_on(async {
            let done = match self.verb {
                Verb::Watch(options) => watch::watch(&target, output, &options).await,
                Verb::Get { key } => verbs::get(&target, output, &key).await,
                Verb::List { prefix } => {
                    verbs::list(&target, output, prefix.as_deref().unwrap_or("")).await
                }
                Verb::Set {
                    key,
                    value,
                    source,
                    options,
                } => change::set(&target, output, source, key, &value, &options).await,
                Verb::Unset {
                    key,
                    source,
                    options,
                } => change::unset(&target, output, source, key, &options).await,
                Verb::Apply(options) => apply::apply(&target, output, &options).await,
                Verb::Explain { key } => verbs::explain(&target, output, &key).await,
                Verb::Agents => verbs::agents(&target, output).await,
                Verb::Status => verbs::status(&target, output).await,
                Verb::Doctor => return doctor::doctor(&target, output).await,
                Verb::Run(_) | Verb::Completions { .. } | Verb::Init(_) | Verb::Man(_) => Ok(()),
            };
            done.map(|()| ExitCode::SUCCESS)
        })
    }
}

impl RunOptions {
    fn execute(self, run_dir: Option<PathBuf>, program: String) -> Result<ExitCode, Failure> {
        log::start_queued(Style::choose(self.log_json), LevelFilter::INFO).map_err(|error| {
            Failure::new(
                Exit::Failed,
                "cannot start the log's thread",
                error,
                "free some",
            )
        })?;
        let options = run::Options {
            files: self.files,
            run_dir: run_dir.or_else(service_manager::state_directory),
            listen: self.listen,
            http: self.http,
            env_prefix: self.env_prefix,
            set: self.set,
            program,
        };
        match run::run(&options) {
            // A program that reads the log reads nothing else.
            Err(failure) if !log::is_for_people() => {
                failure.log();
                Ok(failure.exit().into())
            }
            ran => ran.map(|()| ExitCode::SUCCESS),
        }
    }
}

fn parse_key(text: &str) -> Result<Key, String> {
    Key::parse(text).map_err(|error| {
        format!("{error}; write lower-case words joined by dots, such as apm_config.enabled")
    })
}

fn parse_source(text: &str) -> Result<Source, String> {
    text.parse().map_err(|_| {
        let names: Vec<&str> = Source::ALL.iter().map(|source| source.as_str()).collect();
        format!("no such layer; write one of {}", names.join(", "))
    })
}

/// Columns of the help. What is broken into lines by hand fits them, or it would be broken twice.
const WIDTH: usize = 100;

const ABOUT: &str = "Streams a layered configuration to remote agents: a snapshot first, then every change in order.";

const AFTER_HELP: &str = "\
Exit codes: 0 good, 1 failed, 2 usage, 3 configuration, 4 run directory, 5 another agent runs there,
6 certificate or token, 7 saved sequence, 8 cannot listen, 9 cannot reach the agent,
10 refused by the agent, 11 no such setting, 12 not every stream has the change yet,
13 something has changed meanwhile, so nothing is, 14 it is there already and stays.

Start with `configstream run`, then type `configstream watch` in a second terminal.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lines_of_the_help_are_broken_once() {
        for line in AFTER_HELP.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn options_stand_before_or_behind_the_verb() {
        for arguments in [
            [
                "configstream",
                "--run-dir",
                "d",
                "get",
                "log_level",
                "--json",
            ],
            [
                "configstream",
                "get",
                "--json",
                "log_level",
                "--run-dir",
                "d",
            ],
        ] {
            let cli = Cli::try_parse_from(arguments).unwrap();
            assert!(cli.json);
            assert_eq!(cli.target.run_dir, Some("d".into()));
        }
        let cli =
            Cli::try_parse_from(["configstream", "set", "a", "-5", "--source", "cli"]).unwrap();
        assert!(matches!(cli.verb, Verb::Set { value, source: Source::Cli, .. } if value == "-5"));
    }

    #[test]
    fn what_is_no_key_layer_or_address_is_refused_with_what_to_write() {
        for (arguments, hint) in [
            (vec!["configstream", "get", "Log_Level"], "lower-case words"),
            (
                vec!["configstream", "set", "a", "1", "--source", "me"],
                "agent-runtime",
            ),
            (
                vec!["configstream", "status", "--address", "here"],
                "HOST:PORT",
            ),
            (vec!["configstream", "run", "--listen", "5001"], "HOST:PORT"),
            (vec!["configstream", "run", "--http", "21504"], "HOST:PORT"),
            (
                vec!["configstream", "set", "a", "1", "--wait", "5"],
                "such as 5s",
            ),
            (
                vec!["configstream", "unset", "a", "--if-sequence", "x"],
                "such as 57",
            ),
            (vec!["configstream", "man", "no"], "no verb `no`"),
        ] {
            let error = Cli::try_parse_from(arguments).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
