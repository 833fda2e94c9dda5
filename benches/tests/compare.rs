//! What the program says of two runs and more, and its exit status.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Median and quartiles.
type Figure = [f64; 3];

const FLOOR: &str = "deliver/floor/64";
const OURS: &str = "deliver/engine/64";

/// A stored run of a machine: how fast the floor was, and how fast we were.
fn run(folder: &Path, name: &str, cpu: &str, floor: Figure, ours: Figure) -> PathBuf {
    let figure = |id: &str, [low, median, high]: Figure| -> Value {
        json!({"id": id, "unit": "nanoseconds", "median": median, "low": low, "high": high, "samples": 31})
    };
    let record = json!({
        "taken": "2026-01-31T23:59:59Z", "commit": name, "compiler": "rustc",
        "machine": {"cpu": cpu, "cores": 2, "kernel": "Linux"},
        "figures": [figure(OURS, ours), figure(FLOOR, floor)], "curves": [],
    });
    let path = folder.join(name);
    fs::write(&path, record.to_string()).expect("a file");
    path
}

/// The same without a figure.
fn without(path: &Path, id: &str) {
    let text = fs::read_to_string(path).expect("a run");
    let mut record: Value = serde_json::from_str(&text).expect("a record");
    let figures = record["figures"].as_array_mut().expect("a list");
    figures.retain(|figure| figure["id"] != id);
    fs::write(path, record.to_string()).expect("a file");
}

fn compare(runs: &[&Path]) -> (Option<i32>, String) {
    compare_with(&[], runs)
}

fn compare_with(options: &[&str], runs: &[&Path]) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_configstream-benches");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .arg("compare")
        .args(options)
        .args(runs)
        .output()
        .expect("the program starts");
    let said = String::from_utf8([stdout, stderr].concat()).expect("text");
    (status.code(), said)
}

const FLOOR_HERE: Figure = [5.6, 5.7, 5.8];
const OURS_HERE: Figure = [7.0, 7.1, 7.2];

#[test]
fn two_runs_that_differ_by_noise_are_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = run(folder.path(), "before", "one", FLOOR_HERE, OURS_HERE);
    let now = run(folder.path(), "now", "one", FLOOR_HERE, [7.1, 7.19, 7.3]);
    let (status, said) = compare(&[&before, &now]);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("2 figures compared: 0 worse, 0 better"),
        "{said}"
    );
}

#[test]
fn what_got_worse_is_named_with_its_spread_and_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = run(folder.path(), "before", "one", FLOOR_HERE, OURS_HERE);
    let now = run(folder.path(), "now", "one", FLOOR_HERE, [8.4, 8.52, 8.6]);
    let (status, said) = compare(&[&before, &now]);
    assert_eq!(status, Some(1), "{said}");
    for part in [
        "worse",
        OURS,
        "7.10 ns (7.00 ns to 7.20 ns)",
        "8.52 ns (8.40 ns to 8.60 ns)",
        "+20.0 %",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(!said.contains(FLOOR), "{said}");
    // An earlier run that was as slow says that this is the noise of that machine.
    let slow = run(folder.path(), "slow", "one", FLOOR_HERE, [8.3, 8.5, 8.7]);
    assert_eq!(compare(&[&before, &slow, &now]).0, Some(0));
}

#[test]
fn runs_of_different_machines_are_compared_by_the_floor() {
    let folder = tempfile::tempdir().expect("a folder");
    let twice = |figure: Figure| figure.map(|value| 2.0 * value);
    let before = run(folder.path(), "before", "one", FLOOR_HERE, OURS_HERE);
    let same = run(
        folder.path(),
        "same",
        "two",
        twice(FLOOR_HERE),
        twice(OURS_HERE),
    );
    let (status, said) = compare(&[&before, &same]);
    assert_eq!(status, Some(0), "{said}");
    let worse = run(
        folder.path(),
        "worse",
        "two",
        twice(FLOOR_HERE),
        twice(twice(OURS_HERE)),
    );
    let (status, said) = compare(&[&before, &worse]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("-> 2.49 floors"), "{said}");
}

#[test]
fn a_peer_that_moved_is_said_and_fails_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = run(folder.path(), "before", "one", FLOOR_HERE, OURS_HERE);
    let slower = FLOOR_HERE.map(|value| 2.0 * value);
    let now = run(folder.path(), "now", "one", slower, OURS_HERE);
    let (status, said) = compare(&[&before, &now]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("peer moved  deliver/floor/64"), "{said}");
    assert!(
        said.contains("0 worse, 0 better, 1 of peers moved"),
        "{said}"
    );
}

#[test]
fn a_figure_of_ours_that_has_gone_fails_unless_that_is_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = run(folder.path(), "before", "one", FLOOR_HERE, OURS_HERE);
    let now = run(folder.path(), "now", "one", FLOOR_HERE, OURS_HERE);
    without(&now, OURS);
    let (status, said) = compare(&[&before, &now]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("gone        deliver/engine/64"), "{said}");
    let (status, said) = compare_with(&["--allow-gone"], &[&before, &now]);
    assert_eq!(status, Some(0), "{said}");
    let others = run(folder.path(), "others", "one", FLOOR_HERE, OURS_HERE);
    without(&others, FLOOR);
    let (status, said) = compare(&[&before, &others]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("peer gone   deliver/floor/64"), "{said}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = run(folder.path(), "before", "one", FLOOR_HERE, OURS_HERE);
    let (status, said) = compare(&[&before, &folder.path().join("missing")]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("missing"), "{said}");
}
