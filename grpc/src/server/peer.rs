//! Whom a log line is about, before a session says so.

use std::fmt;
use std::net::SocketAddr;

/// Who is at the other end, for people.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// The process that connected, where the system says so.
    Unix(Option<i32>),
    /// Whoever the host has let in.
    OfTheHost,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(process)) => write!(f, "unix socket, process {process}"),
            Self::Unix(None) => f.write_str("unix socket"),
            Self::OfTheHost => f.write_str("let in by the host"),
        }
    }
}
