//! What is better than what? Each measured in turn with the others, so that ratios hold whatever the machine does.
//!
//! * `distribute/<implementation>/<subscribers>`: (T(n) - T(1)) / ((n - 1) × 64), in nanoseconds, T being the time to publish
//!   a burst of 64; `deliver/…`: the same with taking the updates out; `distribute_ratio/…`, `deliver_ratio/…`: this engine's,
//!   divided by that implementation's.
//! * `distribute_t0/…`, `deliver_t0/…`, and their ratios: (T(n) - T(0)) / (n × 64), from the same turns. The others are what we
//!   quote. With nobody subscribed, publishing frees the updates, which otherwise the last reader does; so T(0) takes the freeing
//!   out of everybody's `distribute_t0`, and leaves next to nothing of the floor's, or less: beside it, this makes us look worse.
//!   And a broadcast to nobody returns at once. There is no ratio to what is not above zero (by its lower quartile).
//! * `head_ratio/arc_swap/…`: reading the head, divided by reading the bare cell.
//! * `parked_ratio/tokio_broadcast/publish`: publishing to 512 tasks that wait, divided by what that takes there;
//!   `…/publish_to_sets`: to as many subscriptions, of which each of eight tasks waits for 64 at one wait set.
//! * `stalled/engine/100`: what one stalled subscription adds to a round, in nanoseconds, 64 others being served.
//! * `throughput/<implementation>/<publishers>`: publishes a second by all together; `throughput_share/…`: divided by what
//!   one alone does; `least_share/…`: what the slowest did, of its fair share.

use std::{hint::black_box, io, time::Instant};

use arc_swap::ArcSwap;
use configstream_benches::{
    contended::{self, Shared, contend},
    end_with_parent,
    fan_out::{BURST, CAPACITY, SUBSCRIBERS, implementations},
    keep,
    pairs::{Measure, in_turn, ratios},
    parked,
    record::{Figure, Part, Unit},
    tick::{self, Tick},
    times,
};
use configstream_engine::Subscription;

fn main() -> io::Result<()> {
    end_with_parent();
    let effort = times(3, 15, 31);
    let mut figures = Vec::new();
    for subscribers in SUBSCRIBERS {
        if subscribers > 1 {
            fan_out(effort, subscribers, &mut figures);
        }
    }
    head(effort, &mut figures);
    parked(effort, &mut figures);
    stalled(effort, &mut figures);
    contended(effort, &mut figures);
    for figure in &figures {
        let Figure {
            id,
            unit,
            median,
            low,
            high,
            ..
        } = figure;
        println!("{id:<44} {median:>14.2} {unit:?} ({low:.2} to {high:.2})");
    }
    let part = Part {
        figures,
        ..Part::default()
    };
    keep(&part, "paired")
}

fn fan_out(effort: usize, subscribers: usize, figures: &mut Vec<Figure>) {
    // Long enough to time, short enough to be in the same weather.
    let rounds = if effort > 1 {
        (20_000 / subscribers).clamp(4, 1_000)
    } else {
        1
    };
    let mut implementations = implementations();
    // What keeps the newest only does not deliver each.
    implementations.retain(|implementation| !implementation.newest_only);
    let measure =
        |open: fn(usize) -> Box<dyn configstream_benches::fan_out::Rig>, subscribers, receiving| {
            let mut rig = open(subscribers);
            let measure = move || {
                let mut nanoseconds = 0;
                for _ in 0..rounds {
                    let start = Instant::now();
                    rig.publish(BURST);
                    let published = start.elapsed();
                    rig.drain(BURST);
                    let taken = if receiving {
                        start.elapsed()
                    } else {
                        published
                    };
                    nanoseconds += taken.as_nanos();
                }
                nanoseconds as f64 / (rounds * BURST) as f64
            };
            Box::new(measure) as Measure<'_>
        };
    let mut measures = Vec::new();
    for implementation in &implementations {
        for subscribers in [0, 1, subscribers] {
            for receiving in [false, true] {
                measures.push(measure(implementation.open, subscribers, receiving));
            }
        }
    }
    let samples = in_turn(effort, &mut measures);
    // What each more than `from` costs; the figures of 0, 1 and n subscribers stand at 0, 2 and 4.
    let each = |nth: usize, receiving: usize, from: usize| -> Vec<f64> {
        let (few, all) = (
            &samples[6 * nth + 2 * from + receiving],
            &samples[6 * nth + 4 + receiving],
        );
        let more = all.iter().zip(few).map(|(all, few)| all - few);
        more.map(|more| more / (subscribers - from) as f64)
            .collect()
    };
    for (receiving, from, group) in [
        (0, 1, "distribute"),
        (1, 1, "deliver"),
        (0, 0, "distribute_t0"),
        (1, 0, "deliver_t0"),
    ] {
        let ours = each(0, receiving, from);
        for (nth, implementation) in implementations.iter().enumerate() {
            let name = implementation.name;
            let theirs = each(nth, receiving, from);
            // What one more subscriber costs a shared ring's publisher is nothing to divide by.
            if implementation.shared && receiving == 0 {
                continue;
            }
            let id = format!("{group}/{name}/{subscribers}");
            let figure = Figure::new(id, Unit::Nanoseconds, theirs.iter().copied());
            if nth > 0 && figure.low > 0.0 {
                let id = format!("{group}_ratio/{name}/{subscribers}");
                figures.push(Figure::new(id, Unit::Ratio, ratios(&ours, &theirs)));
            }
            figures.push(figure);
        }
    }
}

fn head(effort: usize, figures: &mut Vec<Figure>) {
    let engine = tick::engine(CAPACITY);
    let cell = ArcSwap::from_pointee(Tick(0));
    let mut measures = [
        timed(10_000, || {
            black_box(engine.read_head(|head| head.state().0))
        }),
        timed(10_000, || black_box(cell.load().0)),
        timed(10_000, || black_box(engine.head()).state().0),
        timed(10_000, || black_box(cell.load_full()).0),
    ];
    let samples = in_turn(effort, &mut measures);
    for (how, nth) in [("borrowed", 0), ("owned", 2)] {
        let id = format!("head_ratio/arc_swap/{how}");
        let ratios = ratios(&samples[nth], &samples[nth + 1]);
        figures.push(Figure::new(id, Unit::Ratio, ratios));
    }
}

fn parked(effort: usize, figures: &mut Vec<Figure>) {
    let rounds = if effort > 1 { 50 } else { 1 };
    let measures = [parked::engine, parked::engine_sets, parked::tokio_broadcast];
    let mut measures = measures
        .map(|measure| Box::new(move || measure(512, rounds).0.as_secs_f64()) as Measure<'_>);
    let samples = in_turn(effort, &mut measures);
    for (ours, how) in [(0, "publish"), (1, "publish_to_sets")] {
        let id = format!("parked_ratio/tokio_broadcast/{how}");
        let ratios = ratios(&samples[ours], &samples[2]);
        figures.push(Figure::new(id, Unit::Ratio, ratios));
    }
}

fn stalled(effort: usize, figures: &mut Vec<Figure>) {
    const STALLED: usize = 100;
    let measure = |stalled: usize| {
        let engine = tick::engine(CAPACITY);
        let subscribe = |count: usize| -> Vec<Subscription<Tick>> {
            (0..count).map(|_| engine.subscribe()).collect()
        };
        let (stalled, mut served) = (subscribe(stalled), subscribe(64));
        let engine = engine.clone();
        let measure = move || {
            let mut nanoseconds = 0;
            for _ in 0..ROUNDS {
                for subscription in &mut served {
                    while subscription.try_next().is_ok() {}
                }
                let start = Instant::now();
                assert!(engine.publish_batch(&[1; BURST]).is_ok());
                nanoseconds += start.elapsed().as_nanos();
            }
            assert!(
                stalled
                    .iter()
                    .all(|subscription| subscription.stats().delivered == 0)
            );
            nanoseconds as f64 / ROUNDS as f64
        };
        Box::new(measure) as Measure<'_>
    };
    const ROUNDS: usize = 300;
    let samples = in_turn(effort, &mut [measure(0), measure(STALLED)]);
    let more = samples[1]
        .iter()
        .zip(&samples[0])
        .map(|(with, without)| with - without);
    let each = more.map(|more| more / STALLED as f64);
    figures.push(Figure::new("stalled/engine/100", Unit::Nanoseconds, each));
}

fn contended(effort: usize, figures: &mut Vec<Figure>) {
    const PUBLISHERS: [usize; 3] = [1, 2, 4];
    // Some slices of the scheduler's, so that four take their turns on two cores.
    let quota = if effort > 1 { 150_000 } else { 100 };
    for Shared { name, publish } in &contended::implementations() {
        let mut shares = Vec::new();
        let mut measures = PUBLISHERS.map(|publishers| {
            Box::new(move || contend(publishers, quota, publish).per_second()) as Measure<'_>
        });
        let samples = in_turn(effort.min(11), &mut measures);
        for _ in 0..effort.min(11) {
            shares.push(contend(PUBLISHERS[2], quota, publish).least_share());
        }
        for (publishers, all) in PUBLISHERS.iter().zip(&samples) {
            let id = format!("throughput/{name}/{publishers}");
            figures.push(Figure::new(id, Unit::PerSecond, all.iter().copied()));
            let id = format!("throughput_share/{name}/{publishers}");
            figures.push(Figure::new(id, Unit::Share, ratios(all, &samples[0])));
        }
        figures.push(Figure::new(
            format!("least_share/{name}/4"),
            Unit::Share,
            shares,
        ));
    }
}

/// Nanoseconds for one call, over so many.
fn timed<'a>(calls: u32, mut call: impl FnMut() -> u64 + 'a) -> Measure<'a> {
    Box::new(move || {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    })
}
