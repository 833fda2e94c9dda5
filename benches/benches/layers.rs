//! What do layers cost? No subscription: `layers/engine/<change>_<settings>`, in nanoseconds a publish.
//!
//! `set`: in the winning layer; `shadowed`: hidden by a higher one; `unset`: reveals the layer below (each time after a
//! set that covers it, so a pair of publishes); `replace_same`: a file that is loaded again unchanged; `replace_one`: with
//! one setting changed.

use configstream_benches::{
    noop_loop,
    settings::{engine, key, layer, publish_in_turn, value},
};
use configstream_engine::settings::{Change, Source};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layers");
    noop_loop(&mut group);
    for size in [350, 3_500] {
        let nth = size / 2;
        let set = |source, round| Change::set(source, key(nth), value(nth, round));
        let replace = |round| Change::replace_layer(Source::File, layer(size, nth, round));
        let changes = [
            ("set", [set(Source::File, 1), set(Source::File, 2)]),
            (
                "shadowed",
                [set(Source::Default, 1), set(Source::Default, 2)],
            ),
            (
                "unset",
                [
                    set(Source::AgentRuntime, 1),
                    Change::unset(Source::AgentRuntime, key(nth)),
                ],
            ),
            ("replace_same", [replace(0), replace(0)]),
            ("replace_one", [replace(1), replace(2)]),
        ];
        for (name, changes) in changes {
            let engine = engine(size);
            group.bench_function(
                BenchmarkId::new("engine", format!("{name}_{size}")),
                |bencher| {
                    publish_in_turn(bencher, &engine, &changes);
                },
            );
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = configstream_benches::criterion();
    targets = layers
}
criterion_main!(benches);
