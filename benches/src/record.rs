//! What a run measured, as one JSON document.
//!
//! Each bench leaves a [`Part`] in `target/measured`; [`Record::gather`] makes one document of them, with the machine and
//! the commit. Identifiers read `group/implementation/parameter`, or `group/implementation/parameter/percentile`. An
//! implementation's own name is used throughout (`engine`, `tokio_broadcast`, `floor`, …), so that figures of the same
//! question stand side by side.

mod figure;
mod machine;
mod part;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub(crate) use self::machine::difference;
use self::machine::now;
pub use self::{
    figure::{Figure, Unit},
    machine::{Machine, commit, compiler},
    part::{Curve, PERCENTILES, Part},
};

/// One run on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was gathered, in UTC, as `2026-01-31T23:59:59Z`.
    pub taken: String,
    /// Of the commit that was measured; ends in `-dirty` when the working tree differed from it.
    pub commit: String,
    /// As `rustc --version` says.
    pub compiler: String,
    /// Where.
    pub machine: Machine,
    /// In order of their identifiers.
    pub figures: Vec<Figure>,
    /// In order of their identifiers.
    pub curves: Vec<Curve>,
}

/// Names another folder for [`measured`].
pub(crate) const MEASURED: &str = "CONFIGSTREAM_MEASURED";

/// Where the parts of a run are: `target/measured`, unless `CONFIGSTREAM_MEASURED` names another folder.
#[must_use]
pub fn measured() -> PathBuf {
    let elsewhere = env::var_os(MEASURED).map(PathBuf::from);
    elsewhere.unwrap_or_else(|| workspace().join("target/measured"))
}

/// The root of the sources.
///
/// # Panics
/// Never: this crate stands in a folder of it.
#[must_use]
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("a package in a workspace")
}

impl Record {
    /// All parts in [`measured`], and what criterion left there.
    ///
    /// # Errors
    /// What could not be read, and where.
    pub fn gather() -> io::Result<Self> {
        let folder = measured();
        let part = Part::gather(&folder).map_err(|error| {
            let mend = "nothing measured? `cargo bench -p configstream-benches --features peers`";
            io::Error::new(error.kind(), format!("{error}; {mend}"))
        })?;
        Self::of(part)
    }

    /// What was measured here, of the sources as they are.
    ///
    /// # Errors
    /// That two figures have the same name, and what could not be found out about machine and sources.
    pub fn of(mut whole: Part) -> io::Result<Self> {
        whole.figures.sort_by(|a, b| a.id.cmp(&b.id));
        whole.curves.sort_by(|a, b| a.id.cmp(&b.id));
        let mut pairs = whole.figures.windows(2);
        if let Some(twice) = pairs.find(|pair| pair[0].id == pair[1].id) {
            let id = &twice[0].id;
            return Err(io::Error::other(format!("two figures are called {id}")));
        }
        Ok(Self {
            taken: now()?,
            commit: commit()?,
            compiler: compiler()?,
            machine: Machine::here()?,
            figures: whole.figures,
            curves: whole.curves,
        })
    }

    /// From a file.
    ///
    /// # Errors
    /// Why it could not be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        read_json(path)
    }

    /// To a file.
    ///
    /// # Errors
    /// Why it could not be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_json(self, path)
    }

    /// The figure of that name.
    #[must_use]
    pub fn figure(&self, id: &str) -> Option<&Figure> {
        let found = self
            .figures
            .binary_search_by(|figure| figure.id.as_str().cmp(id));
        found.ok().map(|nth| &self.figures[nth])
    }
}

pub(crate) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> io::Result<T> {
    let text = fs::read_to_string(path).map_err(|error| at(path, error))?;
    serde_json::from_str(&text).map_err(|error| at(path, error.into()))
}

pub(crate) fn write_json<T: Serialize>(document: &T, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    }
    let text = serde_json::to_string_pretty(document)? + "\n";
    // Whole or not at all, whatever ends this process meanwhile.
    let unfinished = path.with_added_extension("unfinished");
    fs::write(&unfinished, text).map_err(|error| at(&unfinished, error))?;
    fs::rename(&unfinished, path).map_err(|error| at(path, error))
}

pub(crate) fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
