//! What keeps an agent from starting: each has an exit code, a reason, and what to do. A start that fails spends
//! nothing.

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use support::{Agent, Done, configstream};

/// A start that is to fail.
fn fail(run_dir: &Path, arguments: &[&str]) -> Done {
    fail_with(run_dir, arguments, &[])
}

fn fail_with(run_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
    let ports = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let ports = if arguments.contains(&"--listen") {
        &ports[2..]
    } else {
        &ports[..]
    };
    let ports = if arguments.contains(&"--http") {
        &ports[..ports.len() - 2]
    } else {
        ports
    };
    let mut command = configstream();
    command
        .arg("run")
        .arg("--run-dir")
        .arg(run_dir)
        .args(ports)
        .args(arguments);
    command.envs(variables.iter().copied());
    Done::of(&mut command)
}

fn file(dir: &Path, name: &str, content: &[u8]) -> String {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn a_bad_configuration_is_refused_with_the_place() {
    let root = tempfile::tempdir().unwrap();
    let run_dir = root.path().join("run");
    let broken = file(root.path(), "broken.yaml", b"a: 1\nb: [1,\nc: 2\n");
    fail(&run_dir, &["--config", &broken]).demand(
        3,
        &[
            "configuration file is refused",
            "broken.yaml:2:4",
            "to do: correct it",
        ],
    );
    let twice = file(root.path(), "twice.yaml", b"a: 1\na: 2\n");
    fail(&run_dir, &["--config", &twice])
        .demand(3, &["twice.yaml:2:1", "given twice", "to do: remove one"]);
    let odd = file(root.path(), "odd.yaml", b"a: \xff\n");
    fail(&run_dir, &["--config", &odd]).demand(3, &["odd.yaml:1:4", "not UTF-8", "to do: save it"]);
    fail(&run_dir, &["--config", "nowhere.yaml"])
        .demand(3, &["nowhere.yaml", "cannot be read", "to do: create it"]);
    // A folder stands for the files in it, in the order of their names.
    let folder = root.path().join("conf.d");
    fs::create_dir(&folder).unwrap();
    file(&folder, "b.yaml", b"a: [\n");
    file(&folder, "a.yaml", b"a: 1\n");
    let folder = folder.display().to_string();
    fail(&run_dir, &["--config", &folder]).demand(3, &["conf.d/b.yaml:", "no valid YAML"]);
    fail(&run_dir, &["--set", "expvar_port=many"]).demand(
        3,
        &[
            "--set expvar_port",
            "an integer",
            "to do: write a whole number",
        ],
    );
    fail(&run_dir, &["--set", "mine=1", "--set", "mine.too=2"])
        .demand(3, &["do not go together", "mine.too", "to do:"]);
    fail_with(&run_dir, &[], &[("DD_EXPVAR_PORT", "many")])
        .demand(3, &["DD_EXPVAR_PORT", "an integer", "to do: write"]);
    fail_with(
        &run_dir,
        &["--env-prefix", "MY"],
        &[("MY_EXPVAR_PORT", "many")],
    )
    .demand(3, &["MY_EXPVAR_PORT"]);
    assert!(
        !run_dir.exists(),
        "nothing is written before everything has been looked at"
    );
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let secret = file(root.path(), "secret.yaml", b"a: 1\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = configstream();
    if fs::read(&secret).is_ok() {
        // This is root, to whom no file is closed: so somebody else runs it, from a copy within reach. `cp` copies, since
        // a file that this process has open for writing might be inherited by a test beside, and then does not execute.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = root.path().join("configstream");
        let program = env!("CARGO_BIN_EXE_configstream");
        let copied = Command::new("cp").arg(program).arg(&copy).status().unwrap();
        assert!(copied.success());
        command = Command::new(copy);
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["run", "--config", &secret, "--run-dir"]);
    command.arg(root.path().join("run"));
    Done::of(&mut command).demand(3, &["secret.yaml", "cannot be read", "to do: let the user"]);
}

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

#[test]
fn a_run_directory_that_cannot_be_used_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fail(&root.path().join("a/b"), &[]).demand(
        4,
        &[
            "the directory above it does not exist",
            "to do: create it with: mkdir -p",
        ],
    );
    let path = file(root.path(), "file", b"");
    fail(Path::new(&path), &[]).demand(4, &["not a directory", "to do: name another"]);
    let mut command = configstream();
    command
        .args(["run"])
        .env_remove("HOME")
        .env_remove("XDG_STATE_HOME");
    Done::of(&mut command).demand(
        4,
        &[
            "neither XDG_STATE_HOME nor HOME",
            "to do: give one with --run-dir",
        ],
    );
}

#[test]
fn an_empty_run_directory_is_refused_by_the_name_of_who_left_it_empty() {
    let variable = "CONFIGSTREAM_RUN_DIR";
    for verb in ["run", "status", "init"] {
        let mut by_variable = configstream();
        Done::of(by_variable.arg(verb).env(variable, "")).demand(
            2,
            &[
                "variable CONFIGSTREAM_RUN_DIR is empty",
                "to do: name a directory",
            ],
        );
        let mut by_option = configstream();
        let by_option = Done::of(by_option.args([verb, "--run-dir", ""]).env(variable, "x"));
        by_option.demand(2, &["--run-dir is empty", "or leave it out"]);
    }
    let root = tempfile::tempdir().unwrap();
    let mut named = configstream();
    named.args(["doctor", "--run-dir"]).arg(root.path());
    let named = Done::of(named.env(variable, ""));
    assert_eq!(
        named.code,
        Some(1),
        "an empty variable that is not needed: {named:?}"
    );
}

#[test]
fn a_limit_of_file_sizes_is_an_error_that_says_so_and_kills_nobody() {
    let root = tempfile::tempdir().unwrap();
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -f 0; exec \"$@\"", "bash"]);
    limited.args([env!("CARGO_BIN_EXE_configstream"), "run", "--run-dir"]);
    limited.arg(root.path());
    Done::of(&mut limited).demand(
        4,
        &["cannot lock", "File too large", "to do: raise the limit"],
    );
}

#[test]
fn a_second_agent_in_the_same_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    fail(root.path(), &[]).demand(
        5,
        &["another agent runs in", "process ", "to do: stop it first"],
    );
    assert_eq!(agent.page("/healthz").0, "HTTP/1.1 200 OK");
}

#[test]
fn damaged_or_open_credentials_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str, mode: u32| {
        let path = file(root.path(), name, content.as_bytes());
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("ipc_cert.pem", "hello\n", 0o600);
    fail(root.path(), &[]).demand(
        6,
        &[
            "ipc_cert.pem cannot be used",
            "no CERTIFICATE",
            "remove the file",
        ],
    );
    fs::remove_file(root.path().join("ipc_cert.pem")).unwrap();
    write("auth_token", &"ab".repeat(32), 0o644);
    fail(root.path(), &[]).demand(6, &["auth_token is open to others", "0644", "chmod 600"]);
    write("auth_token", "short", 0o600);
    fail(root.path(), &[]).demand(
        6,
        &["auth_token cannot be used", "64 hex", "remove the file"],
    );
    assert!(
        !root.path().join("sequence").exists(),
        "a start that fails spends no sequence"
    );
}

#[test]
fn damaged_or_foreign_persisted_changes_are_refused_and_left_as_they_are() {
    let root = tempfile::tempdir().unwrap();
    for (content, why) in [
        (&b""[..], "it is empty"),
        (b"log_level: debug\n", "first line"),
        (b"configstream persisted changes 1\n", "cut short"),
        (
            b"configstream persisted changes 1\ncrc32 00000000\n",
            "checksum",
        ),
    ] {
        let path = file(root.path(), "persisted", content);
        let parts = [
            "persisted changes cannot be used",
            why,
            "to do: restore it",
            "rm ",
        ];
        fail(root.path(), &[]).demand(4, &parts);
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    assert!(
        !root.path().join("sequence").exists(),
        "a start that fails spends no sequence"
    );
}

#[test]
fn a_damaged_sequence_is_refused_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let path = file(
        root.path(),
        "sequence",
        b"configstream sequence 1\nepoch 5\nused-up-to 9\ncrc32 00000000\n",
    );
    let before = fs::read(&path).unwrap();
    fail(root.path(), &[]).demand(7, &["sequence is damaged", "checksum", "rm "]);
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::remove_file(&path).unwrap();
    fs::create_dir(root.path().join("sequence.new")).unwrap();
    fail(root.path(), &[]).demand(7, &["cannot write the saved sequence", "writable"]);
}

#[test]
fn an_address_in_use_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--listen", "--http"] {
        fail(root.path(), &[option, &address]).demand(
            8,
            &[
                "cannot listen on 127.0.0.1:",
                "in use",
                "to do: stop what listens",
            ],
        );
    }
    fail(root.path(), &["--listen", "unix:/nowhere/at/all/sock"])
        .demand(8, &["unix:///nowhere", "to do: create the directory"]);
    fail(root.path(), &["--http", "203.0.113.1:0"]).demand(
        8,
        &[
            "cannot listen on 203.0.113.1:0",
            "an address of this machine",
        ],
    );
    assert!(
        !root.path().join("sequence").exists(),
        "a start that fails spends no sequence"
    );
}

#[test]
fn a_wrong_command_line_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fail(root.path(), &["--listen", "5001"]).demand(2, &["--listen", "HOST:PORT"]);
    fail(root.path(), &["--nonsense"]).demand(2, &["--nonsense"]);
    Done::of(&mut configstream()).demand(2, &["Usage"]);
}
