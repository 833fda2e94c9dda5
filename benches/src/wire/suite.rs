//! A scenario, measured at every server in turn, and the figures that come of it.

mod readings;

use std::io;
use std::iter::once;
use std::num::NonZero;

use comfy_table::{CellAlignment, Table, presets};

use self::readings::{OF_STALLED, READINGS, Reading};
use super::campaign::{Outcome, Scenario};
use super::server::Implementation;
use crate::record::{Figure, Part};

/// What came of a scenario.
#[derive(Debug)]
pub struct Measured {
    scenario: Scenario,
    /// Where it was measured; ours first.
    servers: Vec<Implementation>,
    /// One outcome of each server, in their order.
    rounds: Vec<Vec<Outcome>>,
    /// Of the first server: with the stalled streams, and without; empty when there are none.
    pairs: Vec<[Outcome; 2]>,
}

/// Measures a scenario so many times at each server that it suits, in turn. With stalled streams, so many times at least also
/// the first server with and without them, one right after the other.
///
/// # Errors
/// As [`Scenario::run`], and that it suits none of them.
pub fn measure(
    scenario: Scenario,
    mut servers: Vec<Implementation>,
    runs: NonZero<usize>,
    pairs: NonZero<usize>,
) -> io::Result<Measured> {
    servers.retain(|server| scenario.suits(*server));
    let (first, peers) = servers
        .split_first()
        .ok_or_else(|| io::Error::other("a scenario that suits none of these servers"))?;
    let (mut rounds, mut compared) = (Vec::new(), Vec::new());
    let pairs = if scenario.stalled { pairs.get() } else { 0 };
    for nth in 0..runs.get().max(pairs) {
        let ours = if scenario.stalled {
            let pair = pair(scenario, *first, nth % 2 == 0)?;
            compared.push(pair.clone());
            let [stalled, _] = pair;
            stalled
        } else {
            scenario.run(*first)?
        };
        if nth < runs.get() {
            let peers = peers.iter().map(|server| scenario.run(*server));
            rounds.push(once(Ok(ours)).chain(peers).collect::<io::Result<_>>()?);
        }
    }
    Ok(Measured {
        pairs: compared,
        ..Measured::new(scenario, servers, rounds)
    })
}

/// With stalled streams and without, which comes first in every other pair, so that a drift of the machine favours neither.
fn pair(stalled: Scenario, server: Implementation, alone_first: bool) -> io::Result<[Outcome; 2]> {
    let alone = Scenario {
        stalled: false,
        ..stalled
    };
    if alone_first {
        let alone = alone.run(server)?;
        return Ok([stalled.run(server)?, alone]);
    }
    Ok([stalled.run(server)?, alone.run(server)?])
}

impl Measured {
    /// Of one outcome of each server a round, in the order of the servers.
    #[must_use]
    pub fn new(
        scenario: Scenario,
        servers: Vec<Implementation>,
        rounds: Vec<Vec<Outcome>>,
    ) -> Self {
        Self {
            scenario,
            servers,
            rounds,
            pairs: Vec::new(),
        }
    }

    fn readings(&self) -> impl Iterator<Item = &'static Reading> {
        let of_stalled = OF_STALLED.iter().filter(|_| self.scenario.stalled);
        READINGS.iter().chain(of_stalled)
    }

    /// For people: medians and their spread, and how often the first server's fits into, or contains, each other's.
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
        for reading in self.readings() {
            let figures = (0..self.servers.len())
                .map(|which| Figure::new("", reading.unit, self.samples(reading, which)).show());
            let quotients = (1..self.servers.len()).map(|which| {
                let quotient = ratio("", reading, self.quotients(reading, which));
                quotient.map_or_else(String::new, |quotient| quotient.show())
            });
            let cells = once(reading.what.to_owned()).chain(figures);
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
            for reading in self.readings() {
                // Those of a latency are figures of its curve.
                if reading.percentile.is_none() {
                    let id = reading.id("", name, &scenario);
                    let samples = self.samples(reading, which);
                    part.figures.push(Figure::new(id, reading.unit, samples));
                }
                if which > 0 {
                    let id = reading.id("_ratio", name, &scenario);
                    part.figures
                        .extend(ratio(id, reading, self.quotients(reading, which)));
                }
            }
            let latency = self
                .rounds
                .iter()
                .map(|round| round[which].latency_ns.clone());
            let id = format!("wire_latency/{name}/{scenario}");
            part.add_latency(&id, &latency.collect::<Vec<_>>());
        }
        for reading in READINGS.iter().filter(|_| !self.pairs.is_empty()) {
            let id = reading.id("_stalled_ratio", self.servers[0].name(), &scenario);
            let pairs = self.pairs.iter();
            let disturbances =
                pairs.map(|[stalled, alone]| (reading.of)(stalled) / (reading.of)(alone));
            part.figures.extend(ratio(id, reading, disturbances));
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

/// Nothing can be said where what is divided by is zero, as the number of resyncs mostly is.
fn ratio(
    id: impl Into<String>,
    reading: &Reading,
    quotients: impl Iterator<Item = f64>,
) -> Option<Figure> {
    let quotients: Vec<_> = quotients.collect();
    let is_said = quotients.iter().all(|quotient| quotient.is_finite());
    is_said.then(|| Figure::new(id, reading.ratio_unit(), quotients))
}
