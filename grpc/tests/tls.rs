//! Who gets through a handshake, in both directions, and which PEM content makes an identity.

mod support;

use std::io;
use std::sync::Arc;

use configstream_grpc::{Identity, IdentityError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use support::{Nobody, Pem, Shows};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[tokio::test]
async fn holders_of_the_key_meet() {
    let identity = Pem::generate().identity();
    let (server, client) = shake(identity.server_config(), identity.client_config()).await;
    server.unwrap();
    client.unwrap();
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let identity = Pem::generate().identity();
    let mut client = identity.client_config();
    client.client_auth_cert_resolver = Arc::new(Nobody);
    let (server, client) = shake(identity.server_config(), client).await;
    assert_text(server, "peer sent no certificates");
    client.unwrap_err();
}

#[tokio::test]
async fn a_client_with_another_certificate_of_the_same_subject_is_refused() {
    let pem = Pem::generate();
    let mut client = pem.identity().client_config();
    client.client_auth_cert_resolver = Arc::new(Shows::new(&Pem::generate()));
    let (server, client) = shake(pem.identity().server_config(), client).await;
    assert_text(server, "ApplicationVerificationFailure");
    client.unwrap_err();
}

#[tokio::test]
async fn a_client_with_the_certificate_but_another_key_is_refused() {
    let pem = Pem::generate();
    let mut client = pem.identity().client_config();
    client.client_auth_cert_resolver = Arc::new(Shows::new(&pem.with_another_key()));
    let (server, client) = shake(pem.identity().server_config(), client).await;
    assert_text(server, "BadSignature");
    client.unwrap_err();
}

#[tokio::test]
async fn a_server_with_another_certificate_of_the_same_subject_is_refused() {
    let pem = Pem::generate();
    let mut server = pem.identity().server_config();
    server.cert_resolver = Arc::new(Shows::new(&Pem::generate()));
    let (server, client) = shake(server, pem.identity().client_config()).await;
    assert_text(client, "ApplicationVerificationFailure");
    server.unwrap_err();
}

#[tokio::test]
async fn a_server_with_the_certificate_but_another_key_is_refused() {
    let pem = Pem::generate();
    let mut server = pem.identity().server_config();
    server.cert_resolver = Arc::new(Shows::new(&pem.with_another_key()));
    let (server, client) = shake(server, pem.identity().client_config()).await;
    assert_text(client, "BadSignature");
    server.unwrap_err();
}

#[tokio::test]
async fn only_http_2_is_spoken() {
    let identity = Pem::generate().identity();
    let mut client = identity.client_config();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (server, _) = shake(identity.server_config(), client).await;
    assert_text(server, "any known protocol");
}

#[test]
fn both_encodings_of_a_key_are_read() {
    let pem = Pem::generate();
    let sec1 = p256::SecretKey::from_sec1_pem(&pem.key).unwrap();
    let pkcs8 = p256::pkcs8::EncodePrivateKey::to_pkcs8_pem(&sec1, Default::default()).unwrap();
    assert!(pem.key.starts_with("-----BEGIN EC PRIVATE KEY-----"));
    assert!(pkcs8.starts_with("-----BEGIN PRIVATE KEY-----"));
    for key in [pem.key, pkcs8.to_string()] {
        Identity::from_pem(format!("{}{key}", pem.certificate).as_bytes()).unwrap();
    }
}

#[test]
fn wrong_content_is_named() {
    let Pem { certificate, key } = Pem::generate();
    let garbage = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let cases = [
        (String::new(), IdentityError::NoCertificate),
        ("no PEM at all".into(), IdentityError::NoCertificate),
        (certificate.clone(), IdentityError::NoKey),
        (key.clone(), IdentityError::NoCertificate),
        (format!("{key}{certificate}"), IdentityError::KeyFirst),
        (
            format!("{certificate}{certificate}{key}"),
            IdentityError::TwoCertificates,
        ),
        (format!("{certificate}{key}{key}"), IdentityError::TwoKeys),
        (
            format!("{certificate}{}", Pem::generate().key),
            IdentityError::KeyMismatch,
        ),
        (
            format!("{certificate}{key}{}", garbage("X509 CRL")),
            IdentityError::UnexpectedBlock,
        ),
        (
            format!("{}{key}", garbage("CERTIFICATE")),
            IdentityError::Certificate,
        ),
        (
            format!("{certificate}{}", garbage("EC PRIVATE KEY")),
            IdentityError::Key,
        ),
        (
            certificate[..certificate.len() - 30].to_owned(),
            IdentityError::Pem,
        ),
    ];
    for (content, error) in cases {
        assert_eq!(
            Identity::from_pem(content.as_bytes()).unwrap_err(),
            error,
            "{content}"
        );
    }
}

#[test]
fn debug_hides_the_key() {
    let pem = Pem::generate();
    assert!(format!("{:?}", pem.identity()).starts_with("Identity { certificate_bytes: "));
}

/// A handshake in memory, and one byte each way: in TLS 1.3 a client learns of its refusal when it first reads.
async fn shake(server: ServerConfig, client: ClientConfig) -> (io::Result<()>, io::Result<()>) {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let server = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(near).await?;
        stream.write_all(b"s").await?;
        stream.read_u8().await?;
        io::Result::Ok(())
    };
    let client = async {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client))
            .connect(name, far)
            .await?;
        stream.write_all(b"c").await?;
        stream.read_u8().await?;
        io::Result::Ok(())
    };
    tokio::join!(server, client)
}

fn assert_text(result: io::Result<()>, part: &str) {
    let text = result.unwrap_err().to_string();
    assert!(text.contains(part), "{text}");
}
