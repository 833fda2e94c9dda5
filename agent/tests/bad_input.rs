//! Every kind of bad file is refused with where, what, and what to do; none panics.

use std::path::Path;

use configstream_agent::known::Known;
use configstream_agent::yaml::{self, Document};

/// What the whole way from text to settings says.
fn read(text: &str) -> Result<usize, String> {
    let path = Path::new("core.yaml");
    let document = Document::parse(path, text).map_err(|error| error.to_string())?;
    let found = yaml::assignments(&[(path, &document)], Known::embedded());
    found
        .map(|found| found.len())
        .map_err(|error| error.to_string())
}

struct Case {
    name: &'static str,
    text: String,
    place: &'static str,
    what: &'static str,
    mend: &'static str,
}

fn case(
    name: &'static str,
    text: impl Into<String>,
    place: &'static str,
    what: &'static str,
    mend: &'static str,
) -> Case {
    Case {
        name,
        text: text.into(),
        place,
        what,
        mend,
    }
}

#[test]
fn each_bad_text_is_refused_with_place_reason_and_mend() {
    let bomb = (1..12).fold(
        "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n".to_owned(),
        |text, level| {
            let before = format!("*a{}", level - 1);
            let items = vec![before; 9].join(", ");
            format!("{text}a{level}: &a{level} [{items}]\n")
        },
    );
    let deep_lists = format!("mine: {}1{}\n", "[".repeat(49), "]".repeat(49));
    let deep_maps = format!("mine: {}1{}\n", "{X: ".repeat(33), "}".repeat(33));
    let deepest = format!("mine: {}1{}\n", "[".repeat(127), "]".repeat(127));
    let too_deep = format!("mine: {}1{}\n", "[".repeat(128), "]".repeat(128));
    let by_alias = {
        let half = format!("{}1{}", "[".repeat(70), "]".repeat(70));
        format!(
            "mine: &half {half}\nours: {}*half{}\n",
            "[".repeat(70),
            "]".repeat(70)
        )
    };
    let cases = [
        case(
            "broken indentation",
            "a:\n  b: 1\n c: 2\n",
            "3:2",
            "no valid YAML",
            "correct it",
        ),
        case(
            "unclosed bracket",
            "a: [1, 2\nb: 3\n",
            "2:2",
            "no valid YAML",
            "correct it",
        ),
        case(
            "unclosed quote",
            "a: \"x\nb: 1\n",
            "1:4",
            "no valid YAML",
            "correct it",
        ),
        case("tab", "a:\n\tb: 1\n", "2:", "no valid YAML", "correct it"),
        case(
            "unknown anchor",
            "a: *nowhere\n",
            "1:4",
            "no valid YAML",
            "correct it",
        ),
        case(
            "duplicate key",
            "a: 1\nb: 2\na: 3\n",
            "3:1",
            "`a` is given twice, first at line 1, column 1",
            "remove one",
        ),
        case(
            "duplicate key in a section",
            "s:\n  a: 1\n  a: 2\n",
            "3:3",
            "`a` is given twice",
            "remove one",
        ),
        case(
            "duplicate key in a map",
            "s: {A: 1, A: 2}\n",
            "1:11",
            "`A` is given twice",
            "remove one",
        ),
        case(
            "duplicate in two spellings",
            "a.b: 1\na:\n  b: 2\n",
            "3:3",
            "`a.b` is given twice, first at line 1",
            "remove one",
        ),
        case(
            "key below a value",
            "a: 1\na.b: 2\n",
            "2:1",
            "`a` and `a.b` both have values",
            "remove one",
        ),
        case(
            "key above a value",
            "a:\n  b: 1\n\"a\": 2\n",
            "3:1",
            "`a` is given twice",
            "remove one",
        ),
        case(
            "value above a section",
            "a.b: 1\na: 2\n",
            "2:1",
            "`a` and `a.b` both have values",
            "remove one",
        ),
        case(
            "a hyphen does not hide it",
            "a.b: 1\na-c: 1\na: 2\n",
            "3:1",
            "`a` and `a.b` both have values",
            "remove one",
        ),
        case(
            "null",
            "a:\n",
            "1:1",
            "has no value (null)",
            "remove the line",
        ),
        case(
            "tilde",
            "a: ~\n",
            "1:1",
            "has no value (null)",
            "remove the line",
        ),
        case(
            "null for a string",
            "log_level: null\n",
            "1:1",
            "has no value (null)",
            "\"\" for an empty text",
        ),
        case(
            "null in a list",
            "a: [1, null]\n",
            "1:8",
            "`a` has no value",
            "remove the line",
        ),
        case(
            "null in a map",
            "a: {B: }\n",
            "1:",
            "`a` has no value",
            "remove the line",
        ),
        case(
            "nan",
            "a: .nan\n",
            "1:4",
            "not a finite number",
            "give a finite number",
        ),
        case(
            "infinity",
            "a: -.inf\n",
            "1:4",
            "not a finite number",
            "give a finite number",
        ),
        case(
            "overflow",
            "a: 1e400\n",
            "1:4",
            "not a finite number",
            "give a finite number",
        ),
        case(
            "nan in a list",
            "a:\n  - .nan\n",
            "2:5",
            "not a finite number",
            "give a finite number",
        ),
        case(
            "integer",
            "a: 9007199254740993\n",
            "1:4",
            "beyond 2^53",
            "quote it",
        ),
        case(
            "negative integer",
            "a: -9007199254740993\n",
            "1:4",
            "beyond 2^53",
            "quote it",
        ),
        case(
            "huge integer",
            "a: 340282366920938463463374607431768211456\n",
            "1:4",
            "beyond 2^53",
            "quote it",
        ),
        case(
            "long duration",
            "forwarder_timeout: 3000h\n",
            "1:20",
            "beyond 2^53",
            "keep within 2501h",
        ),
        case(
            "lists too deep",
            deep_lists,
            "1:1",
            "`mine` nests too deep to be streamed",
            "flatten",
        ),
        case(
            "maps too deep",
            deep_maps,
            "1:1",
            "`mine` nests too deep to be streamed",
            "flatten",
        ),
        case(
            "lists deep as read",
            deepest,
            "1:1",
            "`mine` nests too deep to be streamed",
            "flatten",
        ),
        case(
            "lists deeper than read",
            too_deep,
            "1:134",
            "nests deeper than 128 levels",
            "flatten",
        ),
        case(
            "deep by alias",
            by_alias,
            "2:77",
            "nests deeper than 128 levels",
            "flatten",
        ),
        case(
            "deeper than the parser goes",
            format!("a: {}", "[".repeat(100_000)),
            "1:",
            "nest",
            "flatten",
        ),
        case(
            "alias bomb",
            bomb,
            "6:",
            "stands for more than 500000 values",
            "fewer aliases",
        ),
        case(
            "alias of itself",
            "a: &x [1, *x]\n",
            "1:11",
            "inside the node it refers to",
            "write the value out",
        ),
        case(
            "two documents",
            "a: 1\n---\nb: 2\n",
            "2:1",
            "second YAML document",
            "one document per file",
        ),
        case(
            "list at the top",
            "- a\n- b\n",
            "1:1",
            "no mapping",
            "key: value",
        ),
        case(
            "text at the top",
            "hello\n",
            "1:1",
            "no mapping",
            "key: value",
        ),
        case(
            "upper case",
            "Log_Level: info\n",
            "1:1",
            "`Log_Level` cannot be a key, because it has upper-case",
            "write `log_level`",
        ),
        case(
            "upper case in a section",
            "apm_config:\n  enabled: true\n  maxMemory: 1\n",
            "3:3",
            "`maxMemory` cannot be a key of the section `apm_config`",
            "write `maxmemory`",
        ),
        case(
            "blank in a key",
            "log level: info\n",
            "1:1",
            "`log level` cannot be a key",
            "rename",
        ),
        case(
            "empty key",
            "\"\": 1\n",
            "1:1",
            "because it is empty",
            "rename",
        ),
        case(
            "dots in a section",
            "apm_config:\n  obfuscation.cache.enabled: true\n",
            "2:3",
            "because it has a dot",
            "nest it",
        ),
        case(
            "empty step",
            "a..b: 1\n",
            "1:1",
            "cannot be a key",
            "rename",
        ),
        case(
            "merge key",
            "a: &a {b: 1}\nc:\n  <<: *a\n",
            "3:3",
            "merge key",
            "write the keys out",
        ),
        case(
            "list as key",
            "? [a]\n: 1\n",
            "1:3",
            "key is a list or a mapping",
            "use a text",
        ),
        case(
            "unknown tag",
            "a: !secret x\n",
            "1:",
            "tag of `a` is unknown",
            "known are !duration",
        ),
        case(
            "binary",
            "a: !!binary aGVsbG8=\n",
            "1:",
            "tag of `a` is unknown",
            "known are !duration",
        ),
        case(
            "bool expected",
            "apm_config:\n  enabled: maybe\n",
            "2:12",
            "`apm_config.enabled` is a boolean, but its value is not",
            "true or false",
        ),
        case(
            "integer expected",
            "expvar_port: 12.5\n",
            "1:14",
            "is an integer, but its value is not",
            "whole number",
        ),
        case(
            "number expected",
            "forwarder_backoff_base: two\n",
            "1:25",
            "is a number, but its value is not",
            "such as 0.5",
        ),
        case(
            "duration expected",
            "forwarder_timeout: 20 seconds\n",
            "1:20",
            "is a duration, but its value is not: a unit is unknown",
            "30s",
        ),
        case(
            "list expected",
            "tags: a\n",
            "1:7",
            "`tags` is a list, but its value is not",
            "[a, b]",
        ),
        case(
            "list expected, map found",
            "tags: {a: b}\n",
            "1:7",
            "`tags` is a list, but a map stands here",
            "[a, b]",
        ),
        case(
            "map expected",
            "container_env_as_tags: [a]\n",
            "1:24",
            "is a map, but a list stands here",
            "{key: value}",
        ),
        case(
            "scalar expected",
            "log_level: [info]\n",
            "1:12",
            "is a string, but a list stands here",
            "a text",
        ),
        case(
            "section expected",
            "apm_config: true\n",
            "1:1",
            "`apm_config` is a section",
            "set the keys inside",
        ),
        case(
            "section tagged as map",
            "apm_config: []\n",
            "1:1",
            "`apm_config` is a section",
            "set the keys inside",
        ),
        case(
            "below a known value",
            "log_level.of.one: 1\n",
            "1:1",
            "`log_level` is a string, not a section",
            "set `log_level` itself",
        ),
        case(
            "bad tagged duration",
            "mine: !duration soon\n",
            "1:",
            "is a duration, but its value is not",
            "30s",
        ),
        case(
            "unknown tag in a list",
            "a:\n  - b: [!include x]\n",
            "2:",
            "tag of `b` is unknown",
            "quote the text",
        ),
        case(
            "unknown tag at the top",
            "!include x\n",
            "1:",
            "the tag here is unknown",
            "remove the tag",
        ),
    ];
    let mut wrong = Vec::new();
    for Case {
        name,
        text,
        place,
        what,
        mend,
    } in cases
    {
        let Err(error) = read(&text) else {
            wrong.push(format!("{name}: accepted"));
            continue;
        };
        let after = error.split_once("; ").map_or("", |(_, after)| after);
        if !error.starts_with(&format!("core.yaml:{place}"))
            || !error.contains(what)
            || !after.contains(mend)
            || error.len() > 600
        {
            wrong.push(format!(
                "{name}: wanted {place} … {what} … {mend}, but it says {error}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_error_quotes_a_value() {
    let values = [
        "!hunter2 x",
        "!hunter2",
        "!<tag:hunter2> x",
        "!h!hunter2 x",
        "!!int hunter2",
        "!duration hunter2",
        "*hunter2",
        "&hunter2",
        "@hunter2",
        "`hunter2",
        "%hunter2",
        "{hunter2",
        "[hunter2",
        "\"hunter2",
        "\"\\xhunter2\"",
        "\"a\" hunter2",
        "'hunter2",
        "'a'hunter2",
        "a: hunter2",
        "|hunter2",
        "? hunter2",
        "- hunter2",
        "[!!bool hunter2]",
        "[!!float hunter2, {X: !hunter2 y}]",
    ];
    for value in values {
        for text in [
            format!("password: {value}\n"),
            format!("api_key: {value}\n"),
            format!("mine:\n  auth_token: {value}\n"),
            format!("secret_backend_arguments: {value}\n"),
            format!("secret_backend_config:\n  X: {value}\n"),
            // Any key can be put on the list of secrets, also by a layer that has not been read yet.
            format!("apm_config.enabled: {value}\n"),
            format!("expvar_port: {value}\n"),
            format!("forwarder_backoff_base: {value}\n"),
            format!("forwarder_timeout: {value}\n"),
            format!("tags: {value}\n"),
            format!("container_env_as_tags: {value}\n"),
        ] {
            // Some are good where others are not: a list for a list.
            if let Err(error) = read(&text) {
                assert!(!error.contains("hunter2"), "{text:?}: {error}");
            }
        }
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("missing.yaml");
    let error = yaml::read(&missing).unwrap_err().to_string();
    assert!(
        error.contains("missing.yaml: cannot be read") && error.contains("create it"),
        "{error}"
    );
    let error = yaml::read(root.path()).unwrap_err().to_string();
    assert!(
        error.contains("is a directory") && error.contains("name a file"),
        "{error}"
    );
    let odd = root.path().join("odd.yaml");
    std::fs::write(&odd, b"a: 1\nb: \xff\n").unwrap();
    let error = yaml::read(&odd).unwrap_err().to_string();
    assert!(
        error.contains("odd.yaml:2:4: is not UTF-8") && error.contains("save it as UTF-8"),
        "{error}"
    );
    let pipe = root.path().join("pipe.yaml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = yaml::read(&pipe).unwrap_err().to_string();
    assert!(
        error.contains("pipe.yaml: is a named pipe") && error.contains("write it to a file"),
        "{error}"
    );
    let long = root.path().join("long.yaml");
    std::fs::File::create(&long)
        .unwrap()
        .set_len(yaml::MAX_FILE_BYTES + 1)
        .unwrap();
    let error = yaml::read(&long).unwrap_err().to_string();
    assert!(
        error.contains("is longer than 16777216 bytes") && error.contains("split it"),
        "{error}"
    );
}

#[test]
fn a_conflict_between_two_files_names_both() {
    let (one, two) = (Path::new("one.yaml"), Path::new("two.yaml"));
    let first = Document::parse(one, "x: 0\nmine: 1\n").unwrap();
    let second = Document::parse(two, "mine:\n  deep: 2\n").unwrap();
    let error = yaml::assignments(&[(one, &first), (two, &second)], Known::embedded()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("two.yaml:2:3: `mine` and `mine.deep`"),
        "{error}"
    );
    assert!(
        error.contains("one.yaml:2:1") && error.contains("remove one"),
        "{error}"
    );
}

#[test]
fn no_prefix_of_a_good_file_and_no_changed_byte_panics() {
    let text =
        "a: &x {b: [1, 2.5, 'c'], D: \"e\\n\"}\nf: *x\ng: |\n  h\n  i\nj: !duration 1s # k\n";
    for end in 0..text.len() {
        let _ = read(&text[..end]);
    }
    for at in 0..text.len() {
        for byte in b"\0\t\n !\"#%&'*,-:<>?@[]`{|}~\\0aZ" {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = *byte;
            let _ = read(std::str::from_utf8(&bytes).unwrap());
        }
    }
}
