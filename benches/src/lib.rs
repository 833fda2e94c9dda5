//! What the benches share: one workload for us and for every peer, and the document that they measure into.
//!
//! # Running
//! * `cargo bench -p configstream-benches --features peers`: the engine and its peers; under five minutes. `--bench head` is
//!   one question, a file of `benches/benches`, which says what its identifiers mean. Figures end up in `target/measured`;
//!   remove it to begin anew.
//! * `cargo run --release -p configstream-benches --bin load -- all --json` measures the gRPC server: see [`wire`].
//! * `cargo record FILE` makes one JSON document of them: see [`record`].
//! * `cargo full`: all of this, and the document; interrupted, it goes on where it was: see [`full`](mod@full).
//! * `cargo reach FILE` prints what was asked of engine and server, and what that run saw.
//! * `cargo compare FILE… FILE` says what moved in the last one, beyond the noise of those before; exit status 1 when
//!   something got worse.
//! * `cargo draw` writes a page of HTML, and the table in README, from `benches/results.json`, which is a record.
//! * `cargo bench -p configstream-benches --bench instructions` compares instruction counts with
//!   `benches/instructions.json`.
//! * `cargo smoke` runs each bench for a moment, to see that it works.

#![deny(unsafe_code)]

pub mod baseline;
pub mod compare;
pub mod contended;
pub mod fan_out;
#[allow(unsafe_code)] // written by hand, to be measured against
mod floor;
pub mod full;
pub mod numbers;
pub mod pairs;
pub mod parked;
pub mod plots;
pub mod reach;
pub mod record;
pub mod report;
pub mod settings;
pub mod tick;
pub mod wins;
pub mod wire;

use std::{
    env,
    hint::black_box,
    io,
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, measurement::WallTime};
use nix::sys::{prctl, signal::Signal};

use crate::record::Part;

/// How long criterion looks at each entry: there are over two hundred, which together have to take less than five minutes, and
/// what is compared closely is measured in pairs besides. `cargo full` takes longer.
#[must_use]
pub fn criterion() -> Criterion {
    end_with_parent();
    Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .sample_size(30)
        // What it estimates from resamples is printed and not recorded.
        .nresamples(10_000)
        .configure_from_args()
}

/// What measuring costs where the whole loop is timed: `…/noop/loop`.
pub fn noop_loop(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.bench_function(BenchmarkId::new("noop", "loop"), |bencher| {
        bencher.iter(|| black_box(0));
    });
}

/// What measuring costs where each round is timed by itself, two looks at the clock: `…/noop/clock`.
pub fn noop_clock(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.bench_function(BenchmarkId::new("noop", "clock"), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut nothing = Duration::ZERO;
            for _ in 0..rounds {
                nothing += Instant::now().elapsed();
            }
            nothing
        });
    });
}

/// Lets the kernel end this process when its parent ends, if that asks for it: what is left of a run that was killed would
/// disturb the next.
pub fn end_with_parent() {
    if env::var_os(END_WITH_PARENT).is_some() {
        // Without it, the next run waits until this process is done.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    }
}

/// How a parent asks for it.
const END_WITH_PARENT: &str = "CONFIGSTREAM_END_WITH_PARENT";

/// Whether this is a bench (`cargo bench`) and not a look whether it runs (`cargo smoke`).
#[must_use]
pub fn in_earnest() -> bool {
    env::args().any(|argument| argument == "--bench")
}

/// How often to measure: just once for a look whether it runs, seldom with `--quick`, by default, or with
/// `--thoroughly`.
#[must_use]
pub fn times(quick: usize, default: usize, thoroughly: usize) -> usize {
    let is_told = |option: &str| env::args().any(|argument| argument == option);
    match in_earnest() {
        false => 1,
        true if is_told("--quick") => quick,
        true if is_told(THOROUGHLY) => thoroughly,
        true => default,
    }
}

/// How the full run tells a bench of ours to take its time.
const THOROUGHLY: &str = "--thoroughly";

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
