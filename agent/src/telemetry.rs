//! Metrics as Prometheus text. `.` in a name is written as `_`.
//!
//! The names of the stream belong to the server; those of the agent itself are
//!
//! | metric | type | meaning |
//! | --- | --- | --- |
//! | `configstream_settings` | gauge | settings that win now |
//! | `configstream_sequence_id` | gauge | the newest sequence |
//! | `configstream_epoch` | gauge | the epoch it counts in |
//! | `configstream_resolver_queue` | gauge | changes that wait for the resolver |
//! | `configstream_persisted_changes` | gauge | changes at run time that the next start brings back |
//! | `configstream_resolver_queue_full_total` | counter | changes refused because too many waited |
//! | `configstream_sequence_save_errors_total` | counter | failures to reserve sequences on disk |
//! | `configstream_persist_errors_total` | counter | failures to write the changes that persist |
//! | `configstream_file_reloads_total` | counter | times the configuration files took effect, the start included |
//! | `configstream_file_reload_errors_total` | counter | times they could not |
//! | `configstream_file_healthy` | gauge | 1 if the newest content of the files is in force, else 0 |
//! | `configstream_log_lines_dropped_total` | counter | lines of the log that nothing took, or that could not be written |
//! | `configstream_run_directory_healthy` | gauge | 1 if the run directory is still this agent's, else 0 |
//! | `configstream_credentials_healthy` | gauge | 1 if the certificate and the token that are on disk are in force, else 0 |
//! | `configstream_refused_settings` | gauge | settings of the agent itself that are not as they have to be |

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::exit::{Exit, Failure};

/// Installs the recorder that all metrics of this process go to, and makes the agent's own metrics appear from the
/// start. Installing again gives the same one.
///
/// # Errors
///
/// Another recorder was installed before.
pub fn install() -> Result<PrometheusHandle, Failure> {
    static INSTALLED: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| error.to_string())
    });
    let handle = installed.clone().map_err(|why| {
        Failure::new(
            Exit::Failed,
            "cannot collect metrics",
            why,
            "install no other recorder in this process",
        )
    })?;
    describe();
    Ok(handle)
}

fn describe() {
    for (name, meaning) in GAUGES {
        describe_gauge!(name, meaning);
        metrics::gauge!(name).increment(0.0);
    }
    for (name, meaning) in COUNTERS {
        describe_counter!(name, meaning);
        metrics::counter!(name).increment(0);
    }
}

const GAUGES: [(&str, &str); 9] = [
    ("configstream_settings", "settings that win now"),
    ("configstream_sequence_id", "the newest sequence"),
    (
        "configstream_epoch",
        "the epoch that the sequence counts in",
    ),
    (
        "configstream_resolver_queue",
        "changes that wait for the resolver",
    ),
    (
        "configstream_persisted_changes",
        "changes at run time that the next start brings back",
    ),
    (
        "configstream_file_healthy",
        "1 if the newest content of the configuration files is in force, else 0",
    ),
    (
        "configstream_run_directory_healthy",
        "1 if the run directory is still this agent's, else 0: another agent has it, or it was removed",
    ),
    (
        "configstream_credentials_healthy",
        "1 if the certificate and the token that are on disk are in force, else 0",
    ),
    (
        "configstream_refused_settings",
        "settings of the agent itself that are not as they have to be, so that earlier values are in force",
    ),
];

/// Counted by the log itself, and brought up to date when metrics are read.
pub(crate) const LOG_LINES_DROPPED: &str = "configstream_log_lines_dropped_total";

const COUNTERS: [(&str, &str); 6] = [
    (
        LOG_LINES_DROPPED,
        "lines of the log that were dropped, since it was not read or could not be written",
    ),
    (
        "configstream_resolver_queue_full_total",
        "changes refused because too many waited",
    ),
    (
        "configstream_sequence_save_errors_total",
        "failures to reserve sequences on disk",
    ),
    (
        "configstream_persist_errors_total",
        "failures to write the changes that persist",
    ),
    (
        "configstream_file_reloads_total",
        "times the configuration files took effect, the start included",
    ),
    (
        "configstream_file_reload_errors_total",
        "times the configuration files could not take effect",
    ),
];
