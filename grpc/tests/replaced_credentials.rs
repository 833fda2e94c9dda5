//! A server whose certificate and token are replaced while it runs.

mod support;

use std::sync::Arc;
use std::time::Duration;

use configstream_grpc::{Connector, Identity, Limits, Registration, Token};
use support::{Host, Pem, Shows, TOKEN, expect_update, told};
use tonic::Code;

const LONG: Duration = Duration::from_secs(3_600);

async fn host(overlap: Duration) -> Host {
    let limits = Limits::default().credentials_overlap(overlap);
    Host::start_with(|server| server.limits(limits)).await
}

fn another_token() -> Token {
    Token::parse(&"f".repeat(64)).unwrap()
}

/// What comes of a call with these.
async fn call(host: &Host, identity: &Identity, token: &Token) -> Result<(), String> {
    let address = host.address.to_string().parse().unwrap();
    let connector = Connector::new(address, identity, token.clone());
    let client = connector
        .connect()
        .await
        .map_err(|error| error.to_string())?;
    let called = client.register(&Registration::new("remote")).await;
    called.map(drop).map_err(|status| status.to_string())
}

#[tokio::test]
async fn the_token_before_is_accepted_as_long_as_the_overlap_lasts() {
    for (overlap, lasts) in [(LONG, true), (Duration::ZERO, false)] {
        let host = host(overlap).await;
        let (client, session) = host.session().await;
        let identity = host.pem.identity();
        let replaced = host
            .handle
            .credentials()
            .replace(&identity, &another_token());
        assert!(replaced.token && !replaced.certificate);
        call(&host, &identity, &another_token()).await.unwrap();
        let before = call(&host, &identity, &Token::parse(TOKEN).unwrap()).await;
        assert_eq!(before.is_ok(), lasts, "{before:?}");
        // A connection that was there before is asked again with each call.
        let refreshed = client.refresh(&session.id).await;
        if lasts {
            refreshed.unwrap();
        } else {
            assert_eq!(told(refreshed).0, Code::Unauthenticated);
        }
        // There is only one before the newest.
        let third = Token::parse(&"7".repeat(64)).unwrap();
        assert!(host.handle.credentials().replace(&identity, &third).token);
        call(&host, &identity, &third).await.unwrap();
        let oldest = call(&host, &identity, &Token::parse(TOKEN).unwrap()).await;
        oldest.unwrap_err();
        let before = call(&host, &identity, &another_token()).await;
        assert_eq!(before.is_ok(), lasts, "{before:?}");
    }
}

#[tokio::test]
async fn the_certificate_before_is_accepted_of_clients_that_trust_the_new_one() {
    for (overlap, lasts) in [(LONG, true), (Duration::ZERO, false)] {
        let host = host(overlap).await;
        let new = Pem::generate();
        let token = Token::parse(TOKEN).unwrap();
        let replaced = host.handle.credentials().replace(&new.identity(), &token);
        assert!(replaced.certificate && !replaced.token);
        call(&host, &new.identity(), &token).await.unwrap();
        // The server shows the new one, which a client that knows only the other refuses.
        call(&host, &host.pem.identity(), &token).await.unwrap_err();

        let mut tls = new.identity().client_config();
        tls.client_auth_cert_resolver = Arc::new(Shows::new(&host.pem));
        let channel = host.channel(tls).await;
        let refused = match channel {
            Ok(channel) => {
                // The client is through with its handshake before the server has judged it.
                let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
                let request = support::request(
                    tonic_health::pb::HealthCheckRequest::default(),
                    &[("authorization", support::BEARER)],
                );
                health.check(request).await.is_err()
            }
            Err(_) => true,
        };
        assert_eq!(refused, !lasts);
    }
}

#[tokio::test]
async fn what_proves_no_key_is_refused_during_the_overlap_too() {
    let host = host(LONG).await;
    let new = Pem::generate();
    let token = Token::parse(TOKEN).unwrap();
    host.handle.credentials().replace(&new.identity(), &token);
    for shown in [
        host.pem.with_another_key(),
        new.with_another_key(),
        Pem::generate(),
    ] {
        let mut tls = new.identity().client_config();
        tls.client_auth_cert_resolver = Arc::new(Shows::new(&shown));
        if let Ok(channel) = host.channel(tls).await {
            let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
            let request = support::request(
                tonic_health::pb::HealthCheckRequest::default(),
                &[("authorization", support::BEARER)],
            );
            health.check(request).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn streams_stay_when_certificate_and_token_are_replaced() {
    let host = host(Duration::ZERO).await;
    let (mut events, _) = host.stream().await;
    let replaced = host
        .handle
        .credentials()
        .replace(&Pem::generate().identity(), &another_token());
    assert!(replaced.certificate && replaced.token);
    let sequence = host.set("log_level", "debug");
    assert_eq!(expect_update(&mut events).await.sequence.get(), sequence);
}

#[tokio::test]
async fn what_is_the_same_is_not_replaced() {
    let host = host(LONG).await;
    let credentials = host.handle.credentials();
    let token = Token::parse(TOKEN).unwrap();
    credentials.replace(&host.pem.identity(), &another_token());
    let again = credentials.replace(&host.pem.identity(), &another_token());
    assert!(!again.certificate && !again.token);
    // Or the overlap of the first would have been lost.
    call(&host, &host.pem.identity(), &token).await.unwrap();
}
