//! Answers that are due, and do not come, over a connection that stands.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::scripted::{End, Script, Scripted, snapshot, update};
use crate::support::within_deadline;
use crate::{LONG, builder, hang, next_cause, until_value};

#[tokio::test]
async fn a_server_that_never_answers_a_registration() {
    let server = Scripted::start([hang([snapshot(1, 1)])]).await;
    server.told.ignore.store(2, Ordering::Relaxed);
    let consumer = builder(server.connector.clone())
        .answer_timeout(Duration::from_millis(50))
        .start();
    let mut states = consumer.states();
    let cause = next_cause(&mut states).await;
    assert_eq!(
        cause.to_string(),
        "the server is silent: no answer to registering within 50ms"
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
        .answer_timeout(Duration::from_millis(50))
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
async fn a_server_that_never_answers_a_refresh() {
    let server = Scripted::start([hang([snapshot(1, 1)]), hang([snapshot(2, 2)])]).await;
    server.told.ignore_refreshes.store(1, Ordering::Relaxed);
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
        .answer_timeout(Duration::from_millis(50))
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
