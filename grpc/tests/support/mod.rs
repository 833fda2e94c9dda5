//! What every test of the adapter needs: certificates, and waiting for a condition.

#![allow(dead_code, reason = "each test file uses a part")]

use configstream_grpc::Identity;
use p256::pkcs8::DecodePrivateKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and a key as PEM blocks, not necessarily belonging together.
#[derive(Clone)]
pub struct Pem {
    pub certificate: String,
    pub key: String,
}

impl Pem {
    /// A certificate as an agent makes it, and its key in SEC1. Each call makes another key; the subject is always
    /// the same.
    pub fn generate() -> Self {
        let key = KeyPair::generate().unwrap();
        let names = [
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        let mut params = CertificateParams::new(names).unwrap();
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
        let certificate = params.self_signed(&key).unwrap().pem();
        let key = p256::SecretKey::from_pkcs8_pem(&key.serialize_pem()).unwrap();
        Self {
            certificate,
            key: key.to_sec1_pem(Default::default()).unwrap().to_string(),
        }
    }

    pub fn identity(&self) -> Identity {
        Identity::from_pem(self.text().as_bytes()).unwrap()
    }

    pub fn text(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}
