//! The bytes of a connection after its TLS handshake. Input: a byte that says whether HTTP/2's
//! preface goes first, and the bytes.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use configstream_fuzz::Agent;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

thread_local! {
    static AGENT: RefCell<Option<Agent>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    AGENT.with_borrow_mut(|slot| {
        let agent = slot.get_or_insert_with(Agent::start);
        let (reads, writes) = tokio::io::split(agent.connect());
        agent.runtime().block_on(async {
            let talk = async move {
                let mut writes = writes;
                let (preface, bytes) = match data.split_first() {
                    Some((0, bytes)) => (&[][..], bytes),
                    Some((_, bytes)) => (PREFACE, bytes),
                    None => (PREFACE, data),
                };
                let _ = writes.write_all(preface).await;
                let _ = writes.write_all(bytes).await;
                // The peer falls silent, and keeps the connection open.
                writes
            };
            let mut answer = Vec::new();
            let mut reads = reads.take(MOST);
            let listen = reads.read_to_end(&mut answer);
            // The clock jumps: if the server neither answers nor hangs up, this is over at once,
            // and wrong.
            let both = async { tokio::join!(talk, listen) };
            let over = timeout(PATIENCE, both).await;
            assert!(over.is_ok(), "a silent peer keeps its connection");
        });
    });
});

/// Longer than anything that the server waits for.
const PATIENCE: Duration = Duration::from_secs(600);

/// A stream's snapshot, and more.
const MOST: u64 = 1 << 20;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
