//! What does it cost to read the newest version? Nanoseconds, borrowed and owned, beside the bare cell, and the two ways
//! of `tokio::sync::watch`.

use std::{hint::black_box, sync::Arc};

use arc_swap::ArcSwap;
use configstream_benches::{noop_loop, tick, tick::Tick};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    noop_loop(&mut group);

    let engine = tick::engine(128);
    group.bench_function(BenchmarkId::new("engine", "borrowed"), |bencher| {
        bencher.iter(|| engine.read_head(|head| black_box(head.state().0)));
    });
    group.bench_function(BenchmarkId::new("engine", "owned"), |bencher| {
        bencher.iter(|| black_box(engine.head()).state().0);
    });

    let cell = ArcSwap::from_pointee(Tick(0));
    group.bench_function(BenchmarkId::new("arc_swap", "borrowed"), |bencher| {
        bencher.iter(|| black_box(cell.load().0));
    });
    group.bench_function(BenchmarkId::new("arc_swap", "owned"), |bencher| {
        bencher.iter(|| black_box(cell.load_full()).0);
    });

    if cfg!(feature = "peers") {
        let (_sender, receiver) = tokio::sync::watch::channel(Arc::new(Tick(0)));
        group.bench_function(BenchmarkId::new("tokio_watch", "borrowed"), |bencher| {
            bencher.iter(|| black_box(receiver.borrow().0));
        });
        group.bench_function(BenchmarkId::new("tokio_watch", "owned"), |bencher| {
            bencher.iter(|| black_box(receiver.borrow().clone()).0);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = head
}
criterion_main!(benches);
