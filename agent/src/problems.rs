//! What is wrong with a running agent although it serves: shared by the parts that find it and
//! those that show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use configstream_grpc::lock::RwLock;

/// What is wrong now, by the part of the agent that it is about.
#[derive(Clone, Debug, Default)]
pub struct Problems(Arc<RwLock<BTreeMap<&'static str, String>>>);

impl Problems {
    /// Sets what is wrong with a part, or that nothing is. Whether that is news.
    pub(crate) fn set(&self, part: &'static str, problem: Option<String>) -> bool {
        let mut problems = self.0.write();
        let before = match &problem {
            Some(problem) => problems.insert(part, problem.clone()),
            None => problems.remove(part),
        };
        before != problem
    }

    /// All that is wrong, each with the part that it is about.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let problems = self.0.read();
        let shown = problems
            .iter()
            .map(|(part, problem)| format!("{part}: {problem}"));
        shown.collect()
    }
}
