//! Files reload however they are replaced, and a bad one never replaces a good one.

mod folder;
mod half_written;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use configstream_agent::known::Known;
use configstream_agent::resolver::Resolver;
use configstream_agent::sequence_file::SequenceFile;
use configstream_agent::sources::SourceReport;
use configstream_agent::sources::file::{self, FileSource};
use configstream_engine::settings::{Change, Settings, Source, Value};
use configstream_engine::{Engine, Event, Sequence, Subscription};

struct Agent {
    engine: Engine<Settings>,
    report: SourceReport,
    source: FileSource,
    _resolver: Resolver,
    root: tempfile::TempDir,
}

/// Starts what `run` starts around files, in the same order.
fn start(paths: &[PathBuf]) -> Agent {
    let root = tempfile::tempdir().unwrap();
    let saved = SequenceFile::open(&root.path().join("sequence")).unwrap();
    let engine = Engine::builder(Settings::default())
        .start_at(saved.epoch(), saved.start())
        .sequence_limit(saved.limit())
        .build()
        .unwrap();
    let resolver = Resolver::start(engine.clone(), saved).unwrap();
    let handle = resolver.handle();
    let settings = file::load(paths, Known::embedded()).unwrap();
    handle
        .submit_and_wait(Change::ReplaceLayer {
            source: Source::File,
            settings,
        })
        .unwrap();
    let report = SourceReport::default();
    let source =
        FileSource::start(paths.to_vec(), Known::embedded(), handle, report.clone()).unwrap();
    let agent = Agent {
        engine,
        report,
        source,
        _resolver: resolver,
        root,
    };
    agent.until("the first look", |agent| agent.report.state().loads > 0);
    agent
}

impl Agent {
    fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not in time; {:?}",
                self.report.state()
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn value(&self, key: &str) -> Option<Value> {
        self.engine
            .head()
            .state()
            .resolved()
            .get(key)
            .map(|setting| setting.value().clone())
    }

    fn until_value(&self, key: &str, value: i64) {
        self.until(&format!("{key} = {value}"), |agent| {
            agent.value(key) == Some(Value::Int(value))
        });
    }
}

fn update(subscription: &mut Subscription<Settings>) -> (String, Sequence) {
    match subscription.next_timeout(Duration::from_secs(20)).unwrap() {
        Event::Update(update) => (update.setting().key().to_string(), update.sequence()),
        _ => panic!("expected an update"),
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("swp");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn a_write_in_place_streams_exactly_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, "mine: {a: 1, b: 2, c: 3, d: 4}\n");
    let agent = start(std::slice::from_ref(&path));
    let mut subscription = agent.engine.subscribe();
    assert!(matches!(subscription.next(), Some(Event::Snapshot(_))));
    let before = agent.engine.head().sequence();
    write(&path, "mine: {a: 1, b: 20, c: 3, d: 40}\n");
    assert_eq!(
        update(&mut subscription),
        ("mine.b".to_owned(), before.next())
    );
    assert_eq!(
        update(&mut subscription),
        ("mine.d".to_owned(), before.next().next())
    );
    agent.until("the report", |agent| agent.report.state().loads >= 2);
    assert_eq!(agent.engine.head().sequence(), before.next().next());
}

#[test]
fn a_rename_over_the_file_is_seen_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, "mine: 0\n");
    let agent = start(std::slice::from_ref(&path));
    for value in 1..6 {
        replace(&path, &format!("mine: {value}\n"));
        agent.until_value("mine", value);
    }
}

#[test]
fn a_link_swapped_as_kubernetes_does_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let publish = |number: i64| {
        let data = dir.path().join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        write(&data.join("core.yaml"), &format!("mine: {number}\n"));
        let link = dir.path().join("..data_tmp");
        symlink(format!("..{number}"), &link).unwrap();
        fs::rename(&link, dir.path().join("..data")).unwrap();
        if number > 0 {
            fs::remove_dir_all(dir.path().join(format!("..{}", number - 1))).unwrap();
        }
    };
    publish(0);
    let path = dir.path().join("core.yaml");
    symlink("..data/core.yaml", &path).unwrap();
    let agent = start(std::slice::from_ref(&path));
    for number in 1..5 {
        publish(number);
        agent.until_value("mine", number);
    }
}

#[test]
fn a_write_behind_a_link_is_seen() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let real = elsewhere.path().join("real.yaml");
    write(&real, "mine: 1\n");
    let path = dir.path().join("core.yaml");
    symlink(&real, &path).unwrap();
    let agent = start(std::slice::from_ref(&path));
    write(&real, "mine: 2\n");
    agent.until_value("mine", 2);
    replace(&real, "mine: 3\n");
    agent.until_value("mine", 3);
}

#[test]
fn a_directory_that_is_replaced_is_found_again() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("conf");
    let path = dir.join("core.yaml");
    fs::create_dir(&dir).unwrap();
    write(&path, "mine: 1\n");
    let agent = start(std::slice::from_ref(&path));
    for value in 2..4 {
        fs::rename(&dir, root.path().join(format!("old{value}"))).unwrap();
        fs::create_dir(&dir).unwrap();
        write(&path, &format!("mine: {value}\n"));
        agent.until_value("mine", value);
    }
}

#[test]
fn a_bad_file_leaves_the_last_good_state_until_it_is_good_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, "mine: 1\n");
    let agent = start(std::slice::from_ref(&path));
    let before = agent.engine.head().sequence();
    for (number, (bad, why)) in [
        ("mine: [2\n", "core.yaml:1:7"),
        ("mine: 2\nmine: 3\n", "given twice"),
        ("mine: .nan\n", "finite"),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&path, bad);
        agent.until(why, |agent| agent.report.state().error.contains(why));
        assert_eq!(agent.report.state().failures, number as u64 + 1);
        assert_eq!(agent.value("mine"), Some(Value::Int(1)));
        assert_eq!(agent.engine.head().sequence(), before);
    }
    replace(&path, "mine: 2\n");
    agent.until_value("mine", 2);
    agent.until("recovery", |agent| agent.report.state().error.is_empty());
}

#[test]
fn a_deleted_file_leaves_the_last_good_state_and_is_said_to_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, "mine: 1\n");
    let agent = start(std::slice::from_ref(&path));
    fs::remove_file(&path).unwrap();
    agent.until("the error", |agent| {
        agent
            .report
            .state()
            .error
            .contains("core.yaml: cannot be read")
    });
    assert_eq!(agent.value("mine"), Some(Value::Int(1)));
    write(&path, "mine: 2\n");
    agent.until_value("mine", 2);
}

#[test]
fn a_file_written_again_unchanged_streams_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, "mine: 1\nyours: 2\n");
    let agent = start(std::slice::from_ref(&path));
    let before = agent.engine.head().sequence();
    replace(&path, "# a comment\nyours: 2\nmine: 1\n");
    agent.until("the reload", |agent| agent.report.state().loads >= 2);
    agent.source.reload();
    agent.until("the reload asked for", |agent| {
        agent.report.state().loads >= 3
    });
    assert_eq!(agent.engine.head().sequence(), before);
}

#[test]
fn the_later_of_two_files_wins_and_either_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let (base, over) = (dir.path().join("base.yaml"), dir.path().join("over.yaml"));
    write(&base, "mine: 1\nyours: 1\n");
    write(&over, "mine: 2\n");
    let agent = start(&[base.clone(), over.clone()]);
    assert_eq!(
        (agent.value("mine"), agent.value("yours")),
        (Some(Value::Int(2)), Some(Value::Int(1)))
    );
    write(&over, "# nothing\n");
    agent.until_value("mine", 1);
    write(&base, "mine: 1\nyours: 3\n");
    agent.until_value("yours", 3);
    assert!(agent.root.path().exists());
}
