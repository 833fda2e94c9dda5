//! The table of numbers that README shows: this engine beside its peers, from one run.

use crate::record::Record;

/// The lines around the table, which is written by `report` and compared by a test.
pub const MARKS: [&str; 2] = [
    "<!-- numbers: written by `cargo draw` -->",
    "<!-- end of numbers -->",
];

const COLUMNS: [(&str, &str); 5] = [
    ("this engine", "engine"),
    ("floor", "floor"),
    ("rtrb per subscriber", "rtrb"),
    ("crossbeam-channel per subscriber", "crossbeam_channel"),
    ("tokio broadcast", "tokio_broadcast"),
];

/// What, and the figure that says it, `*` being the implementation.
const ROWS: [(&str, &str); 14] = [
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
    ("publish one update to 512 parked tasks", "parked/*/publish"),
    ("4 publishers at once, together", "throughput/*/4"),
    (
        "median from due to received, spinning thread",
        "latency/*/paced-spinning/p50",
    ),
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

/// In Markdown. A figure that the run lacks is left out.
#[must_use]
pub fn table(record: &Record) -> String {
    let heads: Vec<_> = COLUMNS.iter().map(|(head, _)| *head).collect();
    let mut lines = vec![
        format!("| what | {} |", heads.join(" | ")),
        format!("| --- |{}", " --- |".repeat(COLUMNS.len())),
    ];
    for (what, pattern) in ROWS {
        let cells = COLUMNS.map(|(_, implementation)| {
            let figure = record.figure(&pattern.replace('*', implementation));
            figure.map_or_else(String::new, |figure| figure.unit.show(figure.median))
        });
        lines.push(format!("| {what} | {} |", cells.join(" | ")));
    }
    lines.join("\n")
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
    let (table, where_and_when) = (table(record), where_and_when(record));
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
        "Medians of one run, {} of commit {commit}: {}, {} cores, {}, {compiler}.",
        taken.split('T').next().unwrap_or(taken),
        machine.cpu,
        machine.cores,
        machine.kernel,
    )
}
