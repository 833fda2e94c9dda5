//! Files that are written while they are read, in pieces or in a storm.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use configstream_agent::sources::file::{CAREFUL, DEBOUNCE};
use configstream_engine::settings::{Settings, Value};
use configstream_engine::{Event, Subscription};

use crate::{Agent, replace, start, write};

/// Lets time pass, as a writer does. Says whether it was about as long as asked for.
fn pause(time: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::park_timeout(time - start.elapsed().min(time));
    }
    start.elapsed() < CAREFUL / 2
}

/// A file of two settings that are always the same number.
fn pair(number: i64) -> String {
    format!("first: {number}\nmine: {{a: {number}, b: [1, 2, 3]}}\nsecond: {number}\n")
}

/// What a subscriber has made of the stream so far.
struct View {
    events: Subscription<Settings>,
    settings: BTreeMap<String, Value>,
}

impl View {
    fn of(agent: &Agent) -> Self {
        let events = agent.engine.subscribe();
        Self {
            events,
            settings: BTreeMap::new(),
        }
    }

    /// Takes what has come. Says whether at the end of each batch both settings were there, with the same number.
    fn is_whole(&mut self) -> bool {
        let mut whole = true;
        while let Ok(event) = self.events.try_next() {
            match &event {
                Event::Snapshot(snapshot) => {
                    let settings = snapshot.state().resolved().iter();
                    let pairs = settings
                        .map(|setting| (setting.key().to_string(), setting.value().clone()));
                    self.settings = pairs.collect();
                }
                Event::Update(update) => {
                    let setting = update.setting();
                    self.settings
                        .insert(setting.key().to_string(), setting.value().clone());
                    if update.batch_remaining() > 0 {
                        continue;
                    }
                }
                _ => continue,
            }
            let (first, second) = (self.settings.get("first"), self.settings.get("second"));
            whole &= first.is_some() && first == second;
        }
        whole
    }
}

/// Does something again until the machine was fast enough for it to mean something.
fn in_time(mut attempt: impl FnMut(i64) -> bool) {
    let slow = (0..20).take_while(|number| !attempt(*number)).count();
    assert!(slow < 20, "this machine stalls for seconds each time");
}

#[test]
fn a_storm_of_writes_in_place_is_one_reload_and_the_last_state_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, &pair(0));
    let agent = start(std::slice::from_ref(&path));
    let mut view = View::of(&agent);
    let before = agent.report.state().loads;
    // Where the machine itself makes a pause, a reload is right.
    let (mut pauses, mut last) = (0, Instant::now());
    for number in 1..=300 {
        // Truncated and written: two steps.
        write(&path, &pair(number));
        pause(Duration::from_millis(10));
        if last.elapsed() > DEBOUNCE / 2 {
            pauses += 1;
        }
        last = Instant::now();
        assert!(view.is_whole());
    }
    agent.until_value("second", 300);
    agent.until("the load", |agent| agent.report.state().loads > before);
    assert!(view.is_whole());
    let loads = agent.report.state().loads - before;
    assert!(loads <= 2 + pauses, "{loads} reloads with {pauses} pauses");
    assert_eq!(agent.report.state().failures, 0);
}

#[test]
fn a_storm_of_renames_is_one_reload_and_the_last_state_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, &pair(0));
    let agent = start(std::slice::from_ref(&path));
    let mut view = View::of(&agent);
    for number in 1..=300 {
        replace(&path, &pair(number));
        pause(Duration::from_millis(10));
        assert!(view.is_whole());
    }
    agent.until_value("second", 300);
    assert!(view.is_whole());
    assert_eq!(agent.report.state().failures, 0);
}

#[test]
fn a_file_rewritten_in_pieces_with_pauses_never_gets_in_by_half() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, &pair(0));
    let agent = start(std::slice::from_ref(&path));
    let mut view = View::of(&agent);
    in_time(|number| {
        // The same beginning, another end: each beginning is good YAML that lacks a setting.
        let text = format!("{}more: {number}\n", pair(0));
        let mut file = File::create(&path).unwrap();
        let mut fast = pause(3 * DEBOUNCE);
        for piece in text.split_inclusive('\n') {
            // Now, since a later snapshot would hide what has been.
            assert!(view.is_whole() || !fast);
            file.write_all(piece.as_bytes()).unwrap();
            fast &= pause(3 * DEBOUNCE);
        }
        drop(file);
        agent.until_value("more", number);
        assert!(view.is_whole() || !fast);
        fast
    });
}

#[test]
fn a_line_that_goes_on_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, "mine: 1\n");
    let agent = start(std::slice::from_ref(&path));
    in_time(|number| {
        let mut events = agent.engine.subscribe();
        assert!(matches!(events.next(), Some(Event::Snapshot(_))));
        let value = 1_000_000 + number;
        let (begin, end) = (
            format!("mine: {}", value / 1000),
            format!("{:03}\n", value % 1000),
        );
        let mut file = File::create(&path).unwrap();
        file.write_all(begin.as_bytes()).unwrap();
        let fast = pause(3 * DEBOUNCE);
        file.write_all(end.as_bytes()).unwrap();
        agent.until_value("mine", value);
        let mut updates = 0;
        while let Ok(event) = events.try_next() {
            updates += usize::from(matches!(event, Event::Update(_)));
        }
        assert!(!fast || updates <= 1, "{updates} updates for one change");
        fast
    });
}

#[test]
fn a_file_cut_short_on_purpose_counts_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core.yaml");
    write(&path, "mine: 1\nyours: 1\n");
    let agent = start(std::slice::from_ref(&path));
    write(&path, "mine: 1\n");
    agent.until("the shorter file", |agent| agent.value("yours").is_none());
    write(&path, "");
    agent.until("the empty file", |agent| agent.value("mine").is_none());
    write(&path, "mine: 2");
    agent.until_value("mine", 2);
}

#[test]
fn a_file_that_goes_from_a_folder_and_comes_back_was_never_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core.yaml");
    write(&folder.path().join("base.yaml"), "base: 1\n");
    write(&path, &pair(0));
    let agent = start(&[folder.path().to_owned()]);
    let mut view = View::of(&agent);
    in_time(|number| {
        fs::remove_file(&path).unwrap();
        let fast = pause(3 * DEBOUNCE);
        assert!(view.is_whole() || !fast);
        write(&path, &pair(number + 1));
        agent.until_value("second", number + 1);
        assert!(view.is_whole() || !fast);
        fast
    });
}
