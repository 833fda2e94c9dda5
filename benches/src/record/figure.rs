//! One number, its spread and its unit.

use serde::{Deserialize, Serialize};

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

impl Figure {
    /// Half the distance between the quartiles, as a share of the median; nothing where they say nothing.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let spread = (self.high - self.low) / 2.0 / self.median.abs();
        (self.samples > 1 && spread.is_finite()).then_some(spread)
    }

    /// For people: the median and the spread, as in `7.06 ns ±1 %`; where that is wide, it is seldom the same on both sides:
    /// then the quartiles, as in `613 ns (251 ns to 8.64 µs)`.
    #[must_use]
    pub fn show(&self) -> String {
        let median = self.unit.show(self.median);
        match self.spread().map(|spread| spread * 100.0) {
            None => median,
            Some(percent) if percent < 0.5 => format!("{median} ±<1 %"),
            Some(percent) if percent < 50.0 => format!("{median} ±{percent:.0} %"),
            Some(_) => {
                let [low, high] = [self.low, self.high].map(|quartile| self.unit.show(quartile));
                format!("{median} ({low} to {high})")
            }
        }
    }
}

impl Unit {
    /// Whether a greater number is the better one.
    #[must_use]
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::Share)
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
    fn the_spread_stands_beside_the_median() {
        let figure = |samples: &[f64]| Figure::new("a", Unit::Nanoseconds, samples.iter().copied());
        assert_eq!(figure(&[90.0, 100.0, 110.0]).show(), "100 ns ±5 %");
        assert_eq!(figure(&[99.9, 100.0, 100.1]).show(), "100 ns ±<1 %");
        let wide = figure(&[50.0, 100.0, 1_000.0]);
        assert_eq!(wide.show(), "100 ns (75.0 ns to 550 ns)");
        assert_eq!(figure(&[100.0]).show(), "100 ns");
        assert_eq!(figure(&[0.0, 0.0]).show(), "0.00 ns");
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
}
