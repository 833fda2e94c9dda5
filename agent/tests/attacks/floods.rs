//! Floods of HTTP/2 frames, with the certificate and the token; and of handshakes, without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use configstream_grpc::Registration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, setting,
};
use crate::harness::{Attack, Target};
use crate::peer::{Answers, Way, each, flood};

const HOSTNAME: &str = "/datadog.api.v1.Agent/GetHostname";
const STREAM: &str = "/datadog.api.v1.AgentSecure/StreamConfigEvents";

/// Frames that go out in one write.
const TOGETHER: usize = 64;

/// What floods on this many connections may cost: the transport's buffers, TLS included, and the
/// queues of HTTP/2.
const BUDGET_MIB: u64 = 32;

const CONNECTIONS: usize = 4;

fn attack() -> Attack {
    Attack::new().memory_mib(BUDGET_MIB)
}

/// A frame that is the same each time, on no stream.
fn repeated(target: &Target, kind: u8, payload: &'static [u8], answers: Answers) {
    flood(target, CONNECTIONS, answers, move |_| {
        move |bytes: &mut Vec<u8>| {
            for _ in 0..TOGETHER {
                frame(bytes, kind, 0, 0, payload);
            }
        }
    });
}

/// Requests, each followed by what `then` says of its stream.
fn requests(target: &Target, path: &'static str, answers: Answers, then: fn(&mut Vec<u8>, u32)) {
    let session = session(target);
    flood(target, CONNECTIONS, answers, move |way| {
        let block = way.headers(path, &session);
        let mut stream = 1;
        move |bytes: &mut Vec<u8>| {
            for _ in 0..TOGETHER {
                frame(bytes, HEADERS, END_HEADERS, stream, &block);
                then(bytes, stream);
                stream += 2;
            }
        }
    });
}

/// A request that stays open, and then frames of its stream without end.
fn on_a_stream(target: &Target, kind: u8, payload: &'static [u8]) {
    flood(target, CONNECTIONS, Answers::Read, move |way| {
        let block = way.headers(HOSTNAME, "");
        let mut begun = false;
        move |bytes: &mut Vec<u8>| {
            if !std::mem::replace(&mut begun, true) {
                frame(bytes, HEADERS, END_HEADERS, 1, &block);
            }
            for _ in 0..TOGETHER {
                frame(bytes, kind, 0, 1, payload);
            }
        }
    });
}

fn session(target: &Target) -> String {
    target.runtime.block_on(async {
        let client = target.connector.connect().await.unwrap();
        client
            .register(&Registration::new("flood"))
            .await
            .unwrap()
            .id
    })
}

#[test]
fn rapid_resets_slow_nobody() {
    let cancel = |bytes: &mut Vec<u8>, stream| {
        frame(bytes, RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    };
    attack().run(|target| requests(target, HOSTNAME, Answers::Read, cancel));
}

#[test]
fn rapid_resets_of_streams_of_events_slow_nobody() {
    attack().run(|target| {
        requests(target, STREAM, Answers::Read, |bytes, stream| {
            frame(bytes, DATA, END_STREAM, stream, &[0; 5]);
            frame(bytes, RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        });
    });
}

#[test]
fn requests_of_many_streams_without_end_slow_nobody() {
    attack().run(|target| {
        requests(target, STREAM, Answers::Unread, |bytes, stream| {
            frame(bytes, DATA, END_STREAM, stream, &[0; 5]);
        });
    });
}

#[test]
fn pings_slow_nobody() {
    attack().run(|target| repeated(target, PING, &[7; 8], Answers::Read));
}

#[test]
fn pings_whose_answers_are_not_read_slow_nobody() {
    attack().run(|target| repeated(target, PING, &[7; 8], Answers::Unread));
}

#[test]
fn settings_slow_nobody() {
    attack().run(|target| repeated(target, SETTINGS, &[], Answers::Read));
}

#[test]
fn settings_whose_answers_are_not_read_slow_nobody() {
    attack().run(|target| repeated(target, SETTINGS, &[], Answers::Unread));
}

#[test]
fn windows_that_change_for_many_streams_slow_nobody() {
    attack().run(|target| {
        let session = session(target);
        flood(target, CONNECTIONS, Answers::Read, move |way| {
            let block = way.headers(STREAM, &session);
            let mut round = 0_u32;
            move |bytes: &mut Vec<u8>| {
                if round == 0 {
                    // With windows of nothing, each of them has a snapshot that waits.
                    frame(bytes, SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, 0));
                    for number in 0..100 {
                        frame(bytes, HEADERS, END_HEADERS, 2 * number + 1, &block);
                        frame(bytes, DATA, END_STREAM, 2 * number + 1, &[0; 5]);
                    }
                }
                for _ in 0..TOGETHER {
                    round += 1;
                    frame(
                        bytes,
                        SETTINGS,
                        0,
                        0,
                        &setting(INITIAL_WINDOW_SIZE, round % 2),
                    );
                }
            }
        });
    });
}

#[test]
fn priorities_slow_nobody() {
    attack().run(|target| on_a_stream(target, PRIORITY, &[0, 0, 0, 0, 16]));
}

#[test]
fn frames_of_an_unknown_kind_slow_nobody() {
    attack().run(|target| repeated(target, 0xbe, &[0; 64], Answers::Read));
}

#[test]
fn empty_data_frames_slow_nobody() {
    attack().run(|target| on_a_stream(target, DATA, &[]));
}

#[test]
fn window_updates_slow_nobody() {
    attack().run(|target| {
        on_a_stream(target, WINDOW_UPDATE, &[0, 0, 0, 1]);
        repeated(target, WINDOW_UPDATE, &[0, 0, 0, 1], Answers::Read);
    });
}

#[test]
fn headers_that_go_on_without_end_slow_nobody() {
    attack().run(|target| {
        for payload in [&[][..], &[0, 1, b'x', 1, b'y']] {
            flood(target, CONNECTIONS, Answers::Read, move |way| {
                let block = way.headers(HOSTNAME, "");
                let mut begun = false;
                move |bytes: &mut Vec<u8>| {
                    if !std::mem::replace(&mut begun, true) {
                        frame(bytes, HEADERS, END_STREAM, 1, &block);
                    }
                    for _ in 0..TOGETHER {
                        frame(bytes, CONTINUATION, 0, 1, payload);
                    }
                }
            });
        }
    });
}

/// Streams that are open and take nothing, on as many connections as one peer might open.
#[test]
fn streams_that_never_grant_a_window_hold_no_more_than_their_bound() {
    let streams = 100;
    // Half a MiB is what one stalled stream on a connection of its own may hold; here they share
    // connections.
    attack().memory_mib(64).run(|target| {
        let session = session(target);
        each(target, CONNECTIONS, |way, until, _| {
            let session = session.clone();
            async move {
                let window = setting(INITIAL_WINDOW_SIZE, 0);
                let (mut read, mut write) = way.speak(&window).await.expect("it connects");
                let mut bytes = Vec::new();
                let block = way.headers(STREAM, &session);
                for number in 0..streams {
                    frame(&mut bytes, HEADERS, END_HEADERS, 2 * number + 1, &block);
                    frame(&mut bytes, DATA, END_STREAM, 2 * number + 1, &[0; 5]);
                }
                write.write_all(&bytes).await.expect("it is taken");
                write.flush().await.expect("it is taken");
                let mut sink = vec![0; 4096];
                let reading = async { while read.read(&mut sink).await.is_ok_and(|n| n > 0) {} };
                let _ = tokio::time::timeout_at(until, reading).await;
            }
        });
    });
}

/// Without the certificate: whole hellos, broken ones, and none at all. As many as may be under way
/// have buffers of TLS.
#[test]
fn handshakes_without_the_certificate_slow_nobody() {
    Attack::new().memory_mib(64).run(|target| {
        let tries = Arc::new(AtomicU64::new(0));
        let counted = tries.clone();
        each(
            target,
            target.scaled(8, 32),
            move |way: Way, until, number| {
                let tries = counted.clone();
                async move {
                    let hello: &[u8] = match number % 4 {
                        0 => &[],
                        1 => &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc],
                        2 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                        _ => &hello_of_a_stranger(),
                    };
                    while tokio::time::Instant::now() < until {
                        if let Ok(mut stream) = TcpStream::connect(way.grpc).await {
                            tries.fetch_add(1, Ordering::Relaxed);
                            let _ = stream.write_all(hello).await;
                            if number % 8 >= 4 {
                                // Takes the answer, which costs the agent a signature, if there is
                                // one.
                                let mut sink = [0; 4096];
                                let answer = stream.read(&mut sink);
                                let patience = std::time::Duration::from_millis(50);
                                let _ = tokio::time::timeout(patience, answer).await;
                            }
                        }
                        tokio::task::yield_now().await;
                    }
                }
            },
        );
        println!("{} handshakes were begun", tries.load(Ordering::Relaxed));
    });
}

/// A whole hello of TLS by a client that knows nothing of the agent.
fn hello_of_a_stranger() -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}
