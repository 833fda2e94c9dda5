//! How the engine works, for those who want to check it or to learn from it.
//!
//! * [`embedding`]: how to use it, from ten lines to a state of one's own.
//! * [`ordering`]: the argument for each race.
//! * [`limitations`]: what it does not do.
//! * [`performance`]: what each operation costs, and why.

#[doc = include_str!("../guides/embedding.md")]
pub mod embedding {}

pub mod limitations;
pub mod ordering;
pub mod performance;
