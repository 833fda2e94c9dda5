//! The guarantees of README, and the tests that it names for each.

use std::fs;

use regex::Regex;

use super::page::{Page, workspace};

#[test]
fn every_guarantee_names_tests_that_exist() {
    let readme = Page::open("README.md");
    let rows: Vec<_> = readme
        .section("Guarantees")
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"))
        .skip(1)
        .collect();
    assert!(
        rows.len() >= 9,
        "the table of guarantees has gone: {rows:?}"
    );
    let span = Regex::new("`([^`]+)`").unwrap();
    for (number, row) in (1..).zip(rows) {
        assert!(
            row.starts_with(&format!("| {number} | ")),
            "out of order: {row}"
        );
        let mut source = None;
        let mut named = 0;
        for (_, [word]) in span.captures_iter(row).map(|found| found.extract()) {
            if word.contains('/') {
                let text = fs::read_to_string(workspace().join(word));
                source = Some(text.unwrap_or_else(|error| panic!("{word}: {error}")));
                continue;
            }
            let source = source
                .as_deref()
                .unwrap_or_else(|| panic!("{word} stands before its file: {row}"));
            assert!(has_test(source, word), "no such test: {word} in {row}");
            named += 1;
        }
        assert!(named > 0, "no test is named: {row}");
    }
}

/// Whether a source has a test of this name. Models are made into tests by a macro, `models! { fn name() { … } }`, or
/// carry the attribute like any other.
fn has_test(source: &str, name: &str) -> bool {
    let test = format!(r"#\[(tokio::)?test[^\]]*\]\s*(#\[[^\]]*\]\s*)*(async )?fn {name}\(",);
    Regex::new(&test).unwrap().is_match(source)
}
