//! The server in Go, of `benches/go`: built when there is a toolchain.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use configstream_engine::settings::{self, Settings};
use serde_json::{Value, json};

use crate::record::workspace;

/// Builds it with a toolchain's `go`; false when there is no such program.
///
/// # Errors
/// That it does not build; the toolchain has said why.
pub fn build(toolchain: &Path) -> io::Result<bool> {
    let building = Command::new(toolchain)
        .args(["build", "-o"])
        .arg(program())
        .arg(".")
        .current_dir(workspace().join("benches/go"))
        // Nothing is fetched.
        .env("GOTOOLCHAIN", "local")
        .status();
    match building {
        Ok(status) if status.success() => Ok(true),
        Ok(status) => Err(io::Error::other(format!(
            "{} build in benches/go: {status}; it takes Go 1.24 or later",
            toolchain.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What [`build`] makes.
pub(super) fn program() -> PathBuf {
    workspace().join("target/naive-go")
}

/// Leaves the settings where it reads them.
pub(super) fn prepare(folder: &Path, settings: &Settings) -> io::Result<()> {
    let settings = settings.resolved().iter().map(|setting| {
        json!({
            "source": setting.source().as_str(),
            "key": setting.key().to_string(),
            "value": to_json(setting.value()),
        })
    });
    let document = Value::from_iter(settings);
    std::fs::write(folder.join("settings.json"), document.to_string())
}

/// The kinds of the workload.
fn to_json(value: &settings::Value) -> Value {
    match value {
        settings::Value::Bool(flag) => json!(flag),
        settings::Value::Int(number) => json!(number),
        settings::Value::Float(number) => json!(number),
        settings::Value::String(text) => json!(text.to_string()),
        other => unreachable!("the workload has no {other:?}"),
    }
}
