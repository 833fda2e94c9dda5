//! The single looks that `configstream doctor` takes, each with what to do about what it finds.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use configstream_grpc::{Address, Client, ConfigEvent, Registration};
use prost_types::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::super::target::refused;
use crate::exit::{Exit, Failure};
use crate::run_dir::RunDir;

/// The run directory is there, and nobody else can put files into it.
pub(super) fn directory(dir: &RunDir) -> Result<String, Failure> {
    let path = dir.path().display();
    let metadata = match dir.path().metadata() {
        Ok(metadata) if metadata.is_dir() => metadata,
        _ => {
            return Err(Failure::new(
                Exit::RunDir,
                format!("{path} is not there"),
                "no agent has started with it, or it was removed since",
                "start one with `configstream run`, again if it runs; or name another with --run-dir",
            ));
        }
    };
    dir.check(true)?;
    let mode = metadata.permissions().mode() & 0o777;
    Ok(format!("{path}, mode {mode:o}"))
}

/// The certificate is in force. Agents and our own clients only compare it, but others look at its dates.
pub(super) fn validity(pem: &str, now: SystemTime) -> Result<String, Failure> {
    let unreadable = |why: &dyn fmt::Display| {
        Failure::new(
            Exit::Credentials,
            "the certificate cannot be read",
            why,
            "stop the agent, remove the file, and start again: a new one is made",
        )
    };
    let certificate =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unreadable(&error))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&certificate).map_err(|error| unreadable(&error))?;
    let validity = certificate.validity();
    let now = seconds(now);
    if now < validity.not_before.timestamp() {
        return Err(Failure::new(
            Exit::Credentials,
            "the certificate is not valid yet",
            format_args!("it begins {}", validity.not_before),
            "set the clock of this machine right; if it is, make a new certificate as below",
        ));
    }
    let left = validity.not_after.timestamp() - now;
    if left < WARN_BEFORE.as_secs().cast_signed() {
        let what = match left < 0 {
            true => "the certificate has expired",
            false => "the certificate expires soon",
        };
        return Err(Failure::new(
            Exit::Credentials,
            what,
            format_args!("it ends {}", validity.not_after),
            "stop the agent, remove the file, and start again; then hand the new one to all clients",
        ));
    }
    Ok(format!("valid until {}", validity.not_after))
}

/// An agent holds the lock of the run directory.
pub(super) fn running(dir: &RunDir) -> Result<String, Failure> {
    dir.holder().ok_or_else(|| {
        Failure::new(
            Exit::Unreachable,
            format!("no agent runs in {}", dir.path().display()),
            "nobody holds its lock",
            "start one with `configstream run`, or name its directory with --run-dir",
        )
    })
}

pub(super) fn takes_connections(address: &Address) -> String {
    format!("{address} takes connections")
}

/// Somebody listens there, whoever it is.
pub(super) async fn port(address: &Address, patience: Duration) -> Result<String, Failure> {
    let connected = async {
        match address {
            Address::Tcp(address) => TcpStream::connect(address).await.map(drop),
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    };
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
    match timeout(patience, connected).await.unwrap_or_else(late) {
        Ok(()) => Ok(takes_connections(address)),
        Err(error) => Err(Failure::new(
            Exit::Unreachable,
            format!("{address} takes no connection"),
            &error,
            match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                    "nobody listens there: start the agent with `configstream run`, or say with --address where it listens"
                }
                io::ErrorKind::PermissionDenied => {
                    "run this as the user that the agent runs as, or let this user use its socket"
                }
                _ => {
                    "see whether a firewall is in the way, and whether --address names the right host"
                }
            },
        )),
    }
}

/// Both programs are of the same release.
pub(super) fn versions(own: &str, agent: &str) -> Result<String, Failure> {
    if own == agent {
        return Ok(format!("{own} here and there"));
    }
    Err(Failure::new(
        Exit::Failed,
        "the agent is of another version",
        format_args!("it is {agent}, this program is {own}"),
        "install the same version of both; an agent goes on running the old one until it is started again",
    ))
}

/// The agent's clock and this one agree.
pub(super) fn clock(agent: Timestamp, own: SystemTime) -> Result<String, Failure> {
    let apart = (agent.seconds - seconds(own)).unsigned_abs();
    if apart <= CLOCKS_APART.as_secs() {
        return Ok("as the agent's".to_owned());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("the clocks are {apart} s apart"),
        format_args!("it is {agent} where the agent runs"),
        "let both machines follow a time server: timedatectl set-ntp true",
    ))
}

/// A client can register, open a stream and get its snapshot. The session ends by itself, after the idle timeout: no call
/// ends one.
pub(super) async fn session(client: &Client, patience: Duration) -> Result<String, Failure> {
    let open = async {
        let session = client
            .register(&registration())
            .await
            .map_err(|status| no_entry("a client cannot register", &status))?;
        let mut events = client
            .stream(NAME, &session.id)
            .await
            .map_err(|status| no_entry("a client cannot open a stream", &status))?;
        match events.next().await {
            Ok(ConfigEvent::Snapshot(snapshot)) => Ok(format!(
                "a client gets a snapshot of {} settings at sequence {}",
                snapshot.settings.len(),
                snapshot.sequence
            )),
            Ok(_) => Err(no_snapshot(&"something else came first")),
            Err(error) => Err(no_snapshot(&error)),
        }
    };
    timeout(patience, open).await.unwrap_or_else(|_| {
        Err(no_snapshot(&format_args!(
            "nothing came within {patience:?}"
        )))
    })
}

/// The failure for a client that is kept out by a setting of the agent, mostly.
fn no_entry(what: &str, status: &Status) -> Failure {
    let mend = match status.code() {
        Code::Unimplemented => {
            "see who has switched the registry off: configstream explain remote_agent.registry.enabled"
        }
        Code::ResourceExhausted => {
            "see who registers again and again: configstream agents; or raise remote_agent.registry.max_sessions"
        }
        Code::Unavailable => {
            "see who has more streams than one: configstream agents; or raise config_stream.max_streams"
        }
        _ => return refused(what, status),
    };
    let why = format_args!("{} ({:?})", status.message(), status.code());
    Failure::new(Exit::Refused, what, why, mend)
}

fn no_snapshot(why: &dyn fmt::Display) -> Failure {
    Failure::new(
        Exit::Failed,
        "a client gets no snapshot",
        why,
        "see the agent's log, and `configstream status`",
    )
}

fn registration() -> Registration {
    let mut registration = Registration::default();
    registration.display_name = NAME.to_owned();
    registration.flavor = NAME.to_owned();
    registration.pid = std::process::id().to_string();
    registration
}

fn seconds(time: SystemTime) -> i64 {
    Timestamp::from(time).seconds
}

const NAME: &str = "configstream-doctor";

/// How long before its end a certificate is spoken of.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How far apart clocks may be: they are read at the two ends of a call.
const CLOCKS_APART: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn at(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 60 * 60)
    }

    #[test]
    fn a_certificate_is_good_only_between_its_dates() {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // Days 365 and 1096 of the epoch.
        params.not_before = date_time_ymd(1971, 1, 1);
        params.not_after = date_time_ymd(1973, 1, 1);
        let pem = params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem();
        assert!(validity(&pem, at(500)).unwrap().contains("1973"));
        for (day, part) in [
            (364, "not valid yet"),
            (1070, "expires soon"),
            (1100, "has expired"),
        ] {
            let error = validity(&pem, at(day)).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("to do:"), "{error}");
        }
        let error = validity("no certificate", at(500)).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn a_directory_that_others_can_write_into_is_no_good() {
        let root = tempfile::tempdir().unwrap();
        let set = |mode| {
            std::fs::set_permissions(root.path(), PermissionsExt::from_mode(mode)).unwrap();
            directory(&RunDir::locate(Some(root.path())).unwrap())
        };
        assert!(set(0o700).unwrap().contains("mode 700"));
        assert!(set(0o755).is_ok());
        let error = set(0o770).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
        let gone = RunDir::locate(Some(&root.path().join("gone"))).unwrap();
        let error = directory(&gone).unwrap_err().to_string();
        assert!(error.contains("is not there"), "{error}");
    }

    #[test]
    fn versions_and_clocks_that_differ_are_found() {
        assert!(versions("1.0.0", "1.0.0").is_ok());
        let error = versions("1.0.0", "2.0.0").unwrap_err().to_string();
        assert!(
            error.contains("it is 2.0.0, this program is 1.0.0"),
            "{error}"
        );

        let agent = |days| Timestamp::from(at(days));
        let near = at(1) + Duration::from_secs(5);
        assert!(clock(agent(1), near).is_ok());
        for days in [0, 2] {
            let error = clock(agent(days), at(1)).unwrap_err().to_string();
            assert!(error.contains("86400 s apart"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_found() {
        let root = tempfile::tempdir().unwrap();
        let nobody = Address::Unix(root.path().join("socket"));
        let error = port(&nobody, Duration::from_secs(30)).await.unwrap_err();
        assert!(
            error.to_string().contains("nobody listens there"),
            "{error}"
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        assert!(port(&address, Duration::from_secs(30)).await.is_ok());
        drop(listener);
        let error = port(&address, Duration::from_secs(30)).await.unwrap_err();
        assert!(error.to_string().contains("configstream run"), "{error}");
    }
}
