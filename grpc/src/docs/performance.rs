//! What the server costs, where the time goes, and what was tried.
//!
//! Figures are from `cargo full`, as stored in `benches/results.json`: server and readers in processes of their own, all on the
//! two cores of a virtual machine, updates of 125 bytes, 350 settings, beside a naive server in the same run: tonic's generated
//! service on its stock server, over `tokio::sync::broadcast`. Medians of five runs, and of the quotient the quartiles. The
//! machine has two speeds, between which it changes by the minute, perhaps as its two processors share a core or not: absolute
//! figures move by as much as a half.
//!
//! | | this server | naive | quotient |
//! | --- | --- | --- | --- |
//! | saturated, 100 streams over 10 connections: updates delivered per second | 9.78 M | 4.29 M | 2.34 (2.31 to 2.63) |
//! | … processor time per update, publishing included | 150 ns | 340 ns | 0.44 (0.36 to 0.44) |
//! | … p99 | 1.32 ms | 2.76 ms | 0.43 (0.42 to 0.44) |
//! | saturated, with TLS: delivered | 8.4 M | 3.9 M | 2.21 (2.08 to 2.29) |
//! | … processor time | 161 ns | 362 ns | 0.45 (0.45 to 0.47) |
//! | … p99 | 2.24 ms | 3.69 ms | 0.56 (0.54 to 0.64) |
//! | saturated, over a Unix socket: delivered | 15.7 M | 4.79 M | 2.69 (2.34 to 3.28) |
//! | … processor time | 87.7 ns | 298 ns | 0.36 (0.29 to 0.43) |
//! | … p99 | 1.1 ms | 3.46 ms | 0.36 (0.36 to 0.41) |
//! | saturated, a connection per stream: delivered | 9.74 M | 4.72 M | 1.83 (1.83 to 2.07) |
//! | … processor time | 131 ns | 294 ns | 0.50 (0.46 to 0.51) |
//! | … p99 | 1.64 ms | 2.9 ms | 0.58 (0.55 to 0.64) |
//! | saturated, 1,000 streams over 10 connections: delivered | 17.3 M | 5.84 M | 2.99 (2.88 to 2.99) |
//! | … processor time | 83 ns | 254 ns | 0.34 (0.31 to 0.35) |
//! | saturated, one stream: delivered | 0.30 M | 0.57 M | 0.53 (0.50 to 0.55) |
//! | paced, 1,000 updates a second, 100 over 10: processor time per update | 1.66 µs | 5.78 µs | 0.29 (0.28 to 0.30) |
//! | … socket writes per publish | 9.98 | 93.9 | 0.11 (0.11 to 0.11) |
//! | … p50 | 134 µs | 351 µs | 0.38 (0.37 to 0.38) |
//! | … p99 | 278 µs | 669 µs | 0.40 (0.37 to 0.41) |
//! | paced, with TLS: processor time | 1.65 µs | 6.45 µs | 0.26 (0.24 to 0.28) |
//! | … p50 | 130 µs | 390 µs | 0.36 (0.30 to 0.36) |
//! | paced, over a Unix socket: processor time | 1.54 µs | 3.41 µs | 0.41 (0.40 to 0.42) |
//! | … p50 | 121 µs | 224 µs | 0.53 (0.50 to 0.53) |
//! | … p99 | 262 µs | 468 µs | 0.56 (0.55 to 0.64) |
//! | paced, a connection per stream: processor time | 6.17 µs | 5.87 µs | 1.05 (1.04 to 1.13) |
//! | … p50 | 430 µs | 433 µs | 1.02 (0.97 to 1.05) |
//! | publish with 512 parked streams over 8 connections, p50 | 14.6 µs | 25.2 µs | 0.57 (0.56 to 0.58) |
//! | memory per idle stream, 1,000 over 10 connections, all included | 4.45 KiB | 28.1 KiB | 0.16 (0.16 to 0.16) |
//! | 1,000 streams have a snapshot of 350 settings | 13.7 ms | 59.3 ms | 0.26 (0.22 to 0.27) |
//!
//! Beside 100 streams that have stopped reading with windows of 2 GiB, after 200,000 updates have passed them, compared with a
//! run without them, in fifteen pairs (`load all --exact --only paced_1000_100x10_tcp_stalled --runs 1 --pairs 15`): p99 of the
//! others 0.98 times (0.84 to 1.24), p99 of publishing 0.94 times (0.72 to 1.06). The seven pairs of the stored run had 0.88
//! (0.55 to 1.27) and 1.16 (1.01 to 1.67), and p50 of publishing 1.14 times: a publish looks at one flag of each, a cache line
//! that others have driven out. Each holds 92 to 105 KiB of the server's memory.
//!
//! In a run at the machine's other speed a publish to 512 parked streams took 18.6 µs beside 60.4, 0.28 times (0.26 to 0.65).
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
//! * **A piece tells when HTTP/2 lets go of it.** HTTP/2 takes a piece before there is a window for it, and asks for the next
//!   when there was one for a part. So that a wait for all streams, and the look for stalled ones, can trust what they see,
//!   each piece has an owner: an allocation a piece, which is one a stream and publish when paced, and one in a hundred updates
//!   saturated. A stream that was left with nothing is spared the second turn that handing over would ask for. Both together:
//!   paced 0.93 (Unix socket) and 0.99 (TCP) times the processor time of before, saturated 0.92, medians of three or four pairs.
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
//! *One stream, as fast as it goes.* A publish here makes a version of 350 settings and takes a microsecond or two, a send a third
//! of that: the publisher sets the pace, each write carries fewer updates, and 0.53 times as many arrive.
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
//! * One task that a publish wakes, and that gives each connection a turn: publish with 512 parked streams 15 to 13.6 µs, but
//!   paced, 100 over 10, 1.06 (Unix socket) to 1.22 (TCP) times the processor time, and a publish of 4 µs took 45, since the
//!   worker that is woken takes the publisher's core. With a connection each, publishing took 0.77 times as long, all else the
//!   same.
//! * Looking at the waiters of a wait set's subscriptions only if somebody ever waited at one by itself, and slots that the
//!   publisher finds without looking at the ring's own line: 3 and 2 % of a publish with 512 parked streams.
//! * Other allocators, preloaded: with mimalloc 1.15 times the updates saturated, 0.89 times the processor time paced over a
//!   Unix socket, 13 µs for a publish to 512 (0.50 to 0.55 of the naive server with the same), but 5.1 KiB an idle stream;
//!   with jemalloc 1.18 times, 1.04 times, 12.5 µs, and 3.9 KiB. Three pairs each. Not decided: it is the program's choice, and
//!   ours is the system's.
//! * Committing on the publisher's thread, and leaving the round to a task: it pays only where a core is free. On two, the
//!   worker that is woken takes the publisher's core before it is through: publish with 512 parked streams 44 to 218 µs in
//!   two runs of three, 34 in the third, and everybody is served later by as much.
