//! What does it cost to come and go? `subscribe/<implementation>/<others>`: nanoseconds for one more subscriber to come, take
//! what it is given at first, and leave, with so many others present. Ours takes its first snapshot, a watch its value; a
//! channel has nothing to give.
//!
//! Where each subscriber has a channel, it is the last in the publisher's list, which spares it the search for its place. A
//! bus is left out: it looks at who has left only when its ring is full, so that coming and going alone grows without bound.

use configstream_benches::{fan_out::implementations, noop_loop};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscribe");
    noop_loop(&mut group);
    let can_leave = implementations()
        .into_iter()
        .filter(|each| each.name != "bus");
    for implementation in can_leave {
        for others in [0, 100, 10_000] {
            let id = BenchmarkId::new(implementation.name, others);
            // Once, and not for each sample.
            let mut rig = (implementation.open)(others);
            group.bench_function(id, |bencher| bencher.iter(|| rig.come_and_go()));
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
