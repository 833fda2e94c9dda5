//! Where a server is, and what it takes to get in.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use configstream_grpc::{Identity, Token};
use rcgen::{CertificateParams, KeyPair};

/// A folder for the socket and the credentials, and which of them are used.
#[derive(Args, Clone, Debug)]
pub(super) struct Access {
    /// Folder of the run.
    #[arg(long)]
    pub(super) folder: PathBuf,
    /// With TLS.
    #[arg(long)]
    pub(super) tls: bool,
    /// Over a Unix socket.
    #[arg(long)]
    pub(super) unix: bool,
}

impl Access {
    pub(super) fn identity(&self) -> io::Result<Identity> {
        let pem = std::fs::read(self.folder.join(CERTIFICATE))?;
        Identity::from_pem(&pem).map_err(io::Error::other)
    }

    pub(super) fn token(&self) -> io::Result<Token> {
        Token::parse(TOKEN).map_err(io::Error::other)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}

/// Puts a new certificate into a folder.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    let make = || {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
        Ok(certificate.pem() + &key.serialize_pem())
    };
    let pem = make().map_err(|error: rcgen::Error| io::Error::other(error))?;
    std::fs::write(folder.join(CERTIFICATE), pem)
}

pub(super) const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CERTIFICATE: &str = "ipc_cert.pem";
