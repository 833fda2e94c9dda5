//! The agent that a verb talks to.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use configstream_grpc::{Address, Client, ConnectError, Connector};
use tonic::{Code, Status};

use crate::credentials::Credentials;
use crate::exit::{Exit, Failure};
use crate::listen;
use crate::run;
use crate::run_dir::RunDir;

/// Which agent, as the command line says.
#[derive(Clone, Debug)]
pub struct Target {
    run_dir: Option<PathBuf>,
    address: Option<Address>,
}

impl Target {
    /// From `--run-dir` and `--address`.
    #[must_use]
    pub fn new(run_dir: Option<PathBuf>, address: Option<Address>) -> Self {
        Self { run_dir, address }
    }

    /// Its run directory.
    ///
    /// # Errors
    ///
    /// There is no place where it could be.
    pub fn run_dir(&self) -> Result<RunDir, Failure> {
        RunDir::locate(self.run_dir.as_deref())
    }

    /// Where it listens: as told, or as it wrote into its run directory, or the default.
    ///
    /// # Errors
    ///
    /// There is no place where its run directory could be.
    pub fn address(&self) -> Result<Address, Failure> {
        if let Some(address) = &self.address {
            return Ok(address.clone());
        }
        let announced = self
            .run_dir()?
            .announced_address()
            .and_then(|text| listen::parse(&text).ok());
        Ok(announced.unwrap_or_else(|| Address::Tcp(listen::DEFAULT_ADDRESS.to_owned())))
    }

    /// How to connect to it.
    ///
    /// # Errors
    ///
    /// Certificate or token cannot be used.
    pub fn connector(&self) -> Result<Connector, Failure> {
        let dir = self.run_dir()?;
        let credentials = Credentials::open(&dir)?;
        let (identity, token) = run::trust(&dir, &credentials)?;
        Ok(Connector::new(self.address()?, &identity, token))
    }

    /// Connects to it. Credentials that have just been replaced are read again until the agent has
    /// taken them, too.
    ///
    /// # Errors
    ///
    /// Certificate or token cannot be used, or no agent answers.
    pub async fn connect(&self) -> Result<Client, Failure> {
        loop {
            match self.connector()?.connect().await {
                Err(error) if error.is_untrusted() && self.credentials_are_new() => {}
                Err(error) => return Err(unreachable(&error)),
                // Only a call tells whether the token is good.
                Ok(client) if self.credentials_are_new() => match client.status().await {
                    Err(status) if status.code() == Code::Unauthenticated => {}
                    _ => return Ok(client),
                },
                Ok(client) => return Ok(client),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Whether certificate or token were put there so lately that a running agent may not have read
    /// them.
    fn credentials_are_new(&self) -> bool {
        let Ok(dir) = self.run_dir() else {
            return false;
        };
        [dir.certificate(), dir.token()].iter().any(|path| {
            let changed = path.metadata().map_or(0, |found| found.ctime());
            let changed = Duration::from_secs(u64::try_from(changed).unwrap_or(0));
            let since = (SystemTime::UNIX_EPOCH + changed).elapsed();
            since.is_ok_and(|since| since < TAKEN_WITHIN)
        })
    }
}

/// An agent looks for a new certificate every second; the time of a change counts in seconds here.
const TAKEN_WITHIN: Duration = Duration::from_secs(3);
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The failure for an agent that cannot be connected to.
pub(crate) fn unreachable(error: &ConnectError) -> Failure {
    if error.is_untrusted() {
        return Failure::new(
            Exit::Credentials,
            "the agent there has another certificate",
            error,
            "name the run directory of the agent at that address with --run-dir; or bring its newest ipc_cert.pem and auth_token here",
        );
    }
    let mend = match error.address() {
        Address::Unix(path) if path.exists() && !listen::is_socket(error.address()) => {
            "what is at that path is no socket: say where the agent listens with --address"
        }
        _ => "start it with `configstream run`, or say where it is with --run-dir or --address",
    };
    Failure::new(Exit::Unreachable, "cannot reach the agent", error, mend)
}

/// The failure for an answer that is none.
pub(crate) fn refused(what: &str, status: &Status) -> Failure {
    let (exit, mend) = match status.code() {
        Code::NotFound => (
            Exit::NotFound,
            "look for it with `configstream list`; see which layers hold it with `configstream explain`",
        ),
        Code::Unauthenticated => (
            Exit::Refused,
            "the token is another agent's, or was replaced this second; try again, or say which run directory with --run-dir",
        ),
        Code::Unavailable | Code::Unknown | Code::Cancelled => (
            Exit::Unreachable,
            "see whether the agent runs with `configstream doctor`; if its certificate is new, name its run directory with --run-dir",
        ),
        Code::ResourceExhausted => (Exit::Refused, "try again"),
        Code::Aborted => (Exit::Conflict, ""),
        Code::Unimplemented => (
            Exit::Refused,
            "leave out what this agent cannot do, or update it",
        ),
        Code::InvalidArgument => (Exit::Refused, "correct key, value or layer"),
        _ => (Exit::Refused, "see the agent's log"),
    };
    // A condition that does not hold says itself what to do.
    if let (Code::Aborted, Some((why, mend))) = (status.code(), status.message().rsplit_once("; "))
    {
        return Failure::new(exit, what, why, mend);
    }
    // So does a value that cannot be, and a disk that takes nothing.
    let message = status.message();
    let parts = match status.code() {
        Code::InvalidArgument => message.rsplit_once("; "),
        // What answered is no agent, and the client says what to do.
        Code::Unknown => message.rsplit_once("; "),
        Code::FailedPrecondition | Code::ResourceExhausted => message.split_once("; "),
        _ => None,
    };
    let (why, mend) = parts.unwrap_or((message, mend));
    Failure::new(
        exit,
        what,
        format_args!("{why} ({:?})", status.code()),
        mend,
    )
}

#[cfg(test)]
mod tests {
    use configstream_grpc::{Identity, Token};

    use super::*;

    #[tokio::test]
    async fn a_file_at_the_path_of_the_socket_is_not_taken_for_an_agent_that_is_down() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        let identity = Identity::from_pem(pem.as_bytes()).unwrap();
        for (path, advice) in [
            (file, "is no socket: say where"),
            (root.path().join("nothing"), "start it with"),
        ] {
            let token = Token::parse(&"ab".repeat(32)).unwrap();
            let connector = Connector::new(Address::Unix(path), &identity, token);
            let failure = unreachable(&connector.connect().await.unwrap_err());
            assert_eq!(failure.exit(), Exit::Unreachable);
            assert!(failure.to_string().contains(advice), "{failure}");
        }
    }
}
