//! Records what the benches measured, compares records, and shows them.

#![forbid(unsafe_code)]

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use configstream_benches::{
    compare::compare,
    full::{FullOptions, full},
    numbers, reach,
    record::{Record, workspace},
    report,
};

/// Records what the benches measured, compares records, and shows them.
///
/// First `cargo bench -p configstream-benches --features peers`, whole or some benches of it.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures everything, and records it; goes on where an interrupted run was.
    ///
    /// Exit status: 0 all is recorded, 1 a step failed, 2 it could not be run.
    Full(FullOptions),
    /// Gathers what lies in target/measured into one document.
    Record {
        /// Where to.
        file: PathBuf,
    },
    /// Says what moved beyond the noise in the last record, against all before it.
    ///
    /// What peers do is said and counts for nothing. Exit status: 0 nothing of ours got worse, 1 something did or is no longer
    /// measured, 2 they cannot be compared.
    Compare {
        /// Two or more, the one in question last.
        #[arg(required = true, num_args = 2..)]
        files: Vec<PathBuf>,
        /// What moved by a smaller share than this did not move.
        #[arg(long, default_value_t = 0.05)]
        threshold: f64,
        /// That something of ours is no longer measured is said, and no reason for exit status 1: for a run of some benches only.
        #[arg(long)]
        allow_gone: bool,
    },
    /// Prints what the engine is to reach beside what a run saw.
    ///
    /// Exit status: 0 all is reached, 1 something is not.
    Reach {
        /// Of which run; the one that the repository holds if not said.
        file: Option<PathBuf>,
    },
    /// Writes a page of HTML; of the record in the repository, also the table of numbers in README.md.
    Report {
        /// Of which run; the one that the repository holds if not said.
        file: Option<PathBuf>,
        /// Where to.
        #[arg(long, default_value = "target/report.html")]
        html: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    let stored = || workspace().join(STORED);
    match command {
        Command::Full(options) => return Ok(ExitCode::from(u8::from(!full(&options)?))),
        Command::Record { file } => {
            let record = Record::gather()?;
            record.write(&file)?;
            println!("{}: {} figures", file.display(), record.figures.len());
        }
        Command::Compare {
            files,
            threshold,
            allow_gone,
        } => {
            let records = files.iter().map(|file| Record::read(file));
            let mut records = records.collect::<Result<Vec<_>, _>>()?;
            let last = records.pop().ok_or("nothing to compare")?;
            let comparison = compare(&records, &last, threshold)?;
            println!("{comparison}");
            let is_gone = comparison.lacks_ours() && !allow_gone;
            return Ok(ExitCode::from(u8::from(comparison.is_worse() || is_gone)));
        }
        Command::Reach { file } => {
            let (table, unmet) = reach::table(&Record::read(&file.unwrap_or_else(stored))?);
            println!("{table}");
            return Ok(ExitCode::from(u8::from(unmet > 0)));
        }
        Command::Report { file, html } => {
            if file.is_none() {
                let readme = workspace().join("README.md");
                let document =
                    numbers::insert(&fs::read_to_string(&readme)?, &Record::read(&stored())?)?;
                fs::write(&readme, document)?;
                println!("{}: the table of numbers", readme.display());
            }
            let record = Record::read(&file.unwrap_or_else(stored))?;
            fs::write(&html, report::page(&record))?;
            println!("{}", html.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The record that README's table is made of.
const STORED: &str = "benches/results.json";
