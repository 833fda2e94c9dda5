//! What does it cost to publish one update when 512 tasks wait for it? Nanoseconds. `parked/<implementation>/publish`:
//! publishing alone, wake-ups included; `…/received`: until each task has it and waits again. One thread runs all.

use configstream_benches::{noop_clock, parked};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const TASKS: usize = 512;

fn parked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parked");
    noop_clock(&mut group);
    let implementations = [
        ("engine", parked::engine as fn(_, _) -> _),
        ("tokio_broadcast", parked::tokio_broadcast),
    ];
    for (name, run) in implementations {
        group.bench_function(BenchmarkId::new(name, "publish"), |bencher| {
            bencher.iter_custom(|rounds| run(TASKS, rounds).0);
        });
        group.bench_function(BenchmarkId::new(name, "received"), |bencher| {
            bencher.iter_custom(|rounds| run(TASKS, rounds).1);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = parked
}
criterion_main!(benches);
