//! A state as large as there may be. A process of its own, for the memory it takes.

mod support;

use configstream_engine::PublishError;
use configstream_engine::settings::{Change, Key, Rejection, Settings, Source};
use support::{Host, expect_update};

#[tokio::test]
async fn the_largest_state_arrives_whole_and_one_byte_more_is_rejected() {
    let host = Host::start().await;
    let used = || host.engine.head().state().resolved().encoded_len();
    let piece = 16 << 20;
    host.set("last", "x");
    for number in 0..7 {
        host.set(&format!("large.key{number}"), "x".repeat(piece));
    }
    // The rest of the limit, less what surrounds a value of that length: as much as surrounds the others.
    let before = used();
    host.set("large.key7", "x".repeat(piece / 2));
    let around = used() - before - (piece / 2) as u64;
    let left = usize::try_from(Settings::DEFAULT_SIZE_LIMIT - before - around).unwrap();
    host.set("large.key7", "x".repeat(left));
    assert_eq!(used(), Settings::DEFAULT_SIZE_LIMIT);

    let (mut events, snapshot) = host.stream().await;
    assert_eq!(snapshot.settings.len(), 9);
    let head = host.engine.head();
    for (received, published) in snapshot.settings.iter().zip(head.state().resolved().iter()) {
        assert_eq!(received.key(), published.key());
        // Not `assert_eq`, which would show both.
        assert!(received.value() == published.value(), "{}", received.key());
    }

    // One byte more is none that anybody hears of, and what fits is heard.
    let key = Key::parse("last").unwrap();
    let refused = host
        .engine
        .publish(&Change::set(Source::File, key, "xx"))
        .unwrap_err();
    let PublishError::Rejected(Rejection::TotalTooLarge {
        encoded_len, limit, ..
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(limit, Settings::DEFAULT_SIZE_LIMIT);
    assert_eq!(encoded_len, limit + 1);
    let sequence = host.set("last", "y");
    assert_eq!(sequence, snapshot.sequence.get() + 1);
    let update = expect_update(&mut events).await;
    assert_eq!(update.sequence.get(), sequence);
    assert_eq!(update.update.setting().value().as_str(), Some("y"));
}
