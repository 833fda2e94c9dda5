//! What lies in a run directory, put there by others than the agent: links, pipes, files of other
//! users.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use support::{Agent, Done, configstream};

/// The files that a start reads, each with the exit code of a start that refuses it.
const READ_AT_START: [(&str, i32); 5] = [
    ("configstream.lock", 4),
    ("persisted", 4),
    ("auth_token", 6),
    ("ipc_cert.pem", 6),
    ("sequence", 7),
];

/// A start that is not meant to succeed.
fn start(run_dir: &Path) -> Done {
    Done::of(&mut command(run_dir))
}

fn command(run_dir: &Path) -> Command {
    let mut command = configstream();
    command
        .args(["run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .arg("--run-dir")
        .arg(run_dir);
    command
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn pipe(path: &Path) {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
}

/// A run directory that an agent has used, with everything in it.
fn used() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let mut agent = Agent::start(&run_dir, &[]);
    agent
        .verb(&["set", "mine.number", "1", "--persist"])
        .demand(0, &[]);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    (root, run_dir)
}

/// Another user than the one that runs this test, if files can be given to one.
fn other_user() -> Option<u32> {
    geteuid().is_root().then_some(65_534)
}

#[test]
fn a_run_directory_that_other_users_may_write_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    for mode in [0o777, 0o770, 0o702, 0o1777] {
        chmod(&run_dir, mode);
        let advice = format!("chmod 700 {}", run_dir.display());
        start(&run_dir).demand(4, &["cannot use the run directory", "other users", &advice]);
        Done::of(
            configstream()
                .args(["init", "configstream.yaml", "--run-dir"])
                .arg(&run_dir)
                .current_dir(root.path()),
        )
        .demand(4, &["other users", &advice]);
    }
    assert_eq!(fs::read_dir(&run_dir).unwrap().count(), 0);
    chmod(&run_dir, 0o700);
    chmod(root.path(), 0o777);
    start(&run_dir).demand(4, &["all users may write", "chmod +t"]);
    // As /tmp is.
    chmod(root.path(), 0o1777);
    Agent::start(&run_dir, &[]);
}

#[test]
fn a_run_directory_of_another_user_is_refused() {
    let Some(other) = other_user() else { return };
    let (_root, run_dir) = used();
    chown(&run_dir, Some(other), None).unwrap();
    start(&run_dir).demand(4, &["it belongs to user 65534", "run as the user"]);
}

#[test]
fn credentials_of_another_user_are_refused() {
    let Some(other) = other_user() else { return };
    for (name, exit) in [("auth_token", 6), ("ipc_cert.pem", 6), ("sequence", 7)] {
        let (_root, run_dir) = used();
        let path = run_dir.join(name);
        chown(&path, Some(other), None).unwrap();
        start(&run_dir).demand(exit, &[name, "it belongs to user 65534", "chown 0"]);
        if exit == 6 {
            let status = ["status", "--run-dir", &run_dir.display().to_string()];
            Done::of(configstream().args(status)).demand(6, &[name, "it belongs to user 65534"]);
        }
    }
}

#[test]
fn root_uses_the_run_directory_of_another_user_with_the_tools() {
    let Some(other) = other_user() else { return };
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let agent = Agent::start(&run_dir, &[]);
    for entry in fs::read_dir(&run_dir).unwrap() {
        chown(entry.unwrap().path(), Some(other), None).unwrap();
    }
    chown(&run_dir, Some(other), None).unwrap();
    agent.verb(&["status"]).demand(0, &[]);
    agent.verb(&["doctor"]).demand(0, &[]);
}

#[test]
fn what_a_planted_link_leads_to_is_never_written() {
    let (_root, run_dir) = used();
    let precious = run_dir.with_file_name("precious");
    fs::write(&precious, "precious").unwrap();
    for name in ["sequence.new", "address.new", "persisted.new"] {
        symlink(&precious, run_dir.join(name)).unwrap();
    }
    fs::remove_file(run_dir.join("address")).unwrap();
    symlink(&precious, run_dir.join("address")).unwrap();
    let agent = Agent::start(&run_dir, &[]);
    agent
        .verb(&["set", "mine.number", "2", "--persist"])
        .demand(0, &[]);
    drop(agent);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");

    for (name, exit) in READ_AT_START {
        let path = run_dir.join(name);
        let kept = run_dir.join("kept");
        fs::rename(&path, &kept).unwrap();
        for target in [&precious, &run_dir.with_file_name("nothing")] {
            symlink(target, &path).unwrap();
            start(&run_dir).demand(exit, &[name, "symbolic link"]);
            fs::remove_file(&path).unwrap();
        }
        fs::rename(&kept, &path).unwrap();
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(!run_dir.with_file_name("nothing").exists());
    Agent::start(&run_dir, &[]);
}

#[test]
fn a_named_pipe_keeps_no_start_waiting() {
    let (root, run_dir) = used();
    for (name, exit) in READ_AT_START {
        let path = run_dir.join(name);
        let kept = run_dir.join("kept");
        fs::rename(&path, &kept).unwrap();
        pipe(&path);
        start(&run_dir).demand(exit, &[name, "named pipe"]);
        fs::remove_file(&path).unwrap();
        fs::rename(&kept, &path).unwrap();
    }
    let config = root.path().join("core.yaml");
    pipe(&config);
    let config = config.display().to_string();
    Done::of(command(&run_dir).args(["--config", &config])).demand(3, &["named pipe"]);
    // These are replaced.
    for name in ["address", "sequence.new", "address.new"] {
        let _ = fs::remove_file(run_dir.join(name));
        pipe(&run_dir.join(name));
    }
    let agent = Agent::start(&run_dir, &[]);
    agent.verb(&["status"]).demand(0, &[]);
}

#[test]
fn a_named_pipe_keeps_no_tool_and_no_writer_waiting() {
    let (_root, run_dir) = used();
    let agent = Agent::start(&run_dir, &[]);
    for name in ["auth_token", "ipc_cert.pem"] {
        let path = run_dir.join(name);
        let kept = run_dir.join("kept");
        fs::rename(&path, &kept).unwrap();
        pipe(&path);
        agent.verb(&["status"]).demand(6, &[name, "named pipe"]);
        let done = agent.verb(&["doctor"]);
        assert_eq!(done.code, Some(1));
        assert!(done.out.contains("named pipe"), "{done:?}");
        fs::remove_file(&path).unwrap();
        fs::rename(&kept, &path).unwrap();
    }
    let address = fs::read_to_string(run_dir.join("address")).unwrap();
    fs::remove_file(run_dir.join("address")).unwrap();
    pipe(&run_dir.join("address"));
    // It has to end: nothing says where the agent listens, and most likely none listens at the
    // default address.
    let _ended = agent.verb(&["status"]);
    fs::remove_file(run_dir.join("persisted")).unwrap();
    for name in ["persisted", "persisted.new"] {
        pipe(&run_dir.join(name));
    }
    let persist = [
        "set",
        "mine.number",
        "3",
        "--persist",
        "--address",
        address.trim(),
    ];
    agent.verb(&persist).demand(0, &[]);
}

#[test]
fn a_named_pipe_in_the_place_of_a_configuration_file_stops_no_reload() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("core.yaml");
    fs::write(&config, "mine.number: 1\n").unwrap();
    let shown = config.display().to_string();
    let mut agent = Agent::start(&root.path().join("run"), &["--config", &shown]);
    fs::remove_file(&config).unwrap();
    pipe(&config);
    agent.until_said("core.yaml: is a named pipe");
    let next = root.path().join("next.yaml");
    fs::write(&next, "mine.number: 2\n").unwrap();
    fs::rename(&next, &config).unwrap();
    agent.until_said("are good again");
    assert_eq!(
        agent.verb(&["get", "mine.number", "--json"]).json()["value"],
        2
    );
}

#[test]
fn a_stopping_agent_leaves_the_socket_that_another_agent_has_put_in_the_place_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("agent.sock");
    let listen = format!("unix:{}", socket.display());
    let mut first = Agent::start_at(&root.path().join("first"), &listen, &[]);
    fs::remove_file(&socket).unwrap();
    let mut second = Agent::start_at(&root.path().join("second"), &listen, &[]);
    first.signal(Signal::SIGTERM);
    assert_eq!(first.wait(), Some(0));
    assert!(
        socket.exists(),
        "the first agent has removed the second one's socket"
    );
    second.verb(&["status"]).demand(0, &[]);
    second.signal(Signal::SIGTERM);
    assert_eq!(second.wait(), Some(0));
    assert!(!socket.exists());
}

/// Everything that a directory holds.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn an_agent_whose_run_directory_another_agent_has_taken_over_writes_nothing_there() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let mut first = Agent::start(&run_dir, &[]);
    let address = fs::read_to_string(run_dir.join("address")).unwrap();
    // Its tools need the credentials, which go with the directory.
    let kept = root.path().join("kept");
    fs::create_dir(&kept).unwrap();
    for name in ["auth_token", "ipc_cert.pem", "address"] {
        fs::copy(run_dir.join(name), kept.join(name)).unwrap();
    }
    let first_verb = |arguments: &[&str]| {
        Done::of(
            configstream()
                .args(arguments)
                .args(["--address", address.trim(), "--run-dir"])
                .arg(&kept),
        )
    };
    fs::remove_dir_all(&run_dir).unwrap();
    first.until_said("the lock of this agent was removed from the run directory");
    first_verb(&["set", "mine.number", "1", "--persist"])
        .demand(10, &["was removed", "restart this agent"]);

    let mut second = Agent::start(&run_dir, &[]);
    second
        .verb(&["set", "mine.number", "2", "--persist"])
        .demand(0, &[]);
    let before = contents(&run_dir);
    first.until_said("another agent has taken over the run directory");
    first_verb(&["set", "mine.number", "3", "--persist"])
        .demand(10, &["another agent has taken over", "--run-dir"]);
    // More than is reserved.
    let batch = root.path().join("batch.yaml");
    let many = (0..1_100).map(|number| format!("mine.k{number}: {number}\n"));
    fs::write(&batch, many.collect::<String>()).unwrap();
    first_verb(&["apply", &batch.display().to_string()])
        .demand(10, &["another agent has taken over"]);

    let problem = "run directory: another agent has taken over";
    let status = first.status();
    let problems = status["problems"].as_array().unwrap();
    assert!(
        problems[0].as_str().unwrap().starts_with(problem),
        "{status}"
    );
    assert!(first.page("/readyz").1.contains(problem));
    assert!(first.metric("configstream_run_directory_healthy") < 0.5);
    assert!(first_verb(&["status"]).out.contains(problem));
    let doctor = first_verb(&["doctor"]);
    assert!(
        doctor.out.contains(problem) && doctor.code == Some(1),
        "{doctor:?}"
    );
    assert!(second.metric("configstream_run_directory_healthy") > 0.5);

    first.signal(Signal::SIGTERM);
    assert_eq!(first.wait(), Some(7), "its sequence cannot be saved");
    let said = first.said().join("\n");
    assert_eq!(
        said.matches("ERROR configstream_agent::run::upkeep")
            .count(),
        2,
        "once each: {said}"
    );
    assert_eq!(
        contents(&run_dir),
        before,
        "the second agent's files were written to"
    );
    second.signal(Signal::SIGTERM);
    assert_eq!(second.wait(), Some(0));
}
