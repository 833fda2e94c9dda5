//! What the server costs, where the time goes, and what was tried.
//!
//! Figures are from `cargo full`, as stored in `benches/results.json`: server and readers in processes of their own, all on the
//! two cores of a virtual machine, updates of 125 bytes, 350 settings, beside a naive server in the same run: tonic's generated
//! service on its stock server, over `tokio::sync::broadcast`; all with the agent's allocator, jemalloc. Medians of five runs
//! (publishing to parked streams: fifteen), and of the quotient the quartiles. The machine has two speeds, between which it
//! changes by the minute, perhaps as its two processors share a core or not: absolute figures move by as much as a half.
//!
//! | | this server | naive | quotient |
//! | --- | --- | --- | --- |
//! | saturated, 100 streams over 10 connections: updates delivered per second | 19.2 M | 5.95 M | 3.18 (3.09 to 3.33) |
//! | … processor time per update, publishing included | 71.7 ns | 241 ns | 0.30 (0.28 to 0.30) |
//! | … p99 | 1.44 ms | 2.29 ms | 0.63 (0.38 to 0.75) |
//! | saturated, with TLS: delivered | 13.2 M | 5.34 M | 2.45 (2.26 to 2.63) |
//! | … processor time | 94.0 ns | 265 ns | 0.36 (0.33 to 0.41) |
//! | … p99 | 2.74 ms | 2.85 ms | 1.01 (0.99 to 1.03) |
//! | saturated, over a Unix socket: delivered | 18.6 M | 6.25 M | 3.11 (2.97 to 3.46) |
//! | … processor time | 73.9 ns | 228 ns | 0.32 (0.28 to 0.34) |
//! | … p99 | 1.34 ms | 2.51 ms | 0.49 (0.35 to 0.57) |
//! | saturated, a connection per stream: delivered | 11.0 M | 6.01 M | 1.84 (1.82 to 1.86) |
//! | … processor time | 114 ns | 234 ns | 0.48 (0.48 to 0.49) |
//! | … p99 | 1.57 ms | 2.39 ms | 0.67 (0.64 to 0.69) |
//! | saturated, 1,000 streams over 10 connections: delivered | 16.6 M | 5.42 M | 3.09 (3.06 to 3.11) |
//! | … processor time | 89.5 ns | 279 ns | 0.32 (0.31 to 0.32) |
//! | saturated, one stream: delivered | 0.61 M | 0.88 M | 0.75 (0.75 to 0.76) |
//! | paced, 1,000 updates a second, 100 over 10: processor time per update | 1.44 µs | 5.54 µs | 0.26 (0.25 to 0.27) |
//! | … socket writes per publish | 10.0 | 94.0 | 0.11 (0.10 to 0.11) |
//! | … p50 | 118 µs | 329 µs | 0.36 (0.35 to 0.36) |
//! | … p99 | 224 µs | 621 µs | 0.36 (0.35 to 0.37) |
//! | paced, with TLS: processor time | 1.72 µs | 5.89 µs | 0.29 (0.27 to 0.30) |
//! | … p50 | 132 µs | 371 µs | 0.36 (0.34 to 0.36) |
//! | paced, over a Unix socket: processor time | 1.38 µs | 3.32 µs | 0.37 (0.37 to 0.42) |
//! | … p50 | 109 µs | 225 µs | 0.49 (0.46 to 0.49) |
//! | … p99 | 367 µs | 460 µs | 0.63 (0.49 to 0.80) |
//! | paced, a connection per stream: processor time | 6.13 µs | 6.03 µs | 1.00 (0.81 to 1.09) |
//! | … p50 | 431 µs | 452 µs | 0.95 (0.73 to 1.03) |
//! | publish with 512 parked streams over 8 connections, p50 | 10.4 µs | 23.8 µs | 0.42 (0.41 to 0.44) |
//! | memory per idle stream, 1,000 over 10 connections, all included | 4.14 KiB | 28.9 KiB | 0.14 (0.14 to 0.14) |
//! | 1,000 streams have a snapshot of 350 settings | 14.0 ms | 43.9 ms | 0.39 (0.30 to 0.39) |
//!
//! Beside 100 streams that have stopped reading with windows of 2 GiB, after 200,000 updates have passed them, compared with a
//! run without them, in seven pairs: p99 of the others 1.02 times (0.98 to 1.16), p99 of publishing 1.00 times (0.93 to 1.33), its
//! p50 1.09 times. Each holds 188 to 220 KiB of the server's memory, half of which is free and goes back to the system after ten
//! seconds: with the C library's allocator it was 92 to 105 KiB.
//!
//! With TLS the saturated p99 is no better than the naive server's, for 2.45 times the updates. Before the allocator, which serves
//! both, it was 0.56 times, for 2.21 times the updates.
//!
//! Of the 10 µs that a publish to 512 parked streams takes where the machine is quick, 3.3 are the system call that wakes the
//! first of the runtime's threads, which the naive server makes, too; 3.1 to 4 are the rings, 1.9 the commit, 0.5 letting go of
//! the version before, 0.4 the other seven wake-ups. Where it is slow, all but the system call take twice as long: 15 to 20 µs
//! beside 27 to 31. Five runs in a row see one speed, and gave 0.40 to 0.62 times in five measurements; fifteen, which the long
//! run takes, 0.42 and 0.50.
//!
//! Since then a publish has got shorter, measured on another machine, where it is cold from one publish to the next, and which
//! changes its speed by a factor of three: of 19 µs where it was 24 in alternating runs, the first wake took 6.4, `apply` 3.9, the
//! rings 3.6, letting go 1.5, the other wakes 0.9. What is left goes by the number of cache lines and of instructions, not by what
//! these do: 245 lines of code and 151 of data for a commit. Then the rings of a connection became one, a publish came to
//! [go over fewer lines](configstream_engine::docs::performance#where-the-time-of-a-commit-goes), a peer that reads a Unix socket
//! woke nobody any more, and a stream of events lost its boxes. The same on that machine, of e65fa5a, processor time without the
//! publisher's pauses, which the table above has in it ([more on these](#where-the-rest-goes)):
//!
//! | | this server | naive | quotient |
//! | --- | --- | --- | --- |
//! | saturated, 100 streams over 10 connections: updates delivered per second | 12.8 M | 3.59 M | 3.54 (3.51 to 3.66) |
//! | … processor time per update, publishing included | 98.3 ns | 376 ns | 0.26 (0.26 to 0.26) |
//! | … p99 | 1.71 ms | 3.57 ms | 0.49 (0.46 to 0.56) |
//! | saturated, with TLS: delivered | 8.53 M | 3.06 M | 2.84 (2.82 to 2.93) |
//! | … processor time | 128 ns | 428 ns | 0.30 (0.29 to 0.30) |
//! | … p99 | 3.91 ms | 4.73 ms | 0.83 (0.78 to 0.96) |
//! | saturated, over a Unix socket: delivered | 12.9 M | 3.68 M | 3.46 (3.28 to 3.47) |
//! | … processor time | 94.9 ns | 347 ns | 0.27 (0.27 to 0.27) |
//! | … p99 | 2.23 ms | 3.40 ms | 0.63 (0.62 to 0.65) |
//! | saturated, a connection per stream: delivered | 6.76 M | 3.41 M | 2.00 (1.99 to 2.03) |
//! | … processor time | 170 ns | 386 ns | 0.44 (0.44 to 0.44) |
//! | … p99 | 2.67 ms | 3.78 ms | 0.71 (0.71 to 0.74) |
//! | saturated, 1,000 streams over 10 connections: delivered | 13.1 M | 3.53 M | 3.59 (3.57 to 3.72) |
//! | … processor time | 102 ns | 387 ns | 0.27 (0.26 to 0.27) |
//! | saturated, one stream: delivered | 0.73 M | 0.57 M | 1.28 (1.02 to 1.35) |
//! | … processor time | 2.15 µs | 1.20 µs | 1.79 (1.43 to 2.30) |
//! | paced, 1,000 updates a second, 100 over 10: processor time per update | 2.51 µs | 8.11 µs | 0.33 (0.24 to 0.33) |
//! | … of pauses, beside it | 0.28 µs | 0.26 µs | |
//! | … socket writes per publish | 10.0 | 82.5 | 0.12 (0.12 to 0.12) |
//! | … p50 | 220 µs | 591 µs | 0.40 (0.33 to 0.41) |
//! | … p99 | 479 µs | 1.15 ms | 0.42 (0.24 to 0.44) |
//! | paced, with TLS: processor time | 3.06 µs | 9.00 µs | 0.32 (0.32 to 0.34) |
//! | … p50 | 264 µs | 637 µs | 0.40 (0.38 to 0.44) |
//! | paced, over a Unix socket: processor time | 2.07 µs | 6.41 µs | 0.33 (0.32 to 0.35) |
//! | … of pauses, beside it | 0.33 µs | 0.37 µs | |
//! | … socket writes per publish | 9.99 | 88.7 | 0.11 (0.11 to 0.12) |
//! | … p50 | 223 µs | 510 µs | 0.45 (0.42 to 0.48) |
//! | … p99 | 421 µs | 912 µs | 0.46 (0.45 to 0.48) |
//! | paced, a connection per stream: processor time | 9.75 µs | 10.1 µs | 1.00 (0.96 to 1.01) |
//! | … p50 | 757 µs | 828 µs | 0.97 (0.97 to 1.02) |
//! | publish with 512 parked streams over 8 connections, p50 | 15.1 µs | 36.5 µs | 0.42 (0.38 to 0.45) |
//! | memory per idle stream, 1,000 over 10 connections, all included | 3.53 KiB | 28.8 KiB | 0.12 (0.12 to 0.12) |
//! | 1,000 streams have a snapshot of 350 settings | 20.6 ms | 82.3 ms | 0.25 (0.25 to 0.26) |
//!
//! Its figures of the engine alone are not comparable: the floor itself takes 2.3 times as long to distribute. Paced over a Unix
//! socket, fourteen times fifteen runs just before, with the pauses: 0.37 to 0.44, in the middle 0.40.
//!
//! Beside 100 stalled streams, by without: p99 of the others 1.10 in the seven pairs of that run (0.87 to 1.15), 0.98 and 1.04 in
//! fifteen pairs after it (0.93 to 1.15); of publishing 0.91, 1.08 and 0.98 (0.81 to 1.33). A stalled stream holds 131 to 150 KiB.
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
//!   That a round looks at each set once, and not at the subscriptions' own waiters, came later: 14.3 to 11.4 µs, with 512.
//! * **A connection is one subscription.** Its streams are readers of a
//!   [`SharedSubscription`](configstream_engine::SharedSubscription): a publisher fills one ring for each connection, and the
//!   stream that comes first takes an update out of it for all. In alternating runs: publish with 512 parked streams over 8
//!   connections 0.81 of the time (0.75 to 1.19, the middle of three such measurements: 0.90, 0.81, 0.74), saturated, 100 over 10,
//!   0.92 and 0.99 of the processor time, since references to an update are counted once a connection; a connection per stream
//!   1.09, for the step between; an idle stream 4.1 to 3.65 KiB. The streams' lock is held for as long as a piece takes to fill.
//!   Taken for each update, as an earlier attempt had it, it cost 1.34 of the saturated processor time.
//! * **What may end a connection is polled when it was woken.** A turn polled two cancellations and a timer with it, behind locks
//!   that all connections share: 0.98 times the paced processor time without, in sixteen alternating runs over a Unix socket,
//!   and 0.98 in fourteen over TCP (±4 %).
//! * **A peer that reads a Unix socket wakes nobody.** Linux tells whoever watches such a socket for room after every read of the
//!   peer; over TCP it tells who found none. With ten connections a publish was followed by nine such events, for which the
//!   runtime's threads woke: 2.3 `epoll_wait` and 1.5 writes to wake the first of them per publish, 1.6 and 1.3 without. Paced
//!   over a Unix socket 0.92 times the processor time (30 alternating runs, quartiles 0.86 and 0.99).
//! * **A stream of events has no box around it.** tonic's router puts a body into three, one in the other, and each is a call and
//!   a copy of what it gives, twice a turn. HTTP/2 is given it as it is: 0.97 (14 alternating runs, quartiles 0.92 and 1.07).
//! * **An allocator for threads that free what others took.** An update, its frame and a version's nodes are taken by who
//!   publishes and freed by who serves. With jemalloc in place of the C library's, in alternating runs: saturated, 100 over 10,
//!   13.6 to 18.3 M updates/s and 114 to 70 ns; paced over a Unix socket 1.49 to 1.35 µs, over TCP alike; publish with 512 parked
//!   11.5 to 10.0 µs; idle stream 4.5 to 4.1 KiB. The naive server gains, too, but less.
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
//! Paced, much of the rest goes into falling asleep and waking. On a virtual machine whose processors are given back to the host
//! when idle, that takes a thread 36 µs a time, whatever else it does, and a publish to 100 streams 220 in all. The pauses of the
//! thread that publishes are the load's, and therefore measured apart; the first table has them in, at both servers. Over a Unix
//! socket, thirteen times fifteen runs, 0.32 to 0.40 of the naive server's processor time, in the middle 0.36; with them, in six
//! of these, 0.39 to 0.42. tokio wakes a second thread as soon as the first has found something to do. With one thread (`TOKIO_WORKER_THREADS=1`) this server takes 0.82 of the
//! processor time there (0.71 to 0.89), pauses included, at the same p50, and the naive one 0.92: worth setting where cores are
//! few, and updates are, too.
//!
//! # Where the naive server wins
//!
//! *Publishing to streams that keep up.* A publisher here puts each update into a ring for each connection, on cache lines that
//! other processes have driven out since the last publish. The ring of a broadcast channel is one. Its publisher has to wake
//! every waiter instead, so with 512 parked streams it takes longer than this one; but with nobody to wake it is O(1), and this
//! one is not. What a publish saves later, per update delivered, is worth ten times that.
//!
//! *One stream, as fast as it goes.* A publish here makes a version of 350 settings and takes a microsecond or two, a send a third
//! of that: the publisher sets the pace, each write carries fewer updates, and 0.75 times as many arrive.
//!
//! # What was tried and left
//!
//! * One waker for all streams of a connection, which wakes them itself, one by one through their queue: publish with 512
//!   parked streams 48 to 34 µs (naive 28), but 1.04 to 1.2 µs of processor time per update, and p50 365 to 430 µs.
//! * Fetching the lines of the next rings ahead, by `prefetch` or by looking at sixteen members before serving them: within
//!   the noise, 12..26 µs beside 15..29.
//! * Sparing a connection's task the second poll that what its streams hand over wakes it for (counted: two polls a publish): 0.98,
//!   0.99 and 1.09 of the paced processor time over TCP, 1.01, 1.06 and 1.11 over a Unix socket. The polls are spared, and half of
//!   what threads steal from each other; but then it is the publisher's core that its first wake gives away, a publish takes 57 µs
//!   in place of 10, and threads fall asleep in between as often as before (2.9 and 3.0 times a publish). Why, is the kernel's.
//! * That, and one wake from the publisher, of a connection that wakes the others: asleep 2.4 times a publish, and 1.00 of the
//!   processor time; a publish takes 120 µs.
//! * Connections that stay on a thread of their own runtime, over a Unix socket: with one such thread 0.90 of the processor time,
//!   with two 1.04, and publishing takes 1.5 and 3 times as long: a runtime of one thread is woken by a system call for each task.
//! * A connection that lets the others of its thread gather before it writes, so that the writes of a publish follow each other and
//!   readers are woken less often: 1.01 of the paced processor time over a Unix socket, 1.13 of the p50.
//! * A second tree of settings, of the version before last, in which the next change is made in place: no difference. It copies no
//!   path, but has to make up for the change before.
//! * A body that does not look again for updates within the turn in which it found no more: 1.00 of the paced processor time.
//! * One frame alone copied, too, so that two threads do not count it: 1.00 to 1.03; into the allocation of its owner 0.99.
//! * The binary's code on a huge page, and its functions in the order in which a publish runs them: no difference to a publish.
//! * One task that a publish wakes, and that gives each connection a turn: publish with 512 parked streams 15 to 13.6 µs, but
//!   paced, 100 over 10, 1.06 (Unix socket) to 1.22 (TCP) times the processor time, and a publish of 4 µs took 45, since the
//!   worker that is woken takes the publisher's core. With a connection each, publishing took 0.77 times as long, all else the
//!   same.
//! * Slots of several rings side by side, in one line each for eight rings of a connection; a table of members with half as many
//!   lines; fetching lines ahead for writing: with rings of 1 KiB none of them shortened a round by more than a fifth, on a machine
//!   where it took three times as long as it should. What took the time were the pages. With rings that begin with eight slots,
//!   the rings took 1.5, 1.0 and 0.9 times as long: small rings lie one behind the other, where the processor fetches them ahead.
//! * Positions of rings that are not stored with each push, but follow from one count of all pushes: no difference.
//! * A binary built for size, or with whole-program optimisation: 1.2 and 0.94 times of a publish, both within the noise.
//! * Transparent huge pages for the allocator: 0.8 times of a publish with 512 parked streams, there, and 0.9 at the naive server;
//!   but memory in steps of 2 MiB.
//! * mimalloc: 9.3 µs for a publish to 512 and otherwise as jemalloc, but 12 KiB an idle stream (version 3; version 2: 5.1 KiB).
//! * Committing on the publisher's thread, and leaving the round to a task: it pays only where a core is free. On two, the
//!   worker that is woken takes the publisher's core before it is through: publish with 512 parked streams 44 to 218 µs in
//!   two runs of three, 34 in the third, and everybody is served later by as much.
