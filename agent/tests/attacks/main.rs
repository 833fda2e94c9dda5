//! Attacks on a running agent, one test each, and a good client that must notice none of them.
//!
//! While an attack runs, a publisher changes a heartbeat key steadily and a good client follows it,
//! and newcomers register one after another. [`Attack::run`](harness::Attack::run) compares the
//! attack with a calm time of the same process and demands for every attack:
//!
//! * **No gap**: the good client keeps its stream, its sequences are strict, and it sees every
//!   heartbeat that was accepted.
//! * **Bounded delay**: the 99th percentile from due to seen is at most ten times the calm one, or
//!   [`DELAY_FLOOR`](harness::DELAY_FLOOR).
//! * **Room for others**: each newcomer has its snapshot within
//!   [`ENTRY_DEADLINE`](harness::ENTRY_DEADLINE).
//! * **Bounded memory**: the largest resident size of the agent grows by no more than the budget of
//!   the attack.
//! * **Full recovery**: afterwards a new client gets a snapshot, `doctor` finds nothing, the old
//!   stream goes on, and SIGTERM ends the agent in time with exit code 0.
//!
//! ```sh
//! cargo test -p configstream-agent --test attacks                   # short: what `.ci/run tests` runs
//! ATTACKS=full cargo test -p configstream-agent --test attacks      # ten times as long, and larger
//! ```
//!
//! One attack runs at a time, whatever the number of test threads, so that none disturbs the
//! measurement of another. Delays are compared within one process because machines differ and
//! change their speed.

mod files;
mod floods;
#[path = "../../../grpc/tests/support/frames.rs"]
mod frames;
mod harness;
mod heartbeat;
mod limits;
mod links;
mod log;
mod peer;
#[path = "../../../grpc/tests/support/proxy.rs"]
mod proxy;
mod sessions;
mod slow;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
