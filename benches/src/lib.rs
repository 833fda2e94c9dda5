//! What the benches share: one workload for us and for every peer.
//!
//! Figures are quoted per subscription and update, on a trivial state, with one batch per round; see DESIGN, "Numbers".

#![forbid(unsafe_code)]

pub mod fan_out;
pub mod settings;
pub mod tick;
pub mod wire;
