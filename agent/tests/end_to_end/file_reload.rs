//! The file changes, and exactly that streams.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::Agent;
use crate::view::{Watch, listed, settings};

struct Edited {
    root: tempfile::TempDir,
    config: PathBuf,
}

impl Edited {
    fn new(text: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let config = root.path().join("core.yaml");
        fs::write(&config, text).unwrap();
        Self { root, config }
    }

    fn start(&self) -> Agent {
        let config = self.config.display().to_string();
        Agent::start(&self.root.path().join("run"), &["--config", &config])
    }

    fn write(&self, text: &str) {
        fs::write(&self.config, text).unwrap();
    }

    fn rename(&self, text: &str) {
        rename_over(&self.config, text);
    }
}

/// As editors save: a new file takes the name of the old one.
fn rename_over(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn an_edited_file_streams_exactly_what_changed() {
    let file = Edited::new("log_level: warn\nmine:\n  a: 1\n  b: [x, y]\n  c: {d: true}\n");
    let agent = file.start();
    let watch = Watch::start(&agent);
    let first = watch.next();
    assert_eq!(first["origin"], "core.yaml");
    let mut expected = settings(&first);
    assert!(expected.len() > 350, "{} settings", expected.len());
    assert_eq!(expected["log_level"], json!(["file", "warn"]));
    assert_eq!(expected["mine.a"], json!(["file", 1]));
    assert_eq!(expected["mine.c.d"], json!(["file", true]));

    // Two of four change: two updates, in the order of their keys, and nothing else.
    file.write("log_level: error\nmine:\n  a: 1\n  b: [x, z]\n  c: {d: true}\n");
    assert_eq!(watch.update(), json!(["log_level", "file", "error"]));
    assert_eq!(watch.update(), json!(["mine.b", "file", ["x", "z"]]));

    // A key leaves the file: the default shows again.
    file.write("mine:\n  a: 1\n  b: [x, z]\n  c: {d: true}\n");
    assert_eq!(watch.update(), json!(["log_level", "default", "info"]));

    // The last layer that held a key goes: a snapshot without it, and without anything else being different.
    let before = watch.reached();
    file.write("mine:\n  a: 1\n  c: {d: true}\n");
    let after = watch.snapshot();
    assert_eq!(watch.reached(), before + 1);
    expected.remove("mine.b").unwrap();
    expected.insert("log_level".to_owned(), json!(["default", "info"]));
    assert_eq!(after, expected);

    // And the stream goes on, by updates.
    file.write("mine:\n  a: 1\n  c: {d: true}\n  e: 1.5\n");
    assert_eq!(watch.update(), json!(["mine.e", "file", 1.5]));
    watch.assert_quiet(&agent);
}

#[test]
fn every_way_of_replacing_a_file_streams() {
    let file = Edited::new("mine: 0\n");
    let agent = file.start();
    let watch = Watch::start(&agent);
    watch.next();
    file.write("mine: 1\n");
    assert_eq!(watch.update(), json!(["mine", "file", 1]));
    file.rename("mine: 2\n");
    assert_eq!(watch.update(), json!(["mine", "file", 2]));
    file.rename("mine: 3\n");
    assert_eq!(watch.update(), json!(["mine", "file", 3]));
    file.write("mine: 4\n");
    assert_eq!(watch.update(), json!(["mine", "file", 4]));
    // Gone for a while: the last good state stays.
    fs::remove_file(&file.config).unwrap();
    agent.until("the error", |agent| {
        agent.metric("configstream_file_healthy") < 0.5
    });
    file.write("mine: 5\n");
    assert_eq!(watch.update(), json!(["mine", "file", 5]));
    watch.assert_quiet(&agent);
}

#[test]
fn a_symlink_that_is_swapped_streams() {
    let root = tempfile::tempdir().unwrap();
    // As a mounted volume does it: the file is a link through a link to a directory, and that link is swapped.
    let publish = |number: u32| {
        let data = root.path().join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("core.yaml"), format!("mine: {number}\n")).unwrap();
        let link = root.path().join("..new");
        symlink(&data, &link).unwrap();
        fs::rename(&link, root.path().join("..data")).unwrap();
    };
    publish(0);
    let config = root.path().join("core.yaml");
    symlink("..data/core.yaml", &config).unwrap();
    let mut agent = Agent::start(
        &root.path().join("run"),
        &["--config", &config.display().to_string()],
    );
    let watch = Watch::start(&agent);
    assert_eq!(watch.snapshot()["mine"], json!(["file", 0]));
    for number in 1..4 {
        publish(number);
        fs::remove_dir_all(root.path().join(format!("..{}", number - 1))).unwrap();
        assert_eq!(watch.update(), json!(["mine", "file", number]));
    }
    watch.assert_quiet(&agent);
    agent.signal(Signal::SIGTERM);
    let said = agent.said().join("\n");
    assert!(
        !said.contains("WARN") && !said.contains(" notify"),
        "{said}"
    );
}

#[test]
fn a_file_that_says_the_same_streams_nothing() {
    let file = Edited::new("mine: {a: 1, b: 2}\nlog_level: info\n");
    let agent = file.start();
    let watch = Watch::start(&agent);
    // What the file says counts even where it says what the default says.
    assert_eq!(watch.snapshot()["log_level"], json!(["file", "info"]));
    let reloads = |agent: &Agent| agent.metric("configstream_file_reloads_total");
    agent.until("the first look", |agent| reloads(agent) > 0.5);
    for text in [
        "# other words\nlog_level: \"info\"\nmine:\n  b: 2\n  a: 1\n",
        "mine: {a: 1, b: 2}\nlog_level: info\n",
    ] {
        let before = reloads(&agent);
        file.rename(text);
        agent.until("the reload", |agent| reloads(agent) > before + 0.5);
    }
    let before = reloads(&agent);
    agent.signal(Signal::SIGHUP);
    agent.until("the reload asked for", |agent| {
        reloads(agent) > before + 0.5
    });
    watch.assert_quiet(&agent);
}

#[test]
fn a_file_stays_below_what_stands_above_it() {
    let file = Edited::new("mine: 1\nlog_level: error\n");
    let config = file.config.display().to_string();
    let agent = Agent::start_with(
        &file.root.path().join("run"),
        &["--config", &config, "--set", "site=from-cli"],
        |command| command.env("DD_LOG_LEVEL", "debug"),
    );
    let watch = Watch::start(&agent);
    let first = watch.snapshot();
    assert_eq!(first["log_level"], json!(["environment-variable", "debug"]));
    assert_eq!(first["site"], json!(["cli", "from-cli"]));
    // Only what wins streams; what is shadowed spends no sequence.
    file.write("mine: 2\nlog_level: warn\nsite: from-file\n");
    assert_eq!(watch.update(), json!(["mine", "file", 2]));
    watch.assert_quiet(&agent);
    let mut expected = first;
    expected.insert("mine".to_owned(), json!(["file", 2]));
    let mut now = listed(&agent);
    now.insert("log_file".to_owned(), expected["log_file"].clone());
    assert_eq!(now, expected);
}

#[test]
fn of_two_files_the_later_one_wins_and_both_are_watched() {
    let first = Edited::new("mine: {a: 1, b: 1}\n");
    let second = first.root.path().join("over.yaml");
    fs::write(&second, "mine: {b: 2}\n").unwrap();
    let agent = Agent::start(
        &first.root.path().join("run"),
        &[
            "--config",
            &first.config.display().to_string(),
            "--config",
            &second.display().to_string(),
        ],
    );
    let watch = Watch::start(&agent);
    let event = watch.next();
    assert_eq!(event["origin"], "core.yaml");
    assert_eq!(settings(&event)["mine.b"], json!(["file", 2]));
    rename_over(&second, "mine: {a: 3}\n");
    assert_eq!(watch.update(), json!(["mine.a", "file", 3]));
    assert_eq!(watch.update(), json!(["mine.b", "file", 1]));
    first.rename("mine: {a: 9, b: 4}\n");
    assert_eq!(watch.update(), json!(["mine.b", "file", 4]));
    watch.assert_quiet(&agent);
}

#[test]
fn a_folder_streams_as_files_come_and_go_and_each_setting_tells_its_line() {
    let base = Edited::new("mine: {a: 1, b: 1}\n");
    let folder = base.root.path().join("conf.d");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("20-b.yaml"), "# a comment\nmine:\n  b: 20\n").unwrap();
    fs::write(folder.join("20-b.yaml~"), "mine: {b: 666}\n").unwrap();
    let (config, conf_d) = (
        base.config.display().to_string(),
        folder.display().to_string(),
    );
    let agent = Agent::start(
        &base.root.path().join("run"),
        &["--config", &config, "--config", &conf_d],
    );
    let watch = Watch::start(&agent);
    let first = watch.snapshot();
    assert_eq!(first["mine.b"], json!(["file", 20]));
    let place = |key: &str| agent.verb(&["explain", key]).out;
    assert!(
        place("mine.a").contains("core.yaml:1"),
        "{}",
        place("mine.a")
    );
    assert!(
        place("mine.b").contains("conf.d/20-b.yaml:3"),
        "{}",
        place("mine.b")
    );

    fs::write(folder.join("30-c.yaml"), "\n\nmine: {b: 30}\n").unwrap();
    assert_eq!(watch.update(), json!(["mine.b", "file", 30]));
    assert!(
        place("mine.b").contains("conf.d/30-c.yaml:3"),
        "{}",
        place("mine.b")
    );
    // A broken one changes nothing, and is named.
    fs::write(folder.join("40-d.yaml"), "mine: {a: 2}\nmine: {a: 3}\n").unwrap();
    agent.until("the error", |agent| {
        agent.status()["sources"]
            .to_string()
            .contains("conf.d/40-d.yaml:2:1")
    });
    watch.assert_quiet(&agent);
    fs::remove_file(folder.join("40-d.yaml")).unwrap();
    fs::remove_file(folder.join("30-c.yaml")).unwrap();
    assert_eq!(watch.update(), json!(["mine.b", "file", 20]));
    watch.assert_quiet(&agent);
}
