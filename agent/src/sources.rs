//! Where settings come from while an agent runs, and how each source is doing.

pub mod file;

use std::sync::Arc;
use std::time::SystemTime;

use configstream_grpc::lock::RwLock;

/// How one source is doing, for people: shared by who feeds it and who shows it.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    shared: Arc<RwLock<SourceState>>,
}

/// A copy of what a [`SourceReport`] says.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SourceState {
    /// How many settings its layer holds.
    pub settings: usize,
    /// Why its newest content is not in force; empty if it is.
    pub error: String,
    /// Since when that is so.
    pub failing_since: Option<SystemTime>,
    /// When it last took effect.
    pub loaded: Option<SystemTime>,
    /// How often it took effect, the start included.
    pub loads: u64,
    /// How often it could not.
    pub failures: u64,
    /// When it could not the last time, and why, even if it could since.
    pub last_failure: Option<(SystemTime, String)>,
}

impl SourceReport {
    /// What it says now.
    #[must_use]
    pub fn state(&self) -> SourceState {
        self.shared.read().clone()
    }

    /// Its content is in force.
    pub(crate) fn good(&self, settings: usize) {
        let mut state = self.shared.write();
        state.settings = settings;
        state.error.clear();
        state.failing_since = None;
        state.loaded = Some(SystemTime::now());
        state.loads += 1;
    }

    /// Its newest content is not in force.
    pub(crate) fn bad(&self, error: String) {
        let now = SystemTime::now();
        let mut state = self.shared.write();
        state.last_failure = Some((now, error.clone()));
        state.error = error;
        state.failing_since.get_or_insert(now);
        state.failures += 1;
    }
}
