//! Files of YAML: parsed, flattened, merged and published. Input: files, each ended by the byte
//! 0xFF.
#![no_main]

use std::path::Path;

use configstream_agent::yaml::{self, Document};
use configstream_engine::State;
use configstream_engine::settings::{Change, Key, Settings, Source};
use configstream_fuzz::known;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("fuzz.yaml");
    let mut documents = Vec::new();
    for text in data.split(|byte| *byte == 0xFF) {
        let Ok(text) = str::from_utf8(text) else {
            return;
        };
        match Document::parse(path, text) {
            Ok(document) => documents.push(document),
            Err(error) => drop(error.to_string()),
        }
    }
    let documents: Vec<_> = documents.iter().map(|document| (path, document)).collect();
    match yaml::assignments(&documents, known()) {
        Err(error) => drop(error.to_string()),
        Ok(assignments) => {
            for assignment in &assignments {
                assert_eq!(
                    Key::parse(assignment.key.as_str()).as_ref(),
                    Ok(&assignment.key)
                );
                assert_eq!(assignment.value.check(), Ok(()));
            }
            let change = Change::replace_layer(Source::File, assignments);
            // Refused or taken: what matters is that it is decided.
            let _ = Settings::new().apply(&change);
        }
    }
});
