//! A scenario, measured at every server in turn, and the figures that come of it.

mod readings;

use std::io;
use std::iter::once;
use std::num::NonZero;

use comfy_table::{CellAlignment, Table, presets};

use self::readings::{READINGS, Reading};
use super::campaign::{Outcome, Scenario};
use super::server::Implementation;
use crate::record::{Figure, Part, Unit};

/// What came of a scenario.
#[derive(Debug)]
pub struct Measured {
    scenario: Scenario,
    /// Where it was measured; ours first.
    servers: Vec<Implementation>,
    /// One outcome of each server, in their order.
    rounds: Vec<Vec<Outcome>>,
    /// Of the first server in each round, without the stalled streams; empty when there are none.
    undisturbed: Vec<Outcome>,
}

/// Measures a scenario so many times at each server that it suits, in turn.
///
/// # Errors
/// As [`Scenario::run`], and that it suits none of them.
pub fn measure(
    scenario: Scenario,
    mut servers: Vec<Implementation>,
    runs: NonZero<usize>,
) -> io::Result<Measured> {
    servers.retain(|server| scenario.suits(*server));
    let first = *servers
        .first()
        .ok_or_else(|| io::Error::other("a scenario that suits none of these servers"))?;
    let mut measured = Measured {
        scenario,
        servers,
        rounds: Vec::new(),
        undisturbed: Vec::new(),
    };
    for nth in 0..runs.get() {
        let alone = || {
            let alone = Scenario {
                stalled: false,
                ..scenario
            };
            alone.run(first)
        };
        // In turn first and last, so that a drift of the machine favours neither.
        if scenario.stalled && nth % 2 == 0 {
            measured.undisturbed.push(alone()?);
        }
        let round = measured.servers.iter().map(|server| scenario.run(*server));
        measured.rounds.push(round.collect::<io::Result<_>>()?);
        if scenario.stalled && nth % 2 == 1 {
            measured.undisturbed.push(alone()?);
        }
    }
    Ok(measured)
}

impl Measured {
    /// For people: medians, and how often the first server's fits into, or contains, each other's.
    #[must_use]
    pub fn table(&self) -> Table {
        let scenario = self.scenario.name();
        let names: Vec<_> = self.servers.iter().map(|server| server.name()).collect();
        let quotients = names[1..]
            .iter()
            .map(|name| format!("{} / {name}", names[0]));
        let header = once(scenario).chain(names.iter().map(|name| (*name).to_owned()));
        let mut table = Table::new();
        table
            .load_preset(presets::ASCII_MARKDOWN)
            .set_header(header.chain(quotients));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for reading in READINGS {
            let medians =
                (0..self.servers.len()).map(|which| rounded(median(self.samples(reading, which))));
            let quotients = (1..self.servers.len())
                .map(|which| format!("{:.2}", median(self.quotients(reading, which))));
            let cells = once(reading.what.to_owned()).chain(medians);
            table.add_row(cells.chain(quotients));
        }
        table
    }

    /// Every figure. Beside those of each server, of each reading:
    ///
    /// * `<group>_ratio/<peer>/<scenario>`: the first server's by that peer's of the same round;
    /// * `<group>_stalled_ratio/<first server>/<scenario>`: with stalled streams, by without.
    #[must_use]
    pub fn part(&self) -> Part {
        let mut part = Part::default();
        let scenario = self.scenario.name();
        for (which, server) in self.servers.iter().enumerate() {
            let name = server.name();
            for reading in READINGS {
                // Those of a latency are figures of its curve.
                if reading.percentile.is_none() {
                    let id = reading.id("", name, &scenario);
                    let samples = self.samples(reading, which);
                    part.figures.push(Figure::new(id, reading.unit, samples));
                }
                if which > 0 {
                    let id = reading.id("_ratio", name, &scenario);
                    let quotients = self.quotients(reading, which).collect();
                    add_ratio(&mut part, reading, id, quotients);
                }
            }
            let latency = self
                .rounds
                .iter()
                .map(|round| round[which].latency_ns.clone());
            let id = format!("wire_latency/{name}/{scenario}");
            part.add_latency(&id, &latency.collect::<Vec<_>>());
        }
        if self.scenario.stalled {
            for reading in READINGS {
                let id = reading.id("_stalled_ratio", self.servers[0].name(), &scenario);
                let pairs = self.rounds.iter().zip(&self.undisturbed);
                let disturbances =
                    pairs.map(|(round, alone)| (reading.of)(&round[0]) / (reading.of)(alone));
                add_ratio(&mut part, reading, id, disturbances.collect());
            }
        }
        part
    }

    fn samples(&self, reading: &Reading, which: usize) -> impl Iterator<Item = f64> {
        self.rounds
            .iter()
            .map(move |round| (reading.of)(&round[which]))
    }

    /// The first server's by that one's, round by round.
    fn quotients(&self, reading: &Reading, which: usize) -> impl Iterator<Item = f64> {
        self.rounds
            .iter()
            .map(move |round| (reading.of)(&round[0]) / (reading.of)(&round[which]))
    }
}

/// Nothing can be said where a peer's is zero, as the number of resyncs mostly is.
fn add_ratio(part: &mut Part, reading: &Reading, id: String, quotients: Vec<f64>) {
    if quotients.iter().all(|quotient| quotient.is_finite()) {
        let figure = Figure::new(id, reading.ratio_unit(), quotients);
        part.figures.push(figure);
    }
}

/// Of one sample at least.
fn median(samples: impl IntoIterator<Item = f64>) -> f64 {
    Figure::new("", Unit::Ratio, samples).median
}

fn rounded(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
