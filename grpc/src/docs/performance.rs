//! What the server costs, where the time goes, and what was tried.
//!
//! Figures are from `cargo run --release -p configstream-benches --bin load -- all`: server and readers in processes of
//! their own on a 2-core virtual machine (AMD EPYC, Linux 6, Rust 1.95), updates of 125 bytes, 350 settings, beside a naive
//! server in the same run: tonic's generated service on its stock server, over `tokio::sync::broadcast`. Medians of two
//! or three runs; absolute figures move by a third from run to run, quotients by a tenth or two. Two rows are younger: a
//! connection per stream (six runs, quotients from 1.1 to 2.4 and from 0.38 to 0.86, on a machine that changed its speed
//! between them) and 512 parked streams (four, 0.57 to 0.61).
//!
//! | | this server | naive | quotient |
//! | --- | --- | --- | --- |
//! | saturated, 100 streams over 10 connections, updates delivered per second | 11.0 M | 3.7 M | 2.7 |
//! | … processor time per update, publishing included | 130 ns | 278 ns | 0.37 |
//! | … p99 | 2.3 ms | 3.2 ms | 0.65 |
//! | saturated, with TLS: delivered, processor time, p99 | 8.0 M, 172 ns, 3.0 ms | 3.7 M, 385 ns, 3.8 ms | 2.2, 0.44, 0.69 |
//! | saturated, over a Unix socket: delivered, processor time | 11.2 M, 122 ns | 5.5 M, 246 ns | 1.9, 0.47 |
//! | saturated, a connection per stream: delivered, processor time | 7.7 M, 175 ns | 4.5 M, 316 ns | 1.7, 0.55 |
//! | paced, 1,000 updates a second, 100 over 10: processor time per update | 1.9 µs | 6.2 µs | 0.30 |
//! | … socket writes per publish | 10.0 | 92 | 0.11 |
//! | … p50, p99 | 151 µs, 298 µs | 389 µs, 740 µs | 0.38, 0.40 |
//! | paced, with TLS: processor time, p50 | 2.0 µs, 153 µs | 6.1 µs, 368 µs | 0.25, 0.32 |
//! | paced, over a Unix socket: processor time, p50 | 1.25 µs, 108 µs | 3.15 µs, 215 µs | 0.40, 0.50 |
//! | paced, a connection per stream: processor time, p50 | 6.3 µs, 467 µs | 6.0 µs, 449 µs | 1.0, 1.0 |
//! | publish with 512 parked streams over 8 connections, p50 | 13.9 µs | 23.9 µs | 0.59 |
//! | memory per idle stream, 1,000 over 10 connections, all included | 4.3 KiB | 28 KiB | 0.15 |
//! | 1,000 streams have a snapshot of 350 settings | 15 ms | 55 ms | 0.27 |
//!
//! # What pays
//!
//! * **A connection and its streams are one task.** hyper would spawn a task per stream; the first frame handed over then
//!   wakes the connection, which flushes it before its other streams have run. In one task all streams hand over, then the
//!   connection writes: 10 writes per publish instead of 92. A waker that knows whether its task is polling anyway saves the
//!   poll that handing over would cause.
//! * **A turn's writes leave together.** HTTP/2 writes a frame of 16 KiB at a time. Held back up to 64 KiB until the turn is
//!   over, saturated: 9.2 to 13.2 M updates/s, 156 to 114 ns; with TLS 8.2 to 10.0 M/s, 169 to 135 ns.
//! * **Small frames are gathered to one HTTP/2 frame of 16 KiB.** Gathered to 64 KiB, each buffer came from the system anew:
//!   page faults and `madvise` took a quarter of the time. 6.1 to 8.5 M/s at best.
//! * **A stream's send buffer is 16 KiB.** 64 KiB delivered no more and lengthened the saturated tail.
//! * **A turn reads once, and an idle connection has no large buffer.** HTTP/2's queues never shrink; they held every request
//!   and every first answer of 100 streams that joined at once, 143 KiB a connection, and the 64 KiB that a turn is gathered in
//!   stayed. Idle stream, 1,000 over 10: 6.3 to 4.3 KiB. Of these, counted before: 1 KiB is the ring, 1.1 KiB the
//!   subscription, the stream and its entry in the registry, 0.5 KiB its future, 0.4 KiB HTTP/2's.
//! * **A publish wakes a connection, not its streams.** It nearly always has something for all of them, so their
//!   subscriptions wait at one [`WaitSet`](configstream_engine::WaitSet), and a connection that was woken gives each stream a
//!   turn. Before, each stream stored a waker twice per update, and each publish went through a queue of woken streams. In
//!   alternating runs: publish with 512 parked streams 35 to 15..24 µs (naive 25), with 100 streams over 10 connections 9 to
//!   5 µs (naive 6); paced, processor time per update 1.67 to 1.44 µs over TCP, 1.45..1.8 to 1.3..1.48 over a Unix socket.
//!
//! * **Bytes that are copied are not counted.** Streams on two threads that count references to one frame, or lower the count of
//!   one update while others read it, pull its cache line to and fro. Frames are borrowed for as long as it takes to copy them,
//!   and an update's count is off the line of its value. A connection per stream, saturated, in pairs: 1.13 and 1.04 times the
//!   updates, 0.84 and 0.96 times the processor time. What is left of it is one count for each update and stream, a tenth.
//!
//! # Where the rest goes
//!
//! `perf` on a saturated server, before writes were held back: 43 % in `writev` down to the reader's socket (loopback
//! delivers on the sender's time), 9 % in a body's poll (ring, memo, counters), 8 % in counting references to shared frames
//! from two threads, 5 % in distribution, 3 % in copying frames together; with TLS 7 % in AES-GCM. Paced, nearly all is the
//! kernel's send path, one write per connection: with a connection per stream there is nothing to gather, and this server
//! does no better than the naive one.
//!
//! # Where the naive server wins
//!
//! *Publishing to streams that keep up.* A publisher here puts each update into the ring of each subscription: 512 of them are
//! some 1,500 cache lines that other processes have driven out since the last publish, and two thirds of the time. The ring of
//! a broadcast channel is one. Its publisher has to wake every waiter instead, so with 512 parked streams it takes longer than
//! this one; but with nobody to wake it is O(1), and this one is not. What a publish saves later, per update delivered, is
//! worth ten times that.
//!
//! # What was tried and left
//!
//! * One waker for all streams of a connection, which wakes them itself, one by one through their queue: publish with 512
//!   parked streams 48 to 34 µs (naive 28), but 1.04 to 1.2 µs of processor time per update, and p50 365 to 430 µs.
//! * Fetching the lines of the next rings ahead, by `prefetch` or by looking at sixteen members before serving them: within
//!   the noise, 12..26 µs beside 15..29.
//! * One subscription for all streams of a connection, whose updates they read from a window under a lock: publish with 512
//!   parked streams 14 to 9 µs (naive 24). But saturated, 100 streams over 10 connections took 121 ns in place of 87, and a
//!   connection each 167 in place of 130, medians of interleaved runs, for reasons that are not understood.
//! * Committing on the publisher's thread, and leaving the round to a task: it pays only where a core is free. On two, the
//!   worker that is woken takes the publisher's core before it is through: publish with 512 parked streams 44 to 218 µs in
//!   two runs of three, 34 in the third, and everybody is served later by as much.
