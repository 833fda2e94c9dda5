//! What others put into the run directory and the configuration folder, and what they take away.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::harness::{Attack, Target};
use crate::limits::many_changes;
use crate::support::{Agent, Done, PATIENCE, configstream};

/// What is put in the place of a file.
#[derive(Clone, Copy, Debug)]
enum Planted {
    /// A FIFO that has neither reader nor writer.
    Fifo,
    /// A link to a file that is not to be touched.
    Link,
    /// The same content, in the hands of another user. Only root can do that.
    Foreign,
    /// A folder.
    Folder,
}

const ALL: [Planted; 4] = [
    Planted::Fifo,
    Planted::Link,
    Planted::Foreign,
    Planted::Folder,
];

/// Another user, without rights on most systems.
const STRANGER: u32 = 65_534;

const VICTIM: &str = "do not touch\n";

impl Planted {
    fn put(self, path: &Path, victim: &Path, content: &[u8]) {
        match self {
            Self::Fifo => mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
            Self::Link => symlink(victim, path).unwrap(),
            Self::Folder => fs::create_dir(path).unwrap(),
            Self::Foreign => {
                fs::write(path, content).unwrap();
                // Where this is not allowed, the case is one of an ordinary file.
                let _ = chown(path, Some(STRANGER), Some(STRANGER));
            }
        }
    }

    fn take_away(self, path: &Path) {
        match self {
            Self::Folder => fs::remove_dir(path).unwrap(),
            // It may have been replaced, as it should be.
            _ => drop(fs::remove_file(path)),
        }
    }
}

/// Changes one key at run time, and keeps it in the file of persisted changes.
fn persist(target: &Target, number: usize) -> Done {
    let value = number.to_string();
    target
        .agent
        .verb(&["set", "attacks.kept", &value, "--persist"])
}

#[test]
fn what_is_planted_in_a_run_directory_stops_no_stream_and_is_not_followed() {
    Attack::new().memory_mib(16).run(|target| {
        let victim = target.root.path().join("victim");
        fs::write(&victim, VICTIM).unwrap();
        assert_eq!(persist(target, 0).code, Some(0));
        let names = [
            "sequence",
            "persisted",
            "address",
            "auth_token",
            "ipc_cert.pem",
            "sequence.new",
            "persisted.new",
        ];
        for (number, name) in names.into_iter().enumerate() {
            for planted in ALL {
                let path = target.run_dir.join(name);
                let aside = target.root.path().join("aside");
                let was_there = path.exists();
                let content = fs::read(&path).unwrap_or_default();
                if was_there {
                    fs::rename(&path, &aside).unwrap();
                }
                planted.put(&path, &victim, &content);
                // Whatever comes of it comes in time: `verb` demands that.
                let done = persist(target, number);
                target.agent.verb(&["get", "attacks.base"]);
                target.agent.signal(Signal::SIGHUP);
                assert_eq!(
                    fs::read_to_string(&victim).unwrap(),
                    VICTIM,
                    "{planted:?} as {name}: {done:?}"
                );
                planted.take_away(&path);
                if was_there {
                    fs::rename(&aside, &path).unwrap();
                }
            }
        }
        assert_eq!(persist(target, 1).code, Some(0));
    });
}

/// A second agent that is started where a stranger has been: it starts or says why not, and follows
/// nothing.
#[test]
fn an_agent_started_where_files_are_planted_ends_in_time_and_follows_nothing() {
    Attack::new().run(|target| {
        let victim = target.root.path().join("victim");
        fs::write(&victim, VICTIM).unwrap();
        let names = [
            "sequence",
            "persisted",
            "address",
            "auth_token",
            "ipc_cert.pem",
            "configstream.lock",
            "sequence.new",
            "address.new",
        ];
        for name in names {
            for planted in ALL {
                let dir = tempfile::tempdir().unwrap();
                planted.put(&dir.path().join(name), &victim, b"x");
                let done = start_and_stop(dir.path());
                assert_eq!(
                    fs::read_to_string(&victim).unwrap(),
                    VICTIM,
                    "{planted:?} as {name}: {done:?}"
                );
            }
        }
    });
}

/// Starts an agent and stops it as soon as it serves, or sees it end by itself: what it said.
fn start_and_stop(run_dir: &Path) -> String {
    let mut child = configstream()
        .args([
            "run",
            "--http",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--run-dir",
        ])
        .arg(run_dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = channel();
    thread::spawn(move || {
        let mut lines = stderr.lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    let mut said = String::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if line.contains("status, health and metrics") {
                    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
                    kill(pid, Signal::SIGTERM).unwrap();
                }
                said += &line;
            }
            Err(RecvTimeoutError::Disconnected) => {
                child.wait().unwrap();
                return said;
            }
            Err(RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it neither starts nor ends; said was {said}");
            }
        }
    }
}

#[test]
fn an_agent_whose_run_directory_was_taken_by_another_writes_nothing_there() {
    let attack = Attack::new().refuses_changes_for_good(7);
    let (_target, (second, before)) = attack.run_lasting(|target| {
        assert_eq!(persist(target, 0).code, Some(0));
        let first = target.connector.clone();
        fs::remove_dir_all(&target.run_dir).unwrap();
        let second = Agent::start(&target.run_dir, &[]);
        assert_eq!(
            second.verb(&["set", "attacks.kept", "7", "--persist"]).code,
            Some(0)
        );
        let before = files_of(&target.run_dir);
        // The first one has more changes than sequences that it has reserved, and one to be kept.
        target.runtime.block_on(async {
            let client = first.connect().await.unwrap();
            many_changes(&client)
                .await
                .map_err(|status| println!("{status}"))
                .ok();
        });
        target.last();
        (second, before)
    });
    let after = files_of(&second.run_dir);
    assert_eq!(after, before, "the second agent's files");
}

/// Name and content of each file of a run directory.
fn files_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn alias_bombs_over_many_files_are_refused_within_the_budget() {
    // What one reload may hold, by the operating guide.
    Attack::new().memory_mib(256).run(|target| {
        let list = |item: &str, count: usize| vec![item; count].join(", ");
        for number in 0..40 {
            let text = format!(
                "bomb{number}:\n  a: &a [{}]\n  b: &b [{}]\n  c: [{}]\n",
                list("x", 100),
                list("*a", 100),
                list("*b", 90)
            );
            let new = target.root.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, target.conf_dir.join(format!("bomb{number}.yaml"))).unwrap();
        }
        let begun = Instant::now();
        while target.agent.status()["sources"][1]["healthy"] == true {
            assert!(begun.elapsed() < PATIENCE, "the bombs are taken for good");
        }
        target.last();
        for number in 0..40 {
            fs::remove_file(target.conf_dir.join(format!("bomb{number}.yaml"))).unwrap();
        }
        target.agent.until("the folder is good again", |agent| {
            agent.status()["sources"][1]["healthy"] == true
        });
    });
}

/// FIFOs, links in a circle, devices and folders in the configuration folder.
#[test]
fn what_is_no_file_in_the_configuration_folder_stops_nothing() {
    Attack::new().memory_mib(16).run(|target| {
        let planted = |name: &str| target.conf_dir.join(name);
        mkfifo(&planted("20-fifo.yaml"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        symlink("21-circle.yaml", planted("21-circle.yaml")).unwrap();
        symlink("/dev/zero", planted("22-endless.yaml")).unwrap();
        fs::create_dir(planted("23-folder.yaml")).unwrap();
        target.agent.signal(Signal::SIGHUP);
        target.last();
        for name in ["20-fifo.yaml", "21-circle.yaml", "22-endless.yaml"] {
            fs::remove_file(planted(name)).unwrap();
        }
        fs::remove_dir(planted("23-folder.yaml")).unwrap();
        target.agent.signal(Signal::SIGHUP);
        // A file thread that hangs would take no edit any more.
        fs::write(planted("24-edit.yaml"), "attacks:\n  edited: 1\n").unwrap();
        target.agent.until("the edit is taken", |agent| {
            agent.verb(&["get", "attacks.edited"]).code == Some(0)
        });
    });
}
