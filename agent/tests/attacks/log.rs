//! A log that is not read.

use configstream_engine::settings::{Key, Source};

use crate::harness::Attack;
use crate::support::PATIENCE;

/// The pipe takes 64 KiB, which these changes fill several times.
#[test]
fn a_log_that_is_not_read_freezes_nothing() {
    Attack::new().memory_mib(16).run_lasting(|target| {
        let unread = target.agent.stop_reading();
        let key = Key::parse("attacks.logged").unwrap();
        let changes = target.scaled(1_000, 20_000);
        target.runtime.block_on(async {
            let client = target.connector.connect().await.unwrap();
            for number in 0..changes {
                let requested_by = "x".repeat(200);
                let value = number.into();
                let set = client.set(Source::AgentRuntime, &key, &value, &requested_by);
                let set = tokio::time::timeout(PATIENCE, set).await;
                set.expect("the agent takes changes").unwrap();
            }
        });
        target.last();
        unread
    });
}
