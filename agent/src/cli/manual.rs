//! `configstream man`: manual pages, made from the command line itself.

use std::io;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;

use super::output::Output;
use crate::exit::{Exit, Failure};
use crate::narration::say;

/// What `configstream man` takes.
#[derive(Clone, Debug, Args)]
pub(super) struct ManOptions {
    /// The verb. None: the program as a whole.
    #[arg(value_parser = parse_verb)]
    verb: Option<String>,
    /// Write all pages into this folder instead, such as ~/.local/share/man/man1.
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    dir: Option<PathBuf>,
}

/// `configstream man`.
pub(super) fn man(command: Command, output: Output, options: &ManOptions) -> Result<(), Failure> {
    let failed = |what: String, error: io::Error| {
        let mend = "name a folder that is there and can be written to";
        Failure::new(Exit::Failed, what, error, mend)
    };
    if let Some(dir) = &options.dir {
        clap_mangen::generate_to(command, dir)
            .map_err(|error| failed(format!("cannot write into {}", dir.display()), error))?;
        say(format_args!("manual pages are in {}", dir.display()));
        return Ok(());
    }
    let mut command = command.disable_help_subcommand(true);
    // Gives verbs the names that their pages have.
    command.build();
    let command = match &options.verb {
        Some(verb) => command.find_subcommand(verb).cloned().unwrap_or(command),
        None => command,
    };
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|error| failed("cannot make the manual page".to_owned(), error))?;
    output.raw(&page)
}

fn parse_verb(text: &str) -> Result<String, String> {
    let command = <super::Cli as clap::CommandFactory>::command();
    let mut verbs = command.get_subcommands().map(Command::get_name);
    if verbs.any(|verb| verb == text) {
        return Ok(text.to_owned());
    }
    let verbs: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
    Err(format!(
        "there is no verb `{text}`; name one of {}",
        verbs.join(", ")
    ))
}
