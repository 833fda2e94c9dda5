//! What does it cost to hand one update to one more subscriber? `fan_out/<implementation>/<subscribers>`: publishing
//! alone, a burst of 64; `publish_and_receive/…`: with taking it out again, on the same thread.
//!
//! Per subscription and update: (T(n) - T(0)) / (n × 64).

use std::time::{Duration, Instant};

use configstream_benches::fan_out::{CrossbeamChannel, FanOut, Ours};
#[cfg(feature = "peers")]
use configstream_benches::fan_out::{Rtrb, TokioBroadcast};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BURST: usize = 64;
const SUBSCRIBERS: [usize; 5] = [0, 1, 8, 64, 512];

fn implementation<F: FanOut>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for subscribers in SUBSCRIBERS {
        group.throughput(Throughput::Elements((subscribers.max(1) * BURST) as u64));
        group.bench_function(BenchmarkId::new(F::NAME, subscribers), |bencher| {
            let mut fan_out = F::new(subscribers);
            bencher.iter_custom(|rounds| {
                let mut publishing = Duration::ZERO;
                for _ in 0..rounds {
                    let start = Instant::now();
                    fan_out.publish(BURST);
                    publishing += start.elapsed();
                    assert_eq!(fan_out.drain(), (subscribers * BURST) as u64);
                }
                publishing
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("publish_and_receive");
    for subscribers in [1, 64] {
        group.throughput(Throughput::Elements((subscribers * BURST) as u64));
        group.bench_function(BenchmarkId::new(F::NAME, subscribers), |bencher| {
            let mut fan_out = F::new(subscribers);
            bencher.iter(|| {
                fan_out.publish(BURST);
                fan_out.drain()
            });
        });
    }
    group.finish();
}

fn fan_out(criterion: &mut Criterion) {
    implementation::<Ours>(criterion);
    implementation::<CrossbeamChannel>(criterion);
    #[cfg(feature = "peers")]
    {
        implementation::<Rtrb>(criterion);
        implementation::<TokioBroadcast>(criterion);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = fan_out
}
criterion_main!(benches);
