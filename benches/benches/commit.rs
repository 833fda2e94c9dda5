//! What does it cost to change one setting among many? No subscription: commit alone.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

fn commit(_criterion: &mut Criterion) {}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = commit
}
criterion_main!(benches);
