//! A stream's events: decoded, checked and applied to a replica. Input: events, each with its
//! length in two bytes before it.
#![no_main]

use configstream_engine::settings::Resolution;
use configstream_grpc::internals::{Replay, over_the_wire};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut replay = Replay::default();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (event, after) = after.split_at(length);
        rest = after;
        let before = replay.head();
        let applied = replay.feed(event);
        let (Some(before), Some(after)) = (before, replay.head()) else {
            continue;
        };
        if applied.is_err() {
            assert!(
                std::sync::Arc::ptr_eq(&before, &after),
                "a refused event changed the replica"
            );
        }
        if before.epoch() == after.epoch() && before.epoch().get() != 0 {
            assert!(
                before.sequence() <= after.sequence(),
                "the replica went back"
            );
        }
    }
    if let Some(head) = replay.head() {
        for setting in head.state().resolved().iter() {
            let value = over_the_wire(setting.value());
            assert_eq!(value.as_ref(), Ok(&setting.value().clone().canonical()));
        }
    }
});
