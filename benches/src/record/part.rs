//! What one bench leaves for the record.

use std::{fs, io, path::Path};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Figure, Unit, at, measured, read_json, write_json};

/// What one bench measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Numbers with their spread.
    pub figures: Vec<Figure>,
    /// Whole distributions of latencies.
    #[serde(default)]
    pub curves: Vec<Curve>,
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

impl Part {
    /// All parts in a folder, and what criterion left in its `criterion`.
    ///
    /// # Errors
    /// What could not be read, and where.
    pub fn gather(folder: &Path) -> io::Result<Self> {
        let mut whole = Self::default();
        for entry in fs::read_dir(folder).map_err(|error| at(folder, error))? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "json") {
                whole.extend(Self::read(&path)?);
            }
        }
        criterion_figures(&folder.join("criterion"), &mut whole.figures)?;
        Ok(whole)
    }

    /// From a file.
    ///
    /// # Errors
    /// Why it could not be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        read_json(path)
    }

    /// Adds what another holds.
    pub fn extend(&mut self, other: Self) {
        self.figures.extend(other.figures);
        self.curves.extend(other.curves);
    }

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
    /// Why it could not be written; and that a figure is no number, which JSON has no word for.
    pub fn save_as(&self, file: &Path) -> io::Result<()> {
        let is_number = |figure: &&Figure| figure.median.is_finite();
        if let Some(odd) = self.figures.iter().find(|figure| !is_number(figure)) {
            return Err(io::Error::other(format!("{} is no number", odd.id)));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_not_stored() {
        let part = Part {
            figures: vec![Figure::new("a/b/c", Unit::Ratio, [f64::NAN])],
            ..Part::default()
        };
        let error = part.save_as(Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "a/b/c is no number");
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
