//! Where a peer is ahead, and why.

use crate::record::{Figure, Record};

/// A figure in which a peer is ahead of us, beyond the quartiles of both.
#[derive(Clone, Copy, Debug)]
pub struct Win<'a> {
    /// The peer's.
    pub theirs: &'a Figure,
    /// Ours, of the same question.
    pub ours: &'a Figure,
    /// A sentence or two; none when nobody has thought about it yet.
    pub why: Option<&'static str>,
}

/// All of a run, in order of the reasons.
#[must_use]
pub fn wins(record: &Record) -> Vec<Win<'_>> {
    let mut wins: Vec<_> = record
        .figures
        .iter()
        .filter_map(|figure| win(record, figure))
        .collect();
    wins.sort_by_key(|win| {
        REASONS
            .iter()
            .position(|reason| Some(reason.why) == win.why)
    });
    wins
}

/// The case of one figure, if it is a peer's and ahead.
#[must_use]
pub fn win<'a>(record: &'a Record, theirs: &'a Figure) -> Option<Win<'a>> {
    let [group, implementation, parameter] = parts(&theirs.id)?;
    let is_peer = !matches!(implementation, "engine" | "floor" | "noop" | "arc_swap");
    let ours = record.figure(&format!("{group}/engine/{parameter}"))?;
    let is_better = match ours.unit.more_is_better() {
        true => theirs.low > ours.high,
        false => theirs.high < ours.low,
    };
    (is_peer && is_better).then(|| Win {
        theirs,
        ours,
        why: why(group, implementation, parameter),
    })
}

fn why(group: &str, implementation: &str, parameter: &str) -> Option<&'static str> {
    let is_of = |names: &[&str], name| names.is_empty() || names.contains(&name);
    let reason = REASONS.iter().find(|reason| {
        is_of(reason.groups, group)
            && is_of(reason.peers, implementation)
            && (reason.parameters.is_empty()
                || reason
                    .parameters
                    .iter()
                    .any(|pattern| contains(parameter, pattern)))
    });
    reason.map(|reason| reason.why)
}

/// Whether these parts, with `*` between them, stand in the text in that order.
fn contains(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    parts
        .try_fold(text, |rest, part| {
            rest.split_once(part).map(|(_, rest)| rest)
        })
        .is_some()
}

fn parts(id: &str) -> Option<[&str; 3]> {
    let (group, rest) = id.split_once('/')?;
    let (implementation, parameter) = rest.split_once('/')?;
    Some([group, implementation, parameter])
}

/// Which cases it explains; an empty list stands for all. The first that fits is the one.
struct Reason {
    groups: &'static [&'static str],
    peers: &'static [&'static str],
    /// Parts of the parameter; `*` stands for anything between two.
    parameters: &'static [&'static str],
    why: &'static str,
}

const SHARED: &[&str] = &["tokio_broadcast", "async_broadcast", "bus", "tokio_watch"];

const REASONS: &[Reason] = &[
    Reason {
        groups: &[
            "publish_and_receive",
            "ring",
            "fan_out",
            "burst",
            "burst_to_512",
        ],
        peers: &["tokio_watch"],
        parameters: &[],
        why: "tokio watch keeps the newest value only: of a burst, each receiver takes one update, and the publisher writes one place. \
            Take it where the steps between do not matter.",
    },
    Reason {
        groups: &["fan_out", "burst", "burst_to_512"],
        peers: SHARED,
        parameters: &[],
        why: "One ring for all: the publisher writes each update once, O(1) in the number of receivers, where a ring of one's own takes a \
            write for each subscription. It pays when they receive, and they share its fate: the slowest loses updates or blocks everybody.",
    },
    Reason {
        groups: &[
            "fan_out",
            "burst",
            "burst_to_512",
            "publish_and_receive",
            "ring",
        ],
        peers: &["rtrb", "crossbeam_channel", "flume"],
        parameters: &[],
        why: "With few subscribers or few updates, what is left here is the commit: a version that anybody can read as a snapshot takes a few \
            allocations and a swap of the head, where a channel moves one pointer. A burst published as a batch shares that cost.",
    },
    Reason {
        groups: &["contended", "throughput"],
        peers: &[],
        parameters: &[],
        why: "A send to a broadcast or a watch is a short critical section. A publish here makes a version, and makes it anew when another publisher was \
            faster; nobody waits for a lock, and nobody starves, at the price of fewer publishes a second.",
    },
    Reason {
        groups: &["parked"],
        peers: &[],
        parameters: &["publish"],
        why: "A broadcast keeps one list of all that wait and wakes along it. Here each subscription is looked after by itself, so that one can \
            lag or leave without the others, and its waker is a cache line of its own. Until all have received it, ours is ahead again.",
    },
    Reason {
        groups: &["subscribe", "memory"],
        peers: SHARED,
        parameters: &[],
        why: "A receiver of a shared ring is a position in it: there is next to nothing to make, to keep or to give back. Here a subscriber gets a \
            ring of its own, and its first snapshot.",
    },
    Reason {
        groups: &["subscribe"],
        peers: &[],
        parameters: &[],
        why: "Opening a channel allocates it, and the publisher puts it at the end of a list. Here a subscriber also gets its first snapshot, and \
            a place in the registry, from where it can leave without anybody looking for it.",
    },
    Reason {
        groups: &["memory"],
        peers: &[],
        parameters: &[],
        why: "flume allocates for what is waiting, not for the capacity; rtrb's ring has no account, no waker and no place in a registry.",
    },
    Reason {
        groups: &["allocations"],
        peers: &[],
        parameters: &[],
        why: "A channel allocates the updates and nothing else. A publish here makes a version and the lists of a round besides: a few allocations \
            more, whatever the number of updates and subscribers.",
    },
    Reason {
        groups: &["snapshot"],
        peers: &["naive"],
        parameters: &["cold_"],
        why: "The first snapshot of settings that were never encoded: each gets a place that keeps its encoding from then on, which is an allocation \
            a setting. Of a few hundred settings that costs more than it saves; of some thousand, building generated types costs more. Every \
            later snapshot is put together of what was kept, or handed out whole.",
    },
    Reason {
        groups: &["head"],
        peers: &["tokio_watch"],
        parameters: &[],
        why: "Reading a watch takes an uncontended lock, in one thread as cheap as arc-swap's load, which adds a look at the thread's own slot. \
            Its writer waits for readers, and they for it; a head's does not.",
    },
    Reason {
        groups: &["latency", "wire_latency"],
        peers: &[],
        parameters: &["/p99.9", "/max"],
        why: "So rare a latency is the scheduler's and the machine's, for every implementation alike; another run may show it the other way round.",
    },
    Reason {
        groups: &["latency"],
        peers: &["crossbeam_channel", "flume", "rtrb"],
        parameters: &[],
        why: "Between due and received there is a commit here (a version, three allocations, a swap), and in a channel one slot to write. Where the \
            receiver sleeps, waking it is nearly all, for both.",
    },
    Reason {
        groups: &["latency"],
        peers: &["tokio_broadcast", "async_broadcast"],
        parameters: &[],
        why: "A broadcast's send writes one slot and wakes; a publish makes a version first, which takes well under a microsecond. What is lost beyond \
            that is lost in waking the thread that drives the future. In one run it was some microseconds, in another nothing (17.9 µs \
            for both); we have not taken apart why.",
    },
    Reason {
        groups: &["least_share", "throughput_share"],
        peers: &[],
        parameters: &[],
        why: "Quotients: of what one publisher does alone, and of an even share. Where publishers outnumber the cores, which of them run together \
            decides about both as much as the implementation does.",
    },
    Reason {
        groups: &["latency_ratio"],
        peers: &[],
        parameters: &[],
        why: "An implementation's own p99 beside a hundred stalled subscribers, by without them. Here they add a look at a flag of each; a shared ring \
            has not even that to do. Where the receiver sleeps, p99 is the scheduler's, with and without them.",
    },
    Reason {
        groups: &["missed"],
        peers: &[],
        parameters: &[],
        why: "Where a receiver falls behind by more than its ring, a snapshot stands in here for all that it missed. A channel that is drained faster, \
            or filled more slowly, misses less; what it misses is lost.",
    },
    Reason {
        groups: &["wire_publish_p50", "wire_publish_p99"],
        peers: &["naive_tonic"],
        parameters: &[],
        why: "The publisher here makes a version of all settings, puts the update into the ring of each stream, and wakes each connection once. A \
            broadcast writes one ring, whatever the number of streams, and its cost comes when each stream has encoded and written the \
            update. Per update delivered, the server's processor time says who spends less in all.",
    },
    Reason {
        groups: &["wire_publish_p50", "wire_publish_p99"],
        peers: &["go"],
        parameters: &[],
        why: "A publish there replaces one setting under a lock, which keeps everybody else out, and sends to the channel of each stream; no version \
            is made that others could go on reading. With few streams, or where nobody has to be woken, that is less work; with hundreds \
            that wait it is more.",
    },
    Reason {
        groups: &["wire_latency"],
        peers: &[],
        parameters: &["paced_*/p99", "paced_*x10_*/p90", "paced_*x8_*/p90"],
        why: "The tail of a paced run. Server, publisher and readers share two cores, and the slowest of ten or a hundred updates are those for which \
            somebody waited for a core, as long as the scheduler let another have it. From run to run it goes either way; what an \
            implementation does shows in the median, and in the processor time.",
    },
    Reason {
        groups: &["wire_delivered"],
        peers: &[],
        parameters: &["paced_"],
        why: "Paced, all deliver what is published. What is left is how far the last update's arrival is from when it was due: the fourth digit.",
    },
    Reason {
        groups: &["wire_cpu", "wire_latency", "wire_writes", "wire_delivered"],
        peers: &[],
        parameters: &["saturated_1x1_", "saturated_100x100_"],
        why: "As fast as it goes, to streams with a connection of their own, the publisher sets the pace: a publish here makes a version of 350 \
            settings, which takes a microsecond or two, and a send a third of that. So fewer updates are waiting whenever a stream writes: each \
            write, whose cost is the kernel's, carries fewer of them. Publisher, server and reader share two cores besides; tails of \
            some milliseconds are their turns.",
    },
    Reason {
        groups: &["wire_cpu", "wire_latency", "wire_writes"],
        peers: &[],
        parameters: &["_100x100_", "_1x1_"],
        why: "Paced, with one stream on a connection, there is nothing to gather: each update is a write to a socket of its own, whose cost in the kernel \
            is the same for every server and most of the whole. What is gained by encoding once is lost in it.",
    },
    Reason {
        groups: &["wire_pauses"],
        peers: &[],
        parameters: &[],
        why: "What the publishing thread takes to fall asleep and to wake, which is no server's doing: waking costs more on a processor that has \
            idled meanwhile, and one that is kept busy has not.",
    },
    Reason {
        groups: &["wire_stalled_memory"],
        peers: &["go"],
        parameters: &[],
        why: "HTTP/2 here takes 16 KiB of a stream ahead of the socket, the next piece, of as much, waits behind that, and some is the allocator's from \
            the flood before. A handler there waits for the socket itself, with one frame in hand and up to 100 in its channel. Both are \
            bounded, whatever passes.",
    },
    Reason {
        groups: &["wire_join", "wire_memory"],
        peers: &[],
        parameters: &["_1x1_", "_100x"],
        why: "With few streams, it is the process's first connection that is measured: buffers and tables that grow once, and pages that the allocator \
            keeps. Compare where a thousand streams join.",
    },
    Reason {
        groups: &["wire_resyncs"],
        peers: &["go"],
        parameters: &[],
        why: "The classic design never resynchronises: an update that meets a full channel is lost.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_group_peer_and_parameter() {
        let shared = why("fan_out", "bus", "512").unwrap();
        assert!(shared.starts_with("One ring for all"), "{shared}");
        let single = why("fan_out", "rtrb", "1").unwrap();
        assert!(single.contains("commit"), "{single}");
        let tail = why("latency", "crossbeam_channel", "paced-parked/p99.9").unwrap();
        assert!(tail.contains("scheduler"), "{tail}");
        for (group, peer, parameter, part) in [
            (
                "wire_latency",
                "naive_tonic",
                "paced_1000_100x10_unix/p99",
                "The tail of a paced run",
            ),
            (
                "wire_latency",
                "naive_tonic",
                "paced_1000_100x10_unix/p99.9",
                "So rare",
            ),
            (
                "wire_latency",
                "naive_tonic",
                "paced_1000_1x1_tcp/p90",
                "nothing to gather",
            ),
            (
                "wire_publish_p50",
                "go",
                "paced_1000_1x1_tcp",
                "under a lock",
            ),
            (
                "wire_publish_p50",
                "naive_tonic",
                "saturated_1x1_tcp",
                "broadcast",
            ),
            (
                "wire_writes",
                "naive_tonic",
                "saturated_100x100_tcp",
                "sets the pace",
            ),
        ] {
            let why = why(group, peer, parameter).unwrap_or("nothing");
            assert!(why.contains(part), "{group}/{peer}/{parameter}: {why}");
        }
        for (group, peer, parameter) in [
            ("wire_cpu", "go", "saturated_100x10_tcp"),
            ("wire_latency", "naive_tonic", "saturated_100x10_tcp/p99"),
            ("wire_latency", "naive_tonic", "paced_1000_100x10_tcp/p50"),
        ] {
            assert_eq!(why(group, peer, parameter), None);
        }
    }
}
