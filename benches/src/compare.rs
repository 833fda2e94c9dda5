//! What moved between runs, beyond the noise.
//!
//! The last document is held against all before it. The noise of a figure is the span of its quartiles over all the
//! earlier runs, so the more of them, the fewer false alarms. A figure moved when its own quartiles are outside that span,
//! and its median is more than a threshold away from the nearest earlier one.
//!
//! What counts is ours: figures of the engine and the server, and their ratios to others. A peer's figure that moved is said and
//! counts for nothing, and so is a ratio that moved while the figure of ours in it did not.
//!
//! On another machine, times and throughputs are compared as multiples of the floor of the same run, which says how fast
//! that machine is at just this; counts, bytes and ratios as they are. The floor's own spread widens theirs. Times and
//! throughputs over sockets are not compared then: most of them is the kernel's, which the floor knows nothing of; their
//! ratios to other servers are.

use std::fmt;

use crate::record::{Figure, Record, Unit};

/// The figure that machines are scaled by: what one delivered update costs the floor.
pub const YARDSTICK: &str = "deliver/floor/64";

/// So many figures that are gone are named.
const GONE: usize = 20;

/// A figure that moved beyond the noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// Which.
    pub id: String,
    /// The figure's.
    pub unit: Unit,
    /// Times are in floors, and throughputs for each floor.
    pub is_scaled: bool,
    /// The nearest median of the earlier runs.
    pub before: f64,
    /// Lower and upper quartile, over all of them.
    pub noise: [f64; 2],
    /// The last run's.
    pub now: f64,
    /// Its quartiles.
    pub spread: [f64; 2],
    /// Whether that is worse.
    pub is_worse: bool,
    /// Whether it is about us; else a peer, the floor or the cost of measuring moved.
    pub is_ours: bool,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// In order of their identifiers.
    pub moves: Vec<Move>,
    /// How many figures are in the last run and an earlier one.
    pub compared: usize,
    /// Figures of the earlier runs that the last one lacks.
    pub gone: Vec<String>,
    /// How many were not compared, being of sockets and of different machines.
    pub incomparable: usize,
}

/// `earlier` and `last` differ in machine, and this one has no yardstick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoYardstick {
    /// When that run was taken.
    pub taken: String,
}

/// Holds `last` against `earlier`; `threshold` is a share, such as 0.05.
///
/// # Errors
/// When the runs are of different machines, and one did not measure the floor.
pub fn compare(
    earlier: &[Record],
    last: &Record,
    threshold: f64,
) -> Result<Comparison, NoYardstick> {
    let is_scaled = earlier.iter().any(|record| record.machine != last.machine);
    let floor = |record: &Record| match record.figure(YARDSTICK) {
        _ if !is_scaled => Ok(None),
        Some(figure) => Ok(Some(figure.clone())),
        None => Err(NoYardstick {
            taken: record.taken.clone(),
        }),
    };
    let floors = earlier.iter().map(floor).collect::<Result<Vec<_>, _>>()?;
    let last_floor = floor(last)?;

    let mut comparison = Comparison::default();
    for figure in &last.figures {
        let before: Vec<_> = earlier
            .iter()
            .zip(&floors)
            .filter_map(|(record, floor)| {
                record
                    .figure(&figure.id)
                    .map(|figure| scaled(figure, floor.as_ref()))
            })
            .collect();
        let Some(first) = before.first() else {
            continue;
        };
        let is_of_sockets = figure.id.starts_with("wire_");
        if is_scaled && is_of_sockets && has_a_yardstick(figure.unit) {
            comparison.incomparable += 1;
            continue;
        }
        comparison.compared += 1;
        let now = scaled(figure, last_floor.as_ref());
        let low = before
            .iter()
            .map(|figure| figure.low)
            .fold(first.low, f64::min);
        let high = before
            .iter()
            .map(|figure| figure.high)
            .fold(first.high, f64::max);
        let distance = |figure: &&Figure| (figure.median - now.median).abs();
        let nearest = before
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .unwrap_or(first);
        let is_beyond_noise = now.low > high || now.high < low;
        if is_beyond_noise && distance(&nearest) > threshold * nearest.median.abs() {
            comparison.moves.push(Move {
                is_ours: is_ours(&now.id),
                id: now.id,
                unit: figure.unit,
                is_scaled,
                before: nearest.median,
                noise: [low, high],
                now: now.median,
                spread: [now.low, now.high],
                is_worse: (now.median > nearest.median) != figure.unit.more_is_better(),
            });
        }
    }
    let moved: Vec<_> = comparison
        .moves
        .iter()
        .map(|each| each.id.clone())
        .collect();
    for ratio in &mut comparison.moves {
        let ours = numerator(&ratio.id).filter(|ours| last.figure(ours).is_some());
        ratio.is_ours &= ours.is_none_or(|ours| moved.contains(&ours));
    }
    let earlier = earlier.iter().flat_map(|record| &record.figures);
    let gone = earlier.filter(|figure| last.figure(&figure.id).is_none());
    comparison.gone = gone.map(|figure| figure.id.clone()).collect();
    comparison.gone.sort();
    comparison.gone.dedup();
    Ok(comparison)
}

/// Whether a figure is the engine's or the server's, or theirs by another's.
fn is_ours(id: &str) -> bool {
    id.split('/').nth(1) == Some("engine") || numerator(id).is_some()
}

/// Of a ratio of ours to another's, the figure of ours.
fn numerator(ratio: &str) -> Option<String> {
    let (group, rest) = ratio.split_once('/')?;
    let (implementation, parameter) = rest.split_once('/')?;
    // A latency ratio is of an implementation to itself.
    let group = group
        .strip_suffix("_ratio")
        .filter(|group| implementation != "engine" && *group != "latency")?;
    Some(format!("{group}/engine/{parameter}"))
}

fn has_a_yardstick(unit: Unit) -> bool {
    matches!(unit, Unit::Nanoseconds | Unit::PerSecond)
}

/// As multiples of the floor, or per floor; as if ours had been slow just when the floor was fast, and the other way round.
fn scaled(figure: &Figure, floor: Option<&Figure>) -> Figure {
    let Figure {
        median, low, high, ..
    } = *figure;
    let [median, low, high] = match (floor, figure.unit) {
        (Some(floor), Unit::Nanoseconds) => {
            [median / floor.median, low / floor.high, high / floor.low]
        }
        (Some(floor), Unit::PerSecond) => {
            [median * floor.median, low * floor.low, high * floor.high]
        }
        _ => [median, low, high],
    };
    Figure {
        median,
        low,
        high,
        ..figure.clone()
    }
}

impl Move {
    fn show(&self, value: f64) -> String {
        match self.unit {
            Unit::Nanoseconds if self.is_scaled => format!("{value:.2} floors"),
            Unit::PerSecond if self.is_scaled => format!("{value:.2} a floor"),
            unit => unit.show(value),
        }
    }
}

impl Comparison {
    /// Whether anything of ours got worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.moves.iter().any(|each| each.is_ours && each.is_worse)
    }

    /// Whether anything of ours is no longer measured.
    #[must_use]
    pub fn lacks_ours(&self) -> bool {
        self.gone.iter().any(|id| is_ours(id))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for each in &self.moves {
            let verdict = match (each.is_ours, each.is_worse) {
                (false, _) => "peer moved",
                (true, true) => "worse",
                (true, false) => "better",
            };
            let show = |median, [low, high]: [f64; 2]| {
                let [median, low, high] = [median, low, high].map(|value| each.show(value));
                format!("{median} ({low} to {high})")
            };
            let before = show(each.before, each.noise);
            let now = show(each.now, each.spread);
            let percent = (each.now / each.before - 1.0) * 100.0;
            writeln!(
                f,
                "{verdict:<10}  {:<48} {before} -> {now}  {percent:+.1} %",
                each.id
            )?;
        }
        // Of a run of some benches only, nearly all are.
        let (ours, others): (Vec<_>, Vec<_>) = self.gone.iter().partition(|id| is_ours(id));
        for (whose, gone) in [("gone", ours), ("peer gone", others)] {
            for id in gone.iter().take(GONE) {
                writeln!(f, "{whose:<10}  {id}")?;
            }
            if let Some(more) = gone.len().checked_sub(GONE).filter(|more| *more > 0) {
                writeln!(f, "{whose:<10}  … and {more} more")?;
            }
        }
        if self.incomparable > 0 {
            writeln!(
                f,
                "{} times and throughputs over sockets are not compared: other machine, and no yardstick for its kernel",
                self.incomparable
            )?;
        }
        let count = |is: fn(&&Move) -> bool| self.moves.iter().filter(is).count();
        write!(
            f,
            "{} figures compared: {} worse, {} better, {} of peers moved, {} gone",
            self.compared,
            count(|each| each.is_ours && each.is_worse),
            count(|each| each.is_ours && !each.is_worse),
            count(|each| !each.is_ours),
            self.gone.len()
        )
    }
}

impl fmt::Display for NoYardstick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = &self.taken;
        write!(
            f,
            "the runs are of different machines, and the one of {taken} has no {YARDSTICK} to scale by"
        )
    }
}

impl std::error::Error for NoYardstick {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Machine;

    fn record(cpu: &str, figures: &[(&str, Unit, [f64; 3])]) -> Record {
        let mut figures: Vec<_> = figures
            .iter()
            .map(|(id, unit, samples)| Figure::new(*id, *unit, *samples))
            .collect();
        figures.sort_by(|a, b| a.id.cmp(&b.id));
        Record {
            taken: "2026-01-31T23:59:59Z".to_owned(),
            commit: "abc".to_owned(),
            compiler: "rustc".to_owned(),
            machine: Machine {
                cpu: cpu.to_owned(),
                cores: 2,
                kernel: "Linux".to_owned(),
            },
            figures,
            curves: Vec::new(),
        }
    }

    fn time(samples: [f64; 3]) -> Record {
        record("one", &[("a/engine/c", Unit::Nanoseconds, samples)])
    }

    #[test]
    fn what_stays_within_the_quartiles_did_not_move() {
        let comparison = compare(
            &[time([90.0, 100.0, 110.0])],
            &time([100.0, 108.0, 120.0]),
            0.01,
        )
        .unwrap();
        assert_eq!((comparison.compared, comparison.moves.len()), (1, 0));
    }

    #[test]
    fn what_leaves_the_quartiles_by_more_than_the_threshold_moved() {
        let before = [time([99.0, 100.0, 101.0])];
        let slower = time([119.0, 120.0, 121.0]);
        let moves = compare(&before, &slower, 0.05).unwrap().moves;
        assert_eq!(
            (moves[0].before, moves[0].now, moves[0].is_worse),
            (100.0, 120.0, true)
        );
        assert!(compare(&before, &slower, 0.25).unwrap().moves.is_empty());
        let faster = time([79.0, 80.0, 81.0]);
        assert!(!compare(&before, &faster, 0.05).unwrap().moves[0].is_worse);
    }

    #[test]
    fn less_throughput_is_worse() {
        let throughput = |samples| record("one", &[("a/engine/c", Unit::PerSecond, samples)]);
        let comparison = compare(
            &[throughput([99.0, 100.0, 101.0])],
            &throughput([80.0; 3]),
            0.05,
        );
        assert!(comparison.unwrap().moves[0].is_worse);
    }

    #[test]
    fn more_earlier_runs_mean_more_noise() {
        let earlier = [time([99.0, 100.0, 101.0]), time([119.0, 121.0, 123.0])];
        assert!(
            compare(&earlier, &time([110.0; 3]), 0.05)
                .unwrap()
                .moves
                .is_empty()
        );
    }

    #[test]
    fn another_machine_is_scaled_by_its_floor() {
        let machine = |cpu, floor, ours| {
            record(
                cpu,
                &[
                    (YARDSTICK, Unit::Nanoseconds, [floor; 3]),
                    ("a/engine/c", Unit::Nanoseconds, [ours; 3]),
                ],
            )
        };
        let before = [machine("one", 2.0, 10.0)];
        assert!(
            compare(&before, &machine("two", 4.0, 20.0), 0.05)
                .unwrap()
                .moves
                .is_empty()
        );
        let moves = compare(&before, &machine("two", 4.0, 40.0), 0.05)
            .unwrap()
            .moves;
        assert_eq!(
            (moves[0].before, moves[0].now, moves[0].is_scaled),
            (5.0, 10.0, true)
        );
        let without = time([1.0; 3]);
        assert!(
            compare(
                &before,
                &Record {
                    machine: machine("two", 1.0, 1.0).machine,
                    ..without
                },
                0.05
            )
            .is_err()
        );
    }

    #[test]
    fn throughput_of_another_machine_is_scaled_by_its_floor() {
        let machine = |cpu, floor, ours| {
            let figures = [
                (YARDSTICK, Unit::Nanoseconds, [floor; 3]),
                ("a/engine/c", Unit::PerSecond, [ours; 3]),
            ];
            record(cpu, &figures)
        };
        // Half as fast, and half as much done.
        let before = [machine("one", 2.0, 100.0)];
        let same = compare(&before, &machine("two", 4.0, 50.0), 0.05).unwrap();
        assert_eq!((same.compared, same.moves.len()), (2, 0));
        let less = compare(&before, &machine("two", 4.0, 25.0), 0.05).unwrap();
        assert!(less.is_worse());
    }

    #[test]
    fn the_spread_of_the_floor_widens_that_of_what_it_scales() {
        let machine = |cpu, floor, ours| {
            let figures = [
                (YARDSTICK, Unit::Nanoseconds, floor),
                ("a/engine/c", Unit::Nanoseconds, ours),
            ];
            record(cpu, &figures)
        };
        let before = [machine("one", [2.0; 3], [10.0; 3])];
        let moves = |floor, ours| {
            let last = machine("two", floor, ours);
            compare(&before, &last, 0.05).unwrap().moves
        };
        // 6 floors by the medians, where 5 were; but the floor's quartiles are 3 and 5.
        assert_eq!(moves([4.0; 3], [24.0; 3]).len(), 1);
        assert_eq!(moves([2.0, 4.0, 6.0], [24.0; 3]), []);
    }

    #[test]
    fn times_over_sockets_are_not_compared_across_machines_but_their_ratios_are() {
        let machine = |cpu, time, ratio| {
            let figures = [
                (YARDSTICK, Unit::Nanoseconds, [2.0; 3]),
                ("wire_cpu/engine/c", Unit::Nanoseconds, [time; 3]),
                ("wire_cpu_ratio/naive_tonic/c", Unit::Ratio, [ratio; 3]),
            ];
            record(cpu, &figures)
        };
        let before = [machine("one", 100.0, 0.5)];
        let comparison = compare(&before, &machine("two", 300.0, 0.5), 0.05).unwrap();
        assert_eq!((comparison.incomparable, comparison.moves.len()), (1, 0));
        assert!(
            comparison
                .to_string()
                .contains("1 times and throughputs over sockets")
        );
        let comparison = compare(&before, &machine("two", 100.0, 0.7), 0.05).unwrap();
        assert!(comparison.moves.len() == 1, "{comparison}");
        // On the same machine they are.
        let comparison = compare(&before, &machine("one", 300.0, 0.5), 0.05).unwrap();
        assert!(comparison.is_worse(), "{comparison}");
    }

    #[test]
    fn a_ratio_that_moved_because_the_peer_did_is_not_ours() {
        let run = |ours, theirs| {
            let figures = [
                ("parked/engine/publish", Unit::Nanoseconds, [ours; 3]),
                ("parked/bus/publish", Unit::Nanoseconds, [theirs; 3]),
                ("parked_ratio/bus/publish", Unit::Ratio, [ours / theirs; 3]),
            ];
            record("one", &figures)
        };
        let before = [run(10.0, 10.0)];
        let peers = compare(&before, &run(10.0, 5.0), 0.05).unwrap();
        assert_eq!(peers.moves.len(), 2);
        assert!(!peers.is_worse(), "{peers}");
        let ours = compare(&before, &run(20.0, 10.0), 0.05).unwrap();
        assert_eq!(ours.moves.iter().filter(|each| each.is_ours).count(), 2);
    }

    #[test]
    fn whose_a_figure_is() {
        for (id, expected) in [
            ("fan_out/engine/64", true),
            ("wire_latency/engine/paced_1000_1x1_tcp/p50", true),
            ("distribute_ratio/floor/64", true),
            ("wire_latency_stalled_ratio/engine/paced/p99", true),
            ("latency_ratio/bus/paced-async-100stalled/p99", false),
            ("throughput_share/tokio_watch/4", false),
            ("fan_out/floor/64", false),
            ("head/noop/loop", false),
            ("snapshot/naive/cold_350", false),
        ] {
            assert_eq!(is_ours(id), expected, "{id}");
        }
    }

    #[test]
    fn what_is_no_longer_measured_is_said() {
        let last = record("one", &[]);
        assert_eq!(
            compare(&[time([1.0; 3])], &last, 0.05).unwrap().gone,
            ["a/engine/c"]
        );
    }
}
