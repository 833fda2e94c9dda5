//! What goes through one subscription? `ring/<implementation>/one_thread`: a burst of 64 in and out in the same thread;
//! `…/two_threads`: bursts of 64 to a thread that spins. Nanoseconds for a burst.

use configstream_benches::{
    fan_out::{BURST, implementations},
    noop_loop,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    noop_loop(&mut group);
    for implementation in implementations() {
        let name = implementation.name;
        group.bench_function(BenchmarkId::new(name, "one_thread"), |bencher| {
            let mut rig = (implementation.open)(1);
            bencher.iter(|| {
                rig.publish(BURST);
                rig.drain(BURST);
            });
        });
        group.bench_function(BenchmarkId::new(name, "two_threads"), |bencher| {
            bencher.iter_custom(implementation.two_threads);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = ring
}
criterion_main!(benches);
