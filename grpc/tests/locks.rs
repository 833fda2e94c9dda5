//! Which locks the server and the agent use: only such as count, so that no log call under one goes
//! unseen.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Where the counting locks are made, and the queue of the log itself, which nothing can be logged
/// from.
const EXEMPT: [&str; 2] = ["grpc/src/lock.rs", "agent/src/log/queue.rs"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Locks of threads that a source names, other than those that count. Tests may use any. A lock of
/// tokio belongs to a task, which may move to another thread while it holds it, so that nothing
/// could count it.
fn other_locks(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let comments = Regex::new(r"//[^\n]*").unwrap();
    let code = comments.replace_all(code, "");
    let other = Regex::new(
        r"\bparking_lot\b|\bstd::sync::(?:Mutex|RwLock)\b|\bstd::sync::\{[^;]*\b(?:Mutex|RwLock)\b",
    )
    .unwrap();
    let found = other
        .find_iter(&code)
        .map(|found| found.as_str().to_owned());
    found.collect()
}

#[test]
fn all_locks_of_the_server_and_the_agent_are_such_as_count() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    sources(&root.join("grpc/src"), &mut found);
    sources(&root.join("agent/src"), &mut found);
    assert!(found.len() > 100);
    for path in found {
        let shown = path.strip_prefix(root).unwrap().to_str().unwrap();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if !EXEMPT.contains(&shown) && !is_test {
            let source = fs::read_to_string(&path).unwrap();
            let other = other_locks(&source);
            assert!(other.is_empty(), "{shown}: {other:?}; take crate::lock's");
        }
    }
}

#[test]
fn a_lock_that_does_not_count_is_found_however_it_is_named() {
    for source in [
        "use parking_lot::Mutex;",
        "use std::sync::{Arc, Mutex};",
        "use std::sync::{\n    Arc,\n    RwLock,\n};",
        "static A: std::sync::Mutex<u8>;",
    ] {
        assert_eq!(other_locks(source).len(), 1, "{source}");
    }
    for source in [
        "use crate::lock::Mutex;",
        "use tokio::sync::Mutex;",
        "use std::sync::Arc;\nstruct A(Mutex<u8>);",
        "// parking_lot's",
        "#[cfg(test)]\nmod tests { use std::sync::Mutex; }",
    ] {
        assert!(other_locks(source).is_empty(), "{source}");
    }
}
