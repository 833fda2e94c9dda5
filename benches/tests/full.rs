//! The full run, interrupted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Two steps that are short; neither's name is in another's.
const STEPS: [&str; 2] = [
    "wire/paced_1000_100x10_tcp_tls",
    "wire/paced_1000_100x10_unix",
];

/// Starts it, on these two steps; the load generator as it was built with this test.
fn full(folder: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_configstream-benches"));
    command.args(["full", "--quick", "--go", "no-such-toolchain"]);
    command.args(["--executable", concat!("load=", env!("CARGO_BIN_EXE_load"))]);
    command.arg("--state").arg(folder);
    command.args(STEPS.iter().flat_map(|step| ["--only", *step]));
    command
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

/// What it says while it lives, or until a line that ends so.
fn lines(child: &mut Child, until: &str) -> Vec<String> {
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.as_mut().expect("a pipe")).lines() {
        let line = line.expect("text");
        let is_last = line.contains(until);
        said.push(line);
        if is_last {
            break;
        }
    }
    said
}

fn says(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn a_killed_run_goes_on_with_the_first_step_that_is_not_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("record.json");
    let to = ["--to", record.to_str().expect("a path of text")];

    let mut first = full(folder.path(), &to);
    let said = lines(&mut first, "2 of 2: ");
    assert!(
        says(&said, "wire/paced_1000_100x10_tcp_tls: done"),
        "{said:?}"
    );
    first.kill().expect("it still ran");
    first.wait().expect("it ends");
    assert!(!record.exists());

    let mut second = full(folder.path(), &to);
    let said = lines(&mut second, "never");
    assert!(second.wait().expect("it ends").success(), "{said:?}");
    assert!(says(&said, "1 of 2 steps were measured before"), "{said:?}");
    assert!(!says(&said, "1 of 2: "), "{said:?}");
    assert!(says(&said, "wire/paced_1000_100x10_unix: done"), "{said:?}");

    let text = std::fs::read_to_string(&record).expect("it was written");
    for scenario in STEPS.map(|step| step.replace("wire", "wire_cpu/engine")) {
        assert!(text.contains(&scenario), "{scenario} is not in {text}");
    }

    let mut third = full(folder.path(), &to);
    let said = lines(&mut third, "never");
    assert!(third.wait().expect("it ends").success(), "{said:?}");
    assert!(!says(&said, ": done"), "{said:?}");

    let mut fresh = full(folder.path(), &["--fresh"]);
    let said = lines(&mut fresh, "of 2: ");
    assert!(says(&said, "1 of 2: "), "{said:?}");
    fresh.kill().expect("it still ran");
    fresh.wait().expect("it ends");
}

#[test]
fn a_step_that_fails_is_named_and_nothing_is_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("record.json");
    let mut failing = full(
        folder.path(),
        &[
            "--to",
            record.to_str().expect("a path of text"),
            "--executable",
            "load=/bin/false",
        ],
    );
    let said = lines(&mut failing, "never");
    assert_eq!(failing.wait().expect("it ends").code(), Some(1), "{said:?}");
    assert!(
        says(
            &said,
            "failed: wire/paced_1000_100x10_tcp_tls, wire/paced_1000_100x10_unix"
        ),
        "{said:?}"
    );
    assert!(!record.exists());
}
