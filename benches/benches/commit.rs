//! What does it cost to change one setting among many? No subscription: commit alone. `commit/set/<settings>`: another
//! value in the winning layer; `commit/shadowed/<settings>`: a write that a higher layer hides.

use std::time::Duration;

use configstream_benches::settings::{SIZES, engine, key, value};
use configstream_engine::settings::{Change, Source};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    for (name, source) in [("set", Source::File), ("shadowed", Source::Default)] {
        for size in SIZES {
            let engine = engine(size);
            let nth = size / 2;
            // Two values in turn, so that each is a change.
            let changes = [1, 2].map(|round| Change::set(source, key(nth), value(nth, round)));
            let mut turn = changes.iter().cycle();
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    let change = turn.next().expect("a cycle does not end");
                    engine.publish(change).is_ok()
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = commit
}
criterion_main!(benches);
