//! How a consumer gets at its server: asked anew before each attempt, since credentials and addresses change.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::address::Address;
use crate::client::Connector;
use crate::tls::Identity;
use crate::token::Token;

/// Finds out where the server is, and with which certificate and token it is reached.
///
/// Asked before each attempt, and once a second while a consumer pauses after a failed one: another answer than that of
/// the failed attempt ends the pause. Off the runtime's own threads, so it may read files.
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

    /// At a fixed address, with the certificate and the token that these files hold when they are needed.
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

    /// Asks.
    pub(super) async fn find(&self) -> Result<Connector, AccessError> {
        let find = self.0.clone();
        let found = tokio::task::spawn_blocking(move || find()).await;
        found.unwrap_or_else(|error| Err(AccessError::new(error.into())))
    }
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
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{} is of no use: {error}", path.display()))
}

/// Beyond any certificate or token.
const LARGEST_FILE_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_missing_or_of_no_use_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, token) = (dir.path().join("cert.pem"), dir.path().join("token"));
        let access = Access::files("localhost:1".parse().unwrap(), &certificate, &token);
        let error = access.find().await.unwrap_err().to_string();
        assert!(
            error.contains("cannot read") && error.contains("cert.pem"),
            "{error}"
        );
        std::fs::write(&certificate, "no certificate").unwrap();
        let error = access.find().await.unwrap_err().to_string();
        assert!(error.contains("cert.pem is of no use"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_while_asking_is_an_error() {
        let access = Access::new(|| -> Result<Connector, String> { panic!("oh") });
        let error = access.find().await.unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
    }
}
