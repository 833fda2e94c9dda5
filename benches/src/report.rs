//! One run as one page of HTML that needs nothing else, for readers who did not write it.

mod charts;
mod latency;
mod wire;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    numbers::{self, Table},
    reach::{self, Row},
    record::Record,
    wins::{Win, wins},
};

/// The page.
#[must_use]
pub fn page(record: &Record) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "configstream: what it costs" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "What configstream costs, beside its peers" }
                p.where { (numbers::where_and_when(record)) }
                (introduction())
                @let chapters = chapters(record);
                nav { ul { @for (id, title, _) in &chapters { li { a href={ "#" (id) } { (title) } } } } }
                @for (id, title, text) in chapters {
                    h2 id=(id) { (title) }
                    (text)
                }
            }
        }
    };
    page.into_string()
}

/// Anchor, title and text of each.
fn chapters(record: &Record) -> [(&'static str, &'static str, Markup); 11] {
    [
        ("short", "In short", in_short(record)),
        ("fan-out", "Fan-out", charts::fan_out(record)),
        ("latency", "Latency", latency::in_process(record)),
        (
            "publishers",
            "Publishers that meet",
            charts::throughput(record),
        ),
        ("memory", "Memory", charts::memory(record)),
        (
            "servers",
            "The servers, over sockets",
            wire::servers(record),
        ),
        ("wins", "Where a peer wins, and why", peers_win(record)),
        ("reached", "Asked and reached", reached(record)),
        ("method", "Method", method(record)),
        (
            "not-shown",
            "What the figures do not show",
            not_shown(record),
        ),
        ("every", "Every figure", everything(record)),
    ]
}

fn introduction() -> Markup {
    html! {
        p {
            "configstream streams a configuration from one process to many. Its engine hands each update of one publisher to any number of "
            "subscribers in the same process; its server does so over gRPC. Every subscriber has a bounded ring of its own, so nobody "
            "who is slow holds up anybody else; who falls behind gets a snapshot."
        }
        p {
            "The " b { "floor" } " is the least that a ring per subscriber costs, written by hand and good for nothing "
            "else. The peers are other libraries doing the same work, as their documentation advises: "
            i { "rtrb" } ", " i { "crossbeam-channel" } " and " i { "flume" } " with a channel per subscriber; "
            i { "tokio broadcast" } ", " i { "async-broadcast" } " and " i { "bus" } " with one ring that all share; "
            i { "tokio watch" } ", which only keeps the newest."
        }
        p { "Figures are medians, with the spread beside them: ± half the distance between the quartiles, and in pictures a whisker from one to the other. Less is "
            "better, unless it says so." }
    }
}

fn in_short(record: &Record) -> Markup {
    let tables = numbers::tables(record);
    let of_servers = format!(
        "{} {}",
        numbers::shared_cores(record),
        numbers::GO_IS_NET_HTTP
    );
    let notes = [None, Some(of_servers)];
    html! {
        @for (Table { heads, rows }, note) in tables.iter().zip(notes).filter(|(table, _)| !table.rows.is_empty()) {
            table {
                tr { th { "what" } @for head in heads { th { (head) } } }
                @for (what, cells) in rows {
                    tr {
                        td { (what) }
                        @for cell in cells {
                            @match cell {
                                Some(cell) if cell.is_ahead => td.number { b { (cell.text) } },
                                Some(cell) => td.number { (cell.text) },
                                None => td {},
                            }
                        }
                    }
                }
            }
            @if let Some(note) = note { p.caption { (note) } }
        }
        p.caption { "Bold: a peer is ahead, beyond the quartiles; " a href="#wins" { "why" } ". An empty cell: that one has no such thing, or was not measured." }
        @if let Some(noop) = numbers::noop(record) { p.caption { (noop) } }
    }
}

fn reached(record: &Record) -> Markup {
    let [engine, server] = reach::rows(record);
    html! {
        p { "What engine and server set out to reach, and what this run saw. × is a ratio to the peer in the same run. The median decides; "
            "“within noise” says that the quartiles are on both sides of what was asked. What one more subscription costs stands there twice: by "
            "T(n) − T(1), which we quote, and by T(n) − T(0), which was asked for first. With nobody subscribed, a publisher frees its updates itself; with "
            "somebody, the last reader does. So T(n) − T(0) takes the freeing out of a publisher's figure, and what is left of the floor's is "
            "next to nothing, or less: beside the floor it makes us look worse than T(n) − T(1), and where the floor's lower quartile is not above zero "
            "there is no ratio. Peers that cost many times as much are hardly moved by it." }
        h3 { "The engine" }
        (rows(engine))
        h3 { "The server" }
        (rows(server))
        p.caption { (numbers::shared_cores(record)) }
    }
}

fn rows(rows: Vec<Row>) -> Markup {
    html! {
        table {
            tr { th { "what" } th { "asked" } th { "seen" } th { "quartiles" } th { "met" } }
            @for row in rows {
                tr {
                    td { (row.what) }
                    td.number { (row.asked) }
                    td.number { (row.seen) }
                    td.number { (row.quartiles) }
                    td.number.yes[row.is_met()].no[!row.is_met()] { (row.verdict) }
                }
            }
        }
    }
}

fn peers_win(record: &Record) -> Markup {
    let wins = wins(record);
    html! {
        p { "All " (wins.len()) " figures of this run in which a peer is ahead, beyond the quartiles of both." }
        @for same in wins.chunk_by(|a, b| a.why == b.why) {
            p { b { (groups(same)) ". " } (same[0].why.unwrap_or("Not explained yet.")) }
            details {
                summary { (same.len()) " figures" }
                table {
                    tr { th { "figure" } th { "the peer's" } th { "ours" } }
                    @for Win { theirs, ours, .. } in same {
                        tr {
                            td { (theirs.id) }
                            td.number { (theirs.show()) }
                            td.number { (ours.show()) }
                        }
                    }
                }
            }
        }
    }
}

/// Which groups the figures are of.
fn groups(wins: &[Win<'_>]) -> String {
    let groups = wins
        .iter()
        .filter_map(|win| win.theirs.id.split('/').next());
    let mut groups: Vec<_> = groups.collect();
    groups.dedup();
    groups.join(", ").replace('_', " ")
}

fn method(record: &Record) -> Markup {
    html! {
        ul {
            li { "Machine: " (record.machine.cpu) ", " (record.machine.cores) " logical cores, " (record.machine.kernel) "; "
                (record.compiler) ", link-time optimisation; commit " (record.commit) ", taken " (record.taken) "." }
            li { "Fan-out: a trivial state (a number), so that the engine and not the state is measured; bursts of 64, one batch each; "
                "rings of 128; what travels is a counted pointer, for every implementation. The same functions drive all of them." }
            li { "What is compared closely is measured in turn, in short slices, forwards and backwards; ratios are taken "
                "within a turn, and their median is shown. (T(n) − T(1)) / ((n − 1) × 64) is what one more subscription costs." }
            li { "Latencies are recorded by hdrhistogram, from when an update was due; percentiles are medians over the runs, curves "
                "are all runs together." }
            li { "Instructions are counted by callgrind; memory and allocations by a counting allocator. One sample each." }
            li { "The entries called noop are the cost of measuring itself: an empty loop, two looks at the clock, an empty round set up anew. It is in the "
                "figures beside them and not subtracted, except where a difference of two measurements takes it out." }
            li { "How each peer is used, and what its documentation says of that, stands in " code { "benches/src/fan_out/peers.rs" } "; how the "
                "servers are measured, in " code { "benches/src/wire.rs" } "." }
            li { "To repeat: " code { "cargo full" } ", then " code { "cargo draw FILE" } "." }
        }
    }
}

fn not_shown(record: &Record) -> Markup {
    html! {
        ul {
            li { "More than " (record.machine.cores) " cores. A publisher and a spinning subscriber fill two; with no more than that, everything else "
                "takes turns with them." }
            li { "A quiet machine: what else ran on it, or beside it if it is a virtual one, is unknown. Compare within the run, not across." }
            li { "Real states. A setting among thousands costs more to change than a number; see the rows on commit." }
            li { "Cold caches. Every loop here is warm; a process that publishes once a minute pays for cache misses." }
            li { "Networks. Server and readers are on one machine: no distance, no loss, and the readers' processor time competes with the server's." }
            li { "p99.9 and above say what the scheduler does, for every implementation alike." }
            li { "Peers used for something else. Each is here for this one job, and may be the better choice for another." }
        }
    }
}

fn everything(record: &Record) -> Markup {
    let group = |id: &str| id.split('/').next().unwrap_or(id).to_owned();
    html! {
        @for figures in record.figures.chunk_by(|a, b| group(&a.id) == group(&b.id)) {
            details {
                summary { (group(&figures[0].id).replace('_', " ")) " (" (figures.len()) ")" }
                table {
                    tr { th { "figure" } th { "median" } th { "quartiles" } th { "samples" } }
                    @for figure in figures {
                        tr {
                            td { (figure.id) }
                            td.number { (figure.unit.show(figure.median)) }
                            td.number { (figure.unit.show(figure.low)) " to " (figure.unit.show(figure.high)) }
                            td.number { (figure.samples) }
                        }
                    }
                }
            }
        }
    }
}

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; } h3 { margin-bottom: 0; font-size: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.25rem 0.6rem; border-bottom: 1px solid #eee; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; } .percentiles .number { white-space: normal; }
nav ul { columns: 3; font-size: 0.9rem; padding-left: 1.2rem; }
table { margin: 0.5rem 0 1.5rem; } td:first-child { min-width: 13rem; }
h4 { margin: 1.2rem 0 0; font-size: 0.95rem; }
.yes { color: #1a7f37; } .no { color: #b3261e; font-weight: 600; }
.where, .caption { color: #555; font-size: 0.9rem; }
svg { max-width: 100%; height: auto; }
summary { cursor: pointer; padding: 0.2rem 0; }
";
