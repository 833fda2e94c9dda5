//! The file: a first line that names it, a line of JSON for each change, and a checksum.

use std::path::Path;

use configstream_engine::settings::{Key, Source, Value};
use serde::{Deserialize, Serialize};

use super::{Changes, Kept, MAX_BYTES, MAX_CHANGES, MAX_VALUES, PersistError};
use crate::atomic_file;
use crate::json::{self, Json};

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<V> {
    source: String,
    key: String,
    value: V,
    who: String,
    when: String,
}

pub(super) fn render(changes: &Changes) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for ((source, key), kept) in changes {
        let line = Line {
            source: source.as_str().to_owned(),
            key: key.to_string(),
            value: json::of(&kept.value),
            who: kept.who.to_string(),
            when: humantime::format_rfc3339_seconds(kept.when).to_string(),
        };
        // It cannot fail: the names are texts, and the value is JSON already.
        text += &serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
    }
    atomic_file::sealed(&text)
}

/// What a file holds; nothing if there is none.
pub(super) fn read(path: &Path) -> Result<Changes, PersistError> {
    let unreadable = |error| PersistError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let Some(bytes) = atomic_file::read(path, MAX_BYTES).map_err(unreadable)? else {
        return Ok(Changes::new());
    };
    parse(&bytes).map_err(|why| PersistError::Corrupt {
        path: path.to_owned(),
        why,
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<Changes, &'static str> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err("it is longer than it can be");
    }
    let text = str::from_utf8(bytes).map_err(|_| "it is not text")?;
    if text.is_empty() {
        return Err("it is empty");
    }
    let lines = text
        .strip_prefix(FIRST_LINE)
        .and_then(|rest| rest.strip_prefix('\n'))
        .ok_or("its first line is not that of a file of persisted changes this version writes")?;
    let checked = text.trim_end_matches(|c| c != '\n');
    let end = checked
        .strip_suffix('\n')
        .and_then(|text| text.rfind('\n'))
        .ok_or("it is cut short")?
        + 1;
    let (content, last) = text.split_at(end);
    if text != atomic_file::sealed(content) {
        return Err("its checksum does not fit its content");
    }
    let mut changes = Changes::new();
    let mut values = 0;
    for line in lines[..lines.len() - last.len()].lines() {
        let line: Line<Json> = serde_json::from_str(line).map_err(|_| NO_CHANGE)?;
        let source = line.source.parse::<Source>();
        let source = source.map_err(|_| "a layer in it is unknown")?;
        let kept = Kept {
            value: line.value.0,
            who: line.who.into(),
            when: humantime::parse_rfc3339(&line.when).map_err(|_| NO_CHANGE)?,
        };
        let key = Key::parse(&line.key).map_err(|_| NO_CHANGE)?;
        values += values_in(&kept.value);
        if values > MAX_VALUES || changes.len() == MAX_CHANGES {
            return Err("it holds more than it can");
        }
        if changes.insert((source, key), kept).is_some() {
            return Err("a key is in it twice");
        }
    }
    Ok(changes)
}

/// How many values a value is: itself, and those in it.
pub(super) fn values_in(value: &Value) -> u64 {
    1 + match value {
        Value::List(items) => items.iter().map(values_in).sum(),
        Value::Map(map) => map.values().map(values_in).sum(),
        _ => 0,
    }
}

const FIRST_LINE: &str = "configstream persisted changes 1";
const NO_CHANGE: &str = "a line in it is no change";
