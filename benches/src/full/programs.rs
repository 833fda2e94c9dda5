//! The programs that measure, built before the first step.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::plan::Step;
use crate::record::workspace;

/// Where each is.
#[derive(Debug)]
pub(super) struct Programs {
    paths: HashMap<String, PathBuf>,
}

impl Programs {
    /// As given; those of the steps that are not are built.
    pub(super) fn find(given: &[(String, PathBuf)], steps: &[&Step]) -> io::Result<Self> {
        let mut paths: HashMap<_, _> = given.iter().cloned().collect();
        let mut missing: Vec<_> = steps
            .iter()
            .filter(|step| !paths.contains_key(step.program))
            .collect();
        missing.dedup_by_key(|step| step.program);
        for (is_bench, task) in [
            (true, ["bench", "--no-run", "--bench"]),
            (false, ["build", "--release", "--bin"]),
        ] {
            let [verb, how, kind] = task;
            let mut arguments = vec![verb, how];
            let wanted = missing.iter().filter(|step| step.is_bench() == is_bench);
            arguments.extend(wanted.flat_map(|step| [kind, step.program]));
            if arguments.len() > 2 {
                paths.extend(build(&arguments)?);
            }
        }
        Ok(Self { paths })
    }

    pub(super) fn path(&self, step: &Step) -> io::Result<&Path> {
        let path = self.paths.get(step.program).map(PathBuf::as_path);
        path.ok_or_else(|| io::Error::other(format!("cargo built no {}", step.program)))
    }
}

/// `NAME=PATH`.
pub(super) fn given(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("not of the form NAME=PATH")?;
    let path = Path::new(path)
        .canonicalize()
        .map_err(|error| format!("{path}: {error}"))?;
    Ok((name.to_owned(), path))
}

/// Programs and where cargo put them.
fn build(arguments: &[&str]) -> io::Result<Vec<(String, PathBuf)>> {
    #[derive(Deserialize)]
    struct Message {
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    // What `cargo run` has set about this package. There are build scripts that look at it, and seeing it come and go, cargo
    // would build nearly everything anew at each start.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|of| name.starts_with(of))
        {
            command.env_remove(&*name);
        }
    }
    let output = command
        .args(arguments)
        .args(["--package", env!("CARGO_PKG_NAME"), "--features", "peers"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "cargo {}: {}",
            arguments.join(" "),
            output.status
        )));
    }
    let mut built = Vec::new();
    for line in output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let message: Message = serde_json::from_slice(line)?;
        if let (Some(target), Some(executable)) = (message.target, message.executable) {
            built.push((target.name, executable));
        }
    }
    Ok(built)
}
