//! How good files become settings.

use std::collections::BTreeMap;
use std::path::Path;

use configstream_agent::json;
use configstream_agent::known::Known;
use configstream_agent::yaml::{self, Document};
use configstream_engine::settings::Assignment;

fn assignments(texts: &[&str], known: &Known) -> Vec<Assignment> {
    let paths: Vec<String> = (0..texts.len())
        .map(|number| format!("{number}.yaml"))
        .collect();
    let documents: Vec<Document> = texts
        .iter()
        .zip(&paths)
        .map(|(text, path)| Document::parse(Path::new(path), text).unwrap())
        .collect();
    let named: Vec<(&Path, &Document)> = paths.iter().map(Path::new).zip(&documents).collect();
    yaml::assignments(&named, known).unwrap_or_else(|error| panic!("{error}"))
}

fn settings(text: &str) -> BTreeMap<String, String> {
    shown(&assignments(&[text], Known::embedded()))
}

fn shown(found: &[Assignment]) -> BTreeMap<String, String> {
    found
        .iter()
        .map(|setting| {
            (
                setting.key.to_string(),
                json::of(&setting.value).to_string(),
            )
        })
        .collect()
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_file_without_content_sets_nothing() {
    for text in [
        "",
        "\n",
        "# only a comment\n",
        "---\n",
        "--- # nothing\n...\n",
        "{}\n",
    ] {
        assert_eq!(settings(text), expected(&[]), "{text:?}");
    }
}

#[test]
fn sections_are_flattened_and_maps_are_kept_whole() {
    let text = "
a: {b: {c: 1, d-e: 2}}
x.y.z: 3
nothing: {}
url_map:
  https://intake.example: [key]
  plain: 1
dotted: {one.two: 3}
upper: {Name: 4}
tagged: !map {plain: 5}
";
    let found = settings(text);
    let all = [
        ("a.b.c", "1"),
        ("a.b.d-e", "2"),
        ("x.y.z", "3"),
        ("nothing", "{}"),
        ("url_map", r#"{"https://intake.example":["key"],"plain":1}"#),
        ("dotted", r#"{"one.two":3}"#),
        ("upper", r#"{"Name":4}"#),
        ("tagged", r#"{"plain":5}"#),
    ];
    assert_eq!(found, expected(&all));
}

#[test]
fn a_key_whose_default_is_a_map_takes_any_mapping_whole() {
    let found = settings("container_env_as_tags: {home: dir, nested: {a: 1}}\n");
    assert_eq!(
        found,
        expected(&[(
            "container_env_as_tags",
            r#"{"home":"dir","nested":{"a":1}}"#
        )])
    );
}

#[test]
fn an_empty_known_section_sets_nothing() {
    assert_eq!(
        settings("apm_config: {}\nlog_level: warn\n"),
        expected(&[("log_level", r#""warn""#)])
    );
}

#[test]
fn the_known_type_decides_how_a_value_is_read() {
    let text = "
api_key: 0123
site: true
env: 1.10
apm_config: {enabled: 'no', receiver_port: \"8127\", max_cpu_percent: 80}
forwarder_timeout: 1m30s
flare_provider_timeout: 5000
";
    let all = [
        ("api_key", r#""0123""#),
        ("site", r#""true""#),
        ("env", r#""1.10""#),
        ("apm_config.enabled", "false"),
        ("apm_config.receiver_port", "8127"),
        ("apm_config.max_cpu_percent", "80.0"),
        ("forwarder_timeout", "90000000000"),
        ("flare_provider_timeout", "5000"),
    ];
    assert_eq!(settings(text), expected(&all));
}

#[test]
fn an_unknown_value_is_what_yaml_says() {
    let text = "
mine:
  a: 0x10
  b: '0x10'
  c: yes
  d: 1e3
  e: |
    two
    lines
  f: !!str 12
  g: !duration 2s
  h: [1, [a, {B: c}]]
  i: !!float 1
";
    let all = [
        ("mine.a", "16"),
        ("mine.b", r#""0x10""#),
        ("mine.c", r#""yes""#),
        ("mine.d", "1000.0"),
        ("mine.e", r#""two\nlines\n""#),
        ("mine.f", r#""12""#),
        ("mine.g", "2000000000"),
        ("mine.h", r#"[1,["a",{"B":"c"}]]"#),
        ("mine.i", "1.0"),
    ];
    assert_eq!(settings(text), expected(&all));
}

#[test]
fn an_alias_is_its_anchor_again() {
    let found = settings("mine:\n  one: &x [a, b]\n  two: *x\n");
    assert_eq!(found["mine.one"], found["mine.two"]);
}

#[test]
fn of_several_files_the_later_wins_key_by_key() {
    let found = assignments(
        &["mine: {a: 1, b: 1}\n", "mine: {b: 2}\n"],
        Known::embedded(),
    );
    assert_eq!(shown(&found), expected(&[("mine.a", "1"), ("mine.b", "2")]));
    let places: Vec<String> = found
        .iter()
        .map(|setting| setting.provenance.as_ref().unwrap().to_string())
        .collect();
    assert!(
        places[0].contains("0.yaml") && places[1].contains("1.yaml"),
        "{places:?}"
    );
}

#[test]
fn each_setting_remembers_file_and_line() {
    let first = "# a comment\na.b: 1\nc:\n  d: &d\n    - 1\n  e: *d\n\nf: {g: 1,\n  h: 2}\n";
    let found = assignments(&[first, "---\nc:\n  e: 3\n"], Known::embedded());
    let places: Vec<String> = found
        .iter()
        .map(|setting| format!("{} {}", setting.key, setting.provenance.as_ref().unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            "a.b 0.yaml:2",
            "c.d 0.yaml:4",
            "c.e 1.yaml:3",
            "f.g 0.yaml:8",
            "f.h 0.yaml:9"
        ]
    );
}

#[test]
fn comments_stand_anywhere_and_mean_nothing() {
    let text = "# first\na: 1 # behind\nb:   # a section\n  # inside\n  c: '#no'\n  d: x#y\n# last";
    let all = [("a", "1"), ("b.c", r##""#no""##), ("b.d", r##""x#y""##)];
    assert_eq!(settings(text), expected(&all));
}

#[test]
fn the_deepest_value_that_can_be_streamed_is_kept() {
    let text = format!("mine: {}1{}\n", "[".repeat(48), "]".repeat(48));
    assert_eq!(settings(&text).len(), 1);
    let text = format!("mine: {}1{}\n", "{X: ".repeat(32), "}".repeat(32));
    assert_eq!(settings(&text).len(), 1);
}

#[test]
fn a_large_file_is_read_in_a_reasonable_time() {
    let text: String = (0..50_000)
        .map(|number| format!("section_{number}: {{a: {number}, b: text}}\n"))
        .collect();
    assert_eq!(assignments(&[&text], Known::embedded()).len(), 100_000);
}

#[test]
fn files_of_other_systems_are_read_as_they_are_meant() {
    for text in [
        "\u{feff}a: 1\nb: x\n",
        "a: 1\r\nb: x\r\n",
        "\u{feff}---\r\na: 1\r\nb: x\r\n...\r\n",
        "%YAML 1.2\n---\na: 1\nb: x\n",
        "a: 1\nb: x",
    ] {
        let all = [("a", "1"), ("b", r#""x""#)];
        assert_eq!(settings(text), expected(&all), "{text:?}");
    }
}
