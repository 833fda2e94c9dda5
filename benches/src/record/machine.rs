//! Where and of what a run was taken.

use std::{fs, io, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use super::{at, workspace};

/// What the figures depend on besides the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Logical processors that the run could use.
    pub cores: usize,
    /// Name and release.
    pub kernel: String,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// What could not be found out.
    pub fn here() -> io::Result<Self> {
        Ok(Self {
            cpu: cpu(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: said("uname", &["-sr"])?,
        })
    }
}

/// As `rustc --version` says.
///
/// # Errors
/// Why it does not say.
pub fn compiler() -> io::Result<String> {
    said("rustc", &["--version"])
}

/// Of the sources; ends in `-dirty` when the working tree differs from it.
///
/// # Errors
/// That `git` is missing, or these are no sources under its control.
pub fn commit() -> io::Result<String> {
    said("git", &["describe", "--always", "--dirty", "--exclude=*"])
}

/// What of the sources differs from the commit. Files that git does not know are not in it.
pub(crate) fn difference() -> io::Result<Vec<u8>> {
    output("git", &["diff", "HEAD"])
}

/// In UTC, as `2026-01-31T23:59:59Z`.
pub(super) fn now() -> io::Result<String> {
    said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])
}

fn cpu() -> String {
    let described = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = described
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |model| model.trim_start_matches([' ', '\t', ':']).to_owned(),
    )
}

/// The first line that a program prints.
fn said(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = output(program, arguments)?;
    let text = String::from_utf8_lossy(&output);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(workspace())
        .output()
        .map_err(|error| at(Path::new(program), error))?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "{program} {arguments:?}: {}",
            output.status
        )));
    }
    Ok(output.stdout)
}
