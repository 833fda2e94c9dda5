//! What a run measured, as one JSON document.
//!
//! Each bench leaves a [`Part`] in `target/measured`; [`Record::gather`] makes one document of them, with the machine and
//! the commit. Identifiers read `group/implementation/parameter`, or `group/implementation/parameter/percentile`. An
//! implementation's own name is used throughout (`engine`, `tokio_broadcast`, `floor`, …), so that figures of the same
//! question stand side by side.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

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

/// What one bench measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Numbers with their spread.
    pub figures: Vec<Figure>,
    /// Whole distributions of latencies.
    #[serde(default)]
    pub curves: Vec<Curve>,
}

/// One number: the median of so many samples, and how they spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `group/implementation/parameter`.
    pub id: String,
    /// Of all three numbers.
    pub unit: Unit,
    /// Half of the samples are at most this.
    pub median: f64,
    /// Lower quartile.
    pub low: f64,
    /// Upper quartile.
    pub high: f64,
    /// 1: counted rather than timed, or measured once; the spread then says nothing.
    pub samples: usize,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Time; less is better.
    Nanoseconds,
    /// Throughput; more is better.
    PerSecond,
    /// Memory; less is better.
    Bytes,
    /// A quotient of two figures of the same run; less is better.
    Ratio,
    /// A share of a whole, from 0 to 1; more is better.
    Share,
    /// Anything else that is counted; less is better.
    Count,
}

/// A distribution of latencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// As the figures of its percentiles, without the last part.
    pub id: String,
    /// Quantile from 0 to 1, and nanoseconds.
    pub points: Vec<(f64, u64)>,
}

/// The percentiles that are figures, as identifiers name them, and as quantiles.
pub const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// Where the parts of a run are.
#[must_use]
pub fn measured() -> PathBuf {
    workspace().join("target/measured")
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

/// As `rustc --version` says.
///
/// # Errors
/// Why it does not say.
pub fn compiler() -> io::Result<String> {
    said("rustc", &["--version"])
}

impl Record {
    /// All parts in `target/measured`, and what criterion left there.
    ///
    /// # Errors
    /// What could not be read, and where.
    pub fn gather() -> io::Result<Self> {
        let mut whole = Part::default();
        let parts = fs::read_dir(measured()).map_err(|error| {
            let mend = "nothing measured? `cargo bench -p configstream-benches --features peers`";
            io::Error::new(
                error.kind(),
                format!("{}: {error}; {mend}", measured().display()),
            )
        })?;
        for entry in parts {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let part: Part = read_json(&path)?;
                whole.figures.extend(part.figures);
                whole.curves.extend(part.curves);
            }
        }
        criterion_figures(&measured().join("criterion"), &mut whole.figures)?;
        whole.figures.sort_by(|a, b| a.id.cmp(&b.id));
        whole.curves.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(twice) = whole
            .figures
            .windows(2)
            .find(|pair| pair[0].id == pair[1].id)
        {
            return Err(io::Error::other(format!(
                "two figures are called {}",
                twice[0].id
            )));
        }
        Ok(Self {
            taken: said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?,
            commit: said("git", &["describe", "--always", "--dirty", "--exclude=*"])?,
            compiler: compiler()?,
            machine: Machine {
                cpu: cpu(),
                cores: std::thread::available_parallelism()?.get(),
                kernel: said("uname", &["-sr"])?,
            },
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

impl Part {
    /// Leaves it in `target/measured`, in place of an earlier one of that name.
    ///
    /// # Errors
    /// Why it could not be written.
    pub fn save(&self, name: &str) -> io::Result<()> {
        self.save_as(&measured().join(format!("{name}.json")))
    }

    /// Leaves it in a file.
    ///
    /// # Errors
    /// Why it could not be written.
    pub fn save_as(&self, file: &Path) -> io::Result<()> {
        write_json(self, file)
    }

    /// Adds a distribution that was measured in several runs: a figure for each percentile, with its spread over the
    /// runs, and the curve of all together.
    ///
    /// # Panics
    /// When there is no run, or the histograms have different bounds.
    pub fn add_latency(&mut self, id: &str, runs: &[Histogram<u64>]) {
        for (name, quantile) in PERCENTILES {
            let samples = runs
                .iter()
                .map(|run| run.value_at_quantile(quantile) as f64);
            let id = format!("{id}/{name}");
            self.figures
                .push(Figure::new(id, Unit::Nanoseconds, samples));
        }
        let (first, rest) = runs.split_first().expect("at least one run");
        let mut all = first.clone();
        for run in rest {
            all.add(run).expect("histograms of the same bounds");
        }
        self.curves.push(Curve {
            id: id.to_owned(),
            // Each step halves what is left above, twice over.
            points: all
                .iter_quantiles(2)
                .map(|step| (step.quantile_iterated_to(), step.value_iterated_to()))
                .collect(),
        });
    }
}

impl Figure {
    /// Median and quartiles of samples.
    ///
    /// # Panics
    /// When there is none.
    pub fn new(id: impl Into<String>, unit: Unit, samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        let quantile = |quarters: usize| {
            let (at, rest) = (
                (samples.len() - 1) * quarters / 4,
                (samples.len() - 1) * quarters % 4,
            );
            let next = samples[(at + 1).min(samples.len() - 1)];
            samples[at] + (next - samples[at]) * rest as f64 / 4.0
        };
        Self {
            id: id.into(),
            unit,
            median: quantile(2),
            low: quantile(1),
            high: quantile(3),
            samples: samples.len(),
        }
    }
}

impl Unit {
    /// Whether a greater number is the better one.
    #[must_use]
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::Share)
    }

    /// What stands behind a bare number.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::PerSecond => "/s",
            Self::Bytes => "B",
            Self::Ratio => "×",
            Self::Share | Self::Count => "",
        }
    }

    /// For people: to two or three digits, in the unit that keeps it short.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        let steps: &[(f64, &str)] = match self {
            Self::Nanoseconds => &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (0.0, " ns")],
            Self::PerSecond => &[(1e9, " G/s"), (1e6, " M/s"), (1e3, " k/s"), (0.0, " /s")],
            Self::Bytes => &[(1_048_576.0, " MiB"), (1_024.0, " KiB"), (0.0, " B")],
            Self::Ratio => &[(0.0, " ×")],
            Self::Share | Self::Count => &[(1e6, " M"), (0.0, "")],
        };
        let step = steps.iter().find(|(from, _)| value.abs() >= *from);
        let (from, symbol) = step.copied().unwrap_or((0.0, ""));
        let value = value / if from > 0.0 { from } else { 1.0 };
        let digits = match value.abs() {
            large if large >= 100.0 => 0,
            // A count is whole, unless it is an average.
            whole if self == Self::Count && whole.fract() == 0.0 => 0,
            middling if middling >= 10.0 => 1,
            _ => 2,
        };
        format!("{value:.digits$}{symbol}")
    }
}

/// Median and quartiles of everything that criterion measured, from its samples.
fn criterion_figures(folder: &Path, figures: &mut Vec<Figure>) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Benchmark {
        full_id: String,
    }
    #[derive(Deserialize)]
    struct Sample {
        iters: Vec<f64>,
        times: Vec<f64>,
    }
    if !folder.is_dir() {
        return Ok(());
    }
    let new = folder.join("new");
    if new.is_dir() {
        let Benchmark { full_id } = read_json(&new.join("benchmark.json"))?;
        let sample: Sample = read_json(&new.join("sample.json"))?;
        let times = sample.times.iter().zip(&sample.iters);
        let each = times.map(|(time, iterations)| time / iterations);
        figures.push(Figure::new(full_id, Unit::Nanoseconds, each));
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        criterion_figures(&entry?.path(), figures)?;
    }
    Ok(())
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
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> io::Result<T> {
    let text = fs::read_to_string(path).map_err(|error| at(path, error))?;
    serde_json::from_str(&text).map_err(|error| at(path, error.into()))
}

fn write_json<T: Serialize>(document: &T, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    }
    let text = serde_json::to_string_pretty(document)? + "\n";
    fs::write(path, text).map_err(|error| at(path, error))
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_and_the_quartiles_of_its_samples() {
        let figure = Figure::new("a/b/c", Unit::Nanoseconds, [5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((figure.low, figure.median, figure.high), (2.0, 3.0, 4.0));
        let figure = Figure::new("a/b/c", Unit::Nanoseconds, [1.0, 2.0]);
        assert_eq!((figure.low, figure.median, figure.high), (1.25, 1.5, 1.75));
        let figure = Figure::new("a/b/c", Unit::Nanoseconds, [7.0]);
        assert_eq!((figure.low, figure.median, figure.high), (7.0, 7.0, 7.0));
    }

    #[test]
    fn numbers_are_short_for_people() {
        for (unit, value, shown) in [
            (Unit::Nanoseconds, 0.634, "0.63 ns"),
            (Unit::Nanoseconds, 1_498.0, "1.50 µs"),
            (Unit::PerSecond, 12_340_000.0, "12.3 M/s"),
            (Unit::Bytes, 1_640.0, "1.60 KiB"),
            (Unit::Ratio, 0.904, "0.90 ×"),
            (Unit::Count, 67.0, "67"),
            (Unit::Nanoseconds, 0.0, "0.00 ns"),
        ] {
            assert_eq!(unit.show(value), shown);
        }
    }

    #[test]
    fn a_latency_is_a_figure_for_each_percentile_and_one_curve() {
        let runs = [100, 300, 200].map(|value| {
            let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
            histogram.record(value).unwrap();
            histogram
        });
        let mut part = Part::default();
        part.add_latency("latency/engine/parked", &runs);
        assert_eq!(part.figures.len(), PERCENTILES.len());
        assert_eq!(part.figures[0].id, "latency/engine/parked/p50");
        assert_eq!(part.figures[0].median, 200.0);
        assert_eq!(part.curves[0].points.last().unwrap(), &(1.0, 300));
    }
}
