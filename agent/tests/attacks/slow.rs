//! Peers that say everything, one byte after another.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::frames::{DATA, END_HEADERS, HEADERS, SETTINGS, frame};
use crate::harness::Attack;
use crate::peer::{Way, each};

/// Long enough for a byte to be a packet of its own.
const PAUSE: Duration = Duration::from_millis(20);

const HOSTNAME: &str = "/datadog.api.v1.Agent/GetHostname";

/// Says `text` byte by byte, over and over, until the agent hangs up.
async fn trickle(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), text: &[u8]) {
    for byte in text.iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        sleep(PAUSE).await;
    }
}

#[test]
fn handshakes_that_come_byte_by_byte_keep_nobody_out() {
    // A handshake under way holds a socket and the buffers of TLS.
    Attack::new().memory_mib(64).run(|target| {
        let count = target.scaled(400, 2_000);
        each(target, count, |way: Way, _, _| async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(way.grpc).await {
                    trickle(&mut stream, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
                }
                sleep(PAUSE).await;
            }
        });
    });
}

#[test]
fn http_requests_that_come_byte_by_byte_keep_nobody_out() {
    Attack::new().memory_mib(16).run(|target| {
        let count = target.scaled(200, 1_000);
        each(target, count, |way: Way, _, number| async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(way.http).await {
                    let text: &[u8] = match number % 2 {
                        0 => b"GET /status HTTP/1.1\r\nX-Slow: ",
                        _ => b"x",
                    };
                    trickle(&mut stream, text).await;
                }
                sleep(PAUSE).await;
            }
        });
    });
}

/// With certificate and token: a preface, headers, and a message that never come to their end.
#[test]
fn requests_that_come_byte_by_byte_keep_nobody_out() {
    Attack::new().memory_mib(64).run(|target| {
        let count = target.scaled(60, 300);
        each(target, count, |way: Way, _, number| async move {
            let block = way.headers(HOSTNAME, "");
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            let whole = match number % 3 {
                // The preface itself comes slowly.
                0 => 0,
                // The headers do.
                1 => {
                    frame(&mut bytes, SETTINGS, 0, 0, &[]);
                    let whole = bytes.len();
                    frame(&mut bytes, HEADERS, END_HEADERS, 1, &block);
                    whole
                }
                // The message does, in frames of one byte.
                _ => {
                    frame(&mut bytes, SETTINGS, 0, 0, &[]);
                    frame(&mut bytes, HEADERS, END_HEADERS, 1, &block);
                    let whole = bytes.len();
                    for _ in 0..100 {
                        frame(&mut bytes, DATA, 0, 1, &[0]);
                    }
                    whole
                }
            };
            loop {
                if let Some(mut stream) = way.shake().await
                    && stream.write_all(&bytes[..whole]).await.is_ok()
                {
                    trickle(&mut stream, &bytes[whole..]).await;
                }
                sleep(PAUSE).await;
            }
        });
    });
}
