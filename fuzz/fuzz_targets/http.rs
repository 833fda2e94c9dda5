//! Requests to the HTTP port. Input: the bytes of a connection.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use configstream_fuzz::Agent;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

thread_local! {
    static AGENT: RefCell<Option<Agent>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    AGENT.with_borrow_mut(|slot| {
        let agent = slot.get_or_insert_with(Agent::start);
        let pages = agent.host().pages.clone();
        agent.runtime().block_on(async {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let mut http = http1::Builder::new();
            http.keep_alive(false).max_buf_size(BUFFER_BYTES);
            let serve =
                http.serve_connection(TokioIo::new(theirs), TowerToHyperService::new(pages));
            let (mut reads, mut writes) = tokio::io::split(ours);
            let talk = async move {
                let _ = writes.write_all(data).await;
                let _ = writes.shutdown().await;
            };
            let mut answer = Vec::new();
            let listen = reads.read_to_end(&mut answer);
            let all = async { tokio::join!(serve, talk, listen) };
            let over = timeout(PATIENCE, all).await;
            assert!(over.is_ok(), "a request keeps its connection");
            assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1."),
                "no answer of HTTP"
            );
        });
    });
});

/// By a clock that jumps when nothing is left to do.
const PATIENCE: Duration = Duration::from_secs(600);

/// As the agent's own port has it.
const BUFFER_BYTES: usize = 16 * 1024;
