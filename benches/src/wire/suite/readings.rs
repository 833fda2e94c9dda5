//! The numbers of an outcome, and what they are called in a record.

use super::Outcome;
use crate::record::Unit;

/// One number of an outcome.
pub(super) struct Reading {
    pub(super) what: &'static str,
    /// Of its figures: `group/implementation/scenario`, and the percentile where it is one of a latency.
    pub(super) group: &'static str,
    pub(super) percentile: Option<&'static str>,
    pub(super) unit: Unit,
    pub(super) of: fn(&Outcome) -> f64,
}

impl Reading {
    /// The figure's name, of a group made from this one's.
    pub(super) fn id(&self, group_suffix: &str, implementation: &str, scenario: &str) -> String {
        let group = self.group;
        let percentile = self.percentile.map(|percentile| format!("/{percentile}"));
        let percentile = percentile.unwrap_or_default();
        format!("{group}{group_suffix}/{implementation}/{scenario}{percentile}")
    }

    /// Of a quotient of two.
    pub(super) fn ratio_unit(&self) -> Unit {
        match self.unit.more_is_better() {
            true => Unit::Share,
            false => Unit::Ratio,
        }
    }
}

const fn reading(
    what: &'static str,
    group: &'static str,
    unit: Unit,
    of: fn(&Outcome) -> f64,
) -> Reading {
    Reading {
        what,
        group,
        percentile: None,
        unit,
        of,
    }
}

const fn latency(what: &'static str, percentile: &'static str, of: fn(&Outcome) -> f64) -> Reading {
    Reading {
        percentile: Some(percentile),
        ..reading(what, "wire_latency", Unit::Nanoseconds, of)
    }
}

pub(super) const READINGS: &[Reading] = &[
    reading(
        "delivered updates per second",
        "wire_delivered",
        Unit::PerSecond,
        |outcome| outcome.delivered_per_second,
    ),
    reading(
        "processor time per update",
        "wire_cpu",
        Unit::Nanoseconds,
        |outcome| outcome.cpu_ns,
    ),
    reading(
        "… of the publisher's pauses, not in it",
        "wire_pauses",
        Unit::Nanoseconds,
        |outcome| outcome.pauses_ns,
    ),
    reading(
        "socket writes per publish",
        "wire_writes",
        Unit::Count,
        |outcome| outcome.writes,
    ),
    reading(
        "publish, p50",
        "wire_publish_p50",
        Unit::Nanoseconds,
        |outcome| outcome.publish_ns.value_at_quantile(0.5) as f64,
    ),
    reading(
        "publish, p99",
        "wire_publish_p99",
        Unit::Nanoseconds,
        |outcome| outcome.publish_ns.value_at_quantile(0.99) as f64,
    ),
    latency("latency, p50", "p50", |outcome| {
        outcome.latency_ns.value_at_quantile(0.5) as f64
    }),
    latency("latency, p90", "p90", |outcome| {
        outcome.latency_ns.value_at_quantile(0.9) as f64
    }),
    latency("latency, p99", "p99", |outcome| {
        outcome.latency_ns.value_at_quantile(0.99) as f64
    }),
    latency("latency, p99.9", "p99.9", |outcome| {
        outcome.latency_ns.value_at_quantile(0.999) as f64
    }),
    latency("latency, max", "max", |outcome| {
        outcome.latency_ns.max() as f64
    }),
    reading("memory per stream", "wire_memory", Unit::Bytes, |outcome| {
        outcome.bytes_per_stream
    }),
    reading(
        "until all have a snapshot",
        "wire_join",
        Unit::Nanoseconds,
        |outcome| outcome.join_ns,
    ),
    reading("resyncs", "wire_resyncs", Unit::Count, |outcome| {
        outcome.resyncs as f64
    }),
];

/// Of a scenario with stalled streams, besides.
pub(super) const OF_STALLED: &[Reading] = &[reading(
    "memory per stalled stream",
    "wire_stalled_memory",
    Unit::Bytes,
    |outcome| outcome.bytes_per_stalled,
)];
