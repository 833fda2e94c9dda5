//! What does it cost to come and go, with others present? Nanoseconds. Ours takes its first snapshot too; a broadcast
//! has none to give.

use configstream_benches::{noop_loop, tick};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::sync::broadcast;

fn subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscribe");
    noop_loop(&mut group);
    for others in [0, 100, 10_000] {
        group.bench_function(BenchmarkId::new("engine", others), |bencher| {
            let engine = tick::engine(128);
            let _others: Vec<_> = (0..others).map(|_| engine.subscribe()).collect();
            bencher.iter(|| engine.subscribe().try_next().is_ok());
        });
        if cfg!(feature = "peers") {
            group.bench_function(BenchmarkId::new("tokio_broadcast", others), |bencher| {
                let sender = broadcast::Sender::<u64>::new(128);
                let _others: Vec<_> = (0..others).map(|_| sender.subscribe()).collect();
                bencher.iter(|| sender.subscribe().is_empty());
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = subscribe
}
criterion_main!(benches);
