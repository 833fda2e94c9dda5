//! How the adapter works, for those who want to check it or to learn from it.
//!
//! * [`performance`]: what the server costs, where the time goes, and what was tried.

pub mod performance;
