//! As much of HTTP/2 as a client takes that opens streams and counts what comes.

use bytes::BufMut;

/// What begins every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) const LENGTH: usize = 9;

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<{ Self::LENGTH }>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.put_uint(self.length as u64, 3);
        out.put_u8(self.kind);
        out.put_u8(self.flags);
        out.put_u32(self.stream);
    }
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// How many bytes a client lets a server be ahead, in octets of DATA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) stream: u32,
    pub(super) connection: u32,
}

impl Windows {
    /// What hyper's client grants by default.
    pub(super) const USUAL: Self = Self {
        stream: 2 * 1024 * 1024,
        connection: 5 * 1024 * 1024,
    };
    /// As much as HTTP/2 has numbers for.
    pub(super) const LARGEST: Self = Self {
        stream: 0x7fff_ffff,
        connection: 0x7fff_ffff,
    };
}

/// What HTTP/2 grants by default.
const FIRST_WINDOW: u32 = 65_535;

/// What a client says first.
pub(super) fn preface(windows: Windows, out: &mut Vec<u8>) {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(SETTINGS, 0, 0, 6, out);
    out.put_u16(INITIAL_WINDOW_SIZE);
    out.put_u32(windows.stream);
    window_update(0, windows.connection - FIRST_WINDOW, out);
}

/// A gRPC request of one message, which ends there.
pub(super) fn request(
    stream: u32,
    path: &str,
    metadata: &[(&str, &str)],
    message: &[u8],
    out: &mut Vec<u8>,
) {
    let mut block = Vec::new();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    for (name, value) in fields.iter().chain(metadata) {
        // A literal without indexing, its name spelled out.
        block.put_u8(0);
        string(name, &mut block);
        string(value, &mut block);
    }
    frame(HEADERS, END_HEADERS, stream, block.len(), out);
    out.extend_from_slice(&block);
    frame(DATA, END_STREAM, stream, 5 + message.len(), out);
    out.put_u8(0);
    out.put_uint(message.len() as u64, 4);
    out.extend_from_slice(message);
}

pub(super) fn acknowledge(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    frame(kind, ACK, 0, payload.len(), out);
    out.extend_from_slice(payload);
}

pub(super) fn window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    frame(WINDOW_UPDATE, 0, stream, 4, out);
    out.put_u32(increment);
}

fn frame(kind: u8, flags: u8, stream: u32, length: usize, out: &mut Vec<u8>) {
    let head = Head {
        length,
        kind,
        flags,
        stream,
    };
    head.write(out);
}

/// Of less than 127 bytes, which is all that is said here.
fn string(text: &str, out: &mut Vec<u8>) {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
    out.put_u8(length.expect("short names and values"));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_windows_are_one_below_2_gib() {
        let mut out = Vec::new();
        preface(Windows::LARGEST, &mut out);
        let (settings, connection) = out[24..].split_at(Head::LENGTH + 6);
        assert_eq!(settings[Head::LENGTH..], [0, 4, 0x7f, 0xff, 0xff, 0xff]);
        let increment = connection[Head::LENGTH..].try_into().unwrap();
        assert_eq!(u32::from_be_bytes(increment) + 65_535, (1 << 31) - 1);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        request(
            7,
            "/package.Service/Method",
            &[("session_id", "x")],
            b"hello",
            &mut out,
        );
        let headers = Head::read(&out).unwrap();
        assert_eq!((headers.kind, headers.stream), (HEADERS, 7));
        let data = &out[Head::LENGTH + headers.length..];
        let head = Head::read(data).unwrap();
        assert_eq!((head.kind, head.flags, head.length), (DATA, END_STREAM, 10));
        assert_eq!(&data[Head::LENGTH..], b"\0\0\0\0\x05hello");
        assert_eq!(Head::read(&out[..8]), None);
    }
}
