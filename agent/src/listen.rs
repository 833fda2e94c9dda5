//! Addresses: where an agent listens, and where its tools find it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use configstream_grpc::Address;
use configstream_grpc::safe_file::Removable;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream, lookup_host};

use crate::exit::{Exit, Failure};

/// Where an agent listens unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:5001";

/// Reads `HOST:PORT` or `unix:PATH`; a relative path starts where the program runs.
///
/// # Errors
///
/// What is wrong with it, for the person who typed it.
pub fn parse(text: &str) -> Result<Address, String> {
    let Some(path) = text.strip_prefix("unix:") else {
        return text
            .parse()
            .map_err(|error| format!("{error}; write HOST:PORT or unix:PATH"));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    // Fails only for an empty path, or if there is no current directory.
    let path = std::path::absolute(path)
        .map_err(|error| format!("{error}; write HOST:PORT or unix:PATH"))?;
    let bytes = path.as_os_str().len();
    if bytes > LONGEST_SOCKET_PATH {
        return Err(format!(
            "the path of the socket has {bytes} bytes, and the system allows {LONGEST_SOCKET_PATH}; \
             choose a shorter one: {}",
            path.display()
        ));
    }
    Ok(Address::Unix(path))
}

/// Reads the HTTP address of `run`: HOST:PORT, never a Unix socket.
///
/// # Errors
///
/// What is wrong with it, and what to write.
pub fn parse_http(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(Address::Tcp(address)) => Ok(address),
        Ok(_) => Err("HTTP is served over TCP only; write HOST:PORT".to_owned()),
        Err(error) => Err(format!("{error}; write HOST:PORT, such as 127.0.0.1:5002")),
    }
}

/// Listens at an address.
///
/// # Errors
///
/// The address is in use, or the system refuses.
pub async fn listen(address: &Address) -> Result<Bound, Failure> {
    let bound = match address {
        Address::Tcp(address) => listen_tcp(address).await.map(Bound::Tcp),
        Address::Unix(path) => listen_unix(path).await,
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    bound.map_err(|error| refused(address, &error))
}

/// The error for an address that cannot be listened on.
pub(crate) fn refused(address: &Address, error: &io::Error) -> Failure {
    let is_unix = matches!(address, Address::Unix(_));
    let mend = match error.kind() {
        io::ErrorKind::AddrInUse if is_unix && !is_socket(address) => {
            "what is at that path is no socket: move it away, or choose another path with --listen"
        }
        io::ErrorKind::AddrInUse => {
            "stop what listens there, or choose another address with --listen (gRPC) or --http"
        }
        io::ErrorKind::NotFound if is_unix => "create the directory of the socket",
        io::ErrorKind::PermissionDenied if is_unix => {
            "let this user write the directory of the socket"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port from 1024 up, or let this user use the lower ones"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine, such as 127.0.0.1",
        _ => "write HOST:PORT or unix:PATH",
    };
    Failure::new(
        Exit::Listen,
        format!("cannot listen on {address}"),
        error,
        mend,
    )
}

/// Whether a Unix socket is at the path of `address`; never for TCP.
pub(crate) fn is_socket(address: &Address) -> bool {
    let Address::Unix(path) = address else {
        return false;
    };
    path.metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// A socket that listens.
#[derive(Debug)]
pub enum Bound {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket, whose file goes when the second part is dropped.
    Unix(UnixListener, SocketFile),
}

impl Bound {
    /// The address that it is bound to, with the port that the system chose.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(error) => error.to_string(),
            },
            Self::Unix(_, file) => Address::Unix(file.0.path().to_owned()).to_string(),
        }
    }

    /// Warns if other machines can reach it.
    pub fn warn_if_open(&self) {
        if let Self::Tcp(listener) = self
            && let Ok(address) = listener.local_addr()
            && !address.ip().to_canonical().is_loopback()
        {
            tracing::warn!(
                "gRPC at {address} is open to the network: other machines can connect, and read every setting with the \
                 certificate, its key and the token; listen on 127.0.0.1 unless that is meant"
            );
        }
    }

    /// The address that others reach it at: with the port that the system chose, and this machine for "any".
    ///
    /// # Errors
    ///
    /// The system does not know it.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => {
                let mut address = listener.local_addr()?;
                if address.ip().is_unspecified() {
                    address.set_ip(match address {
                        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    });
                }
                Ok(Address::Tcp(address.to_string()))
            }
            Self::Unix(_, file) => Ok(Address::Unix(std::path::absolute(file.0.path())?)),
        }
    }
}

/// The file of a Unix socket. Dropping it removes the file, unless another agent has put its own
/// there.
#[derive(Debug)]
pub struct SocketFile(Removable);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = self.0.remove();
    }
}

/// Listens at the first address of a name that can be listened at.
async fn listen_tcp(address: &str) -> io::Result<TcpListener> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(address).await? {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // So that a restart need not wait for the connections of its predecessor to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_CONNECTIONS)
}

async fn listen_unix(path: &Path) -> io::Result<Bound> {
    remove_stale(path).await?;
    let listener = UnixListener::bind(path)?;
    Ok(Bound::Unix(listener, SocketFile(Removable::at(path)?)))
}

/// Removes the socket that an agent left which could not clean up. One that is listened on stays.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        // Nothing there, or no socket; in the second case binding says so.
        _ => return Ok(()),
    }
    // Before it is tried: what is removed is what refused a connection, not what another agent has
    // put there since.
    let found = Removable::at(path)?;
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => found.remove(),
        _ => Ok(()),
    }
}

/// Connections that may wait to be accepted: all that a server takes by default, since all come back after a restart. Who
/// finds no room hears nothing, and tries again after one second, then two, then four.
const WAITING_CONNECTIONS: u32 = 1_024;

/// `sun_path` of Linux holds 108 bytes, the last of which is a NUL.
const LONGEST_SOCKET_PATH: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use futures_util::future::try_join_all;
    use tokio::net::TcpStream;

    #[test]
    fn addresses_read_and_print() {
        for (text, printed) in [
            ("127.0.0.1:5001", "127.0.0.1:5001"),
            ("localhost:0", "localhost:0"),
            ("[::1]:5001", "[::1]:5001"),
            ("unix:/run/socket", "unix:///run/socket"),
            ("unix:///run/socket", "unix:///run/socket"),
        ] {
            assert_eq!(
                parse(text).map(|address| address.to_string()),
                Ok(printed.to_owned())
            );
        }
        assert!(matches!(parse("unix:here/socket"), Ok(Address::Unix(path)) if path.is_absolute()));
        let longest = format!("unix:/{}", "a".repeat(106));
        assert!(parse(&longest).is_ok());
        let error = parse(&format!("{longest}a")).unwrap_err();
        assert!(
            error.contains("108 bytes") && error.contains("107"),
            "{error}"
        );
        for text in ["21504", "unix:/socket", "", "localhost:70000"] {
            let error = parse_http(text).unwrap_err();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
        assert_eq!(parse_http("[::1]:80").as_deref(), Ok("[::1]:80"));
        for text in [
            "",
            "5001",
            ":5001",
            "localhost",
            "localhost:http",
            "localhost:70000",
            "unix:",
            "https://localhost:5001",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_at_the_path_of_the_socket_is_not_taken_for_a_listener() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let address = Address::Unix(file.path().to_owned());
        let error = listen(&address).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Listen);
        assert!(
            error.to_string().contains("is no socket: move it away"),
            "{error}"
        );
        assert!(file.path().exists());
    }

    #[tokio::test]
    async fn a_port_in_use_is_said_to_be() {
        let taken = listen(&parse("127.0.0.1:0").unwrap()).await.unwrap();
        let error = listen(&taken.address().unwrap()).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Listen);
        let text = error.to_string();
        assert!(
            text.contains("cannot listen on 127.0.0.1:")
                && text.contains("in use")
                && text.contains("--listen"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_crowd_that_comes_at_once_finds_room_to_wait() {
        let bound = listen(&parse("127.0.0.1:0").unwrap()).await.unwrap();
        let Address::Tcp(address) = bound.address().unwrap() else {
            panic!("TCP was asked for");
        };
        // Nobody accepts them.
        let crowd = try_join_all((0..400).map(|_| TcpStream::connect(&address)));
        let crowd = tokio::time::timeout(Duration::from_secs(30), crowd).await;
        assert_eq!(crowd.expect("in time").unwrap().len(), 400);
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("socket");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let bound = listen(&address).await.unwrap();
        let error = listen(&address).await.unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        drop(bound);
        assert!(!path.exists(), "cleaned up");
        // As an agent does whose socket was removed by hand.
        let first = listen(&address).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = listen(&address).await.unwrap();
        drop(first);
        assert!(path.exists(), "it is the second one's");
        UnixStream::connect(&path).await.unwrap();
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        listen(&address).await.unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        let error = listen(&Address::Unix(root.path().join("no/socket")))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("create the directory"), "{error}");
    }
}
