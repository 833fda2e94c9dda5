//! What does it cost to change one setting among many? No subscription: commit alone. `commit/engine/<settings>`, in
//! nanoseconds. What other changes cost is in `layers.rs`.

use configstream_benches::{
    noop_loop,
    settings::{SIZES, engine, key, publish_in_turn, value},
};
use configstream_engine::settings::{Change, Source};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    noop_loop(&mut group);
    for size in SIZES {
        let engine = engine(size);
        let nth = size / 2;
        let changes = [1, 2].map(|round| Change::set(Source::File, key(nth), value(nth, round)));
        group.bench_function(BenchmarkId::new("engine", size), |bencher| {
            publish_in_turn(bencher, &engine, &changes);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = commit
}
criterion_main!(benches);
