//! The table of numbers that README shows: this engine beside its peers, from one run.

use crate::{
    record::{Figure, Record},
    wins::win,
};

/// The lines around the table, which is written by `report` and compared by a test.
pub const MARKS: [&str; 2] = [
    "<!-- numbers: written by `cargo draw` -->",
    "<!-- end of numbers -->",
];

/// What is beside what: the heads of a table, and the implementations below them, ours first.
type Columns = &'static [(&'static str, &'static str)];

const ENGINES: Columns = &[
    ("this engine", "engine"),
    ("floor", "floor"),
    ("rtrb per subscriber", "rtrb"),
    ("crossbeam-channel per subscriber", "crossbeam_channel"),
    ("tokio broadcast", "tokio_broadcast"),
];

const SERVERS: Columns = &[
    ("this server", "engine"),
    ("naive tonic", "naive_tonic"),
    ("classic design, in Go on net/http", "go"),
];

/// What, and the figure that says it, `*` being the implementation.
const OF_ENGINES: &[(&str, &str)] = &[
    (
        "hand one update to one more subscription, of 64",
        "distribute/*/64",
    ),
    ("… of 512", "distribute/*/512"),
    (
        "that, and receive it, per delivered update, 64 subscriptions",
        "deliver/*/64",
    ),
    ("… 512 subscriptions", "deliver/*/512"),
    ("publish 64 updates to nobody", "fan_out/*/0"),
    ("publish 64 updates to 512, alone", "fan_out/*/512"),
    ("publish one update to 512, alone", "burst_to_512/*/1"),
    ("publish one update to 512 parked tasks", "parked/*/publish"),
    (
        "… to 512 subscriptions of eight tasks, by wait sets",
        "parked/*/publish_to_sets",
    ),
    ("4 publishers at once, together", "throughput/*/4"),
    (
        "median from due to received, spinning thread",
        "latency/*/paced-spinning/p50",
    ),
    ("… parked thread", "latency/*/paced-parked/p50"),
    ("… async task", "latency/*/paced-async/p50"),
    ("commit one setting among 350", "commit/*/350"),
    ("… among 35,000", "commit/*/35000"),
    (
        "subscribe, snapshot, unsubscribe, with 10,000 others",
        "subscribe/*/10000",
    ),
    (
        "memory per idle subscription of capacity 128",
        "memory/*/idle_subscription",
    ),
];

/// The same over sockets.
const OF_SERVERS: &[(&str, &str)] = &[
    (
        "as fast as it goes, 100 streams over 10 connections: delivered",
        "wire_delivered/*/saturated_100x10_tcp",
    ),
    (
        "… processor time per delivered update",
        "wire_cpu/*/saturated_100x10_tcp",
    ),
    (
        "1,000 updates a second to the same: processor time per delivered update",
        "wire_cpu/*/paced_1000_100x10_tcp",
    ),
    (
        "… median from due to received",
        "wire_latency/*/paced_1000_100x10_tcp/p50",
    ),
    ("… p99", "wire_latency/*/paced_1000_100x10_tcp/p99"),
    (
        "… socket writes per publish",
        "wire_writes/*/paced_1000_100x10_tcp",
    ),
    (
        "1,000 updates a second to 100 connections: processor time",
        "wire_cpu/*/paced_1000_100x100_tcp",
    ),
    (
        "… median from due to received",
        "wire_latency/*/paced_1000_100x100_tcp/p50",
    ),
    (
        "publish to 512 streams that wait",
        "wire_publish_p50/*/paced_200_512x8_tcp",
    ),
    (
        "memory per idle stream, of 1,000 over 10 connections",
        "wire_memory/*/paced_50_1000x10_tcp",
    ),
    (
        "until 1,000 streams that join at once have a snapshot of 350 settings",
        "wire_join/*/paced_50_1000x10_tcp",
    ),
];

/// Rows of figures of one run, beside each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Above the figures.
    pub heads: Vec<&'static str>,
    /// What it is about, and the figures.
    pub rows: Vec<(&'static str, Vec<Option<Cell>>)>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Median and spread.
    pub text: String,
    /// Whether it is a peer's, and ahead of ours beyond the quartiles.
    pub is_ahead: bool,
}

/// Of the engine and of the server. A figure that the run lacks is left out, and so is a row without any.
#[must_use]
pub fn tables(record: &Record) -> [Table; 2] {
    [
        table_of(record, ENGINES, OF_ENGINES),
        table_of(record, SERVERS, OF_SERVERS),
    ]
}

fn table_of(record: &Record, columns: Columns, rows: &[(&'static str, &'static str)]) -> Table {
    let cell = |pattern: &str, implementation: &str| {
        let figure = record.figure(&pattern.replace('*', implementation))?;
        Some(Cell {
            text: figure.show(),
            is_ahead: win(record, figure).is_some(),
        })
    };
    let rows = rows.iter().map(|(what, pattern)| {
        let names = columns.iter().map(|(_, implementation)| implementation);
        (*what, names.map(|name| cell(pattern, name)).collect())
    });
    Table {
        heads: columns.iter().map(|(head, _)| *head).collect(),
        rows: rows
            .filter(|(_, cells): &(_, Vec<_>)| cells.iter().any(Option::is_some))
            .collect(),
    }
}

/// Both in Markdown, and what measuring costs.
#[must_use]
pub fn markdown(record: &Record) -> String {
    let [engines, servers] = tables(record);
    let mut texts = Vec::new();
    if !engines.rows.is_empty() {
        texts.push(engines.markdown());
    }
    if !servers.rows.is_empty() {
        texts.push(servers.markdown());
        texts.push(format!("{} {GO_IS_NET_HTTP}", shared_cores(record)));
    }
    texts.extend(noop(record));
    texts.join("\n\n")
}

impl Table {
    fn markdown(&self) -> String {
        let heads = self.heads.join(" | ");
        let mut lines = vec![
            format!("| what | {heads} |"),
            format!("| --- |{}", " --- |".repeat(self.heads.len())),
        ];
        let cell = |cell: &Option<Cell>| match cell {
            None => String::new(),
            Some(Cell { text, is_ahead }) if *is_ahead => format!("**{text}**"),
            Some(Cell { text, .. }) => text.clone(),
        };
        lines.extend(self.rows.iter().map(|(what, cells)| {
            let cells: Vec<_> = cells.iter().map(cell).collect();
            format!("| {what} | {} |", cells.join(" | "))
        }));
        lines.join("\n")
    }
}

/// What has to be said wherever that server's figures are.
pub const GO_IS_NET_HTTP: &str = "The server in Go stands on net/http, since no Go modules can be fetched where it is built; grpc-go gathers the writes of a \
    connection's streams, and would be faster.";

/// What has to be said beside all figures of servers.
#[must_use]
pub fn shared_cores(record: &Record) -> String {
    format!(
        "Server, publisher and readers share {} cores.",
        record.machine.cores
    )
}

/// What measuring costs, in a sentence.
#[must_use]
pub fn noop(record: &Record) -> Option<String> {
    let show = |id| record.figure(id).map(Figure::show);
    Some(format!(
        "Measuring itself costs {} where a loop is timed, and {} where each round is: two looks at the clock.",
        show("head/noop/loop")?,
        show("fan_out/noop/clock")?,
    ))
}

/// The document, with the table between its marks.
///
/// # Errors
/// When the marks are not in it.
pub fn insert(document: &str, record: &Record) -> Result<String, String> {
    let [start, end] = MARKS;
    let parts = document
        .split_once(start)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let Some((before, after)) = parts else {
        return Err(format!("the lines `{start}` and `{end}` are missing"));
    };
    let (table, where_and_when) = (markdown(record), where_and_when(record));
    Ok(format!(
        "{before}{start}\n{where_and_when}\n\n{table}\n\n{end}{after}"
    ))
}

/// One sentence.
#[must_use]
pub fn where_and_when(record: &Record) -> String {
    let Record {
        machine,
        commit,
        compiler,
        taken,
        ..
    } = record;
    let compiler = compiler.split(" (").next().unwrap_or(compiler);
    format!(
        "Medians of one run, {} of commit {commit}: {}, {} cores, {}, {compiler}. ± is half the distance between the quartiles, which stand in brackets where they are far apart.",
        taken.split('T').next().unwrap_or(taken),
        machine.cpu,
        machine.cores,
        machine.kernel,
    )
}
