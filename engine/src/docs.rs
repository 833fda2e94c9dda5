//! How the engine works, for those who want to check it or to learn from it.
//!
//! * [`ordering`]: the argument for each race.
//! * [`limitations`]: what it does not do.
//! * [`performance`]: what each operation costs, and why.

pub mod limitations;
pub mod ordering;
pub mod performance;
