//! How much may be read for one purpose: all files of a reload together, all `--set` of a start,
//! one batch of changes.

use super::Problem;

/// How many nodes all that is read for one purpose may have, with every alias written out.
pub const MAX_NODES: u64 = 500_000;

/// How many bytes its texts and keys may have, with every alias written out, and each key with its
/// section.
pub const MAX_TEXT_BYTES: u64 = 16 * 1024 * 1024;

/// What is left to be read for one purpose. It is spent before memory is taken, so it bounds
/// memory, too.
#[derive(Clone, Debug)]
pub struct Budget {
    nodes: u64,
    text_bytes: u64,
}

impl Default for Budget {
    /// [`MAX_NODES`] and [`MAX_TEXT_BYTES`].
    fn default() -> Self {
        Self {
            nodes: MAX_NODES,
            text_bytes: MAX_TEXT_BYTES,
        }
    }
}

impl Budget {
    /// Takes this much of it.
    pub(super) fn spend(&mut self, nodes: u64, text_bytes: u64) -> Result<(), Problem> {
        let left = self.nodes.checked_sub(nodes);
        self.nodes = left.ok_or(Problem::TooManyNodes { limit: MAX_NODES })?;
        let left = self.text_bytes.checked_sub(text_bytes);
        self.text_bytes = left.ok_or(Problem::TooMuchText {
            limit_bytes: MAX_TEXT_BYTES,
        })?;
        Ok(())
    }
}
