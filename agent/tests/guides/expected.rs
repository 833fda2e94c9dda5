//! What a page says that a program prints, against what it prints.
//!
//! Not compared: times, spans of time (`3 s`), session ids, epochs, process ids, the width of columns. `…` in a line
//! stands for anything; as a line of its own, for any lines. All else is compared to the letter, sequences included.

use std::sync::LazyLock;

use regex::Regex;

/// How much of `printed` is what is `expected` of its beginning, if it is.
pub(crate) fn beginning(expected: &str, printed: &str) -> Option<usize> {
    let ends = printed.match_indices('\n').map(|(at, _)| at + 1);
    ends.into_iter()
        .find(|end| matches(expected, &printed[..*end]))
}

/// Whether this is what was expected, first line to last.
pub(crate) fn matches(expected: &str, printed: &str) -> bool {
    let printed = normal(printed);
    let mut pattern = String::from("^");
    for line in normal(expected).lines() {
        if line == "…" {
            pattern.push_str("(?:.*\n)*?");
            continue;
        }
        let pieces: Vec<_> = line.split('…').map(regex::escape).collect();
        pattern.push_str(&pieces.join(".*"));
        pattern.push('\n');
    }
    pattern.push('$');
    Regex::new(&pattern).unwrap().is_match(&printed)
}

/// Without what differs from run to run, and without empty lines.
fn normal(text: &str) -> String {
    static VARYING: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (
                r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "<id>",
            ),
            (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "<time>"),
            (r"\b\d\d:\d\d:\d\d(\.\d+)?\b", "<time>"),
            (r"\b\d+(\.\d+)? (s|ms|µs|ns|min|h|days)\b", "<span>"),
            (r"\b1[5-9]\d{11}\b", "<epoch>"),
            (r"\bprocess \d+", "process <pid>"),
            (r"[ \t]+", " "),
        ]
        .map(|(pattern, stands)| (Regex::new(pattern).unwrap(), stands))
        .into()
    });
    let mut text = text.to_owned();
    for (pattern, stands) in VARYING.iter() {
        text = pattern.replace_all(&text, *stands).into_owned();
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn what_varies_may_vary_and_nothing_else() {
    let same = |expected, printed| matches(expected, printed);
    assert!(same("up for  3 s\n", " up for   17 s \n\n"));
    assert!(same("a\n…\nd\n", "a\nb\nc\nd\n"));
    assert!(same("at … of", "at 3 times 5 of\n"));
    assert!(same(
        "2026-01-02T03:04:05Z  INFO x",
        "2026-11-25T04:13:33.797569Z INFO x\n"
    ));
    assert!(!same("sequence 3", "sequence 4\n"));
    assert!(!same("timeout = \"5s\"", "timeout = \"7s\"\n"));
    assert!(!same("a\n", "a\nb\n"));
    assert!(!same("a\nb\n", "a\n"));
    assert_eq!(beginning("a\nb\n", "a\n\nb\nc\n"), Some(5));
    assert_eq!(beginning("a\nb\n", "a\n"), None);
}
