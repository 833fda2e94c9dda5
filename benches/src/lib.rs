//! What the benches share: one workload for us and for every peer, and the document that they measure into.
//!
//! Figures are quoted per subscription and update, on a trivial state, with one batch per round; see DESIGN, "Numbers".

#![deny(unsafe_code)]

pub mod compare;
pub mod contended;
pub mod fan_out;
#[allow(unsafe_code)] // written by hand, to be measured against
mod floor;
pub mod numbers;
pub mod pairs;
pub mod parked;
pub mod plots;
pub mod reach;
pub mod record;
pub mod report;
pub mod settings;
pub mod tick;
pub mod wire;

use std::{io, time::Duration};

use criterion::Criterion;

use crate::record::Part;

/// How long criterion looks at each entry: there are many, and what is compared closely is measured in pairs besides.
#[must_use]
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(500))
        .sample_size(30)
        .configure_from_args()
}

/// Whether this is a bench (`cargo bench`) and not a look whether it runs (`cargo smoke`).
#[must_use]
pub fn in_earnest() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Leaves a part for the record, unless this is only a look whether it runs.
///
/// # Errors
/// Why it could not be written.
pub fn keep(part: &Part, name: &str) -> io::Result<()> {
    if in_earnest() {
        part.save(name)
    } else {
        Ok(())
    }
}
