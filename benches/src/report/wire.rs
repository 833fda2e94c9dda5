//! What the servers cost, over sockets.

use maud::{Markup, html};

use super::{
    charts::{bar, bar_plot},
    latency,
};
use crate::{numbers, record::Record};

/// A group of figures, and in which scenarios it says something.
struct Chart {
    title: &'static str,
    group: &'static str,
    scenarios: &'static [&'static str],
    caption: &'static str,
}

const CHARTS: [Chart; 6] = [
    Chart {
        title: "As fast as it goes: updates delivered per second, all streams together. More is better",
        group: "wire_delivered",
        scenarios: &[
            "saturated_100x10_tcp",
            "saturated_100x10_tcp_tls",
            "saturated_100x10_unix",
            "saturated_100x100_tcp",
            "saturated_1000x10_tcp",
        ],
        caption: "What readers take of the cores, a server cannot deliver.",
    },
    Chart {
        title: "As fast as it goes: the server's processor time per update delivered",
        group: "wire_cpu",
        scenarios: &[
            "saturated_100x10_tcp",
            "saturated_100x10_tcp_tls",
            "saturated_100x10_unix",
            "saturated_100x100_tcp",
        ],
        caption: "Of the whole process, publishing included; what its thread takes to pause is not, in runs that give it by itself.",
    },
    Chart {
        title: "1,000 updates a second: the server's processor time per update delivered",
        group: "wire_cpu",
        scenarios: &[
            "paced_1000_100x10_tcp",
            "paced_1000_100x10_tcp_tls",
            "paced_1000_100x10_unix",
            "paced_1000_100x100_tcp",
        ],
        caption: "Nearly all of it is the kernel's, for writing to sockets: what counts is how many writes a publish takes. With a connection \
            for each stream there is nothing to gather, and all are alike.",
    },
    Chart {
        title: "Publish to 512 streams that wait: the publisher alone, median",
        group: "wire_publish_p50",
        scenarios: &["paced_200_512x8_tcp"],
        caption: "What a publish here spends on the rings of its streams, a shared ring spends when each stream writes.",
    },
    Chart {
        title: "Memory of an idle stream, of 1,000 over 10 connections, all included",
        group: "wire_memory",
        scenarios: &["paced_50_1000x10_tcp"],
        caption: "What the process grew by, per stream.",
    },
    Chart {
        title: "1,000 streams join at once: until all have a snapshot of 350 settings",
        group: "wire_join",
        scenarios: &["paced_50_1000x10_tcp"],
        caption: "Encoded once for all here, for each of them there.",
    },
];

pub(super) fn servers(record: &Record) -> Markup {
    if !record
        .figures
        .iter()
        .any(|figure| figure.id.starts_with("wire_"))
    {
        return html! { p.no { "Not measured in this run: " code { "cargo full" } " does." } };
    }
    html! {
        p {
            "Server and readers are processes of their own on the same machine. Beside ours: a " i { "naive" } " server, tonic's generated service "
            "over tokio's broadcast, which encodes each update for each stream; and one of the " i { "classic design" } " in Go, a goroutine and a "
            "channel of 100 per stream, if there was a Go toolchain. " (numbers::GO_IS_NET_HTTP) " By hand, with grpc-go, the classic design was measured at 1.28 µs "
            "of processor time per update saturated, and 3.3 µs with a median of 293 µs at 1,000 updates a second, 100 streams over 10 connections, on a "
            "machine of this kind. “100 over 10” is 100 streams over 10 connections."
        }
        @for chart in CHARTS { (chart.show(record)) }
        h3 { "Latency over sockets, from due to read" }
        (latency::over_sockets(record))
    }
}

impl Chart {
    fn show(&self, record: &Record) -> Markup {
        let of = |scenario: &str, server: &str| {
            let figure = record.figure(&format!("{}/{server}/{scenario}", self.group))?;
            Some(bar(format!("{server}/{}", short(scenario)), figure))
        };
        let groups = self.scenarios.iter().map(|scenario| {
            let servers = ["engine", "naive_tonic", "go"];
            let bars = servers.iter().filter_map(|server| of(scenario, server));
            bars.collect()
        });
        html! {
            h3 { (self.title) }
            (bar_plot(groups.collect()))
            p.caption { (self.caption) " " (numbers::shared_cores(record)) " " (numbers::GO_IS_NET_HTTP) }
        }
    }
}

/// Streams, connections and socket of a scenario.
fn short(scenario: &str) -> String {
    let parts: Vec<_> = scenario.split('_').collect();
    let at = parts.iter().position(|part| {
        part.contains('x') && part.starts_with(|first: char| first.is_ascii_digit())
    });
    let rest = &parts[at.unwrap_or(0)..];
    let words = rest.iter().map(|part| match *part {
        "tcp" => "TCP".to_owned(),
        "tls" => "TLS".to_owned(),
        "unix" => "Unix socket".to_owned(),
        part => part.replace('x', " over "),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// For people, all of it.
pub(super) fn described(scenario: &str) -> String {
    let rest = short(scenario);
    let rest = match rest.split_once(" over ") {
        Some(("1", rest)) => rest.replacen("1, ", "One stream, ", 1),
        Some((streams, rest)) => {
            let (connections, rest) = rest.split_once(", ").unwrap_or((rest, ""));
            format!("{streams} streams over {connections} connections, {rest}")
        }
        None => rest,
    };
    let rate = scenario.strip_prefix("paced_");
    match rate.and_then(|rest| rest.split('_').next()) {
        Some(rate) => format!("{rest}: {rate} updates a second"),
        None => format!("{rest}: as fast as it goes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scenarios::scenarios;

    #[test]
    fn a_scenario_is_described_in_words() {
        assert_eq!(
            described("paced_1000_100x10_tcp_tls"),
            "100 streams over 10 connections, TCP, TLS: 1000 updates a second"
        );
        assert_eq!(
            described("saturated_1x1_unix_parked"),
            "One stream, Unix socket, parked: as fast as it goes"
        );
    }

    #[test]
    fn what_is_drawn_is_measured() {
        let names: Vec<_> = scenarios(std::time::Duration::ZERO)
            .iter()
            .map(|scenario| scenario.name())
            .collect();
        for chart in CHARTS {
            for scenario in chart.scenarios {
                assert!(names.iter().any(|name| name == scenario), "{scenario}");
            }
        }
    }
}
