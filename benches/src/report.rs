//! One run as one page of HTML that needs nothing else, for readers who did not write it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    fan_out::{SUBSCRIBERS, implementations},
    numbers,
    plots::{Axis, Series, bars, lines},
    reach,
    record::{Curve, Figure, Record, Unit},
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
                h2 { "Asked and reached" }
                (reached(record))
                h2 { "Fan-out" }
                (fan_out(record))
                h2 { "Latency" }
                (latency(record))
                h2 { "Publishers that meet" }
                (throughput(record))
                h2 { "Memory" }
                (memory(record))
                h2 { "Where a peer wins" }
                (peers_win(record))
                h2 { "Method" }
                (method(record))
                h2 { "What the figures do not show" }
                (not_shown())
                h2 { "Every figure" }
                (everything(record))
            }
        }
    };
    page.into_string()
}

fn introduction() -> Markup {
    html! {
        p {
            "The engine hands each update of one publisher to any number of subscribers in the same process. Every "
            "subscriber has a bounded ring of its own, so nobody who is slow holds up anybody else; who falls behind gets "
            "a snapshot. The " b { "floor" } " is the least that a ring per subscriber costs, written by hand and good for nothing "
            "else. The peers are other libraries doing the same work, as their documentation advises: "
            i { "rtrb" } ", " i { "crossbeam-channel" } " and " i { "flume" } " with a channel per subscriber; "
            i { "tokio broadcast" } ", " i { "async-broadcast" } " and " i { "bus" } " with one ring that all share; "
            i { "tokio watch" } ", which only keeps the newest."
        }
        p { "Times are medians; the quartiles are beside them. Less is better, unless it says so." }
    }
}

fn reached(record: &Record) -> Markup {
    html! {
        p { "What engine and server set out to reach, and what this run saw. × is a ratio to the peer in the same run. The median decides; "
            "“within noise” says that the quartiles are on both sides of what was asked." }
        table {
            tr { th { "what" } th { "asked" } th { "seen" } th { "quartiles" } th { "met" } }
            @for row in reach::rows(record).concat() {
                tr {
                    td { (row.what) }
                    td.number { (row.asked) }
                    td.number { (row.seen) }
                    td.number { (row.quartiles) }
                    td class=(if row.is_met() { "yes" } else { "no" }) { (row.verdict) }
                }
            }
        }
    }
}

fn fan_out(record: &Record) -> Markup {
    html! {
        (cost_by_subscribers(record, "deliver", "per delivered update"))
        p.caption {
            "Publish a burst of 64 and take it out of every ring, in one thread: what one more delivered update costs, the "
            "commit not counted. The curves are flat where cost grows in proportion to the subscribers, and "
            "rise where their rings no longer fit into the caches."
        }
        (cost_by_subscribers(record, "distribute", "per subscription and update"))
        p.caption {
            "Of that, the publisher's part: what one more subscription adds to handing out one update. The peers that share one ring "
            "are not here: to their publisher one more subscriber is nearly nothing."
        }
        (cost_by_subscribers(record, "fan_out", "a burst of 64"))
        p.caption {
            "The publisher alone, for the whole burst to all. A shared ring is flat here: O(1), whatever the number of "
            "subscribers. It pays when they receive (above), and they share its fate."
        }
    }
}

fn cost_by_subscribers(record: &Record, group: &str, title: &'static str) -> Markup {
    let series = implementations().into_iter().map(|implementation| {
        let name = implementation.name;
        let at = |subscribers: usize| {
            let figure = record.figure(&format!("{group}/{name}/{subscribers}"))?;
            (subscribers > 0 && figure.median > 0.0).then_some((subscribers as f64, figure.median))
        };
        Series {
            name: name.to_owned(),
            points: SUBSCRIBERS.into_iter().filter_map(at).collect(),
        }
    });
    let x = Axis {
        title: "subscribers",
        tick: |value| format!("{value:.0}"),
    };
    let y = Axis {
        title,
        tick: |value| Unit::Nanoseconds.show(value),
    };
    plot(x, y, series.collect())
}

fn latency(record: &Record) -> Markup {
    // One picture for each group and parameter, with and without stalled subscribers together.
    let key = |curve: &Curve| {
        let (rest, parameter) = curve.id.rsplit_once('/').unwrap_or(("", &curve.id));
        let (group, implementation) = rest.split_once('/').unwrap_or((rest, ""));
        let (parameter, beside) = match parameter.split_once("-100stalled") {
            Some((parameter, _)) => (parameter, " beside 100 stalled"),
            None => (parameter, ""),
        };
        (
            format!("{group}/{parameter}"),
            format!("{implementation}{beside}"),
        )
    };
    let mut pictures: Vec<(String, Vec<Series>)> = Vec::new();
    for curve in &record.curves {
        let (picture, name) = key(curve);
        // The x axis is how rare: one in so many takes at least that long.
        let points = curve.points.iter().filter(|(quantile, _)| *quantile < 1.0);
        let points =
            points.map(|(quantile, value)| (1.0 / (1.0 - quantile), (*value).max(1) as f64));
        let series = Series {
            name,
            points: points.collect(),
        };
        match pictures.iter_mut().find(|(known, _)| *known == picture) {
            Some((_, all)) => all.push(series),
            None => pictures.push((picture, vec![series])),
        }
    }
    let x = Axis {
        title: "percentile",
        tick: |rarity| format!("{}", 100.0 - (1e4 / rarity).round() / 100.0),
    };
    let y = Axis {
        title: "from due to received",
        tick: |value| Unit::Nanoseconds.show(value),
    };
    html! {
        p {
            "From the moment when an update was due to the moment when another thread or process had it in hand: so a stall "
            "counts for everything that it delays. " i { "Paced" } ": at an even rate, far below what is possible. " i { "Unpaced" }
            ": as fast as the publisher can. A " i { "spinning" } " receiver burns a core; a " i { "parked" } " one sleeps in the kernel, "
            "and being woken is most of its time; an " i { "async" } " one is a task of a tokio runtime in a thread of its own. "
            "Read the curves from left to right: half of all updates are faster than at 50, one in a thousand is slower than at 99.9. "
            "Beyond that, it is the machine's scheduler."
        }
        @for (picture, series) in pictures {
            h3 { (picture.replace(['/', '-', '_'], " ")) }
            (plot(x, y, series))
        }
    }
}

fn throughput(record: &Record) -> Markup {
    let all: Vec<_> = record
        .figures
        .iter()
        .filter(|figure| figure.id.starts_with("throughput/"))
        .collect();
    let named = all.iter().map(|figure| {
        let name = figure.id.trim_start_matches("throughput/");
        (format!("{name} publishers"), figure.median)
    });
    html! {
        p {
            "Threads that all publish to the same engine as fast as they can, nobody receiving; all together. More is better. "
            "Nobody starves when the slowest's part of its fair share, in the table above, is above zero."
        }
        (bar_plot("publishes per second", |value| Unit::PerSecond.show(value), named.collect()))
    }
}

fn memory(record: &Record) -> Markup {
    let named = implementations().into_iter().filter_map(|implementation| {
        let name = implementation.name;
        let figure = record.figure(&format!("memory/{name}/idle_subscription"))?;
        Some((name.to_owned(), figure.median))
    });
    html! {
        p { "What one more subscriber with room for 128 updates takes from the allocator, all received. Those with one ring "
            "for all take next to nothing per subscriber." }
        (bar_plot("bytes per idle subscriber", |value| Unit::Bytes.show(value), named.collect()))
    }
}

fn peers_win(record: &Record) -> Markup {
    let wins: Vec<_> = record
        .figures
        .iter()
        .filter_map(|figure| win(record, figure))
        .collect();
    html! {
        ul {
            li { "The publisher alone, many subscribers: a shared ring is O(1), a ring per subscriber is O(n). Take one where "
                "subscribers may share a fate: there, the slowest loses updates or blocks everybody." }
            li { "One update at a time, and publishing to nobody: an engine makes a version that anybody can read as a snapshot, "
                "in several allocations; a channel moves one pointer. A burst published as a batch shares that cost." }
            li { "Waking many tasks: ours looks after each subscription by itself, where a broadcast keeps one list of all that wait." }
            li { "Coming and going, and memory per subscriber: a shared ring has next to nothing to make for each, and flume "
                "allocates what is in use." }
            li { "Only the newest matters: tokio watch hands over one value however many were published." }
        }
        details {
            summary { "All " (wins.len()) " figures of this run in which a peer is ahead, beyond the quartiles" }
            table {
                tr { th { "peer" } th { "the peer's" } th { "this engine's" } }
                @for (theirs, ours) in wins {
                    tr {
                        td { (theirs.id) }
                        td.number { (theirs.unit.show(theirs.median)) }
                        td.number { (ours.unit.show(ours.median)) }
                    }
                }
            }
        }
    }
}

/// A peer's figure and ours, if the peer's is better beyond the quartiles of both.
fn win<'a>(record: &'a Record, theirs: &'a Figure) -> Option<(&'a Figure, &'a Figure)> {
    let (group, rest) = theirs.id.split_once('/')?;
    let (implementation, parameter) = rest.split_once('/')?;
    let is_peer = !matches!(implementation, "engine" | "floor" | "noop" | "arc_swap");
    let ours = record.figure(&format!("{group}/engine/{parameter}"))?;
    let is_better = if ours.unit.more_is_better() {
        theirs.low > ours.high
    } else {
        theirs.high < ours.low
    };
    (is_peer && is_better).then_some((theirs, ours))
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
            li { "The entry head/noop/borrowed is the cost of measuring itself." }
            li { "To repeat: " code { "cargo bench -p configstream-benches --features peers" } ", then " code { "cargo record FILE" }
                " and " code { "cargo draw FILE" } "." }
        }
    }
}

fn not_shown() -> Markup {
    html! {
        ul {
            li { "Many cores. With two, a publisher and a subscriber already fill the machine, and everything else takes turns." }
            li { "A quiet machine: this is a virtual one, whose neighbours are unknown. Compare within the run, not across." }
            li { "Real states. A setting among thousands costs more to change than a number; see the rows on commit." }
            li { "Cold caches. Every loop here is warm; a process that publishes once a minute pays for cache misses." }
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

fn plot(x: Axis, y: Axis, mut series: Vec<Series>) -> Markup {
    series.retain(|series| series.points.len() > 1);
    if series.is_empty() {
        return html! { p.no { "Not measured in this run." } };
    }
    html! { (PreEscaped(lines(x, y, &series))) }
}

fn bar_plot(title: &str, tick: fn(f64) -> String, values: Vec<(String, f64)>) -> Markup {
    if values.is_empty() {
        return html! { p.no { "Not measured in this run." } };
    }
    html! { (PreEscaped(bars(title, tick, &values))) }
}

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; } h3 { margin-bottom: 0; font-size: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.25rem 0.6rem; border-bottom: 1px solid #eee; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.yes { color: #1a7f37; } .no { color: #b3261e; font-weight: 600; }
.where, .caption { color: #555; font-size: 0.9rem; }
svg { max-width: 100%; height: auto; }
summary { cursor: pointer; padding: 0.2rem 0; }
";
