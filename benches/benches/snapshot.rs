//! What does a snapshot cost? Nanoseconds, with so many settings.
//!
//! `snapshot/engine/hand_out_<settings>`: one that was encoded before, to one more stream; `…/first_…`: of a version in which one
//! setting is new, so that the others' encodings are concatenated; `…/cold_…`: of a version whose settings were never encoded.
//! `snapshot/naive/cold_…`: from generated types, which is as cold each time. `…/noop/batched`: what measuring costs where each
//! round is set up anew.

use std::hint::black_box;

use configstream_benches::{
    noop_loop,
    settings::{SIZES, engine, key, value},
};
use configstream_engine::settings::{Change, Source};
use configstream_grpc::internals::Frames;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};

fn snapshot(criterion: &mut Criterion) {
    let frames = Frames::of("core-agent");
    let mut group = criterion.benchmark_group("snapshot");
    noop_loop(&mut group);
    group.bench_function(BenchmarkId::new("noop", "batched"), |bencher| {
        bencher.iter_batched(|| (), |()| black_box(0), BatchSize::PerIteration);
    });
    for size in SIZES {
        let filled = engine(size);
        let head = || filled.read_head(|head| frames.snapshot(head)).is_some();
        assert!(head());
        group.bench_function(
            BenchmarkId::new("engine", format!("hand_out_{size}")),
            |bencher| bencher.iter(head),
        );

        let mut round = 0;
        group.bench_function(
            BenchmarkId::new("engine", format!("first_{size}")),
            |bencher| {
                bencher.iter_batched(
                    || {
                        round += 1;
                        let change = Change::set(Source::File, key(1), value(1, round));
                        assert!(filled.publish(&change).is_ok());
                    },
                    |()| head(),
                    BatchSize::PerIteration,
                );
            },
        );

        group.bench_function(
            BenchmarkId::new("naive", format!("cold_{size}")),
            |bencher| {
                bencher.iter(|| {
                    filled
                        .read_head(|head| frames.naive_snapshot(head))
                        .map(|bytes| bytes.len())
                });
            },
        );

        // Building what is measured takes long, of the largest too long for many samples.
        group.sample_size(if size <= 3_500 { 30 } else { 10 });
        group.bench_function(
            BenchmarkId::new("engine", format!("cold_{size}")),
            |bencher| {
                bencher.iter_batched_ref(
                    || engine(size),
                    |engine| engine.read_head(|head| frames.snapshot(head)).is_some(),
                    BatchSize::PerIteration,
                );
            },
        );
        group.sample_size(30);
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = snapshot
}
criterion_main!(benches);
