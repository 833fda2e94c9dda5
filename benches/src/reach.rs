//! What engine and server are to reach, and what one run saw of it.

mod asked;

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use self::asked::{ENGINE, WIRE};
use crate::record::{Figure, Record};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// In words.
    pub what: &'static str,
    /// The figure that says it.
    pub id: &'static str,
    /// What it should be.
    pub limit: Limit,
}

/// What a figure should be, in its own unit.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// More than this.
    MoreThan(f64),
    /// The same as another figure.
    SameAs(&'static str),
    /// To be told, whatever it is.
    Anything,
}

/// For people.
#[derive(Clone, Debug)]
pub struct Row {
    /// As in [`Reach`].
    pub what: &'static str,
    /// The limit.
    pub asked: String,
    /// The median.
    pub seen: String,
    /// Nothing for what was counted once.
    pub quartiles: String,
    /// By the median: `yes` or `no`, `within noise` when the quartiles are on both sides; `told` where nothing was asked;
    /// `no ratio` where the other's figure, which then stands in the row, is not above zero; or `not measured`.
    pub verdict: &'static str,
}

impl Row {
    /// Whether it is as it should be.
    #[must_use]
    pub fn is_met(&self) -> bool {
        matches!(self.verdict, "yes" | "yes, within noise" | "told")
    }
}

impl Reach {
    /// What is seen of it among figures.
    fn row(&self, figures: &[Figure]) -> Row {
        let figure = |id: &str| figures.iter().find(|figure| figure.id == id);
        let seen = figure(self.id);
        let show = |number: f64| {
            seen.map_or_else(|| number.to_string(), |figure| figure.unit.show(number))
        };
        let other = match self.limit {
            Limit::SameAs(other) => figure(other).map(|figure| figure.median),
            _ => None,
        };
        let asked = match self.limit {
            Limit::AtMost(limit) => format!("≤ {}", show(limit)),
            Limit::AtLeast(limit) => format!("≥ {}", show(limit)),
            Limit::MoreThan(limit) => format!("> {}", show(limit)),
            Limit::SameAs(id) => other.map_or_else(|| format!("as {id}"), show),
            Limit::Anything => "to be told".to_owned(),
        };
        let is_met = |number: f64| match self.limit {
            Limit::AtMost(limit) => number <= limit,
            Limit::AtLeast(limit) => number >= limit,
            Limit::MoreThan(limit) => number > limit,
            Limit::SameAs(_) => Some(number) == other,
            Limit::Anything => true,
        };
        let verdict = seen.map(|seen| {
            let median = is_met(seen.median);
            (
                median,
                is_met(seen.low) == median && is_met(seen.high) == median,
            )
        });
        let quartiles = |seen: &Figure| format!("{} to {}", show(seen.low), show(seen.high));
        // What ours would have been divided by.
        let divisor = self.id.replacen("_ratio/", "/", 1);
        let divisor =
            figure(&divisor).filter(|divisor| divisor.id != self.id && divisor.low <= 0.0);
        if let (None, Some(divisor)) = (seen, divisor) {
            let show = |number| divisor.unit.show(number);
            return Row {
                what: self.what,
                asked,
                seen: format!("the other's is {}", show(divisor.median)),
                quartiles: format!("{} to {}", show(divisor.low), show(divisor.high)),
                verdict: "no ratio",
            };
        }
        Row {
            what: self.what,
            asked,
            seen: seen.map_or_else(String::new, |seen| show(seen.median)),
            quartiles: seen
                .filter(|seen| seen.samples > 1)
                .map_or_else(String::new, quartiles),
            verdict: match verdict {
                None => NOT_MEASURED,
                Some(_) if matches!(self.limit, Limit::Anything) => "told",
                Some((true, true)) => "yes",
                Some((true, false)) => "yes, within noise",
                Some((false, true)) => "no",
                Some((false, false)) => "no, within noise",
            },
        }
    }
}

/// Every row: of the engine, then of the server.
#[must_use]
pub fn rows(record: &Record) -> [Vec<Row>; 2] {
    [ENGINE, WIRE].map(|reaches| rows_of(reaches, &record.figures))
}

/// All as text, and how many rows are not met, or not measured.
#[must_use]
pub fn table(record: &Record) -> (String, usize) {
    let rows = rows(record).concat();
    let unmet = rows.iter().filter(|row| !row.is_met()).count();
    (text(rows), unmet)
}

/// The server's rows as text, of what was measured.
#[must_use]
pub fn wire_table(figures: &[Figure]) -> String {
    let mut rows = rows_of(WIRE, figures);
    rows.retain(|row| row.verdict != NOT_MEASURED);
    text(rows)
}

fn rows_of(reaches: &[Reach], figures: &[Figure]) -> Vec<Row> {
    reaches.iter().map(|reach| reach.row(figures)).collect()
}

fn text(rows: Vec<Row>) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["what", "asked", "seen", "quartiles", "met"]);
    for row in rows {
        table.add_row([row.what, &row.asked, &row.seen, &row.quartiles, row.verdict]);
    }
    table.to_string()
}

const NOT_MEASURED: &str = "not measured";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Unit;

    fn verdict(limit: Limit, samples: &[f64]) -> &'static str {
        let figures = match samples {
            [] => Vec::new(),
            samples => vec![Figure::new("a/b/c", Unit::Ratio, samples.iter().copied())],
        };
        let reach = Reach {
            what: "",
            id: "a/b/c",
            limit,
        };
        reach.row(&figures).verdict
    }

    #[test]
    fn a_row_without_a_ratio_shows_what_there_was_to_divide_by() {
        let reach = Reach {
            what: "",
            id: "a_ratio/floor/64",
            limit: Limit::AtMost(1.5),
        };
        let floor = Figure::new("a/floor/64", Unit::Nanoseconds, [-0.5, -0.25, 0.25]);
        let row = reach.row(&[floor]);
        assert_eq!((row.verdict, row.is_met()), ("no ratio", false));
        assert_eq!(row.seen, "the other's is -0.25 ns");
        assert_eq!(row.quartiles, "-0.38 ns to 0.00 ns");
        let above = Figure::new("a/floor/64", Unit::Nanoseconds, [0.25]);
        assert_eq!(reach.row(&[above]).verdict, "not measured");
    }

    #[test]
    fn the_median_decides_and_the_quartiles_say_how_surely() {
        for (limit, samples, expected) in [
            (Limit::AtMost(2.0), &[1.0, 1.5, 2.0][..], "yes"),
            (Limit::AtMost(2.0), &[1.0, 1.5, 9.0], "yes, within noise"),
            (Limit::AtMost(2.0), &[1.0, 2.5, 3.0], "no, within noise"),
            (Limit::AtMost(2.0), &[2.1, 2.5, 3.0], "no"),
            (Limit::AtLeast(2.0), &[2.0, 2.5, 3.0], "yes"),
            (Limit::MoreThan(2.0), &[2.0], "no"),
            (Limit::SameAs("a/b/c"), &[2.0], "yes"),
            (Limit::SameAs("a/b/d"), &[2.0], "no"),
            (Limit::Anything, &[2.0], "told"),
            (Limit::AtMost(2.0), &[], "not measured"),
        ] {
            assert_eq!(verdict(limit, samples), expected, "{limit:?} {samples:?}");
        }
    }
}
