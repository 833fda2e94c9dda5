//! What do publishers that meet cost each other? `contended/<implementation>/<publishers>`: nanoseconds for one publish of
//! one update by anybody, nobody subscribed. Whether each gets on is measured in `paired.rs`.

use std::hint::black_box;

use configstream_benches::{contended::contend, fan_out::CAPACITY, tick};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::sync::broadcast;

fn contended(criterion: &mut Criterion) {
    let engine = tick::engine(CAPACITY);
    // With one receiver, which falls behind: without any, a send returns at once.
    let (sender, _receiver) = broadcast::channel(CAPACITY);
    let publish_ours = || assert!(engine.publish(&1).is_ok());
    let publish_theirs = || assert!(sender.send(std::sync::Arc::new(1_u64)).is_ok());
    let mut group = criterion.benchmark_group("contended");
    for publishers in [1, 2, 4] {
        group.bench_function(BenchmarkId::new("noop", publishers), |bencher| {
            let publish_nothing = || _ = black_box(1);
            bencher.iter_custom(|rounds| {
                contend(publishers, rounds, publish_nothing).time_for(rounds)
            });
        });
        group.bench_function(BenchmarkId::new("engine", publishers), |bencher| {
            bencher
                .iter_custom(|rounds| contend(publishers, rounds, publish_ours).time_for(rounds));
        });
        if cfg!(feature = "peers") {
            group.bench_function(BenchmarkId::new("tokio_broadcast", publishers), |bencher| {
                bencher.iter_custom(|rounds| {
                    contend(publishers, rounds, publish_theirs).time_for(rounds)
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = contended
}
criterion_main!(benches);
