//! Every scenario that is held against a reach, and what came of it.

use std::io;
use std::iter::once;
use std::num::NonZero;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::campaign::{Outcome, Scenario};
use super::server::Implementation;
use crate::record::{Figure, Part, Unit};

/// Scenarios, each measured so many times at each server, in turn.
#[derive(Debug)]
pub struct Suite {
    servers: Vec<Implementation>,
    measured: Vec<Measured>,
}

#[derive(Debug)]
struct Measured {
    scenario: Scenario,
    /// One outcome of each server, in the suite's order.
    rounds: Vec<Vec<Outcome>>,
    /// Of the first server in each round, without the stalled streams; empty when there are none.
    undisturbed: Vec<Outcome>,
}

impl Suite {
    /// Nothing measured yet. Reaches compare the first server with the second.
    #[must_use]
    pub fn new(servers: Vec<Implementation>) -> Self {
        Self {
            servers,
            measured: Vec::new(),
        }
    }

    /// What issue and design name.
    #[must_use]
    pub fn scenarios(duration: Duration) -> Vec<Scenario> {
        let plain = Scenario {
            streams: 100,
            connections: 10,
            tls: false,
            unix: false,
            rate: None,
            duration,
            stalled: false,
        };
        let mut scenarios = Vec::new();
        for rate in [None, NonZero::new(1_000)] {
            let same = Scenario { rate, ..plain };
            scenarios.extend([
                same,
                Scenario { tls: true, ..same },
                Scenario { unix: true, ..same },
                Scenario {
                    connections: 100,
                    ..same
                },
            ]);
        }
        let paced = Scenario {
            rate: NonZero::new(1_000),
            ..plain
        };
        let idle = Scenario {
            streams: 1_000,
            rate: NonZero::new(50),
            ..plain
        };
        let parked = Scenario {
            streams: 512,
            connections: 8,
            rate: NonZero::new(200),
            ..plain
        };
        scenarios.extend([
            Scenario {
                stalled: true,
                ..paced
            },
            parked,
            idle,
        ]);
        scenarios
    }

    /// Measures a scenario.
    ///
    /// # Errors
    /// As [`Scenario::run`].
    pub fn measure(&mut self, scenario: Scenario, runs: NonZero<usize>) -> io::Result<()> {
        let mut measured = Measured {
            scenario,
            rounds: Vec::new(),
            undisturbed: Vec::new(),
        };
        for nth in 0..runs.get() {
            let alone = || {
                let alone = Scenario {
                    stalled: false,
                    ..scenario
                };
                alone.run(self.servers[0])
            };
            // In turn first and last, so that a drift of the machine favours neither.
            if scenario.stalled && nth % 2 == 0 {
                measured.undisturbed.push(alone()?);
            }
            let round = self.servers.iter().map(|server| scenario.run(*server));
            measured.rounds.push(round.collect::<io::Result<_>>()?);
            if scenario.stalled && nth % 2 == 1 {
                measured.undisturbed.push(alone()?);
            }
        }
        self.measured.push(measured);
        Ok(())
    }

    /// What was measured last, for people.
    #[must_use]
    pub fn last(&self) -> Table {
        let Some(measured) = self.measured.last() else {
            return Table::new();
        };
        let scenario = measured.scenario.name();
        let servers = self.servers.iter().map(|server| server.name());
        let header = once(scenario.as_str()).chain(servers);
        let mut table = table(header.chain(once("engine / naive_tonic")));
        for reading in READINGS {
            let medians =
                (0..self.servers.len()).map(|which| rounded(reading.median(measured, which)));
            let quotient = format!("{:.2}", measured.quotient(reading));
            table.add_row(
                once(reading.what.to_owned())
                    .chain(medians)
                    .chain(once(quotient)),
            );
        }
        table
    }

    /// Each reach, and whether it is met.
    #[must_use]
    pub fn reaches(&self) -> Table {
        let mut table = table(["reach", "wanted", "measured", "met"]);
        for reach in REACHES {
            let Some(measured) = self
                .measured
                .iter()
                .find(|m| m.scenario.name() == reach.scenario)
            else {
                continue;
            };
            let (value, wanted) = match reach.wanted {
                Wanted::AtLeast(limit) => (
                    measured.quotient(&reach.reading),
                    format!("≥ {limit} × naive"),
                ),
                Wanted::AtMost(limit) => (
                    measured.quotient(&reach.reading),
                    format!("≤ {limit} × naive"),
                ),
                Wanted::Undisturbed(limit) => (
                    measured.disturbance(&reach.reading),
                    format!("≤ {limit} × without stalled"),
                ),
                Wanted::Below(limit) => (reach.reading.median(measured, 0), format!("≤ {limit}")),
            };
            let met = match reach.wanted {
                Wanted::AtLeast(limit) => value >= limit,
                Wanted::AtMost(limit) | Wanted::Undisturbed(limit) | Wanted::Below(limit) => {
                    value <= limit
                }
            };
            let what = format!("{}: {}", reach.scenario, reach.reading.what);
            let met = if met { "yes" } else { "no" };
            table.add_row([what.as_str(), &wanted, &rounded(value), met]);
        }
        table
    }

    /// Every figure, for `target/measured`.
    #[must_use]
    pub fn part(&self) -> Part {
        let mut part = Part::default();
        for measured in &self.measured {
            let scenario = measured.scenario.name();
            for (which, server) in self.servers.iter().enumerate() {
                let implementation = server.name();
                for reading in READINGS {
                    // Those of latency are figures of its curve.
                    let Some((group, unit)) = reading.recorded else {
                        continue;
                    };
                    let id = format!("{group}/{implementation}/{scenario}");
                    let samples = reading.samples(measured, which);
                    part.figures.push(Figure::new(id, unit, samples));
                }
                let latency = measured
                    .rounds
                    .iter()
                    .map(|round| round[which].latency_ns.clone());
                let id = format!("wire_latency/{implementation}/{scenario}");
                part.add_latency(&id, &latency.collect::<Vec<_>>());
            }
        }
        part
    }
}

impl Measured {
    /// Median of the first server's by the second's, round by round.
    fn quotient(&self, reading: &Reading) -> f64 {
        let quotients = self
            .rounds
            .iter()
            .map(|round| (reading.of)(&round[0]) / (reading.of)(&round[1]));
        median(quotients)
    }

    /// Median of the first server's with stalled streams by its without, round by round.
    fn disturbance(&self, reading: &Reading) -> f64 {
        let pairs = self.rounds.iter().zip(&self.undisturbed);
        median(pairs.map(|(round, alone)| (reading.of)(&round[0]) / (reading.of)(alone)))
    }
}

/// One number of an outcome.
struct Reading {
    what: &'static str,
    /// Group and unit in a record.
    recorded: Option<(&'static str, Unit)>,
    of: fn(&Outcome) -> f64,
}

impl Reading {
    fn median(&self, measured: &Measured, which: usize) -> f64 {
        median(self.samples(measured, which))
    }

    fn samples(&self, measured: &Measured, which: usize) -> impl Iterator<Item = f64> {
        measured
            .rounds
            .iter()
            .map(move |round| (self.of)(&round[which]))
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

fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

const DELIVERED: Reading = Reading {
    what: "delivered updates per second",
    recorded: Some(("wire_delivered", Unit::PerSecond)),
    of: |outcome| outcome.delivered_per_second,
};
const CPU: Reading = Reading {
    what: "processor time per update, ns",
    recorded: Some(("wire_cpu", Unit::Nanoseconds)),
    of: |outcome| outcome.cpu_ns,
};
const WRITES: Reading = Reading {
    what: "socket writes per publish",
    recorded: Some(("wire_writes", Unit::Count)),
    of: |outcome| outcome.writes,
};
const PUBLISH: Reading = Reading {
    what: "publish, p50, ns",
    recorded: Some(("wire_publish_p50", Unit::Nanoseconds)),
    of: |outcome| outcome.publish_ns.value_at_quantile(0.5) as f64,
};
const PUBLISH_P99: Reading = Reading {
    what: "publish, p99, ns",
    recorded: Some(("wire_publish_p99", Unit::Nanoseconds)),
    of: |outcome| outcome.publish_ns.value_at_quantile(0.99) as f64,
};
const P50: Reading = Reading {
    what: "latency, p50, ns",
    recorded: None,
    of: |outcome| outcome.latency_ns.value_at_quantile(0.5) as f64,
};
const P99: Reading = Reading {
    what: "latency, p99, ns",
    recorded: None,
    of: |outcome| outcome.latency_ns.value_at_quantile(0.99) as f64,
};
const MEMORY: Reading = Reading {
    what: "memory per stream, bytes",
    recorded: Some(("wire_memory", Unit::Bytes)),
    of: |outcome| outcome.bytes_per_stream,
};
const JOIN: Reading = Reading {
    what: "until all have a snapshot, ns",
    recorded: Some(("wire_join", Unit::Nanoseconds)),
    of: |outcome| outcome.join_ns,
};
const READINGS: &[Reading] = &[
    DELIVERED,
    CPU,
    WRITES,
    PUBLISH,
    PUBLISH_P99,
    P50,
    Reading {
        what: "latency, p90, ns",
        recorded: None,
        of: |outcome| outcome.latency_ns.value_at_quantile(0.9) as f64,
    },
    P99,
    Reading {
        what: "latency, p99.9, ns",
        recorded: None,
        of: |outcome| outcome.latency_ns.value_at_quantile(0.999) as f64,
    },
    Reading {
        what: "latency, max, ns",
        recorded: None,
        of: |outcome| outcome.latency_ns.max() as f64,
    },
    MEMORY,
    JOIN,
    Reading {
        what: "resyncs",
        recorded: Some(("wire_resyncs", Unit::Count)),
        of: |outcome| outcome.resyncs as f64,
    },
];

/// What a figure of a scenario should be.
struct Reach {
    scenario: &'static str,
    reading: Reading,
    wanted: Wanted,
}

enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// So many times what it is without stalled streams.
    Undisturbed(f64),
    Below(f64),
}

const REACHES: &[Reach] = &[
    Reach {
        scenario: "saturated_100x10_tcp",
        reading: DELIVERED,
        wanted: Wanted::AtLeast(1.5),
    },
    Reach {
        scenario: "saturated_100x10_tcp",
        reading: CPU,
        wanted: Wanted::AtMost(0.6),
    },
    Reach {
        scenario: "saturated_100x10_tcp",
        reading: P99,
        wanted: Wanted::AtMost(1.0),
    },
    Reach {
        scenario: "saturated_100x10_tcp_tls",
        reading: DELIVERED,
        wanted: Wanted::AtLeast(1.5),
    },
    Reach {
        scenario: "saturated_100x10_tcp_tls",
        reading: CPU,
        wanted: Wanted::AtMost(0.6),
    },
    Reach {
        scenario: "saturated_100x10_tcp_tls",
        reading: P99,
        wanted: Wanted::AtMost(1.0),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp",
        reading: CPU,
        wanted: Wanted::AtMost(0.4),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp",
        reading: P50,
        wanted: Wanted::AtMost(0.7),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp",
        reading: WRITES,
        wanted: Wanted::Below(20.0),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp_tls",
        reading: CPU,
        wanted: Wanted::AtMost(0.4),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp_tls",
        reading: P50,
        wanted: Wanted::AtMost(0.7),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp_tls",
        reading: WRITES,
        wanted: Wanted::Below(20.0),
    },
    Reach {
        scenario: "paced_200_512x8_tcp",
        reading: PUBLISH,
        wanted: Wanted::AtMost(0.5),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp_stalled",
        reading: P99,
        wanted: Wanted::Undisturbed(1.1),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp_stalled",
        reading: PUBLISH_P99,
        wanted: Wanted::Undisturbed(1.1),
    },
    Reach {
        scenario: "paced_50_1000x10_tcp",
        reading: MEMORY,
        wanted: Wanted::Below(5_120.0),
    },
];
