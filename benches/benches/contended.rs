//! What do publishers that meet cost each other? `contended/<implementation>/<publishers>`: nanoseconds for one publish of
//! one update by anybody, nobody subscribed. Whether each gets on is measured in `paired.rs`.

use std::hint::black_box;

use configstream_benches::contended::{Shared, contend, implementations};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn contended(criterion: &mut Criterion) {
    let implementations = implementations();
    let mut group = criterion.benchmark_group("contended");
    for publishers in [1, 2, 4] {
        group.bench_function(BenchmarkId::new("noop", publishers), |bencher| {
            let publish_nothing = || _ = black_box(1);
            bencher.iter_custom(|rounds| {
                contend(publishers, rounds, publish_nothing).time_for(rounds)
            });
        });
        for Shared { name, publish } in &implementations {
            group.bench_function(BenchmarkId::new(*name, publishers), |bencher| {
                bencher.iter_custom(|rounds| contend(publishers, rounds, publish).time_for(rounds));
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
