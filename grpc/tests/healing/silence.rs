//! Answers that are due, and do not come, over a connection that stands.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use configstream_grpc::consumer::{ConsumerState, Disconnection};
use configstream_grpc::{Address, Connector, Token};
use tokio::net::TcpListener;

use crate::scripted::{End, Script, Scripted, snapshot, update};
use crate::support::{Pem, within_deadline};
use crate::{LONG, builder, hang, next_cause, until_value};

/// Takes connections, and says nothing.
async fn mute() -> (TcpListener, Connector) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let token = Token::parse(&"ab".repeat(32)).unwrap();
    let connector = Connector::new(address, &Pem::generate().identity(), token);
    (listener, connector)
}

#[tokio::test]
async fn a_server_that_never_shakes_hands() {
    let (_listener, connector) = mute().await;
    let consumer = builder(connector.connect_timeout(Duration::from_millis(50))).start();
    let mut states = consumer.states();
    for _ in 0..3 {
        let cause = next_cause(&mut states).await;
        assert!(matches!(cause, Disconnection::Connect(_)), "{cause}");
    }
}

#[tokio::test]
async fn a_consumer_that_is_let_go_while_it_connects_stops_at_once() {
    let (listener, connector) = mute().await;
    let builder = builder(connector.connect_timeout(Duration::MAX));
    let connecting = async || {
        let consumer = builder.clone().start();
        let (socket, _) = within_deadline(listener.accept()).await.unwrap();
        (consumer, socket)
    };
    let (consumer, _socket) = connecting().await;
    within_deadline(consumer.shutdown()).await;

    let (consumer, _socket) = connecting().await;
    let mut states = consumer.states();
    drop(consumer);
    let mut last = None;
    while let Some(state) = within_deadline(states.next()).await {
        last = Some(state);
    }
    assert!(matches!(last, Some(ConsumerState::Stopped)), "{last:?}");

    // On a thread of its own, while another thread waits.
    let consumer = builder.clone().start_thread().unwrap();
    let mut states = consumer.states();
    let waiting = thread::spawn(move || while states.next_timeout(Duration::MAX).is_ok() {});
    let (_socket, _) = within_deadline(listener.accept()).await.unwrap();
    consumer.shutdown_blocking();
    waiting.join().unwrap();
}

#[tokio::test]
async fn a_server_that_never_answers_a_registration() {
    let server = Scripted::start([hang([snapshot(1, 1)])]).await;
    server.told.ignore.store(2, Ordering::Relaxed);
    let consumer = builder(server.connector.clone())
        .answer_timeout(Duration::from_millis(500))
        .start();
    let mut states = consumer.states();
    let cause = next_cause(&mut states).await;
    assert_eq!(
        cause.to_string(),
        "the server is silent: no answer to registering within 500ms"
    );
    until_value(&consumer, 1).await;
}

#[tokio::test]
async fn a_server_that_never_answers_the_opening_of_a_stream() {
    let unanswered = Script {
        events: vec![],
        end: End::Unanswered,
    };
    let server = Scripted::start([unanswered, hang([snapshot(1, 1)])]).await;
    let consumer = builder(server.connector.clone())
        .answer_timeout(Duration::from_millis(500))
        .start();
    let cause = next_cause(&mut consumer.states()).await;
    assert!(
        cause
            .to_string()
            .contains("no answer to opening the stream within"),
        "{cause}"
    );
    until_value(&consumer, 1).await;
}

#[tokio::test]
async fn a_server_that_answers_a_refresh_on_no_connection() {
    let server = Scripted::start([hang([snapshot(1, 1)]), hang([snapshot(2, 2)])]).await;
    server.told.ignore_refreshes.store(2, Ordering::Relaxed);
    let consumer = builder(server.connector.clone())
        .answer_timeout(Duration::from_millis(200))
        .start();
    consumer.wait_ready(LONG).await.unwrap();
    let cause = next_cause(&mut consumer.states()).await;
    assert!(
        cause.to_string().contains("no answer to refreshing within"),
        "{cause}"
    );
    until_value(&consumer, 2).await;
}

#[tokio::test]
async fn a_stream_that_stalls_before_its_snapshot() {
    let server = Scripted::start([hang([]), hang([snapshot(1, 1)])]).await;
    let consumer = builder(server.connector.clone())
        .answer_timeout(Duration::from_millis(500))
        .start();
    let cause = next_cause(&mut consumer.states()).await;
    assert!(
        cause.to_string().contains("no first snapshot within"),
        "{cause}"
    );
    until_value(&consumer, 1).await;
}

#[tokio::test]
async fn a_stream_that_stalls_within_a_batch() {
    let server = Scripted::start([
        hang([snapshot(1, 1), update(2, 2, 2), update(3, 3, 1)]),
        hang([snapshot(4, 4)]),
    ])
    .await;
    let consumer = builder(server.connector.clone())
        .answer_timeout(Duration::from_millis(200))
        .start();
    consumer.wait_ready(LONG).await.unwrap();
    let mut values = consumer.subscribe_section("a").unwrap();
    let cause = next_cause(&mut consumer.states()).await;
    assert!(
        cause.to_string().contains("no rest of a batch within"),
        "{cause}"
    );
    let mut seen = Vec::new();
    while seen.last() != Some(&4) {
        let change = within_deadline(values.next()).await.unwrap();
        seen.push(change.set[0].value().as_i64().unwrap());
    }
    assert_eq!(seen, [1, 4], "half a batch is never seen");
}
