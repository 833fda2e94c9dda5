//! The certificate both sides share, and the TLS they speak with it.
//!
//! One self-signed certificate is authority, server and client at once, so nothing is left for a chain of trust to
//! say: each side accepts **exactly** that certificate, byte for byte. The certificate is public to whoever connects,
//! so equality alone proves nothing; each side also verifies the signature by which the other shows, in every
//! handshake, that it holds the key. Sessions are not resumed, since a resumed handshake skips both.
//!
//! TLS 1.3 only, ALPN `h2`, the `ring` provider, whatever the process has installed as its default.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ServerConfig;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

/// The shared certificate with its private key.
///
/// Cheap to clone. `Debug` never shows the key.
#[derive(Clone)]
pub struct Identity {
    provider: Arc<CryptoProvider>,
    certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// Reads a PEM file's content: a block `CERTIFICATE`, then a block `EC PRIVATE KEY` (SEC1) or `PRIVATE KEY`
    /// (PKCS#8).
    ///
    /// # Errors
    /// Says what is wrong with the content: blocks missing, too many, out of order or unreadable, or a key that
    /// does not belong to the certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self, IdentityError> {
        let mut certificate = None;
        let mut key = None;
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            match section.map_err(|_| IdentityError::Pem)? {
                (SectionKind::Certificate, _) if certificate.is_some() => {
                    return Err(IdentityError::TwoCertificates);
                }
                (SectionKind::Certificate, _) if key.is_some() => {
                    return Err(IdentityError::KeyFirst);
                }
                (SectionKind::Certificate, der) => certificate = Some(CertificateDer::from(der)),
                (SectionKind::EcPrivateKey | SectionKind::PrivateKey, _) if key.is_some() => {
                    return Err(IdentityError::TwoKeys);
                }
                (SectionKind::EcPrivateKey, der) => key = Some(PrivateKeyDer::Sec1(der.into())),
                (SectionKind::PrivateKey, der) => key = Some(PrivateKeyDer::Pkcs8(der.into())),
                _ => return Err(IdentityError::UnexpectedBlock),
            }
        }
        Self::new(
            certificate.ok_or(IdentityError::NoCertificate)?,
            key.ok_or(IdentityError::NoKey)?,
        )
    }

    fn new(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let certified =
            CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &provider);
        certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch,
            rustls::Error::InvalidCertificate(_) => IdentityError::Certificate,
            _ => IdentityError::Key,
        })?;
        Ok(Self {
            provider,
            certificate,
            key: Arc::new(key),
        })
    }

    /// How a server with this identity shakes hands: it shows the certificate, and demands it.
    #[must_use]
    pub fn server_config(&self) -> ServerConfig {
        self.server_config_beside(None)
    }

    /// The same, but until a moment that is given, clients may show another certificate instead.
    pub(crate) fn server_config_beside(&self, before: Option<&(Self, Instant)>) -> ServerConfig {
        let mut pin = self.pin();
        pin.before = before.map(|(identity, until)| (identity.certificate.clone(), *until));
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider has cipher suites for TLS 1.3")
            .with_client_cert_verifier(Arc::new(pin))
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .expect("`new` has checked that the key belongs to the certificate");
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.send_tls13_tickets = 0;
        config
    }

    /// How a client with this identity shakes hands: it demands the certificate, whatever the name of the server,
    /// and shows it when asked.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider has cipher suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.pin()))
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            .expect("`new` has checked that the key belongs to the certificate");
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.resumption = Resumption::disabled();
        config
    }

    /// The same certificate and the same key.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key == other.key
    }

    fn pin(&self) -> Pin {
        Pin {
            certificate: self.certificate.clone(),
            before: None,
            algorithms: self.provider.signature_verification_algorithms,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificate_bytes", &self.certificate.len())
            .finish_non_exhaustive()
    }
}

/// Accepts one certificate, from whoever proves to hold its key.
#[derive(Debug)]
struct Pin {
    certificate: CertificateDer<'static>,
    /// Accepted instead, until then.
    before: Option<(CertificateDer<'static>, Instant)>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pin {
    fn check(&self, presented: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let is_before = |(before, until): &(CertificateDer<'_>, Instant)| {
            presented.as_ref() == before.as_ref() && Instant::now() < *until
        };
        if presented.as_ref() == self.certificate.as_ref()
            || self.before.as_ref().is_some_and(is_before)
        {
            Ok(())
        } else {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    /// The proof of possession. `presented` has passed `check`, so its key is one that is pinned.
    fn check_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, presented, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pin {
    /// None: a hint would tell strangers whom to pose as.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why [`Identity::from_pem`] refused its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityError {
    /// The content is not PEM, or a block is cut short.
    Pem,
    /// No block `CERTIFICATE`.
    NoCertificate,
    /// More than one block `CERTIFICATE`.
    TwoCertificates,
    /// No private key.
    NoKey,
    /// More than one private key.
    TwoKeys,
    /// The key precedes the certificate.
    KeyFirst,
    /// A block that is neither.
    UnexpectedBlock,
    /// The certificate cannot be read.
    Certificate,
    /// The key cannot be read, or is of a kind that cannot sign here.
    Key,
    /// The key is not the certificate's.
    KeyMismatch,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pem => "the content is not valid PEM",
            Self::NoCertificate => "no CERTIFICATE block",
            Self::TwoCertificates => "more than one CERTIFICATE block",
            Self::NoKey => "no EC PRIVATE KEY or PRIVATE KEY block",
            Self::TwoKeys => "more than one private key block",
            Self::KeyFirst => "the private key precedes the certificate",
            Self::UnexpectedBlock => {
                "a block that is neither CERTIFICATE nor EC PRIVATE KEY nor PRIVATE KEY"
            }
            Self::Certificate => "the certificate cannot be read",
            Self::Key => "the private key cannot be read",
            Self::KeyMismatch => "the private key does not belong to the certificate",
        })
    }
}

impl Error for IdentityError {}

const ALPN_H2: &[u8] = b"h2";
