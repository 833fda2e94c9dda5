//! What the engine is to reach (DESIGN, "Numbers"), and what one run saw of it.

use comfy_table::{Table, presets::ASCII_MARKDOWN};

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
    /// By the median: `yes` or `no`, `within noise` when the quartiles are on both sides; `told` where nothing was asked; or
    /// `not measured`.
    pub verdict: &'static str,
}

impl Row {
    /// Whether it is as it should be.
    #[must_use]
    pub fn is_met(&self) -> bool {
        matches!(self.verdict, "yes" | "yes, within noise" | "told")
    }
}

/// The whole table.
pub const REACHES: [Reach; 23] = {
    use Limit::{Anything, AtLeast, AtMost, MoreThan, SameAs};
    const fn reach(what: &'static str, id: &'static str, limit: Limit) -> Reach {
        Reach { what, id, limit }
    }
    [
        reach(
            "distribute, 64 subscriptions, beside the floor",
            "distribute_ratio/floor/64",
            AtMost(1.5),
        ),
        reach(
            "distribute, 512 subscriptions, beside the floor",
            "distribute_ratio/floor/512",
            AtMost(1.5),
        ),
        reach("… beside rtrb, 64", "distribute_ratio/rtrb/64", AtMost(1.0)),
        reach(
            "… beside rtrb, 512",
            "distribute_ratio/rtrb/512",
            AtMost(1.0),
        ),
        reach(
            "… beside crossbeam-channel, 64",
            "distribute_ratio/crossbeam_channel/64",
            AtMost(0.25),
        ),
        reach(
            "… beside crossbeam-channel, 512",
            "distribute_ratio/crossbeam_channel/512",
            AtMost(0.25),
        ),
        reach(
            "distribute and receive, 64, beside tokio broadcast",
            "deliver_ratio/tokio_broadcast/64",
            AtMost(0.5),
        ),
        reach(
            "distribute and receive, 512, beside tokio broadcast",
            "deliver_ratio/tokio_broadcast/512",
            AtMost(0.5),
        ),
        reach(
            "publisher alone, 64 updates to 512",
            "fan_out/engine/512",
            Anything,
        ),
        reach(
            "… tokio broadcast, which shares one ring",
            "fan_out/tokio_broadcast/512",
            Anything,
        ),
        reach(
            "commit of one setting among 350",
            "commit/engine/350",
            AtMost(1_000.0),
        ),
        reach(
            "commit of one setting among 35,000",
            "commit/engine/35000",
            AtMost(1_500.0),
        ),
        reach(
            "allocations of a publish to 512, as to 1",
            "allocations/engine/512",
            SameAs("allocations/engine/1"),
        ),
        reach(
            "read the head, borrowed, beside a bare ArcSwap",
            "head_ratio/arc_swap/borrowed",
            AtMost(1.5),
        ),
        reach(
            "publish to 512 parked tasks, beside tokio broadcast",
            "parked_ratio/tokio_broadcast/publish",
            AtMost(0.5),
        ),
        reach(
            "p99 with 100 stalled beside, spinning reader",
            "latency_ratio/engine/paced-spinning-100stalled/p99",
            AtMost(1.05),
        ),
        reach(
            "p99 with 100 stalled beside, parked reader",
            "latency_ratio/engine/paced-parked-100stalled/p99",
            AtMost(1.05),
        ),
        reach(
            "p99 with 100 stalled beside, async reader",
            "latency_ratio/engine/paced-async-100stalled/p99",
            AtMost(1.05),
        ),
        reach(
            "one more stalled subscription, per round: a flag read",
            "stalled/engine/100",
            Anything,
        ),
        reach(
            "memory of an idle subscription of 128",
            "memory/engine/idle_subscription",
            AtMost(2_048.0),
        ),
        reach(
            "subscribe and unsubscribe with 10,000 others",
            "subscribe/engine/10000",
            AtMost(5_000.0),
        ),
        reach(
            "4 publishers on 2 cores, beside one",
            "throughput_share/engine/4",
            AtLeast(0.7),
        ),
        reach(
            "… the slowest's part of its fair share",
            "least_share/engine/4",
            MoreThan(0.0),
        ),
    ]
};

impl Reach {
    /// What that run saw of it.
    #[must_use]
    pub fn row(&self, record: &Record) -> Row {
        let seen = record.figure(self.id);
        let show = |number: f64| {
            seen.map_or_else(|| number.to_string(), |figure| figure.unit.show(number))
        };
        let other = match self.limit {
            Limit::SameAs(other) => record.figure(other).map(|figure| figure.median),
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
        Row {
            what: self.what,
            asked,
            seen: seen.map_or_else(String::new, |seen| show(seen.median)),
            quartiles: seen
                .filter(|seen| seen.samples > 1)
                .map_or_else(String::new, quartiles),
            verdict: match verdict {
                None => "not measured",
                Some(_) if matches!(self.limit, Limit::Anything) => "told",
                Some((true, true)) => "yes",
                Some((true, false)) => "yes, within noise",
                Some((false, true)) => "no",
                Some((false, false)) => "no, within noise",
            },
        }
    }
}

/// The table as text, and how many rows are not met, or not measured.
#[must_use]
pub fn table(record: &Record) -> (String, usize) {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["what", "asked", "seen", "quartiles", "met"]);
    let rows = REACHES.map(|reach| reach.row(record));
    let unmet = rows.iter().filter(|row| !row.is_met()).count();
    for row in rows {
        table.add_row([row.what, &row.asked, &row.seen, &row.quartiles, row.verdict]);
    }
    (table.to_string(), unmet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Machine, Unit};

    fn verdict(limit: Limit, samples: &[f64]) -> &'static str {
        let figure = |samples: &[f64]| Figure::new("a/b/c", Unit::Ratio, samples.iter().copied());
        let record = Record {
            taken: String::new(),
            commit: String::new(),
            compiler: String::new(),
            machine: Machine {
                cpu: String::new(),
                cores: 2,
                kernel: String::new(),
            },
            figures: if samples.is_empty() {
                Vec::new()
            } else {
                vec![figure(samples)]
            },
            curves: Vec::new(),
        };
        let reach = Reach {
            what: "",
            id: "a/b/c",
            limit,
        };
        reach.row(&record).verdict
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
