//! Certificate, token and address that change, are missing, or cannot be read.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use configstream_grpc::consumer::{Access, Consumer, Disconnection};
use configstream_grpc::{Address, Connector, Token};
use tokio::sync::RwLock;
use tonic::Code;

use crate::support::{Host, Pem, within_deadline};
use crate::{LONG, builder, next_cause, publish, serve, until_value};

#[tokio::test]
async fn a_token_or_certificate_that_is_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, token_file) = (dir.path().join("cert.pem"), dir.path().join("token"));
    let host = Host::start().await;
    publish(&host.engine, 0);
    let (mut pem, mut digits) = (host.pem.clone(), "0123456789abcdef".repeat(4));
    fs::write(&certificate, pem.text()).unwrap();
    fs::write(&token_file, &digits).unwrap();
    let address = Address::Tcp(host.address.to_string());
    let access = Access::files(address, &certificate, &token_file);
    let consumer = builder(access).start();
    consumer.wait_ready(LONG).await.unwrap();
    let mut handle = host.handle;
    for round in 1..=6 {
        if round % 2 == 0 {
            pem = Pem::generate();
        } else {
            digits = format!("{round}").repeat(64);
        }
        let token = Token::parse(&digits).unwrap();
        let write = || {
            fs::write(&certificate, pem.text()).unwrap();
            fs::write(&token_file, &digits).unwrap();
        };
        // Before the server has them, or after it has refused the old ones.
        if round > 3 {
            write();
        }
        within_deadline(handle.shutdown(LONG)).await;
        publish(&host.engine, round);
        handle = serve(&host.engine, host.address, &pem, &token).await;
        if round <= 3 {
            // How it is, how it was when the server came, and an attempt at that server.
            let mut states = consumer.states();
            for _ in 0..3 {
                next_cause(&mut states).await;
            }
            write();
        }
        until_value(&consumer, round).await;
    }
}

#[tokio::test]
async fn new_credentials_end_a_long_pause() {
    let host = Host::start().await;
    publish(&host.engine, 1);
    let (right, wrong) = (host.connector(), Token::parse(&"9".repeat(64)).unwrap());
    let wrong = Connector::new(right.address().clone(), &host.pem.identity(), wrong);
    let asked = Arc::new(AtomicU64::new(0));
    let counter = asked.clone();
    let access = Access::new(move || {
        let count = counter.fetch_add(1, Ordering::Relaxed);
        // Wrong for the attempt, and for the look right after it.
        Ok::<_, String>(if count < 2 {
            wrong.clone()
        } else {
            right.clone()
        })
    });
    let pause = Duration::from_secs(3600);
    let consumer = builder(access).backoff(pause, pause).start();
    let mut states = consumer.states();
    let cause = next_cause(&mut states).await;
    let Disconnection::Register(status) = &cause else {
        panic!("{cause}")
    };
    assert_eq!(status.code(), Code::Unauthenticated);
    until_value(&consumer, 1).await;
}

#[tokio::test]
async fn credentials_that_appear_late() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, token_file) = (dir.path().join("cert.pem"), dir.path().join("token"));
    let host = Host::start().await;
    publish(&host.engine, 1);
    let address = Address::Tcp(host.address.to_string());
    let access = Access::files(address, &certificate, &token_file);
    let consumer = builder(access).start();
    let cause = next_cause(&mut consumer.states()).await;
    assert!(matches!(cause, Disconnection::Access(_)), "{cause}");
    fs::write(&certificate, host.pem.text()).unwrap();
    fs::write(&token_file, "0123456789abcdef".repeat(4)).unwrap();
    until_value(&consumer, 1).await;
}

#[tokio::test]
async fn credentials_on_a_file_system_that_hangs() {
    let host = Host::start().await;
    publish(&host.engine, 1);
    let connector = host.connector();
    let (file_system, hung) = (Arc::new(RwLock::new(())), Duration::from_millis(50));
    let read = file_system.clone();
    let access = Access::new(move || {
        drop(read.blocking_read());
        Ok::<_, String>(connector.clone())
    });
    let consumers = [LONG, hung].map(|limit| builder(access.clone()).answer_timeout(limit).start());
    for consumer in &consumers {
        consumer.wait_ready(LONG).await.unwrap();
    }
    let mut states = consumers.each_ref().map(Consumer::states);
    let hang = file_system.write().await;
    within_deadline(host.handle.shutdown(LONG)).await;
    // At once, whatever is asked before the next attempt …
    for states in &mut states {
        let cause = next_cause(states).await;
        assert!(matches!(cause, Disconnection::Stream(_)), "{cause}");
    }
    // … and then with what it is that stands in the way.
    let cause = loop {
        if let Disconnection::Access(error) = next_cause(&mut states[1]).await {
            break error.to_string();
        }
    };
    assert!(
        cause.contains("were not found within 50ms; do they lie on a file system that hangs?"),
        "{cause}"
    );
    drop(hang);
    publish(&host.engine, 2);
    let _handle = serve(&host.engine, host.address, &host.pem, &host.token).await;
    for consumer in &consumers {
        until_value(consumer, 2).await;
    }
}
