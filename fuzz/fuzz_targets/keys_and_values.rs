//! Keys, values, durations and addresses: what is read, shown and read again is the same.
#![no_main]

use configstream_agent::scalar::{self, Kind};
use configstream_agent::{duration, json};
use configstream_engine::settings::{Key, Source};
use configstream_grpc::Address;
use configstream_grpc::internals::over_the_wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    match Key::parse(text) {
        Err(error) => drop(error.to_string()),
        Ok(key) => {
            assert_eq!(Key::parse(&key.to_string()).as_ref(), Ok(&key));
            for section in key.sections() {
                assert!(key.is_below(section) && Key::parse(section).is_ok());
            }
        }
    }
    if let Ok(source) = text.parse::<Source>() {
        assert_eq!(source.as_str().parse(), Ok(source));
    }
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(
            address.to_string().parse::<Address>().as_ref(),
            Ok(&address)
        );
    }
    if let Ok(span) = duration::parse(text) {
        assert_eq!(duration::parse(&duration::show(span)), Ok(span));
    }
    for kind in [
        Kind::Bool,
        Kind::Int,
        Kind::Float,
        Kind::String,
        Kind::Duration,
    ] {
        if let Ok(value) = scalar::typed(kind, text) {
            assert_eq!(value.check(), Ok(()));
        }
    }
    let _ = scalar::plain(text);
    if let Ok(value) = json::value(text) {
        let value = value.canonical();
        let again = json::value(&json::of(&value).to_string());
        assert_eq!(again.map(|value| value.canonical()), Ok(value.clone()));
        // The wire has one kind of number, so the first passage may change a value; the next must
        // not.
        let received = over_the_wire(&value).expect("a value that can be streamed");
        assert_eq!(over_the_wire(&received).as_ref(), Ok(&received));
    }
});
