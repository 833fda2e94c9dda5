//! Curves of latencies, in process and over sockets.

use maud::{Markup, html};

use super::{charts::plot, wire};
use crate::{
    numbers,
    plots::{Axis, Series},
    record::{Curve, PERCENTILES, Record, Unit},
};

/// The curves of one question, each implementation's with and without stalled subscribers.
struct Picture<'a> {
    group: &'a str,
    /// What all curves have in common.
    parameter: &'a str,
    curves: Vec<(String, &'a Curve)>,
}

pub(super) fn in_process(record: &Record) -> Markup {
    html! {
        p {
            "From the moment when an update was due to the moment when another thread had it in hand: so a stall "
            "counts for everything that it delays. " i { "Paced" } ": one every 50 µs, far below what is possible. " i { "Unpaced" }
            ": as fast as the publisher can, so that who publishes faster than is received builds the longer queue: compare it beside what a publish "
            "costs. A " i { "spinning" } " receiver burns a core; a " i { "parked" } " one sleeps in the kernel, "
            "and being woken is most of its time; an " i { "async" } " one is a future that a tokio runtime drives in a thread of its own. "
            "“Beside 100 stalled”: with a hundred subscribers more that never read. The floor, bus and tokio's watch are not here: "
            "the first cannot wait, the second delivers nothing beside one reader that stalls, the third skips. "
            "Read the curves from left to right: half of all updates are at most as slow as at 50, one in a thousand is slower than at "
            "99.9. Beyond that, it is the machine's scheduler. A curve is of all runs together, so that one run in which the machine "
            "was elsewhere raises its tail; the table below it has the median of what the runs showed."
        }
        @for picture in pictures(record, "latency") {
            h3 { (picture.parameter.replace('-', ", ")) " receiver" }
            (picture.show(record))
        }
        @if let Some(noop) = record.figure("latency/noop/clock/p50") {
            p.caption { "Two looks at the clock, which are in each of these latencies, take " (noop.show()) "." }
        }
    }
}

/// Of the server: the questions asked most, and the others below a fold.
pub(super) fn over_sockets(record: &Record) -> Markup {
    let (first, others): (Vec<_>, Vec<_>) = pictures(record, "wire_latency")
        .into_iter()
        .partition(|picture| FIRST.contains(&picture.parameter));
    html! {
        p.caption { (numbers::shared_cores(record)) " " (numbers::GO_IS_NET_HTTP) }
        @for picture in first {
            h4 { (wire::described(picture.parameter)) }
            (picture.show(record))
        }
        @if !others.is_empty() {
            details {
                summary { "Latency in " (others.len()) " more scenarios" }
                @for picture in others {
                    h4 { (wire::described(picture.parameter)) }
                    (picture.show(record))
                }
            }
        }
    }
}

const FIRST: [&str; 4] = [
    "paced_1000_100x10_tcp",
    "paced_1000_1x1_tcp",
    "paced_1000_1x1_tcp_parked",
    "paced_1000_1x1_tcp_spinning",
];

fn pictures<'a>(record: &'a Record, group: &'a str) -> Vec<Picture<'a>> {
    let mut pictures: Vec<Picture<'a>> = Vec::new();
    for curve in &record.curves {
        let mut parts = curve.id.splitn(3, '/');
        let (Some(of), Some(implementation), Some(parameter)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if of != group || implementation == "noop" {
            continue;
        }
        let suffixes = ["-100stalled", "_stalled"];
        let beside = suffixes
            .iter()
            .find_map(|suffix| parameter.strip_suffix(suffix));
        let name = match beside {
            Some(_) => format!("{implementation} beside 100 stalled"),
            None => implementation.to_owned(),
        };
        let parameter = beside.unwrap_or(parameter);
        match pictures
            .iter_mut()
            .find(|known| known.parameter == parameter)
        {
            Some(picture) => picture.curves.push((name, curve)),
            None => pictures.push(Picture {
                group,
                parameter,
                curves: vec![(name, curve)],
            }),
        }
    }
    // Ours is drawn last, above the others, and the legend keeps the same order everywhere.
    for picture in &mut pictures {
        picture
            .curves
            .sort_by_key(|(name, _)| !name.starts_with("engine"));
        picture.curves.reverse();
    }
    pictures
}

impl Picture<'_> {
    fn show(&self, record: &Record) -> Markup {
        let series = self.curves.iter().map(|(name, curve)| {
            // The x axis is how rare: one in so many takes at least that long.
            let points = curve
                .points
                .iter()
                .filter(|(quantile, _)| (0.5..1.0).contains(quantile));
            let points =
                points.map(|(quantile, value)| (1.0 / (1.0 - quantile), (*value).max(1) as f64));
            Series {
                name: name.clone(),
                points: points.collect(),
                // A curve is of all runs together; the table below has their spread.
                whiskers: Vec::new(),
            }
        });
        let x = Axis {
            title: "percentile",
            tick: |rarity| format!("{}", 100.0 - (1e4 / rarity).round() / 100.0),
            ticks: &[2.0, 10.0, 100.0, 1_000.0, 10_000.0],
        };
        let y = Axis {
            title: "from due to received",
            tick: |value| Unit::Nanoseconds.show(value),
            ticks: &[],
        };
        html! {
            (plot(x, y, series.collect()))
            table.percentiles {
                tr {
                    th { "median over the runs" }
                    @for (percentile, _) in PERCENTILES { th { (percentile) } }
                }
                @for (name, curve) in &self.curves {
                    tr {
                        td { (name.replace('_', " ")) }
                        @for (percentile, _) in PERCENTILES {
                            td.number {
                                @if let Some(figure) = record.figure(&format!("{}/{percentile}", curve.id)) { (figure.show()) }
                            }
                        }
                    }
                }
            }
            (self.ratio(record))
        }
    }

    /// Ours, with stalled subscribers by without.
    fn ratio(&self, record: &Record) -> Markup {
        let id = match self.group {
            "latency" => format!("latency_ratio/engine/{}-100stalled/p99", self.parameter),
            _ => format!(
                "wire_latency_stalled_ratio/engine/{}_stalled/p99",
                self.parameter
            ),
        };
        html! {
            @if let Some(ratio) = record.figure(&id) {
                p.caption {
                    "Our p99 with 100 stalled beside, by without, in runs that took turns: " (ratio.unit.show(ratio.median))
                    " (quartiles " (ratio.unit.show(ratio.low)) " to " (ratio.unit.show(ratio.high)) ")."
                }
            }
        }
    }
}
