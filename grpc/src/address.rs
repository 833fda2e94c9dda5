//! Where an agent listens.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An agent's address: `host:port`, or `unix:///abs/path`.
///
/// ```
/// # use configstream_grpc::Address;
/// let address: Address = "localhost:5001".parse()?;
/// assert_eq!(address.to_string(), "localhost:5001");
/// assert!("unix://not/absolute".parse::<Address>().is_err());
/// # Ok::<(), configstream_grpc::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// Host and port, as they were given; resolved at each connection.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(AddressError::RelativePath)
            };
        }
        if text.contains("://") {
            return Err(AddressError::Scheme);
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        // A colon in the host is an IPv6 address, which needs its brackets.
        let host_is_fine = !host.is_empty()
            && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
        if !host_is_fine {
            return Err(AddressError::Host);
        }
        port.parse::<u16>().map_err(|_| AddressError::NoPort)?;
        Ok(Self::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Why a text is no [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// `unix://` wants an absolute path, which makes three slashes.
    RelativePath,
    /// A scheme other than `unix`.
    Scheme,
    /// No port after the host, or none that a port can be.
    NoPort,
    /// No host, or an IPv6 address without brackets.
    Host,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RelativePath => "the path of a unix socket has to be absolute: unix:///path",
            Self::Scheme => "an address is host:port or unix:///path",
            Self::NoPort => "the address names no port",
            Self::Host => "the address names no host",
        })
    }
}

impl Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for tcp in [
            "localhost:5001",
            "127.0.0.1:0",
            "[::1]:5001",
            "a-b.example:65535",
        ] {
            assert_eq!(tcp.parse(), Ok(Address::Tcp(tcp.to_owned())));
        }
        assert_eq!(
            "unix:///run/a.sock".parse(),
            Ok(Address::Unix("/run/a.sock".into()))
        );
        assert_eq!(
            Address::Unix("/run/a.sock".into()).to_string(),
            "unix:///run/a.sock"
        );
    }

    #[test]
    fn nonsense_is_named() {
        for (text, error) in [
            ("", AddressError::NoPort),
            ("localhost", AddressError::NoPort),
            ("localhost:", AddressError::NoPort),
            ("localhost:65536", AddressError::NoPort),
            (":5001", AddressError::Host),
            ("::1:5001", AddressError::Host),
            ("unix://run/a.sock", AddressError::RelativePath),
            ("https://localhost:5001", AddressError::Scheme),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }
}
