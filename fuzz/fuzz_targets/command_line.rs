//! Values of the command line: `--set KEY=VALUE`, and the value of `configstream set`. Input:
//! arguments, one a line.
#![no_main]

use configstream_agent::command_line::{assignments, value};
use configstream_engine::State;
use configstream_engine::settings::{Change, Settings, Source};
use configstream_fuzz::known;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    for (key, _) in known().iter() {
        match value(known(), key, text) {
            Err(error) => drop(error.to_string()),
            Ok(value) => assert_eq!(value.check(), Ok(())),
        }
    }
    let arguments: Vec<String> = text.lines().map(str::to_owned).collect();
    match assignments(known(), &arguments) {
        Err(error) => drop(error.to_string()),
        Ok(assignments) => {
            let _ = Settings::new().apply(&Change::replace_layer(Source::Cli, assignments));
        }
    }
});
