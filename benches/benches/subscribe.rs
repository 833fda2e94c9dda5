//! What does it cost to come and go, with others present? Subscribe, take the first snapshot, unsubscribe.

use std::time::Duration;

use configstream_benches::tick::engine;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscribe");
    for others in [0, 100, 10_000] {
        group.bench_function(BenchmarkId::new("engine", others), |bencher| {
            let engine = engine(128);
            let _others: Vec<_> = (0..others).map(|_| engine.subscribe()).collect();
            bencher.iter(|| engine.subscribe().try_next().is_ok());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = subscribe
}
criterion_main!(benches);
