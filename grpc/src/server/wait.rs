//! Has everyone got it?
//!
//! # Contract
//! * Waits for every stream that is open, those which join meanwhile included: they start with a snapshot that is no older
//!   than what was published when they came. Streams that end or leave are waited for no longer.
//! * A stream has got what was handed to its transport, wholly: see [`Progress`](crate::server::progress).
//! * Nothing polls: streams notify whoever waits for them.

use std::time::Duration;

use tokio::time::timeout;

use crate::server::progress::Position;
use crate::server::registry::Registry;
use crate::server::session::AgentReport;
use crate::status::Refusal;

/// Who has got a position.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Streams that have it.
    pub(crate) passed: usize,
    /// Agents with the streams that do not.
    pub(crate) behind: Vec<AgentReport>,
}

/// Waits for all streams of `registry` to pass `position`, at most `limit`.
pub(crate) async fn for_streams(
    registry: &Registry,
    position: Position,
    limit: Duration,
) -> Result<Verdict, Refusal> {
    let everybody = async {
        loop {
            let behind = registry.behind(position);
            if behind.is_empty() {
                return;
            }
            for stream in behind {
                stream.progress.until(position).await;
            }
        }
    };
    // Whom there was no time for stands in the verdict.
    let _ = timeout(limit, everybody).await;
    registry.check_open()?;
    Ok(Verdict {
        behind: registry.report_behind(position),
        passed: registry.count_passed(position),
    })
}
