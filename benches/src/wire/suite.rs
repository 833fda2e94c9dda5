//! Every scenario that is held against a reach, and what came of it.

use std::io;
use std::num::NonZero;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::campaign::{Outcome, Scenario};
use super::server::Implementation;

/// Scenarios, each measured so many times at each server, in turn.
#[derive(Debug, Default)]
pub struct Suite {
    measured: Vec<Measured>,
}

#[derive(Debug)]
struct Measured {
    scenario: Scenario,
    /// One run of each server, engine first.
    pairs: Vec<[Outcome; 2]>,
}

impl Suite {
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
        let pair = |_| {
            Ok([
                scenario.run(Implementation::Engine)?,
                scenario.run(Implementation::NaiveTonic)?,
            ])
        };
        let pairs = (0..runs.get()).map(pair).collect::<io::Result<_>>()?;
        self.measured.push(Measured { scenario, pairs });
        Ok(())
    }

    /// What was measured last, for people.
    #[must_use]
    pub fn last(&self) -> Table {
        let mut table = table(["", "engine", "naive tonic", "quotient"]);
        let Some(measured) = self.measured.last() else {
            return table;
        };
        table.set_header([
            measured.scenario.name().as_str(),
            "engine",
            "naive tonic",
            "quotient",
        ]);
        for figure in FIGURES {
            let [ours, naive] = [0, 1].map(|which| figure.median(measured, which));
            let quotient = format!("{:.2}", measured.quotient(figure));
            table.add_row([figure.what, &rounded(ours), &rounded(naive), &quotient]);
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
                    measured.quotient(&reach.figure),
                    format!("≥ {limit} × naive"),
                ),
                Wanted::AtMost(limit) => (
                    measured.quotient(&reach.figure),
                    format!("≤ {limit} × naive"),
                ),
                Wanted::Below(limit) => (reach.figure.median(measured, 0), format!("≤ {limit}")),
            };
            let met = match reach.wanted {
                Wanted::AtLeast(limit) => value >= limit,
                Wanted::AtMost(limit) | Wanted::Below(limit) => value <= limit,
            };
            let what = format!("{}: {}", reach.scenario, reach.figure.what);
            let met = if met { "yes" } else { "no" };
            table.add_row([what.as_str(), &wanted, &rounded(value), met]);
        }
        table
    }

    /// Every figure, in the form of `target/measured`.
    #[must_use]
    pub fn part(&self) -> Part {
        let mut part = Part::default();
        for measured in &self.measured {
            for (which, implementation) in ["engine", "naive_tonic"].into_iter().enumerate() {
                for figure in FIGURES {
                    let [low, median, high] = figure.quartiles(measured, which);
                    part.figures.push(Recorded {
                        id: format!(
                            "wire_{}/{implementation}/{}",
                            figure.id,
                            measured.scenario.name()
                        ),
                        unit: figure.unit,
                        median,
                        low,
                        high,
                        samples: measured.pairs.len(),
                    });
                }
                let mut all = measured.pairs[0][which].latency_ns.clone();
                for pair in &measured.pairs[1..] {
                    all.add(&pair[which].latency_ns)
                        .expect("histograms of the same bounds");
                }
                let points = all.iter_quantiles(2);
                part.curves.push(Curve {
                    id: format!("wire_latency/{implementation}/{}", measured.scenario.name()),
                    points: points
                        .map(|step| (step.quantile_iterated_to(), step.value_iterated_to()))
                        .collect(),
                });
            }
        }
        part
    }
}

impl Measured {
    /// Median of ours by theirs, pair by pair.
    fn quotient(&self, figure: &Figure) -> f64 {
        let quotients = self
            .pairs
            .iter()
            .map(|[ours, naive]| (figure.of)(ours) / (figure.of)(naive));
        quartiles(quotients.collect())[1]
    }
}

/// What [`Suite::part`] makes: see `record::Part`.
#[derive(Debug, Default, Serialize)]
pub struct Part {
    figures: Vec<Recorded>,
    curves: Vec<Curve>,
}

#[derive(Debug, Serialize)]
struct Recorded {
    id: String,
    unit: &'static str,
    median: f64,
    low: f64,
    high: f64,
    samples: usize,
}

#[derive(Debug, Serialize)]
struct Curve {
    id: String,
    points: Vec<(f64, u64)>,
}

/// One number of an outcome.
struct Figure {
    what: &'static str,
    id: &'static str,
    unit: &'static str,
    of: fn(&Outcome) -> f64,
}

impl Figure {
    fn median(&self, measured: &Measured, which: usize) -> f64 {
        self.quartiles(measured, which)[1]
    }

    fn quartiles(&self, measured: &Measured, which: usize) -> [f64; 3] {
        let samples = measured.pairs.iter().map(|pair| (self.of)(&pair[which]));
        quartiles(samples.collect())
    }
}

/// Of one sample at least.
fn quartiles(mut samples: Vec<f64>) -> [f64; 3] {
    samples.sort_by(f64::total_cmp);
    let last = samples.len() - 1;
    [1, 2, 3].map(|quarters| {
        let (at, rest) = (last * quarters / 4, last * quarters % 4);
        let next = samples[(at + 1).min(last)];
        samples[at] + (next - samples[at]) * rest as f64 / 4.0
    })
}

fn rounded(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

fn table(header: [&str; 4]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

const DELIVERED: Figure = Figure {
    what: "delivered updates per second",
    id: "delivered",
    unit: "per_second",
    of: |outcome| outcome.delivered_per_second,
};
const CPU: Figure = Figure {
    what: "processor time per update, ns",
    id: "cpu",
    unit: "nanoseconds",
    of: |outcome| outcome.cpu_ns,
};
const WRITES: Figure = Figure {
    what: "socket writes per publish",
    id: "writes",
    unit: "count",
    of: |outcome| outcome.writes,
};
const PUBLISH: Figure = Figure {
    what: "publish, p50, ns",
    id: "publish_p50",
    unit: "nanoseconds",
    of: |outcome| outcome.publish_ns.value_at_quantile(0.5) as f64,
};
const P50: Figure = Figure {
    what: "latency, p50, ns",
    id: "p50",
    unit: "nanoseconds",
    of: |outcome| outcome.latency_ns.value_at_quantile(0.5) as f64,
};
const P99: Figure = Figure {
    what: "latency, p99, ns",
    id: "p99",
    unit: "nanoseconds",
    of: |outcome| outcome.latency_ns.value_at_quantile(0.99) as f64,
};
const MEMORY: Figure = Figure {
    what: "memory per stream, bytes",
    id: "memory",
    unit: "bytes",
    of: |outcome| outcome.bytes_per_stream,
};
const JOIN: Figure = Figure {
    what: "until all have a snapshot, ns",
    id: "join",
    unit: "nanoseconds",
    of: |outcome| outcome.join_ns,
};
const FIGURES: &[Figure] = &[
    DELIVERED,
    CPU,
    WRITES,
    PUBLISH,
    Figure {
        what: "publish, p99, ns",
        id: "publish_p99",
        unit: "nanoseconds",
        of: |outcome| outcome.publish_ns.value_at_quantile(0.99) as f64,
    },
    P50,
    Figure {
        what: "latency, p90, ns",
        id: "p90",
        unit: "nanoseconds",
        of: |outcome| outcome.latency_ns.value_at_quantile(0.9) as f64,
    },
    P99,
    Figure {
        what: "latency, p99.9, ns",
        id: "p99.9",
        unit: "nanoseconds",
        of: |outcome| outcome.latency_ns.value_at_quantile(0.999) as f64,
    },
    Figure {
        what: "latency, max, ns",
        id: "max",
        unit: "nanoseconds",
        of: |outcome| outcome.latency_ns.max() as f64,
    },
    MEMORY,
    JOIN,
    Figure {
        what: "resyncs",
        id: "resyncs",
        unit: "count",
        of: |outcome| outcome.resyncs as f64,
    },
];

/// What a figure of a scenario should be.
struct Reach {
    scenario: &'static str,
    figure: Figure,
    wanted: Wanted,
}

enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

const REACHES: &[Reach] = &[
    Reach {
        scenario: "saturated_100x10_tcp",
        figure: DELIVERED,
        wanted: Wanted::AtLeast(1.5),
    },
    Reach {
        scenario: "saturated_100x10_tcp",
        figure: CPU,
        wanted: Wanted::AtMost(0.6),
    },
    Reach {
        scenario: "saturated_100x10_tcp",
        figure: P99,
        wanted: Wanted::AtMost(1.0),
    },
    Reach {
        scenario: "saturated_100x10_tcp_tls",
        figure: DELIVERED,
        wanted: Wanted::AtLeast(1.5),
    },
    Reach {
        scenario: "saturated_100x10_tcp_tls",
        figure: CPU,
        wanted: Wanted::AtMost(0.6),
    },
    Reach {
        scenario: "saturated_100x10_tcp_tls",
        figure: P99,
        wanted: Wanted::AtMost(1.0),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp",
        figure: CPU,
        wanted: Wanted::AtMost(0.4),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp",
        figure: P50,
        wanted: Wanted::AtMost(0.7),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp",
        figure: WRITES,
        wanted: Wanted::Below(20.0),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp_tls",
        figure: CPU,
        wanted: Wanted::AtMost(0.4),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp_tls",
        figure: P50,
        wanted: Wanted::AtMost(0.7),
    },
    Reach {
        scenario: "paced_1000_100x10_tcp_tls",
        figure: WRITES,
        wanted: Wanted::Below(20.0),
    },
    Reach {
        scenario: "paced_200_512x8_tcp",
        figure: PUBLISH,
        wanted: Wanted::AtMost(0.5),
    },
    Reach {
        scenario: "paced_50_1000x10_tcp",
        figure: MEMORY,
        wanted: Wanted::Below(5_120.0),
    },
];
