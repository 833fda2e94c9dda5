//! How long from the moment when an update was due to having it in hand, in another thread? Tails by hdrhistogram.
//!
//! `latency/<implementation>/<pace>-<receiver>[-100stalled]/<percentile>`, in nanoseconds. *Paced*: one every 50 µs, timed
//! from when it was due, so that a stall counts for all that it delays. *Unpaced*: one after the other, timed from the
//! publish. The receiver *spins*, is *parked* in the kernel, or is *async*: a task of a tokio runtime in its own thread.
//! *100stalled*: with so many other subscribers that never read. `missed/…`: the share of updates that were not received
//! as updates: a snapshot stood in for them, or a peer dropped them. `latency/noop/clock/…`: two looks at the clock, which are
//! in each of these, and in those over sockets. `latency_ratio/engine/…/p99`: with the stalled ones,
//! divided by without, in runs that took turns.

use std::{
    future::poll_fn,
    hint::spin_loop,
    io, thread,
    time::{Duration, Instant},
};

use configstream_benches::{
    end_with_parent, in_earnest, keep,
    pairs::ratios,
    record::{Figure, PERCENTILES, Part, Unit},
    tick::{self, Tick},
    times,
};
use configstream_engine::{Event, Subscription, TryNextError};
use hdrhistogram::Histogram;
use tokio::runtime::{self, Runtime};

/// Between two updates: 20,000 a second.
const PACE: Duration = Duration::from_micros(50);
const CAPACITY: usize = 1_024;
const STALLED: usize = 100;

/// How to publish, and how to wait for what was published.
struct Way {
    implementation: &'static str,
    receiver: &'static str,
    open: Box<dyn Fn(usize) -> (Publish, Receive)>,
    /// Whether it can have subscribers that never read without waiting for them, or sharing their fate.
    can_stall: bool,
}

/// Publishes the moment when this update was due, in nanoseconds since the start.
type Publish = Box<dyn FnMut(u64)>;

/// The next such moment; nothing when the publisher has gone.
type Receive = Box<dyn FnMut() -> Option<u64> + Send>;

struct Run {
    latencies: Histogram<u64>,
    missed: f64,
}

fn main() -> io::Result<()> {
    end_with_parent();
    // Many short runs: a stall of the machine's spoils one of them, and not their median.
    let repetitions = times(5, 45);
    let updates = if in_earnest() { 1_000 } else { 50 };
    let mut part = Part::default();
    println!("latency in ns; {repetitions} × {updates} updates, paced: one every {PACE:?}");
    let clock = (0..repetitions).map(|_| Run {
        latencies: looks_at_the_clock(updates),
        missed: 0.0,
    });
    add(&mut part, "noop/clock", clock.collect());
    for way in ways() {
        for (pace, every) in [("paced", Some(PACE)), ("unpaced", None)] {
            let name = format!("{}/{pace}-{}", way.implementation, way.receiver);
            let (mut without, mut with) = (Vec::new(), Vec::new());
            for _ in 0..repetitions {
                without.push(run((way.open)(0), every, updates));
                if way.can_stall {
                    with.push(run((way.open)(STALLED), every, updates));
                }
            }
            let calm = add(&mut part, &name, without);
            if way.can_stall {
                let name = format!("{name}-{STALLED}stalled");
                let ratios = ratios(&add(&mut part, &name, with), &calm).collect::<Vec<_>>();
                let id = format!("latency_ratio/{name}/p99");
                part.figures.push(Figure::new(id, Unit::Ratio, ratios));
            }
        }
    }
    keep(&part, "latency")
}

/// The p99 of each run.
fn add(part: &mut Part, name: &str, runs: Vec<Run>) -> Vec<f64> {
    let missed = runs.iter().map(|run| run.missed);
    let missed = Figure::new(format!("missed/{name}"), Unit::Ratio, missed);
    let latencies: Vec<_> = runs.into_iter().map(|run| run.latencies).collect();
    let first = part.figures.len();
    part.add_latency(&format!("latency/{name}"), &latencies);
    print!("{name:<40}");
    for (figure, (percentile, _)) in part.figures[first..].iter().zip(PERCENTILES) {
        print!(" {percentile} {:>9.0}", figure.median);
    }
    println!("   missed {:.4}", missed.median);
    part.figures.push(missed);
    latencies
        .iter()
        .map(|run| run.value_at_quantile(0.99) as f64)
        .collect()
}

fn run(
    (mut publish, mut receive): (Publish, Receive),
    pace: Option<Duration>,
    updates: u32,
) -> Run {
    let start = Instant::now() + Duration::from_millis(2);
    let since_start = move || nanoseconds_since(start);
    let receiving = thread::spawn(move || {
        let mut latencies = histogram();
        while let Some(due) = receive() {
            latencies.saturating_record(since_start().saturating_sub(due).max(1));
        }
        latencies
    });
    for update in 0..updates {
        let due = start + pace.map_or(Duration::ZERO, |pace| pace * update);
        while Instant::now() < due {
            spin_loop();
        }
        publish(match pace {
            Some(_) => u64::try_from((due - start).as_nanos()).unwrap_or(u64::MAX),
            None => since_start(),
        });
    }
    drop(publish);
    let latencies = receiving.join().expect("the receiver does not panic");
    // What came as a snapshot is in there as well: one event for all that it stood in for.
    let missed = 1.0 - latencies.len() as f64 / f64::from(updates);
    Run { latencies, missed }
}

/// As if each update were received as soon as it is due.
fn looks_at_the_clock(updates: u32) -> Histogram<u64> {
    let start = Instant::now();
    let mut latencies = histogram();
    for _ in 0..updates {
        let due = nanoseconds_since(start);
        latencies.saturating_record((nanoseconds_since(start) - due).max(1));
    }
    latencies
}

fn nanoseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// One minute at most, to three figures: fixed storage, so that recording does not allocate.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds in order")
}

fn ways() -> Vec<Way> {
    vec![
        engine("spinning", |mut subscription| {
            Box::new(move || {
                loop {
                    match subscription.try_next() {
                        Ok(event) => return Some(due(&event)),
                        Err(TryNextError::Closed) => return None,
                        Err(_) => spin_loop(),
                    }
                }
            })
        }),
        engine("parked", |mut subscription| {
            Box::new(move || subscription.next().as_ref().map(due))
        }),
        engine("async", |mut subscription| {
            let runtime = runtime();
            Box::new(move || {
                let next = poll_fn(|cx| subscription.poll_next(cx));
                runtime.block_on(next).as_ref().map(due)
            })
        }),
        #[cfg(feature = "peers")]
        tokio_broadcast(),
        #[cfg(feature = "peers")]
        crossbeam_channel("spinning", |receiver| {
            loop {
                match receiver.try_recv() {
                    Ok(due) => return Some(due),
                    Err(crossbeam_channel::TryRecvError::Disconnected) => return None,
                    Err(crossbeam_channel::TryRecvError::Empty) => spin_loop(),
                }
            }
        }),
        #[cfg(feature = "peers")]
        crossbeam_channel("parked", |receiver| receiver.recv().ok()),
    ]
}

fn engine(receiver: &'static str, wait: fn(Subscription<Tick>) -> Receive) -> Way {
    let open = move |stalled| {
        let engine = tick::engine(CAPACITY);
        let stalled: Vec<_> = (0..stalled).map(|_| engine.subscribe()).collect();
        let mut subscription = engine.subscribe();
        // The snapshot of before the start.
        assert!(subscription.try_next().is_ok());
        let publish = move |due| {
            assert!(engine.publish(&due).is_ok());
            std::hint::black_box(&stalled);
        };
        (Box::new(publish) as Publish, wait(subscription))
    };
    Way {
        implementation: "engine",
        receiver,
        open: Box::new(open),
        can_stall: true,
    }
}

fn due(event: &Event<Tick>) -> u64 {
    match event {
        Event::Snapshot(snapshot) => snapshot.state().0,
        Event::Update(update) => **update,
        _ => unreachable!("there are two kinds of events"),
    }
}

#[cfg(feature = "peers")]
fn tokio_broadcast() -> Way {
    use tokio::sync::broadcast::{channel, error::RecvError};
    let open = |_| {
        let (sender, mut receiver) = channel(CAPACITY);
        let runtime = runtime();
        let publish = move |due| assert!(sender.send(due).is_ok());
        let receive = move || {
            loop {
                match runtime.block_on(receiver.recv()) {
                    Ok(due) => return Some(due),
                    Err(RecvError::Closed) => return None,
                    Err(RecvError::Lagged(_)) => {}
                }
            }
        };
        (Box::new(publish) as Publish, Box::new(receive) as Receive)
    };
    Way {
        implementation: "tokio_broadcast",
        receiver: "async",
        open: Box::new(open),
        can_stall: false,
    }
}

#[cfg(feature = "peers")]
fn crossbeam_channel(
    receiver: &'static str,
    wait: fn(&crossbeam_channel::Receiver<u64>) -> Option<u64>,
) -> Way {
    let open = move |_| {
        let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
        // Full: that update is dropped, and missed.
        let publish = move |due| _ = sender.try_send(due);
        let receive = move || wait(&receiver);
        (Box::new(publish) as Publish, Box::new(receive) as Receive)
    };
    Way {
        implementation: "crossbeam_channel",
        receiver,
        open: Box::new(open),
        can_stall: false,
    }
}

fn runtime() -> Runtime {
    let runtime = runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers")
}
