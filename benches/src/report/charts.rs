//! Pictures of what happens in process.

use maud::{Markup, PreEscaped, html};

use crate::{
    fan_out::{SUBSCRIBERS, implementations},
    plots::{Axis, Bar, Series, bars, lines},
    record::{Figure, Record, Unit},
};

pub(super) fn fan_out(record: &Record) -> Markup {
    html! {
        h3 { "Publish and receive: what one more delivered update costs" }
        (cost_by_subscribers(record, "deliver", "per delivered update"))
        p.caption {
            "Publish a burst of 64 and take it out of every ring, in one thread: what one more delivered update costs, the "
            "commit not counted. The curves are flat where cost grows in proportion to the subscribers, and "
            "rise where their rings no longer fit into the caches."
        }
        h3 { "The publisher's part of that" }
        (cost_by_subscribers(record, "distribute", "per subscription and update"))
        p.caption {
            "Of that, the publisher's part: what one more subscription adds to handing out one update. The peers that share one ring "
            "are not here: to their publisher one more subscriber is nearly nothing."
        }
        h3 { "The publisher alone, the whole burst to all" }
        (cost_by_subscribers(record, "fan_out", "a burst of 64"))
        p.caption {
            "Both axes are logarithmic. A shared ring is flat here: O(1), whatever the number of "
            "subscribers. It pays when they receive (above), and they share its fate."
        }
    }
}

fn cost_by_subscribers(record: &Record, group: &str, title: &'static str) -> Markup {
    let series = implementations().into_iter().map(|implementation| {
        let name = implementation.name;
        let at = |subscribers: usize| {
            let figure = record.figure(&format!("{group}/{name}/{subscribers}"))?;
            (subscribers > 0 && figure.median > 0.0).then_some((subscribers as f64, figure))
        };
        let figures = || SUBSCRIBERS.into_iter().filter_map(at);
        Series {
            name: name.to_owned(),
            points: figures().map(|(x, figure)| (x, figure.median)).collect(),
            whiskers: figures()
                .map(|(x, figure)| (x, [figure.low, figure.high]))
                .collect(),
        }
    });
    let x = Axis {
        title: "subscribers",
        tick: |value| format!("{value:.0}"),
        ticks: &[1.0, 8.0, 64.0, 512.0, 4_096.0],
    };
    let y = Axis {
        title,
        tick: |value| Unit::Nanoseconds.show(value),
        ticks: &[],
    };
    plot(x, y, series.collect())
}

pub(super) fn throughput(record: &Record) -> Markup {
    let figures = record.figures.iter();
    let all: Vec<_> = figures
        .filter_map(|figure| {
            let name = figure.id.strip_prefix("throughput/")?;
            let (implementation, publishers) = name.split_once('/')?;
            let plural = if publishers == "1" { "" } else { "s" };
            let name = format!("{implementation}/{publishers} publisher{plural}");
            Some(bar(name, figure))
        })
        .collect();
    let of = |bar: &Bar| bar.name.split('/').next().map(str::to_owned);
    let groups = all.chunk_by(|a, b| of(a) == of(b)).map(<[_]>::to_vec);
    html! {
        p {
            "Threads that all publish to the same engine as fast as they can, nobody receiving (a broadcast has one receiver, which "
            "falls behind): publishes per second, all together. More is better. "
            "Nobody starves when the slowest's part of its fair share, among what was asked (below), is above zero."
        }
        (bar_plot(groups.collect()))
    }
}

pub(super) fn memory(record: &Record) -> Markup {
    let named = implementations().into_iter().filter_map(|implementation| {
        let name = implementation.name;
        let figure = record.figure(&format!("memory/{name}/idle_subscription"))?;
        Some(bar(name.to_owned(), figure))
    });
    html! {
        p { "What one more subscriber with room for 128 updates takes from the allocator, all received. Those with one ring "
            "for all take next to nothing per subscriber." }
        (bar_plot(vec![named.collect()]))
    }
}

pub(super) fn plot(x: Axis, y: Axis, mut series: Vec<Series>) -> Markup {
    series.retain(|series| series.points.len() > 1);
    if series.is_empty() {
        return html! { p.no { "Not measured in this run." } };
    }
    html! { (PreEscaped(lines(x, y, &series))) }
}

pub(super) fn bar(name: String, figure: &Figure) -> Bar {
    Bar {
        name,
        value: figure.median,
        whisker: [figure.low, figure.high],
        label: figure.show(),
    }
}

pub(super) fn bar_plot(mut groups: Vec<Vec<Bar>>) -> Markup {
    groups.retain(|group| !group.is_empty());
    if groups.is_empty() {
        return html! { p.no { "Not measured in this run." } };
    }
    html! { (PreEscaped(bars(&groups))) }
}
