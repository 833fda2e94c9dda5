//! What does an update cost in all, from the publisher to the last subscriber? Nanoseconds for a burst of 64 to all.
//!
//! `publish_and_receive/<implementation>/<subscribers>`: publishing it, and taking it out again at each, on the same thread.
//! What one more subscription costs is measured in pairs: see `paired.rs`.

use configstream_benches::{
    fan_out::{BURST, implementations},
    noop_loop,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn publish_and_receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish_and_receive");
    noop_loop(&mut group);
    for implementation in implementations() {
        for subscribers in [1, 64, 512] {
            let id = BenchmarkId::new(implementation.name, subscribers);
            group.bench_function(id, |bencher| {
                let mut rig = (implementation.open)(subscribers);
                bencher.iter(|| {
                    rig.publish(BURST);
                    rig.drain(BURST);
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = publish_and_receive
}
criterion_main!(benches);
