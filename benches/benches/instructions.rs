//! How many instructions does a hot path take? Counted by callgrind, which sees no weather.
//!
//! `instructions/engine/<path>`. Each path is run n times and 2n times in processes of their own; the difference, divided
//! by n, is what one costs, whatever starting and setting up take. Fixed on purpose: the allocator (part of this
//! program), the C library's choice of `memcpy`, the environment. The engine draws no random numbers.
//!
//! `cargo bench --bench instructions` compares with `benches/instructions.json` and fails when a path has grown or shrunk by
//! more than 3 %; `… -- --update` writes that file. Counts of another compiler or architecture are not comparable: then it asks
//! for an update. `… -- --only-count` leaves the counts for the record and compares nothing. Without `--bench`, which
//! `cargo bench` gives, it runs each path once and counts nothing.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    hint::black_box,
    ops::ControlFlow,
    process::{Command, ExitCode},
    task::{Context, Waker},
};

use bytes::Bytes;
use configstream_benches::{
    baseline::Baseline,
    end_with_parent,
    fan_out::{BURST, CAPACITY, FanOut, Ours, Publisher, Receiver},
    in_earnest,
    record::{Figure, Part, Unit, compiler, workspace},
    settings::{self, key, layer, value},
    tick,
};
use configstream_engine::{
    Event, Subscription, TryNextError, WaitSet,
    settings::{Change, Settings, Source},
};
use configstream_grpc::internals::Frames;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Name; how many times; and what is done so many times.
type HotPath = (&'static str, u64, fn(u64));

const HOT_PATHS: [HotPath; 19] = [
    ("publish_to_nobody", 1_000, |times| publish(0, 1, times)),
    ("publish_and_receive_by_64", 200, |times| {
        publish(64, 1, times)
    }),
    ("publish_64_and_receive_by_64", 20, |times| {
        publish(64, BURST, times)
    }),
    ("publish_to_64_parked", 200, |times| {
        let engine = tick::engine(CAPACITY);
        let mut subscriptions: Vec<_> = (0..64).map(|_| engine.subscribe()).collect();
        let mut cx = Context::from_waker(Waker::noop());
        repeat(times, || {
            for subscription in &mut subscriptions {
                // The second time it is pending, and leaves its waker.
                while subscription.poll_next(&mut cx).is_ready() {}
            }
            assert!(engine.publish(&1).is_ok());
        });
    }),
    ("publish_to_64_of_a_wait_set", 200, |times| {
        let engine = tick::engine(CAPACITY);
        let set = WaitSet::new();
        let subscribe = |_| engine.subscription().wait_set(&set).subscribe();
        let mut subscriptions: Vec<_> = (0..64).map(subscribe).collect();
        repeat(times, || {
            set.arm(Waker::noop());
            subscriptions.iter_mut().for_each(|subscription| {
                subscription.drain();
            });
            assert!(engine.publish(&1).is_ok());
        });
    }),
    ("publish_and_read_by_64_readers", 200, |times| {
        publish_to_readers(1, times)
    }),
    ("publish_64_and_read_by_64_readers", 20, |times| {
        publish_to_readers(BURST, times)
    }),
    ("publish_with_100_stalled", 1_000, |times| {
        let engine = tick::engine(1);
        let _stalled: Vec<_> = (0..100).map(|_| engine.subscribe()).collect();
        repeat(times, || assert!(engine.publish(&1).is_ok()));
    }),
    ("read_head", 1_000, |times| {
        let engine = tick::engine(1);
        repeat(times, || engine.read_head(|head| head.state().0));
    }),
    ("head", 1_000, |times| {
        let engine = tick::engine(1);
        repeat(times, || engine.head());
    }),
    ("nothing_to_take", 1_000, |times| {
        let engine = tick::engine(1);
        let mut subscription = engine.subscribe();
        assert!(subscription.try_next().is_ok());
        repeat(times, || subscription.try_next().is_err());
    }),
    ("subscribe_beside_1000", 1_000, |times| {
        let engine = tick::engine(128);
        let _others: Vec<_> = (0..1_000).map(|_| engine.subscribe()).collect();
        repeat(times, || engine.subscribe().try_next().is_ok());
    }),
    ("set_among_350", 200, |times| {
        alternate(350, times, [1, 2].map(|round| set(Source::File, round)));
    }),
    ("set_among_3500", 200, |times| {
        alternate(3_500, times, [1, 2].map(|round| set(Source::File, round)));
    }),
    ("set_shadowed", 200, |times| {
        alternate(350, times, [1, 2].map(|round| set(Source::Default, round)));
    }),
    ("set_and_unset", 200, |times| {
        let unset = Change::unset(Source::AgentRuntime, key(NTH));
        alternate(350, times, [set(Source::AgentRuntime, 1), unset]);
    }),
    ("replace_350_by_the_same", 10, |times| {
        let same = [0, 0].map(|round| Change::replace_layer(Source::File, layer(350, NTH, round)));
        alternate(350, times, same);
    }),
    ("set_and_encode_update", 200, |times| {
        encode(times, |frames, subscription| {
            match subscription.try_next() {
                Ok(Event::Update(update)) => frames.update(&update),
                other => unreachable!("{other:?}"),
            }
        });
    }),
    ("set_and_encode_snapshot_of_350", 20, |times| {
        encode(times, |frames, subscription| {
            frames.snapshot(&subscription.head())
        });
    }),
];

fn main() -> ExitCode {
    end_with_parent();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--run") {
        let (_, _, run) = HOT_PATHS
            .iter()
            .find(|(name, ..)| *name == arguments[at + 1])
            .ok_or("no such path")?;
        run(arguments[at + 2].parse()?);
        return Ok(());
    }
    if !in_earnest() {
        HOT_PATHS.iter().for_each(|(_, _, run)| run(1));
        return Ok(());
    }

    if Command::new("valgrind").arg("--version").output().is_err() {
        // The other benches have to run on a machine without it, too; `.ci/run instructions` sees that it is there.
        println!("no valgrind, so nothing is counted; install it, e.g. `apt-get install valgrind`");
        return Ok(());
    }

    let mut counted = Baseline {
        compiler: compiler()?,
        architecture: env::consts::ARCH.to_owned(),
        instructions: BTreeMap::new(),
    };
    for (name, times, _) in HOT_PATHS {
        let more = count(name, 2 * times)? - count(name, times)?;
        counted
            .instructions
            .insert(name.to_owned(), more / times as f64);
    }
    let each = counted.instructions.iter();
    let figures = each.map(|(name, count)| {
        Figure::new(format!("instructions/engine/{name}"), Unit::Count, [*count])
    });
    let part = Part {
        figures: figures.collect(),
        ..Part::default()
    };
    part.save("instructions")?;
    if arguments.iter().any(|argument| argument == "--only-count") {
        return Ok(());
    }

    let path = workspace().join("benches/instructions.json");
    if arguments.iter().any(|argument| argument == "--update") {
        fs::write(&path, serde_json::to_string_pretty(&counted)? + "\n")?;
        println!("wrote {}", path.display());
        return Ok(());
    }
    let baseline = fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error}; {MEND}", path.display()))?;
    compare(&counted, &serde_json::from_str(&baseline)?)
}

/// Instructions of a whole run of this program, which does it so many times.
fn count(name: &str, times: u64) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--run", name, &times.to_string()])
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        // Plain SSE2, which every x86-64 has: which copy routine is taken must not depend on the processor.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM,-SSSE3,-SSE4_1,-SSE4_2",
        )
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    match collected {
        Some((_, count)) if output.status.success() => Ok(count.trim().parse()?),
        _ => Err(format!("valgrind, running {name}: {}\n{said}", output.status).into()),
    }
}

/// Prints each path, and fails when one has grown, or shrunk.
fn compare(counted: &Baseline, baseline: &Baseline) -> Result<(), Box<dyn Error>> {
    let growth = counted
        .since(baseline)
        .map_err(|error| format!("{error}; {MEND}"))?;
    print!("{}", growth.text);
    if growth.faults.is_empty() {
        return Ok(());
    }
    Err(format!("{}\nIf that is meant, {MEND}", growth.faults.join("\n")).into())
}

fn publish(subscribers: usize, burst: usize, times: u64) {
    let (mut publisher, mut subscriptions) = Ours::open(subscribers);
    repeat(times, || {
        publisher.publish(burst);
        subscriptions.iter_mut().map(Receiver::drain).sum::<u64>()
    });
}

/// So many updates, each read by 64 readers of one subscription.
fn publish_to_readers(burst: usize, times: u64) {
    let engine = tick::engine(CAPACITY);
    let shared = engine.subscription().share();
    let mut readers: Vec<_> = (0..64).map(|_| shared.reader("reader")).collect();
    repeat(times, || {
        for _ in 0..burst {
            assert!(engine.publish(&1).is_ok());
        }
        for reader in &mut readers {
            let read = reader.read(|event| {
                black_box(event);
                ControlFlow::Continue::<()>(())
            });
            assert_eq!(read, Err(TryNextError::Empty));
        }
    });
}

/// One and the other, on so many settings.
fn alternate(size: usize, times: u64, changes: [Change; 2]) {
    let engine = settings::engine(size);
    let mut turn = changes.iter().cycle();
    repeat(times, || {
        engine
            .publish(turn.next().expect("a cycle does not end"))
            .is_ok()
    });
}

/// The same with what a stream does then: it encodes the update, or a snapshot of the version.
fn encode(times: u64, make: fn(&Frames, &mut Subscription<Settings>) -> Option<Bytes>) {
    let (engine, frames) = (settings::engine(350), Frames::of("core-agent"));
    let mut subscription = engine.subscribe();
    assert!(subscription.try_next().is_ok());
    let changes = [1, 2].map(|round| set(Source::File, round));
    let mut turn = changes.iter().cycle();
    repeat(times, || {
        assert!(
            engine
                .publish(turn.next().expect("a cycle does not end"))
                .is_ok()
        );
        make(&frames, &mut subscription)
    });
}

fn set(source: Source, round: i64) -> Change {
    Change::set(source, key(NTH), value(NTH, round))
}

fn repeat<T>(times: u64, mut run: impl FnMut() -> T) {
    for _ in 0..times {
        black_box(run());
    }
}

const NTH: usize = 175;

const MEND: &str = "count anew in the same commit: `cargo bench -p configstream-benches --bench instructions -- --update`";
