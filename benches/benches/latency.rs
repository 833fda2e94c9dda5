//! How long from publishing to having the update in hand, in another thread? Tails by hdrhistogram.
//!
//! Paced: each update has an intended start, and is timed from there, so that a stall counts for all that it delays.
//! Prints p50, p90, p99, p99.9 and max in nanoseconds. Without `--bench`, which `cargo bench` gives, a short round.

use std::{
    hint::spin_loop,
    thread,
    time::{Duration, Instant},
};

use configstream_benches::tick::engine;
use configstream_engine::{Event, Subscription};
use hdrhistogram::Histogram;

use configstream_benches::tick::Tick;

/// Between two updates: 20,000 a second.
const PACE: Duration = Duration::from_micros(50);

fn main() {
    let updates = if std::env::args().any(|arg| arg == "--bench") {
        40_000
    } else {
        200
    };
    println!("latency, {updates} updates, one every {PACE:?}, in ns");
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "p50", "p90", "p99", "p99.9", "max"
    );
    report("latency/engine/parked", updates, Subscription::next);
    report("latency/engine/spinning", updates, |subscription| {
        loop {
            match subscription.try_next() {
                Ok(event) => return Some(event),
                Err(configstream_engine::TryNextError::Closed) => return None,
                Err(_) => spin_loop(),
            }
        }
    });
}

fn report(
    name: &str,
    updates: u32,
    next: impl Fn(&mut Subscription<Tick>) -> Option<Event<Tick>> + Send + 'static,
) {
    let engine = engine(1024);
    let mut subscription = engine.subscribe();
    assert!(subscription.try_next().is_ok());
    let start = Instant::now() + Duration::from_millis(10);
    let receiving = thread::spawn(move || {
        // One minute at most, to three figures: fixed storage, so that recording does not allocate.
        let mut latencies =
            Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds in order");
        let mut received = 0;
        while let Some(event) = next(&mut subscription) {
            let now = Instant::now();
            if let Event::Update(_) = event {
                let intended = start + PACE * received;
                let latency = now.saturating_duration_since(intended).as_nanos();
                latencies.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
                received += 1;
            }
        }
        (latencies, received)
    });
    for update in 0..updates {
        let intended = start + PACE * update;
        while Instant::now() < intended {
            spin_loop();
        }
        assert!(engine.publish(&1).is_ok());
    }
    drop(engine);
    let (latencies, received) = receiving.join().expect("the receiver does not panic");
    println!(
        "{name:<28} {:>9} {:>9} {:>9} {:>9} {:>9}   {received} received as updates",
        latencies.value_at_quantile(0.5),
        latencies.value_at_quantile(0.9),
        latencies.value_at_quantile(0.99),
        latencies.value_at_quantile(0.999),
        latencies.max(),
    );
}
