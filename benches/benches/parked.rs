//! What does it cost to publish one update to 512 subscriptions whose tasks wait for it? Nanoseconds.
//!
//! `parked/<implementation>/publish`: publishing alone, wake-ups included, to a task for each; `…/received`: until each has it
//! and waits again. `parked/engine/publish_to_sets` and `…/received_by_sets`: the same of eight tasks, each of which reads 64
//! subscriptions and waits for them at one `WaitSet`, as a connection does with its streams; a broadcast has no such thing.
//! One thread runs all. Of the peers, those that wake tasks: tokio's broadcast and async-broadcast. flume does so by a feature that
//! is off here (`fan_out/peers.rs`), a watch keeps one update, and the others wake threads at most.

use configstream_benches::{noop_clock, parked};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SUBSCRIPTIONS: usize = 512;

fn parked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parked");
    noop_clock(&mut group);
    let implementations = [
        (
            "engine",
            ["publish", "received"],
            parked::engine as fn(_, _) -> _,
        ),
        (
            "engine",
            ["publish_to_sets", "received_by_sets"],
            parked::engine_sets,
        ),
        (
            "tokio_broadcast",
            ["publish", "received"],
            parked::tokio_broadcast,
        ),
        #[cfg(feature = "peers")]
        (
            "async_broadcast",
            ["publish", "received"],
            parked::async_broadcast,
        ),
    ];
    for (name, [publish, received], run) in implementations {
        group.bench_function(BenchmarkId::new(name, publish), |bencher| {
            bencher.iter_custom(|rounds| run(SUBSCRIPTIONS, rounds).0);
        });
        group.bench_function(BenchmarkId::new(name, received), |bencher| {
            bencher.iter_custom(|rounds| run(SUBSCRIPTIONS, rounds).1);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = parked
}
criterion_main!(benches);
