//! What does it cost to hand updates to many? Nanoseconds for a burst to all.
//!
//! `fan_out/<implementation>/<subscribers>`: publishing a burst of 64; `burst/…/<updates>`: publishing to 64 subscribers,
//! `burst_to_512/…`: to 512. Bursts of 1, 10 and 100 at these two numbers only: between them, cost grows in proportion to either, as
//! `fan_out/…` shows for subscribers and the three bursts for updates, and each further number of subscribers takes forty
//! seconds of a full run. What one more subscription costs is measured in pairs: see `paired.rs`.

use std::time::{Duration, Instant};

use configstream_benches::{
    fan_out::{BURST, Implementation, SUBSCRIBERS, implementations},
    noop_clock,
};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime,
};

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    noop_clock(&mut group);
    for implementation in implementations() {
        for subscribers in SUBSCRIBERS {
            publish(&mut group, implementation, subscribers, BURST, subscribers);
        }
    }
    group.finish();

    for (name, subscribers) in [("burst", 64), ("burst_to_512", 512)] {
        let mut group = criterion.benchmark_group(name);
        noop_clock(&mut group);
        for implementation in implementations() {
            for burst in [1, 10, 100] {
                publish(&mut group, implementation, subscribers, burst, burst);
            }
        }
        group.finish();
    }
}

fn publish(
    group: &mut BenchmarkGroup<'_, WallTime>,
    implementation: Implementation,
    subscribers: usize,
    burst: usize,
    parameter: usize,
) {
    let id = BenchmarkId::new(implementation.name, parameter);
    group.bench_function(id, |bencher| {
        let mut rig = (implementation.open)(subscribers);
        bencher.iter_custom(|rounds| {
            let mut publishing = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                rig.publish(burst);
                publishing += start.elapsed();
                rig.drain(burst);
            }
            publishing
        });
    });
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = fan_out
}
criterion_main!(benches);
