//! Files of the run directory and a consumer's saved snapshot. Input: which file, and its bytes;
//! the first byte also says whether they get the right checksum first.
#![no_main]

use configstream_agent::internals::{persisted_file, sealed, sequence_file};
use configstream_grpc::internals::{saved_file, saved_snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    let seal = which & 4 != 0;
    let read: fn(&[u8]) -> Result<String, &'static str> = match which & 3 {
        0 => sequence_file,
        1 => persisted_file,
        _ => {
            let file = if seal {
                saved_file(bytes).expect("short")
            } else {
                bytes.to_vec()
            };
            if let Ok(snapshot) = saved_snapshot(&file) {
                let valid = |value: &configstream_engine::settings::Value| value.check().is_ok();
                assert!(
                    snapshot
                        .settings
                        .iter()
                        .all(|setting| valid(setting.value()))
                );
            }
            return;
        }
    };
    let first = match str::from_utf8(bytes) {
        Ok(text) if seal => read(sealed(text).as_bytes()),
        _ => read(bytes),
    };
    if let Ok(written) = first {
        // What was read is what a next start reads.
        assert_eq!(read(written.as_bytes()).as_ref(), Ok(&written));
    }
});
