//! A peer that speaks HTTP/2 by hand, so that it can say what no library would.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use super::frames::*;
use super::{BEARER, Host, eventually, within_deadline};

/// One connection, trusted.
pub struct Peer(TlsStream<TcpStream>);

/// A frame that the server sent.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const STREAM_CONFIG_EVENTS: &str = "/datadog.api.v1.AgentSecure/StreamConfigEvents";

/// RFC 8446, 5.1: the longest plaintext of a record.
const RECORD_BYTES: usize = 16 * 1024;

impl Peer {
    /// Shakes hands, and says nothing yet.
    pub async fn connect(host: &Host) -> Self {
        let tls = TlsConnector::from(Arc::new(host.pem.identity().client_config()));
        let stream = TcpStream::connect(host.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Self(tls.connect(name, stream).await.unwrap())
    }

    /// The same, and the preface.
    pub async fn speak(host: &Host) -> Self {
        Self::speak_with(host, &[]).await
    }

    /// The same, with a window of so many bytes for each stream.
    pub async fn speak_with_window(host: &Host, bytes: u32) -> Self {
        Self::speak_with(host, &setting(INITIAL_WINDOW_SIZE, bytes)).await
    }

    /// The same, with a stream that has the whole snapshot, for a session of its own. The window is for that, too, and no
    /// other stream is there.
    pub async fn stream_with_window(host: &Host, bytes: u32) -> Self {
        let (_, session) = host.session().await;
        let mut peer = Self::speak_with_window(host, bytes).await;
        let mut begin = Vec::new();
        request(&mut begin, 1, STREAM_CONFIG_EVENTS, &session.id);
        assert!(peer.send(&begin).await);
        eventually("it has the snapshot", || {
            let stats = host.handle.stats();
            stats.streams == 1 && stats.caught_up
        })
        .await;
        peer
    }

    /// The same, ready to remember so many bytes of headers.
    pub async fn speak_with_header_table(host: &Host, bytes: u32) -> Self {
        Self::speak_with(host, &setting(HEADER_TABLE_SIZE, bytes)).await
    }

    /// What the server sees it as.
    pub fn address(&self) -> SocketAddr {
        self.0.get_ref().0.local_addr().unwrap()
    }

    async fn speak_with(host: &Host, settings: &[u8]) -> Self {
        let mut peer = Self::connect(host).await;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut bytes, SETTINGS, 0, 0, settings);
        assert!(peer.send(&bytes).await);
        peer
    }

    /// Whether the server still takes it.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async {
            self.0.write_all(bytes).await?;
            self.0.flush().await
        };
        within_deadline(sent).await.is_ok()
    }

    /// The next frame; `None` when the server has hung up.
    pub async fn next(&mut self) -> Option<Frame> {
        within_deadline(async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, _, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some(Frame {
                kind,
                stream: u32::from_be_bytes(stream),
                payload,
            })
        })
        .await
    }

    /// Sends frames, and reads on until the server has taken them all or says goodbye: the reason it gave.
    ///
    /// A server that hangs up with something unread takes its last words along. So these frames are no more than one record of
    /// TLS, which is read whole before any of it is looked at.
    pub async fn send_whole(&mut self, frames: &[u8]) -> Option<u32> {
        let mut record = frames.to_vec();
        frame(&mut record, PING, 0, 0, b"all read");
        assert!(record.len() <= RECORD_BYTES, "{}", record.len());
        assert!(self.send(&record).await, "hung up without a word");
        loop {
            let frame = self.next().await.expect("a word before hanging up");
            match frame.kind {
                GOAWAY => return Some(code(&frame.payload[4..])),
                PING if frame.payload == b"all read" => return None,
                _ => {}
            }
        }
    }

    /// Reads on until the server says goodbye or hangs up: the reason it gave.
    pub async fn goodbye(&mut self) -> Option<u32> {
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                return Some(code(&frame.payload[4..]));
            }
        }
        None
    }
}

/// Appends a whole request of an empty message.
pub fn request(bytes: &mut Vec<u8>, stream: u32, path: &str, session_id: &str) {
    frame(
        bytes,
        HEADERS,
        END_HEADERS,
        stream,
        &headers(path, session_id),
    );
    frame(bytes, DATA, END_STREAM, stream, &[0; 5]);
}

/// The headers of a call.
pub fn headers(path: &str, session_id: &str) -> Vec<u8> {
    call_headers(path, BEARER, session_id)
}
