//! How long from the moment when an update was due to having it in hand, in another thread? Tails by hdrhistogram.
//!
//! `latency/<implementation>/<pace>-<receiver>[-100stalled]/<percentile>`, in nanoseconds. *Paced*: one every 50 µs, timed
//! from when it was due, so that a stall counts for all that it delays. *Unpaced*: one after the other, timed from the
//! publish: who publishes faster than is received has the longer queue. The receiver *spins*, is *parked* in the kernel, or is
//! *async*: a future that a tokio runtime drives in a thread of its own. *100stalled*: with so many other subscribers that
//! never read: channels that are full and refuse, receivers of a shared ring that lag. `missed/…`: the share of updates that were not received
//! as updates: a snapshot stood in for them, or a peer dropped them. `latency/noop/clock/…`: two looks at the clock, which are
//! in each of these, and in those over sockets. `latency_ratio/…/p99`: with the stalled ones,
//! divided by without, in runs that took turns. All implementations take turns, with and without stalled subscribers, so that what
//! the machine does meanwhile happens to all.
//!
//! Not here: the floor, which can neither wait nor be overrun, so that a reader which was preempted would end it; bus, at which
//! nothing is delivered to anybody beside one reader that stalls; tokio's watch, since what it skips, by design, has no latency;
//! and async receivers of flume, a feature that is off here (`fan_out/peers.rs`).

use std::{
    future::poll_fn,
    hint::{black_box, spin_loop},
    io, thread,
    time::{Duration, Instant},
};

use configstream_benches::{
    end_with_parent, in_earnest, keep,
    pairs::{Measure, in_turn, ratios},
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
    /// With so many other subscribers, which never read.
    open: Box<dyn Fn(usize) -> (Publish, Receive)>,
}

/// Publishes the moment when this update was due, in nanoseconds since the start.
type Publish = Box<dyn FnMut(u64)>;

/// Receives until the publisher has gone, and tells of each update when it was due.
type Receive = Box<dyn FnOnce(&mut dyn FnMut(u64)) + Send>;

struct Run {
    latencies: Histogram<u64>,
    missed: f64,
}

fn main() -> io::Result<()> {
    end_with_parent();
    // Many short runs: a stall of the machine's spoils one of them, and not their median.
    let repetitions = times(5, 21, 45);
    let updates = if in_earnest() { 1_000 } else { 50 };
    let mut part = Part::default();
    println!(
        "latency, median and spread; {repetitions} × {updates} updates, paced: one every {PACE:?}"
    );
    let clock = (0..repetitions).map(|_| Run {
        latencies: looks_at_the_clock(updates),
        missed: 0.0,
    });
    add(&mut part, "noop/clock", clock.collect());
    let ways = ways();
    for (pace, every) in [("paced", Some(PACE)), ("unpaced", None)] {
        let mut measures = Vec::new();
        for way in &ways {
            for stalled in [0, STALLED] {
                let measure = move || run((way.open)(stalled), every, updates);
                measures.push(Box::new(measure) as Measure<'_, Run>);
            }
        }
        let mut samples = in_turn(repetitions, &mut measures).into_iter();
        for way in &ways {
            let (Some(without), Some(with)) = (samples.next(), samples.next()) else {
                unreachable!("two of each way");
            };
            let name = format!("{}/{pace}-{}", way.implementation, way.receiver);
            let calm = add(&mut part, &name, without);
            let name = format!("{name}-{STALLED}stalled");
            let ratios = ratios(&add(&mut part, &name, with), &calm).collect::<Vec<_>>();
            let id = format!("latency_ratio/{name}/p99");
            part.figures.push(Figure::new(id, Unit::Ratio, ratios));
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
        print!("  {percentile} {}", figure.show());
    }
    println!("  missed {:.4}", missed.median);
    part.figures.push(missed);
    latencies
        .iter()
        .map(|run| run.value_at_quantile(0.99) as f64)
        .collect()
}

fn run((mut publish, receive): (Publish, Receive), pace: Option<Duration>, updates: u32) -> Run {
    let start = Instant::now() + Duration::from_millis(2);
    let since_start = move || nanoseconds_since(start);
    let receiving = thread::spawn(move || {
        let mut latencies = histogram();
        receive(&mut |due| {
            latencies.saturating_record(since_start().saturating_sub(due).max(1));
        });
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
    let mut ways = vec![
        engine("spinning", |mut subscription, take| {
            loop {
                match subscription.try_next() {
                    Ok(event) => take(due(&event)),
                    Err(TryNextError::Closed) => return,
                    Err(_) => spin_loop(),
                }
            }
        }),
        engine("parked", |mut subscription, take| {
            while let Some(event) = subscription.next() {
                take(due(&event));
            }
        }),
        engine("async", |mut subscription, take| {
            runtime().block_on(async {
                while let Some(event) = poll_fn(|cx| subscription.poll_next(cx)).await {
                    take(due(&event));
                }
            });
        }),
    ];
    ways.extend(peers::ways());
    ways
}

fn engine(receiver: &'static str, receive: fn(Subscription<Tick>, &mut dyn FnMut(u64))) -> Way {
    way("engine", receiver, move |stalled| {
        let engine = tick::engine(CAPACITY);
        let stalled: Vec<_> = (0..stalled).map(|_| engine.subscribe()).collect();
        let mut subscription = engine.subscribe();
        // The snapshot of before the start.
        assert!(subscription.try_next().is_ok());
        let publish = move |due| {
            assert!(engine.publish(&due).is_ok());
            black_box(&stalled);
        };
        let receive = move |take: &mut dyn FnMut(u64)| receive(subscription, take);
        (Box::new(publish), Box::new(receive))
    })
}

fn due(event: &Event<Tick>) -> u64 {
    match event {
        Event::Snapshot(snapshot) => snapshot.state().0,
        Event::Update(update) => **update,
        _ => unreachable!("there are two kinds of events"),
    }
}

fn way(
    implementation: &'static str,
    receiver: &'static str,
    open: impl Fn(usize) -> (Publish, Receive) + 'static,
) -> Way {
    Way {
        implementation,
        receiver,
        open: Box::new(open),
    }
}

fn runtime() -> Runtime {
    let runtime = runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers")
}

/// Used as `fan_out/peers.rs` says. A number travels and no pointer: it is the wait that is measured. Stalled receivers have
/// fallen behind before the start and stand before the one that reads in the publisher's list, as ours do.
#[cfg(feature = "peers")]
mod peers {
    use super::{CAPACITY, Publish, Receive, Way, black_box, runtime, spin_loop, way};

    pub(super) fn ways() -> Vec<Way> {
        let mut ways = vec![tokio_broadcast(), async_broadcast(), rtrb()];
        ways.extend(crossbeam_channel());
        ways.extend(flume());
        ways
    }

    fn tokio_broadcast() -> Way {
        use tokio::sync::broadcast::{channel, error::RecvError};
        way("tokio_broadcast", "async", |stalled| {
            let (sender, first) = channel(CAPACITY);
            let stalled: Vec<_> = (0..stalled).map(|_| sender.subscribe()).collect();
            (0..=CAPACITY).for_each(|_| assert!(sender.send(0).is_ok()));
            let mut receiver = sender.subscribe();
            drop(first);
            let publish = move |due| {
                assert!(sender.send(due).is_ok());
                black_box(&stalled);
            };
            let receive = move |take: &mut dyn FnMut(u64)| {
                runtime().block_on(async {
                    loop {
                        match receiver.recv().await {
                            Ok(due) => take(due),
                            Err(RecvError::Lagged(_)) => {}
                            Err(RecvError::Closed) => return,
                        }
                    }
                });
            };
            (Box::new(publish), Box::new(receive))
        })
    }

    fn async_broadcast() -> Way {
        use async_broadcast::{RecvError, broadcast};
        way("async_broadcast", "async", |stalled| {
            let (mut sender, first) = broadcast(CAPACITY);
            // Else the first stalled receiver would hold up everybody.
            sender.set_overflow(true);
            let stalled: Vec<_> = (0..stalled).map(|_| sender.new_receiver()).collect();
            (0..=CAPACITY).for_each(|_| assert!(sender.try_broadcast(0).is_ok()));
            let mut receiver = sender.new_receiver();
            drop(first);
            let publish = move |due| {
                assert!(sender.try_broadcast(due).is_ok());
                black_box(&stalled);
            };
            let receive = move |take: &mut dyn FnMut(u64)| {
                runtime().block_on(async {
                    loop {
                        match receiver.recv_direct().await {
                            Ok(due) => take(due),
                            Err(RecvError::Overflowed(_)) => {}
                            Err(RecvError::Closed) => return,
                        }
                    }
                });
            };
            (Box::new(publish), Box::new(receive))
        })
    }

    fn rtrb() -> Way {
        way("rtrb", "spinning", |stalled| {
            let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
            let stalled = (0..stalled).map(|_| rtrb::RingBuffer::new(CAPACITY));
            let (mut others, consumers): (Vec<_>, Vec<_>) = stalled.unzip();
            for other in &mut others {
                while other.push(0).is_ok() {}
            }
            let publish = move |due| {
                for other in &mut others {
                    // Full: that update is dropped, and missed; so below.
                    let _ = other.push(due);
                }
                let _ = producer.push(due);
                black_box(&consumers);
            };
            let receive = move |take: &mut dyn FnMut(u64)| {
                loop {
                    match consumer.pop() {
                        Ok(due) => take(due),
                        // Asked again after it has gone, since it may have pushed in between.
                        Err(_) if consumer.is_abandoned() => match consumer.pop() {
                            Ok(due) => take(due),
                            Err(_) => return,
                        },
                        Err(_) => spin_loop(),
                    }
                }
            };
            (Box::new(publish), Box::new(receive))
        })
    }

    /// A channel of crossbeam's kind: how its reader spins, and how it sleeps.
    macro_rules! channel {
        ($channel:ident, $name:literal) => {
            fn $channel() -> [Way; 2] {
                use $channel::{Receiver, TryRecvError, bounded};
                type Take<'a> = &'a mut dyn FnMut(u64);
                let spinning = |receiver: &Receiver<u64>, take: Take<'_>| {
                    loop {
                        match receiver.try_recv() {
                            Ok(due) => take(due),
                            Err(TryRecvError::Disconnected) => return,
                            Err(TryRecvError::Empty) => spin_loop(),
                        }
                    }
                };
                let parked = |receiver: &Receiver<u64>, take: Take<'_>| {
                    receiver.iter().for_each(take);
                };
                let receivers: [(_, fn(&Receiver<u64>, Take<'_>)); 2] =
                    [("spinning", spinning), ("parked", parked)];
                receivers.map(|(name, receive)| {
                    way($name, name, move |stalled| {
                        let (sender, receiver) = bounded(CAPACITY);
                        let stalled = (0..stalled).map(|_| bounded(CAPACITY));
                        let (others, receivers): (Vec<_>, Vec<_>) = stalled.unzip();
                        for other in &others {
                            while other.try_send(0).is_ok() {}
                        }
                        let publish = move |due| {
                            for other in &others {
                                let _ = other.try_send(due);
                            }
                            let _ = sender.try_send(due);
                            black_box(&receivers);
                        };
                        let receive = move |take: Take<'_>| receive(&receiver, take);
                        (Box::new(publish) as Publish, Box::new(receive) as Receive)
                    })
                })
            }
        };
    }

    channel!(crossbeam_channel, "crossbeam_channel");
    channel!(flume, "flume");
}

#[cfg(not(feature = "peers"))]
mod peers {
    pub(super) fn ways() -> [super::Way; 0] {
        []
    }
}
