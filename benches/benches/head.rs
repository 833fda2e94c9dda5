//! What does it cost to read the newest version? Borrowed, owned, and as a subscription's first snapshot.

use std::{hint::black_box, time::Duration};

use configstream_benches::tick::engine;
use criterion::{Criterion, criterion_group, criterion_main};

fn head(criterion: &mut Criterion) {
    let engine = engine(128);
    let mut group = criterion.benchmark_group("head");
    group.bench_function("borrowed", |bencher| {
        bencher.iter(|| engine.read_head(|head| black_box(head.state().0)));
    });
    group.bench_function("owned", |bencher| {
        bencher.iter(|| black_box(engine.head()).state().0);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = head
}
criterion_main!(benches);
