//! Certificate and token: created once by whoever starts first, checked by everybody who reads them.
//!
//! * `ipc_cert.pem`: one self-signed ECDSA P-256 certificate that is authority, server and client at once, and its
//!   key. The key is written as SEC1 (`EC PRIVATE KEY`) that names its curve, which is the only form that stock clients
//!   read; PKCS#8 is accepted when reading.
//! * `auth_token`: 32 random bytes as 64 hex characters.
//!
//! Both have mode 0600. Each is written under another name and then linked to its own, which fails if the name is
//! taken: of several starters exactly one wins, and nobody ever reads half a file.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use configstream_grpc::safe_file::{Demand, OpenError, directory_of};
use rand::TryRngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sec1::der::EncodePem;
use sec1::pkcs8::{LineEnding, PrivateKeyInfo};
use sec1::{EcParameters, EcPrivateKey};

use crate::exit::{Exit, Failure};
use crate::run_dir::{RunDir, mend_write};

/// The certificate with its key, and the token.
#[derive(Clone)]
pub struct Credentials {
    pem: Arc<str>,
    token: Arc<str>,
}

impl Credentials {
    /// Reads the credentials of a run directory, and creates what is missing.
    ///
    /// # Errors
    ///
    /// Something is there but damaged or open to others, or it cannot be created.
    pub fn open_or_create(dir: &RunDir) -> Result<Self, Failure> {
        create_if_missing(&dir.certificate(), || {
            new_certificate().map_err(io::Error::other)
        })?;
        create_if_missing(&dir.token(), new_token)?;
        Self::open(dir)
    }

    /// Reads the credentials of a run directory.
    ///
    /// # Errors
    ///
    /// Something is missing, damaged, open to others, or another user's.
    pub fn open(dir: &RunDir) -> Result<Self, Failure> {
        Ok(Self {
            pem: read_certificate(&dir.certificate(), IN_RUN_DIR)?.into(),
            token: read_token(&dir.token(), IN_RUN_DIR)?.into(),
        })
    }

    /// Certificate and key, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl fmt::Debug for Credentials {
    /// Prints neither key nor token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .finish_non_exhaustive()
    }
}

/// What a certificate or a token of a run directory must be.
pub const IN_RUN_DIR: Demand = Demand::KEPT_SECRET;

/// What a certificate or a token must be that is named by its path.
pub const BY_PATH: Demand = Demand::TRUSTED_SECRET;

/// Reads and checks a certificate file: a `CERTIFICATE`, then its key.
///
/// # Errors
///
/// It is missing, damaged or not what is demanded, or the key belongs to another certificate.
pub fn read_certificate(path: &Path, demand: Demand) -> Result<String, Failure> {
    let text = read_secret(path, demand)?;
    let wrong = |why: &str| damaged(path, why);
    let certificate = CertificateDer::from_pem_slice(text.as_bytes())
        .map_err(|_| wrong("it holds no CERTIFICATE block"))?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| wrong("it holds no EC PRIVATE KEY block"))?;
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&key)
        .map_err(|_| wrong("its key is no ECDSA key"))?;
    rustls::sign::CertifiedKey::new(vec![certificate], key)
        .keys_match()
        .map_err(|_| wrong("its key does not belong to its certificate"))?;
    Ok(text)
}

/// Reads and checks a token file: 64 hex characters, of which the line may end.
///
/// # Errors
///
/// It is missing, damaged or not what is demanded.
pub fn read_token(path: &Path, demand: Demand) -> Result<String, Failure> {
    let text = read_secret(path, demand)?;
    let token = text.strip_suffix('\n').unwrap_or(&text);
    let token = token.strip_suffix('\r').unwrap_or(token);
    if token.len() != TOKEN_BYTES * 2 || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(damaged(path, "it does not hold 64 hex characters"));
    }
    Ok(token.to_owned())
}

/// Reads a file that only its owner may read.
fn read_secret(path: &Path, demand: Demand) -> Result<String, Failure> {
    let shown = path.display();
    let bytes = demand.read(path, LONGEST_FILE).map_err(|error| {
        let (what, mend) = match &error {
            error if error.is_not_found() => (
                format!("cannot read {shown}"),
                "start the agent once (configstream run), or say where it runs with --run-dir".to_owned(),
            ),
            OpenError::ReadableByOthers { .. } | OpenError::WritableByOthers { .. } => (
                format!("{shown} is open to others"),
                format!(
                    "remove it, so that the agent makes a new one at its next start; or, if no other user was here: chmod 600 {shown}"
                ),
            ),
            OpenError::OwnedByAnother { user, .. } => (
                format!("{shown} cannot be trusted"),
                format!(
                    "run as the user that it belongs to; or remove it, so that the agent makes a new one at its next start; or, if its content is to be trusted: chown {user} {shown}"
                ),
            ),
            OpenError::Io(_) => (
                format!("cannot read {shown}"),
                "let this user, and only this one, read it".to_owned(),
            ),
            _ => (
                format!("{shown} cannot be used"),
                "put the file itself there; or stop the agent, remove it, and start again: a new one is made".to_owned(),
            ),
        };
        Failure::new(Exit::Credentials, what, error, mend)
    })?;
    String::from_utf8(bytes).map_err(|_| damaged(path, "it is not text"))
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::Credentials,
        format!("{} cannot be used", path.display()),
        why,
        "restore it; or stop the agent, remove the file, and start again: a new one is made, and clients read it when they reconnect",
    )
}

/// Creates a file in one step, unless its name is taken.
fn create_if_missing(
    path: &Path,
    content: impl FnOnce() -> io::Result<String>,
) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let create = || {
        let dir = directory_of(path);
        // Mode 0600 from the start, under a name nobody looks for.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
        file.write_all(content()?.as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => {}
            // Another starter was first; theirs is as good.
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.error),
        }
        File::open(dir)?.sync_all()
    };
    create().map_err(|error: io::Error| {
        let mend = mend_write(&error);
        let what = format!("cannot create {}", path.display());
        Failure::new(Exit::Credentials, what, error, mend)
    })
}

/// A new certificate and its key, in that order.
fn new_certificate() -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(["localhost", "127.0.0.1", "::1"].map(str::to_owned))?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "configstream");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    // Everybody compares the whole certificate byte for byte, so its dates protect nothing; they must only never be
    // in the way.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    let certificate = params.self_signed(&key)?.pem();
    Ok(certificate + &to_sec1_pem(&key.serialize_der())?)
}

/// A PKCS#8 key as SEC1. PKCS#8 names the curve beside the key; SEC1 has to name it inside, or OpenSSL, BoringSSL and Go
/// refuse the key.
fn to_sec1_pem(pkcs8: &[u8]) -> Result<String, sec1::Error> {
    let outer = PrivateKeyInfo::try_from(pkcs8)?;
    let curve = outer.algorithm.parameters_oid()?;
    let inner = EcPrivateKey {
        parameters: Some(EcParameters::NamedCurve(curve)),
        ..EcPrivateKey::try_from(outer.private_key)?
    };
    Ok(inner.to_pem(LineEnding::LF)?)
}

fn new_token() -> io::Result<String> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(io::Error::other)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

const TOKEN_BYTES: usize = 32;

/// Far more than a certificate and its key take.
const LONGEST_FILE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv6Addr;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;
    use std::thread;

    use x509_parser::extensions::GeneralName;
    use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
    use x509_parser::pem::parse_x509_pem;

    use super::*;

    fn run_dir(root: &tempfile::TempDir) -> RunDir {
        RunDir::locate(Some(root.path())).unwrap()
    }

    #[test]
    fn what_is_created_is_private_and_in_the_form_that_clients_read() {
        let root = tempfile::tempdir().unwrap();
        let dir = run_dir(&root);
        let credentials = Credentials::open_or_create(&dir).unwrap();
        for path in [dir.certificate(), dir.token()] {
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                path.display()
            );
        }
        let blocks: Vec<&str> = credentials
            .pem()
            .lines()
            .filter(|line| line.starts_with("-----BEGIN"))
            .collect();
        assert_eq!(
            blocks,
            [
                "-----BEGIN CERTIFICATE-----",
                "-----BEGIN EC PRIVATE KEY-----"
            ]
        );
        let token = fs::read_to_string(dir.token()).unwrap();
        assert_eq!((token.len(), token.as_str()), (64, credentials.token()));
        let again = Credentials::open_or_create(&dir).unwrap();
        assert_eq!(
            (again.pem(), again.token()),
            (credentials.pem(), credentials.token())
        );
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            2,
            "nothing is left behind"
        );
        assert!(!format!("{credentials:?}").contains(credentials.token()));
    }

    #[test]
    fn the_certificate_is_authority_server_and_client_for_long() {
        let root = tempfile::tempdir().unwrap();
        let credentials = Credentials::open_or_create(&run_dir(&root)).unwrap();
        let (_, pem) = parse_x509_pem(credentials.pem().as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject(), certificate.issuer());

        let key = certificate.public_key().algorithm.clone();
        assert_eq!(key.algorithm, OID_KEY_TYPE_EC_PUBLIC_KEY);
        let curve = key.parameters.unwrap().oid().unwrap();
        assert_eq!(curve, OID_EC_P256);

        let extensions = &certificate.tbs_certificate;
        assert!(extensions.is_ca());
        let usage = extensions.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.digital_signature() && usage.crl_sign());
        let extended = extensions.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth);
        let names = extensions.subject_alternative_name().unwrap().unwrap();
        let local = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(
            names.value.general_names,
            [
                GeneralName::DNSName("localhost"),
                GeneralName::IPAddress(&[127, 0, 0, 1]),
                GeneralName::IPAddress(&local),
            ]
        );
        let validity = certificate.validity();
        let days = validity.time_to_expiration().unwrap().whole_days();
        assert!(validity.is_valid() && days > 3_600, "{days}");
    }

    #[test]
    fn of_many_starters_one_wins_and_all_agree() {
        let root = tempfile::tempdir().unwrap();
        let dir = run_dir(&root);
        let together = Barrier::new(8);
        let found: Vec<Credentials> = thread::scope(|scope| {
            let starters: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        Credentials::open_or_create(&dir).unwrap()
                    })
                })
                .collect();
            starters
                .into_iter()
                .map(|starter| starter.join().unwrap())
                .collect()
        });
        for credentials in &found {
            assert_eq!(
                (credentials.pem(), credentials.token()),
                (found[0].pem(), found[0].token())
            );
        }
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            2,
            "nothing is left behind"
        );
    }

    #[test]
    fn pkcs8_is_read_too() {
        let root = tempfile::tempdir().unwrap();
        let dir = run_dir(&root);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        write_private(
            &dir.certificate(),
            &format!("{}{}", certificate.pem(), key.serialize_pem()),
        );
        read_certificate(&dir.certificate(), IN_RUN_DIR).unwrap();
    }

    #[test]
    fn the_key_names_its_curve() {
        let pem = new_certificate().unwrap();
        let PrivateKeyDer::Sec1(der) = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
        else {
            panic!("another form: {pem}");
        };
        let key = EcPrivateKey::try_from(der.secret_sec1_der()).unwrap();
        let curve = key.parameters.and_then(EcParameters::named_curve).unwrap();
        assert_eq!(curve.to_string(), "1.2.840.10045.3.1.7", "P-256");
        assert!(key.public_key.is_some());
    }

    #[test]
    fn a_token_may_end_its_line() {
        let root = tempfile::tempdir().unwrap();
        let path = run_dir(&root).token();
        write_private(&path, &format!("{}\n", "ab".repeat(32)));
        assert_eq!(read_token(&path, IN_RUN_DIR).unwrap(), "ab".repeat(32));
    }

    #[test]
    fn each_kind_of_damage_is_named_with_its_mend() {
        let root = tempfile::tempdir().unwrap();
        let dir = run_dir(&root);
        let good = new_certificate().unwrap();
        let other = new_certificate().unwrap();
        let split = |pem: &str| {
            pem.split_once("-----BEGIN EC")
                .map(|(certificate, _)| certificate.to_owned())
                .unwrap()
        };
        let crossed = good.replace(&split(&good), &split(&other));
        for (content, why) in [
            (String::new(), "no CERTIFICATE"),
            ("hello".to_owned(), "no CERTIFICATE"),
            (split(&good), "no EC PRIVATE KEY"),
            (
                good[good.find("-----BEGIN EC").unwrap()..].to_owned(),
                "no CERTIFICATE",
            ),
            (crossed, "does not belong"),
        ] {
            write_private(&dir.certificate(), &content);
            let error = read_certificate(&dir.certificate(), IN_RUN_DIR).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.exit(), Exit::Credentials);
            assert!(
                text.contains("ipc_cert.pem")
                    && text.contains(why)
                    && text.contains("remove the file"),
                "{text}"
            );
        }
        for content in ["", "abc", &"xy".repeat(32), &"ab".repeat(33)] {
            write_private(&dir.token(), content);
            let text = read_token(&dir.token(), IN_RUN_DIR)
                .unwrap_err()
                .to_string();
            assert!(
                text.contains("auth_token")
                    && text.contains("64 hex")
                    && text.contains("remove the file"),
                "{text}"
            );
        }
    }

    #[test]
    fn open_permissions_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = run_dir(&root);
        Credentials::open_or_create(&dir).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(dir.token(), fs::Permissions::from_mode(mode)).unwrap();
            let text = Credentials::open_or_create(&dir).unwrap_err().to_string();
            assert!(
                text.contains("open to others") && text.contains("chmod 600"),
                "{text}"
            );
        }
    }

    fn write_private(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
