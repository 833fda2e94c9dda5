//! The metrics, by the names that dashboards know. The host installs the exporter, before it builds a server or a
//! consumer.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

/// Handles to the server's metrics, so that counting costs no look-up.
pub(crate) struct Telemetry {
    pub(crate) subscribers: Gauge,
    pub(crate) snapshots_sent: Counter,
    pub(crate) updates_sent: Counter,
    pub(crate) discontinuities: Counter,
    pub(crate) dropped_updates: Counter,
    pub(crate) unwanted_snapshots: Counter,
    pub(crate) refused_handshakes: Counter,
    pub(crate) refused_connections: Counter,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        describe_gauge!("configstream.subscribers", "streams subscribed now");
        describe_counter!(
            "configstream.snapshots_sent",
            "snapshots handed to the transport, resyncs included"
        );
        describe_counter!(
            "configstream.updates_sent",
            "updates handed to the transport"
        );
        describe_counter!("configstream.discontinuities", "gaps that led to a resync");
        describe_counter!(
            "configstream.dropped_updates",
            "updates a slow subscriber did not get as updates"
        );
        describe_counter!(
            "configstream.unwanted_snapshots",
            "streams that their peers left at a snapshot of more than 4 MiB"
        );
        describe_counter!(
            "configstream.refused_handshakes",
            "connections that ended before they were trusted"
        );
        describe_counter!(
            "configstream.refused_connections",
            "connections hung up on because there were too many"
        );
        Self {
            subscribers: gauge!("configstream.subscribers"),
            snapshots_sent: counter!("configstream.snapshots_sent"),
            updates_sent: counter!("configstream.updates_sent"),
            discontinuities: counter!("configstream.discontinuities"),
            dropped_updates: counter!("configstream.dropped_updates"),
            unwanted_snapshots: counter!("configstream.unwanted_snapshots"),
            refused_handshakes: counter!("configstream.refused_handshakes"),
            refused_connections: counter!("configstream.refused_connections"),
        }
    }
}

/// Handles to one consumer's metrics, which the label `consumer` tells from those of others in the process.
pub(crate) struct ConsumerTelemetry {
    pub(crate) time_to_first_snapshot: Histogram,
    pub(crate) reconnect_count: Counter,
    pub(crate) last_sequence_id: Gauge,
    pub(crate) dropped_stale_updates: Counter,
}

impl ConsumerTelemetry {
    pub(crate) fn new(consumer: &str) -> Self {
        describe_histogram!(
            "configstream_consumer.time_to_first_snapshot_seconds",
            Unit::Seconds,
            "from the first call of an attempt to its snapshot"
        );
        describe_counter!(
            "configstream_consumer.reconnect_count",
            "streams, and attempts at one, that ended"
        );
        describe_gauge!(
            "configstream_consumer.last_sequence_id",
            "the sequence of the last event taken"
        );
        describe_counter!(
            "configstream_consumer.dropped_stale_updates",
            "events refused for a sequence that had been reached before"
        );
        let labels = [("consumer", consumer.to_owned())];
        Self {
            time_to_first_snapshot: histogram!(
                "configstream_consumer.time_to_first_snapshot_seconds",
                &labels
            ),
            reconnect_count: counter!("configstream_consumer.reconnect_count", &labels),
            last_sequence_id: gauge!("configstream_consumer.last_sequence_id", &labels),
            dropped_stale_updates: counter!("configstream_consumer.dropped_stale_updates", &labels),
        }
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}
