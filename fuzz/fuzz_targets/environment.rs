//! Environment variables: read as settings of known keys. Input: NAME=VALUE, separated by zero
//! bytes; a name may be a digit, which stands for a known key's.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use configstream_agent::environment::{assignments, variable_of};
use configstream_engine::State;
use configstream_engine::settings::{Change, Settings, Source};
use configstream_fuzz::known;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let names: Vec<_> = known()
        .iter()
        .map(|(key, _)| variable_of("DD", key))
        .collect();
    let variables = data.split(|byte| *byte == 0).filter_map(|variable| {
        let equals = variable.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&variable[..equals], &variable[equals + 1..]);
        let name = match name {
            [digit @ b'0'..=b'9'] => names[usize::from(digit - b'0') % names.len()].as_bytes(),
            name => name,
        };
        Some((
            OsStr::from_bytes(name).to_owned(),
            OsStr::from_bytes(value).to_owned(),
        ))
    });
    match assignments(known(), "DD", variables) {
        Err(error) => drop(error.to_string()),
        Ok(assignments) => {
            assert!(
                assignments
                    .iter()
                    .all(|assignment| assignment.value.check().is_ok())
            );
            let change = Change::replace_layer(Source::EnvironmentVariable, assignments);
            let _ = Settings::new().apply(&change);
        }
    }
});
