//! The rows: what was asked of engine and server.

use super::Limit;
use super::{
    Limit::{Anything, AtLeast, AtMost, MoreThan, SameAs},
    Reach,
};

const fn reach(what: &'static str, id: &'static str, limit: Limit) -> Reach {
    Reach { what, id, limit }
}

/// Of the engine.
pub(super) const ENGINE: &[Reach] = &[
    reach(
        "distribute, 64 subscriptions, beside the floor, by T(n) − T(1)",
        "distribute_ratio/floor/64",
        AtMost(1.5),
    ),
    reach(
        "distribute, 512 subscriptions, beside the floor, by T(n) − T(1)",
        "distribute_ratio/floor/512",
        AtMost(1.5),
    ),
    reach(
        "… beside rtrb, 64, by T(n) − T(1)",
        "distribute_ratio/rtrb/64",
        AtMost(1.0),
    ),
    reach(
        "… beside rtrb, 512, by T(n) − T(1)",
        "distribute_ratio/rtrb/512",
        AtMost(1.0),
    ),
    reach(
        "… beside crossbeam-channel, 64, by T(n) − T(1)",
        "distribute_ratio/crossbeam_channel/64",
        AtMost(0.25),
    ),
    reach(
        "… beside crossbeam-channel, 512, by T(n) − T(1)",
        "distribute_ratio/crossbeam_channel/512",
        AtMost(0.25),
    ),
    reach(
        "distribute and receive, 64, beside tokio broadcast, by T(n) − T(1)",
        "deliver_ratio/tokio_broadcast/64",
        AtMost(0.5),
    ),
    reach(
        "distribute and receive, 512, beside tokio broadcast, by T(n) − T(1)",
        "deliver_ratio/tokio_broadcast/512",
        AtMost(0.5),
    ),
    reach(
        "distribute, 64 subscriptions, beside the floor, by T(n) − T(0)",
        "distribute_t0_ratio/floor/64",
        AtMost(1.5),
    ),
    reach(
        "distribute, 512 subscriptions, beside the floor, by T(n) − T(0)",
        "distribute_t0_ratio/floor/512",
        AtMost(1.5),
    ),
    reach(
        "… beside rtrb, 64, by T(n) − T(0)",
        "distribute_t0_ratio/rtrb/64",
        AtMost(1.0),
    ),
    reach(
        "… beside rtrb, 512, by T(n) − T(0)",
        "distribute_t0_ratio/rtrb/512",
        AtMost(1.0),
    ),
    reach(
        "… beside crossbeam-channel, 64, by T(n) − T(0)",
        "distribute_t0_ratio/crossbeam_channel/64",
        AtMost(0.25),
    ),
    reach(
        "… beside crossbeam-channel, 512, by T(n) − T(0)",
        "distribute_t0_ratio/crossbeam_channel/512",
        AtMost(0.25),
    ),
    reach(
        "distribute and receive, 64, beside tokio broadcast, by T(n) − T(0)",
        "deliver_t0_ratio/tokio_broadcast/64",
        AtMost(0.5),
    ),
    reach(
        "distribute and receive, 512, beside tokio broadcast, by T(n) − T(0)",
        "deliver_t0_ratio/tokio_broadcast/512",
        AtMost(0.5),
    ),
    reach(
        "publisher alone, 64 updates to 512",
        "fan_out/engine/512",
        Anything,
    ),
    reach(
        "… tokio broadcast, which shares one ring",
        "fan_out/tokio_broadcast/512",
        Anything,
    ),
    reach(
        "commit of one setting among 350",
        "commit/engine/350",
        AtMost(1_000.0),
    ),
    reach(
        "commit of one setting among 35,000",
        "commit/engine/35000",
        AtMost(1_500.0),
    ),
    reach(
        "allocations of a publish to 512, as to 1",
        "allocations/engine/512",
        SameAs("allocations/engine/1"),
    ),
    reach(
        "read the head, borrowed, beside a bare ArcSwap",
        "head_ratio/arc_swap/borrowed",
        AtMost(1.5),
    ),
    reach(
        "publish to 512 parked tasks, beside tokio broadcast",
        "parked_ratio/tokio_broadcast/publish",
        AtMost(0.5),
    ),
    reach(
        "… to 512 subscriptions of eight tasks that wait at wait sets, beside the same",
        "parked_ratio/tokio_broadcast/publish_to_sets",
        Anything,
    ),
    reach(
        "p99 with 100 stalled beside, spinning reader",
        "latency_ratio/engine/paced-spinning-100stalled/p99",
        AtMost(1.05),
    ),
    reach(
        "p99 with 100 stalled beside, parked reader",
        "latency_ratio/engine/paced-parked-100stalled/p99",
        AtMost(1.05),
    ),
    reach(
        "p99 with 100 stalled beside, async reader",
        "latency_ratio/engine/paced-async-100stalled/p99",
        AtMost(1.05),
    ),
    reach(
        "one more stalled subscription, per round: a look at one byte",
        "stalled/engine/100",
        Anything,
    ),
    reach(
        "memory of an idle subscription of 128",
        "memory/engine/idle_subscription",
        AtMost(2_048.0),
    ),
    reach(
        "subscribe and unsubscribe with 10,000 others",
        "subscribe/engine/10000",
        AtMost(5_000.0),
    ),
    reach(
        "4 publishers on 2 cores, beside one",
        "throughput_share/engine/4",
        AtLeast(0.7),
    ),
    reach(
        "… the slowest's part of its fair share",
        "least_share/engine/4",
        MoreThan(0.0),
    ),
];

/// Of the server.
pub(super) const WIRE: &[Reach] = &[
    reach(
        "saturated, 100 streams over 10 connections: delivered, beside the naive server",
        "wire_delivered_ratio/naive_tonic/saturated_100x10_tcp",
        AtLeast(1.5),
    ),
    reach(
        "… processor time per update",
        "wire_cpu_ratio/naive_tonic/saturated_100x10_tcp",
        AtMost(0.6),
    ),
    reach(
        "… p99",
        "wire_latency_ratio/naive_tonic/saturated_100x10_tcp/p99",
        AtMost(1.0),
    ),
    reach(
        "saturated, with TLS: delivered, beside the naive server",
        "wire_delivered_ratio/naive_tonic/saturated_100x10_tcp_tls",
        AtLeast(1.5),
    ),
    reach(
        "… processor time per update",
        "wire_cpu_ratio/naive_tonic/saturated_100x10_tcp_tls",
        AtMost(0.6),
    ),
    reach(
        "… p99",
        "wire_latency_ratio/naive_tonic/saturated_100x10_tcp_tls/p99",
        AtMost(1.0),
    ),
    reach(
        "1,000 updates a second, 100 streams over 10 connections: processor time per update, beside the naive server",
        "wire_cpu_ratio/naive_tonic/paced_1000_100x10_tcp",
        AtMost(0.4),
    ),
    reach(
        "… p50",
        "wire_latency_ratio/naive_tonic/paced_1000_100x10_tcp/p50",
        AtMost(0.7),
    ),
    reach(
        "… socket writes per publish",
        "wire_writes/engine/paced_1000_100x10_tcp",
        AtMost(20.0),
    ),
    reach(
        "1,000 updates a second, with TLS: processor time per update, beside the naive server",
        "wire_cpu_ratio/naive_tonic/paced_1000_100x10_tcp_tls",
        AtMost(0.4),
    ),
    reach(
        "… p50",
        "wire_latency_ratio/naive_tonic/paced_1000_100x10_tcp_tls/p50",
        AtMost(0.7),
    ),
    reach(
        "… socket writes per publish",
        "wire_writes/engine/paced_1000_100x10_tcp_tls",
        AtMost(20.0),
    ),
    reach(
        "1,000 updates a second, over a Unix socket: processor time per update, beside the naive server",
        "wire_cpu_ratio/naive_tonic/paced_1000_100x10_unix",
        AtMost(0.4),
    ),
    reach(
        "… p50",
        "wire_latency_ratio/naive_tonic/paced_1000_100x10_unix/p50",
        AtMost(0.7),
    ),
    reach(
        "… socket writes per publish",
        "wire_writes/engine/paced_1000_100x10_unix",
        AtMost(20.0),
    ),
    reach(
        "publish with 512 parked streams, beside the naive server",
        "wire_publish_p50_ratio/naive_tonic/paced_200_512x8_tcp",
        AtMost(0.5),
    ),
    reach(
        "p99 of streams with 100 stalled beside, by without",
        "wire_latency_stalled_ratio/engine/paced_1000_100x10_tcp_stalled/p99",
        AtMost(1.1),
    ),
    reach(
        "p99 of publishing with 100 stalled streams, by without",
        "wire_publish_p99_stalled_ratio/engine/paced_1000_100x10_tcp_stalled",
        AtMost(1.1),
    ),
    reach(
        "server's memory per stalled stream with a window of 2 GiB, after 200,000 updates",
        "wire_stalled_memory/engine/paced_1000_100x10_tcp_stalled",
        Anything,
    ),
    reach(
        "memory of an idle stream, of 1,000 over 10 connections",
        "wire_memory/engine/paced_50_1000x10_tcp",
        AtMost(5_120.0),
    ),
];
