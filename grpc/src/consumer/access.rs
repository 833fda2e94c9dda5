//! How a consumer gets at its server: asked anew before each attempt, since credentials and addresses change.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::address::Address;
use crate::client::Connector;
use crate::safe_file::Demand;
use crate::tls::Identity;
use crate::token::Token;

/// Finds out where the server is, and with which certificate and token it is reached.
///
/// Asked before each attempt, and once a second while a consumer pauses after a failed one: another answer than that of
/// the failed attempt ends the pause. On a thread of its own, so it may read files. It is not asked again before it has
/// answered, so one that hangs holds one thread; beyond [`answer_timeout`](super::ConsumerBuilder::answer_timeout) that is
/// said to be why there is no connection.
///
/// # Examples
///
/// ```
/// use configstream_grpc::consumer::Access;
///
/// let access = Access::files("localhost:5001".parse()?, "/run/configstream/ipc_cert.pem", "/run/configstream/auth_token")
///     .configure(|connector| connector.connect_timeout(std::time::Duration::from_secs(3)));
/// # Ok::<(), configstream_grpc::AddressError>(())
/// ```
#[derive(Clone)]
pub struct Access(Arc<Find>);

type Find = dyn Fn() -> Result<Connector, AccessError> + Send + Sync;

impl Access {
    /// As `find` finds out. It should give the same answer until something has changed.
    pub fn new<E: Into<Box<dyn Error + Send + Sync>>>(
        find: impl Fn() -> Result<Connector, E> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move || {
            find().map_err(|error| AccessError::new(error.into()))
        }))
    }

    /// At a fixed address, with the certificate and the token that these files hold when they are
    /// needed. A file is used only if no user but this one, root, and the owner of its directory
    /// can have written it.
    pub fn files(
        address: Address,
        certificate: impl Into<PathBuf>,
        token: impl Into<PathBuf>,
    ) -> Self {
        let (certificate, token) = (certificate.into(), token.into());
        Self::new(move || {
            let identity = read(&certificate, |text| Identity::from_pem(text.as_bytes()))?;
            let token = read(&token, Token::parse)?;
            Ok::<_, String>(Connector::new(address.clone(), &identity, token))
        })
    }

    /// With options set on whatever is found.
    pub fn configure(
        self,
        options: impl Fn(Connector) -> Connector + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move || (self.0)().map(&options)))
    }
}

/// Asks an [`Access`], one question at a time.
pub(super) struct Finder {
    access: Access,
    /// The answer to a question that is still open.
    awaited: Option<oneshot::Receiver<Found>>,
}

type Found = Result<Connector, AccessError>;

impl Finder {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            awaited: None,
        }
    }

    /// Asks, unless that was done already, and waits for the answer for at most `limit`. Nothing is lost when the future
    /// is dropped.
    pub(super) async fn find(&mut self, limit: Duration) -> Found {
        let awaited = match &mut self.awaited {
            Some(awaited) => awaited,
            none => none.insert(ask(self.access.0.clone())?),
        };
        let Ok(answer) = timeout(limit, awaited).await else {
            let hint = "do they lie on a file system that hangs?";
            let text = format!("address and credentials were not found within {limit:?}; {hint}");
            return Err(AccessError::new(text.into()));
        };
        self.awaited = None;
        answer.unwrap_or_else(|_| Err(AccessError::new("finding it panicked".into())))
    }
}

/// On a thread that nobody waits for: a runtime would not end before a blocking task of its own that hangs.
fn ask(find: Arc<Find>) -> Result<oneshot::Receiver<Found>, AccessError> {
    let (answer, awaited) = oneshot::channel();
    thread::Builder::new()
        .name("configstream-access".to_owned())
        // Refused when nobody waits any more.
        .spawn(move || drop(answer.send(find())))
        .map_err(|error| AccessError::new(error.into()))?;
    Ok(awaited)
}

impl From<Connector> for Access {
    fn from(connector: Connector) -> Self {
        Self(Arc::new(move || Ok(connector.clone())))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access(..)")
    }
}

/// Why an [`Access`] gave nothing to connect with.
#[derive(Clone, Debug)]
pub struct AccessError(Arc<dyn Error + Send + Sync>);

impl AccessError {
    fn new(error: Box<dyn Error + Send + Sync>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no access: {}", self.0)
    }
}

impl Error for AccessError {}

fn read<T, E: fmt::Display>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, String> {
    let bytes = Demand::TRUSTED
        .read(path, LARGEST_FILE_BYTES)
        .map_err(|error| match error.hint() {
            Some(hint) => format!("{} is not used: {error}; {hint}", path.display()),
            None => format!("cannot read {}: {error}", path.display()),
        })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("{} is of no use: it is not text", path.display()))?;
    parse(&text).map_err(|error| format!("{} is of no use: {error}", path.display()))
}

/// Beyond any certificate or token.
const LARGEST_FILE_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, mpsc};

    #[tokio::test]
    async fn a_file_that_is_missing_or_of_no_use_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, token) = (dir.path().join("cert.pem"), dir.path().join("token"));
        let access = Access::files("localhost:1".parse().unwrap(), &certificate, &token);
        let mut finder = Finder::new(access);
        let error = finder.find(LONG).await.unwrap_err().to_string();
        assert!(
            error.contains("cannot read") && error.contains("cert.pem"),
            "{error}"
        );
        std::fs::write(&certificate, "no certificate").unwrap();
        let error = finder.find(LONG).await.unwrap_err().to_string();
        assert!(error.contains("cert.pem is of no use"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_while_asking_is_an_error() {
        let access = Access::new(|| -> Result<Connector, String> { panic!("oh") });
        let error = Finder::new(access)
            .find(LONG)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("panicked"), "{error}");
    }

    #[tokio::test]
    async fn one_question_hangs_and_not_one_more_and_its_answer_counts() {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let asked = Arc::new(AtomicU64::new(0));
        let counter = asked.clone();
        let access = Access::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            let _ = released.lock().unwrap().recv();
            Err::<Connector, _>("the answer")
        });
        let mut finder = Finder::new(access);
        for _ in 0..3 {
            let error = finder.find(Duration::from_millis(1)).await.unwrap_err();
            assert!(
                error.to_string().contains("were not found within 1ms"),
                "{error}"
            );
        }
        release.send(()).unwrap();
        let error = finder.find(LONG).await.unwrap_err().to_string();
        assert_eq!(error, "no access: the answer");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        drop(release);
        finder.find(LONG).await.unwrap_err();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    const LONG: Duration = Duration::from_secs(20);
}
