//! The engine's own rules about its sources: one door to primitives, and `unsafe` in three files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Crates and modules of primitives that only `sync.rs` and what is beside it may name.
const PRIMITIVES: [&str; 6] = [
    "parking_lot",
    "arc_swap",
    "loom",
    "crossbeam",
    "once_cell",
    "spin",
];

/// The same, as paths in the standard library.
const STANDARD_PRIMITIVES: [&str; 4] = ["sync", "UnsafeCell", "SyncUnsafeCell", "intrinsics"];

const UNSAFE_FILES: [&str; 3] = ["ring.rs", "shared.rs", "sync/modelled.rs"];

/// Files of `src`, by their path in it, without comments and the contents of strings.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path.strip_prefix(&root).unwrap();
                let name = name.to_str().unwrap().replace('\\', "/");
                sources.push((name, code(&fs::read_to_string(path).unwrap())));
            }
        }
    }
    sources.sort();
    assert!(sources.iter().any(|(name, _)| name == "sync/real.rs"));
    sources
}

/// `text` without comments, and with empty strings.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if next == '"' {
            string_length(rest)
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, next) in text.char_indices().skip(1) {
        match next {
            '"' if !escaped => return index + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|next: char| !next.is_alphanumeric() && next != '_')
        .filter(|word| !word.is_empty())
}

/// Primitives that `code` names by themselves, as `std::sync::Arc`, or in a group, as `use std::{fmt, sync::Arc}`.
fn primitives(code: &str) -> Vec<String> {
    // `cfg(loom)` asks for a build; it names no primitive.
    let code = code
        .replace("cfg(loom)", "cfg()")
        .replace("not(loom)", "not()");
    let mut found: Vec<String> = words(&code)
        .filter(|word| PRIMITIVES.iter().any(|name| word.starts_with(name)))
        .map(String::from)
        .collect();
    let dense: String = code.split_whitespace().collect();
    for root in ["std::", "core::", "alloc::"] {
        for (start, _) in dense.match_indices(root) {
            // Up to the end of a `use`, or of a path.
            let rest = &dense[start + root.len()..];
            let end = if rest.starts_with('{') {
                rest.find(';').unwrap_or(rest.len())
            } else {
                let part = |next: char| next.is_alphanumeric() || "_:{},*".contains(next);
                rest.find(|next| !part(next)).unwrap_or(rest.len())
            };
            let named = words(&rest[..end]).filter(|word| STANDARD_PRIMITIVES.contains(word));
            found.extend(named.map(|word| format!("{root}..{word}")));
        }
    }
    found
}

#[test]
fn primitives_come_through_one_door() {
    for (name, code) in sources() {
        if name != "sync.rs" && !name.starts_with("sync/") {
            assert_eq!(primitives(&code), [""; 0], "in {name}");
        }
    }
}

#[test]
fn unsafe_code_stays_in_three_files() {
    for (name, code) in sources() {
        let used = words(&code).any(|word| word == "unsafe");
        assert_eq!(used, UNSAFE_FILES.contains(&&*name), "in {name}");
    }
}

#[test]
fn the_engine_reads_one_clock_and_starts_no_thread() {
    for (name, code) in sources() {
        let code = code.split("mod tests").next().unwrap();
        // A time may be handed in; asking for the present one is what makes a run that cannot be repeated.
        let asks = ["Instant::now", "SystemTime::now", ".elapsed()"];
        let clock = asks.iter().any(|ask| code.contains(ask));
        assert!(!clock || name == "waiter.rs", "a clock in {name}");
        for word in [
            "thread::spawn",
            "thread::Builder",
            "thread::sleep",
            "println!",
            "eprintln!",
        ] {
            assert!(!code.contains(word), "{word} in {name}");
        }
    }
}

/// A scan that finds nothing anywhere would pass all of the above.
#[test]
fn the_scan_finds_what_it_looks_for() {
    for text in [
        "use std::sync::Arc;",
        "use std::{fmt, sync::{Arc, Mutex}};",
        "use std :: {\n    fmt,\n    sync::atomic::AtomicU8,\n};",
        "let cell = std::cell::UnsafeCell::new(1);",
        "use core::sync::atomic::fence;",
        "use parking_lot::Mutex;",
        "use loom::sync::Notify;",
        "arc_swap::ArcSwap::new(x)",
    ] {
        assert!(!primitives(&code(text)).is_empty(), "{text}");
    }
    for text in [
        "// std::sync::Arc",
        "/// use parking_lot::Mutex;\nuse crate::sync::Arc;",
        "#[cfg(loom)] mod tests {}",
        "#[cfg(all(test, not(loom)))] mod tests {}",
        "use std::{fmt, task::Waker};\nuse crate::{sync::Arc};",
        "let text = \"std::sync \\\" loom\"; let quote = '\"'; f()",
    ] {
        assert!(primitives(&code(text)).is_empty(), "{text}");
    }
    assert_eq!(code("a \"unsafe\" b // unsafe\nc"), "a  b \nc");
}
