//! The troubleshooting guide knows every text with which the server refuses, and every exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use regex::Regex;
use serde_json::Value as Json;

use super::page::{PAGES, Page, workspace};
use super::support::{Agent, Done, Lines, configstream};

fn source(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap()
}

/// Text as it reads when its lines are broken elsewhere.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the server says when it refuses, with `<name>` where a value stands: the literals of `status.rs`.
fn statuses() -> Vec<String> {
    let source = source("grpc/src/status.rs");
    let display = source
        .split_once("impl fmt::Display for Refusal")
        .and_then(|(_, rest)| rest.split_once("\n}\n"))
        .map(|(body, _)| body)
        .expect("status.rs has the texts");
    let register_first = Regex::new("const REGISTER_FIRST: &str =\\s*\"([^\"]+)\"").unwrap();
    let register_first = &register_first.captures(&source).unwrap()[1];
    let literal = Regex::new(r#""((?:[^"\\]|\\.)*)""#).unwrap();
    let value = Regex::new(r"\{(\w+)(:[^}]*)?\}").unwrap();
    literal
        .captures_iter(display)
        .map(|found| {
            let text = found[1]
                .replace("{REGISTER_FIRST}", register_first)
                .replace("\\\"", "\"");
            value.replace_all(&text, "<$1>").into_owned()
        })
        .collect()
}

#[test]
fn every_status_text_is_explained() {
    let guide = flowing(&Page::open("agent/guides/troubleshooting.md").text);
    let statuses = statuses();
    assert!(statuses.len() >= 20, "{statuses:?}");
    let missing: Vec<_> = statuses
        .iter()
        .filter(|text| !guide.contains(text.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "agent/guides/troubleshooting.md does not explain {missing:#?}"
    );
}

#[test]
fn every_exit_code_is_explained() {
    let guide = Page::open("agent/guides/troubleshooting.md");
    let table = guide.section("Exit codes");
    let code = Regex::new(r"(?m)^    (\w+) = (\d+),$").unwrap();
    let exits = source("agent/src/exit.rs");
    let codes: Vec<_> = code.captures_iter(&exits).collect();
    assert!(codes.len() >= 12);
    for found in codes {
        let row = format!("| {} | ", &found[2]);
        assert!(
            table.contains(&row),
            "no row for {} = {}",
            &found[1],
            &found[2]
        );
    }
}

/// Each warning of the server's, up to the first value in it.
#[test]
fn every_warning_of_the_server_is_explained() {
    let guide = flowing(&Page::open("agent/guides/troubleshooting.md").text);
    let warning = Regex::new(r#"tracing::(?:warn|error)!\([^"]*"([^"{]+)"#).unwrap();
    let folder = workspace().join("grpc/src/server");
    let mut found = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        // Of what is in folders beneath, the trail of changes has a place of its own.
        if file.is_file() {
            let source = fs::read_to_string(file).unwrap();
            let texts = warning.captures_iter(&source);
            found.extend(texts.map(|text| text[1].trim_end_matches([' ', '\'', ':']).to_owned()));
        }
    }
    assert!(found.len() >= 7, "{found:?}");
    found.retain(|text| !guide.contains(text));
    assert!(found.is_empty(), "the guide does not explain {found:#?}");
}

/// Texts beside the statuses that people search for: what the log, the client and the tools say when something is wrong.
#[test]
fn what_logs_and_clients_say_is_explained() {
    let guide = flowing(&Page::open("agent/guides/troubleshooting.md").text);
    for (path, texts) in [
        (
            "grpc/src/client/events.rs",
            &[
                "the first event was not a snapshot",
                "the server ended the stream without a reason",
            ][..],
        ),
        (
            "grpc/src/consumer/state.rs",
            &["the server is silent", "the server is behind"],
        ),
        (
            "agent/src/sources/file.rs",
            &["the last good configuration stays in force"],
        ),
        ("agent/src/cli/target.rs", &["cannot reach the agent"]),
    ] {
        let source = source(path);
        for text in texts {
            assert!(
                source.contains(text),
                "{path} does not say {text:?} any more"
            );
            assert!(guide.contains(text), "the guide does not explain {text:?}");
        }
    }
}

/// `configstream VERB --flag` in passing is a verb and a flag that are there.
#[test]
fn commands_in_passing_are_spelled_right() {
    let mut seen = 0;
    for page in PAGES.map(Page::open) {
        for span in &page.spans {
            let mut words = span
                .split_whitespace()
                .skip_while(|word| *word != "configstream");
            let Some(verb) = words.nth(1) else { continue };
            if verb == "help" || !verb.starts_with(|first: char| first.is_ascii_lowercase()) {
                continue;
            }
            let help = Done::of(configstream().args([verb, "--help"]));
            assert_eq!(help.code, Some(0), "{}: `{span}`: {}", page.path, help.err);
            for flag in words.filter(|word| word.starts_with("--") && word.len() > 2) {
                let flag = flag.split('=').next().unwrap_or(flag);
                assert!(
                    help.out.contains(flag),
                    "{}: `{span}` has no {flag}",
                    page.path
                );
            }
            seen += 1;
        }
    }
    assert!(seen >= 5, "the pages name {seen} commands in passing");
}

/// Whoever copies an alert gets one that can ring.
#[test]
fn every_metric_of_the_operating_guide_is_there() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let (_, metrics) = agent.page("/metrics");
    let guide = Page::open("agent/guides/operating.md");
    let name = Regex::new(r"\bconfigstream_[a-z_]+").unwrap();
    let named: BTreeSet<_> = name
        .find_iter(guide.section("Alerts"))
        .map(|found| found.as_str())
        .filter(|name| !name.starts_with("configstream_consumer_"))
        .collect();
    assert!(named.len() >= 8, "{named:?}");
    for name in named {
        let line = format!("\n{name} ");
        assert!(metrics.contains(&line), "no metric {name} in\n{metrics}");
    }
}

/// Whoever reads `/status` by a program finds each field as the guide says, and no other.
#[test]
fn every_field_of_the_status_is_documented_with_its_type() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "log_level: info\n").unwrap();
    let arguments = ["--config", &config.display().to_string()];
    let agent = Agent::start(&root.path().join("run"), &arguments);
    let mut watch = configstream();
    let watch = Lines::of(watch.arg("--run-dir").arg(&agent.run_dir).arg("watch"));
    watch.next();
    // Everything that is told only when there is something to tell.
    agent.verb(&["set", "log_level", "warn"]).json();
    agent.verb(&["unset", "log_level"]).json();
    fs::write(
        &config,
        "log_level: info\nremote_agent.registry.idle_timeout: 0s\n",
    )
    .unwrap();
    agent.until("the setting is refused", |agent| {
        agent.status()["refused_settings"][0].is_object()
    });
    fs::write(&config, "log_level: [\n").unwrap();
    agent.until("the setting and the file are refused", |agent| {
        let status = agent.status();
        status["refused_settings"][0].is_object()
            && status["sources"][1]["error"].is_string()
            && status["changes_total"] == 3
    });
    fs::remove_file(agent.run_dir.join("configstream.lock")).unwrap();
    agent.until("the agent is not well", |agent| {
        agent.status()["problems"][0].is_string()
    });
    let mut found = BTreeMap::new();
    flatten("", &agent.status(), &mut found);

    let guide = Page::open("agent/guides/operating.md");
    let row = Regex::new(r"(?m)^\| `([^`]+)` \| ([^|]+) \| ").unwrap();
    let documented: BTreeMap<_, _> = row
        .captures_iter(guide.section("The fields of `/status`"))
        .map(|row| (row[1].to_owned(), row[2].to_owned()))
        .collect();
    assert!(
        found.keys().eq(documented.keys()),
        "told, but not documented: {:?}; documented, but not told: {:?}",
        found
            .keys()
            .filter(|field| !documented.contains_key(*field))
            .collect::<Vec<_>>(),
        documented
            .keys()
            .filter(|field| !found.contains_key(*field))
            .collect::<Vec<_>>()
    );
    for (field, kinds) in found {
        for kind in kinds {
            assert!(
                documented[&field].split(" or ").any(|may| may == kind),
                "`{field}` is {kind}, not {}",
                documented[&field]
            );
        }
    }
    drop(watch);
}

/// The types that each field has, by its path: `a.b`, and `a[].b` for what is in a list.
fn flatten(path: &str, value: &Json, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Json::Object(fields) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (name, field) in fields {
                flatten(&format!("{path}{dot}{name}"), field, found);
            }
            return;
        }
        Json::Array(items) => {
            for item in items {
                flatten(&format!("{path}[]"), item, found);
            }
            return;
        }
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "text",
    };
    found.entry(path.to_owned()).or_default().insert(kind);
}
