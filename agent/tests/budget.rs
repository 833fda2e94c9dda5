//! What an agent reads is bounded over all files together, and so is the memory that reading takes.

#![allow(
    clippy::cast_possible_truncation,
    reason = "all of these bounds are small"
)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use configstream_agent::sources::file::MAX_FILES;
use configstream_agent::yaml::{MAX_FILE_BYTES, MAX_NODES, MAX_TEXT_BYTES};
use support::{Agent, Done, configstream};

/// What the operating guide says that a reload takes at most, beside what is in force.
const RELOAD_BYTES: u64 = 512 * 1024 * 1024;

/// A list of so many items, of which the text has a few hundred.
fn bomb(key: &str, items: usize) -> String {
    let ones = vec!["1"; 100].join(", ");
    let hundreds = vec!["*h"; items / 100].join(", ");
    format!("{key}:\n  base: &h [{ones}]\n  all: [{hundreds}]\n")
}

/// The most memory that the agent has had so far, in bytes.
fn peak_bytes(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("conf.d")).unwrap();
        let folder = Self(root);
        folder.put("00-good.yaml", "mine.good: 1\n");
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("conf.d")
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// Takes everything away but the good file.
    fn clear(&self) {
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("00-good.yaml") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn agent(&self) -> Agent {
        let config = self.path().display().to_string();
        Agent::start(&self.0.path().join("run"), &["--config", &config])
    }
}

/// Shows that the agent is as it was, and took no more memory than it may.
fn unharmed(agent: &Agent, before: u64) {
    let taken = peak_bytes(agent) - before;
    assert!(
        taken < RELOAD_BYTES,
        "reading took {} MiB",
        taken / 1024 / 1024
    );
    assert_eq!(
        agent.verb(&["get", "mine.good", "--json"]).json()["value"],
        1
    );
}

#[test]
fn many_small_files_of_aliases_are_refused_as_one_with_the_file_that_was_too_much() {
    let folder = Folder::new();
    let mut agent = folder.agent();
    let before = peak_bytes(&agent);
    let each = MAX_NODES as usize / 10;
    for number in 0..40 {
        let text = bomb(&format!("mine.k{number:02}"), each);
        assert!(text.len() < 4_096);
        folder.put(&format!("{number:02}-mine.yaml"), &text);
    }
    let line = agent.until_said("stands for more than");
    assert!(line.contains("conf.d/09-mine.yaml:3:"), "{line}");
    assert!(
        line.contains("together with what is read before it"),
        "{line}"
    );
    unharmed(&agent, before);
    // They would keep a start from succeeding, too, and say why.
    let config = folder.path().display().to_string();
    let run_dir = folder.0.path().join("another").display().to_string();
    Done::of(configstream().args(["run", "--config", &config, "--run-dir", &run_dir]))
        .demand(3, &["09-mine.yaml", "fewer aliases"]);
    folder.clear();
    agent.until_said("are good again");
}

#[test]
fn what_is_within_the_budget_takes_no_more_memory_than_the_guide_says() {
    let guide = include_str!("../guides/operating.md");
    assert!(guide.contains(&format!("{} MiB of memory", RELOAD_BYTES / 1024 / 1024)));
    assert_eq!(
        (MAX_NODES, MAX_TEXT_BYTES, MAX_FILES),
        (500_000, 16 * 1024 * 1024, 1_024)
    );
    for stated in ["500,000 values", "16 MiB", "1,024 files"] {
        assert!(guide.contains(stated), "{stated}");
    }
    assert_eq!(MAX_FILE_BYTES, MAX_TEXT_BYTES);

    // A tenth of the single settings that there can be, as each is two nodes: all of them take
    // minutes on a busy machine.
    let folder = Folder::new();
    let mut agent = folder.agent();
    let before = peak_bytes(&agent);
    let mut tenth = String::from("many:\n");
    for number in 0..MAX_NODES / 20 {
        writeln!(
            tenth,
            "  a_setting_with_a_name_{number}: a value of a common length"
        )
        .unwrap();
    }
    // And then all of them anew.
    for text in [tenth.clone(), tenth.replace("a value", "others")] {
        folder.put("01-many.yaml", &text);
        agent.until_said("configuration files reloaded");
    }
    let taken = peak_bytes(&agent) - before;
    assert!(
        taken < RELOAD_BYTES / 10,
        "it took {} MiB",
        taken / 1024 / 1024
    );
    drop(agent);

    // The longest text.
    let folder = Folder::new();
    let mut agent = folder.agent();
    let before = peak_bytes(&agent);
    let text = "x".repeat(MAX_TEXT_BYTES as usize - 1_000);
    folder.put("01-long.yaml", &format!("mine.long: {text}\n"));
    agent.until_said("configuration files reloaded");
    unharmed(&agent, before);
    drop(agent);

    // Lists.
    let folder = Folder::new();
    let mut agent = folder.agent();
    let before = peak_bytes(&agent);
    folder.put(
        "01-lists.yaml",
        &bomb("mine", MAX_NODES as usize / 102 * 100),
    );
    agent.until_said("configuration files reloaded");
    unharmed(&agent, before);
}

#[test]
fn long_sections_and_long_texts_count_each_time_that_an_alias_repeats_them() {
    let folder = Folder::new();
    let mut agent = folder.agent();
    let before = peak_bytes(&agent);
    let section = |name: &str| name.repeat(900 / name.len());
    let keys: String = (0..1_000)
        .map(|number| format!("    k{number}: 1\n"))
        .collect();
    let uses: String = (0..100)
        .map(|number| format!("  u{number}: *all\n"))
        .collect();
    for (name, text) in [
        (
            "01-keys.yaml",
            format!(
                "mine:\n  all: &all\n{keys}{}:\n{uses}",
                section("long_section_")
            ),
        ),
        (
            "01-texts.yaml",
            format!(
                "mine:\n  text: &all {}\n  uses:\n{}",
                "x".repeat(1024 * 1024),
                uses.replace("  u", "    u")
            ),
        ),
    ] {
        folder.put(name, &text);
        let line = agent.until_said("bytes of keys and texts");
        assert!(line.contains(name), "{line}");
        unharmed(&agent, before);
        folder.clear();
        agent.until_said("are good again");
    }
}

#[test]
fn files_that_are_too_many_or_too_long_together_are_refused_with_the_one_that_was_too_much() {
    let folder = Folder::new();
    let mut agent = folder.agent();
    let before = peak_bytes(&agent);
    for number in 0..3 * MAX_FILES {
        folder.put(&format!("{number:05}.yaml"), "");
    }
    let line = agent.until_said("one file too many");
    // The good one is the first.
    assert!(
        line.contains(&format!("{:05}.yaml", MAX_FILES - 1)),
        "{line}"
    );
    folder.clear();
    agent.until_said("are good again");
    let long = format!("# {}\n", "x".repeat(MAX_FILE_BYTES as usize / 4));
    for number in 1..9 {
        folder.put(&format!("{number:02}.yaml"), &long);
    }
    let line = agent.until_said("makes all files together longer");
    assert!(line.contains("04.yaml"), "{line}");
    folder.clear();
    agent.until_said("are good again");
    unharmed(&agent, before);
}

#[test]
fn values_of_a_command_line_share_a_budget_and_so_does_a_batch() {
    let flow = |items: usize| {
        let ones = vec!["1"; 100].join(",");
        let hundreds = vec!["*h"; items / 100].join(",");
        format!("[&h [{ones}],{hundreds}]")
    };
    let root = tempfile::tempdir().unwrap();
    let mut command = configstream();
    command
        .arg("run")
        .arg("--run-dir")
        .arg(root.path().join("other"));
    for number in 0..20 {
        command.arg("--set");
        command.arg(format!("mine.k{number}={}", flow(MAX_NODES as usize / 10)));
    }
    Done::of(&mut command).demand(
        3,
        &["--set mine.k9", "stands for more than", "fewer aliases"],
    );

    let agent = Agent::start(&root.path().join("run"), &[]);
    let batch = root.path().join("batch.yaml");
    let many: String = (0..20)
        .map(|number| {
            format!("mine.k{number}: {}\n", flow(MAX_NODES as usize / 10))
                .replace("&h", &format!("&h{number}"))
                .replace("*h", &format!("*h{number}"))
        })
        .collect();
    fs::write(&batch, many).unwrap();
    let before = peak_bytes(&agent);
    let batch = batch.display().to_string();
    agent
        .verb(&["apply", &batch])
        .demand(3, &["batch.yaml:10:", "stands for more than"]);
    let taken = peak_bytes(&agent) - before;
    assert!(taken < RELOAD_BYTES / 16, "{taken}");
}
