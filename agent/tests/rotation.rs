//! Certificate and token that are replaced in the run directory of a running agent.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use support::{Agent, Done, Lines, configstream};

struct Case {
    root: tempfile::TempDir,
    agent: Agent,
    address: String,
}

impl Case {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let agent = Agent::start(&root.path().join("run"), &[]);
        let address = fs::read_to_string(agent.run_dir.join("address")).unwrap();
        let case = Self {
            root,
            agent,
            address: address.trim().to_owned(),
        };
        case.copy_to("before");
        case
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A copy of the credentials that are there now.
    fn copy_to(&self, name: &str) {
        fs::create_dir(self.dir(name)).unwrap();
        for file in ["auth_token", "ipc_cert.pem"] {
            fs::copy(self.agent.run_dir.join(file), self.dir(name).join(file)).unwrap();
        }
    }

    /// New credentials.
    fn make(&self, name: &str) {
        let config = self.dir(&format!("{name}.yaml"));
        let done = Done::of(
            configstream()
                .arg("init")
                .arg(config)
                .arg("--run-dir")
                .arg(self.dir(name)),
        );
        done.demand(0, &[]);
    }

    /// Puts a file of these credentials into the run directory, in one step.
    fn put(&self, name: &str, file: &str) {
        let new = self.agent.run_dir.join(format!(".{file}"));
        fs::copy(self.dir(name).join(file), &new).unwrap();
        fs::rename(&new, self.agent.run_dir.join(file)).unwrap();
    }

    /// Asks the agent something with these credentials.
    fn ask(&self, name: &str) -> Done {
        self.run(name, &["get", "log_level"])
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Done {
        Done::of(
            configstream()
                .args(arguments)
                .args(["--address", &self.address, "--run-dir"])
                .arg(self.dir(name)),
        )
    }

    fn watch(&self) -> Lines {
        Lines::of(
            configstream()
                .args(["watch", "--json", "--run-dir"])
                .arg(&self.agent.run_dir),
        )
    }
}

fn write_private(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_token_that_is_replaced_is_taken_and_the_one_before_lasts_for_the_overlap() {
    let mut case = Case::start();
    let watch = case.watch();
    watch.next();
    case.make("after");
    fs::copy(
        case.dir("before").join("ipc_cert.pem"),
        case.dir("after").join("ipc_cert.pem"),
    )
    .unwrap();
    case.ask("after").demand(10, &["token"]);
    case.put("after", "auth_token");
    case.agent.until_said("the token was replaced");
    case.ask("after").demand(0, &[]);
    case.ask("before").demand(0, &[]);
    // The shortest that there is.
    case.run("after", &["set", "credentials_overlap", "100ms"])
        .demand(0, &[]);
    case.agent.until_said("`credentials_overlap` has changed");
    case.make("last");
    fs::copy(
        case.dir("before").join("ipc_cert.pem"),
        case.dir("last").join("ipc_cert.pem"),
    )
    .unwrap();
    case.put("last", "auth_token");
    case.agent.until_said("the token was replaced");
    case.ask("last").demand(0, &[]);
    case.ask("before").demand(10, &["token"]);
    case.agent.until("the overlap is over", |_| {
        case.ask("after").code == Some(10)
    });
    // The stream that was open all the time.
    case.run("last", &["set", "mine.number", "7"])
        .demand(0, &[]);
    while !watch.line().contains("mine.number") {}
    assert_eq!(case.agent.status()["agents"][0]["resyncs"], 0);
}

#[test]
fn a_certificate_that_is_replaced_is_taken_and_streams_stay() {
    let mut case = Case::start();
    let watch = case.watch();
    watch.next();
    let connections = case.agent.status()["server"]["connections"].clone();
    case.make("after");
    for file in ["ipc_cert.pem", "auth_token"] {
        case.put("after", file);
    }
    case.agent.until_said("the token was replaced");
    assert!(case.agent.has_said("the certificate was replaced"));
    case.ask("after").demand(0, &[]);
    case.agent.verb(&["doctor"]).demand(0, &[]);
    case.run("after", &["set", "mine.number", "7"])
        .demand(0, &[]);
    while !watch.line().contains("mine.number") {}
    let status = case.agent.status();
    assert_eq!(status["server"]["connections"], connections, "{status}");
    assert_eq!(status["agents"][0]["resyncs"], 0);
}

#[test]
fn a_reload_is_over_when_the_new_token_is_in_force() {
    let mut case = Case::start();
    case.make("after");
    case.put("after", "auth_token");
    case.agent.signal(Signal::SIGHUP);
    case.agent.until_said("nothing to reload");
    assert!(case.agent.has_said("the token was replaced"));
}

#[test]
fn a_replacement_that_cannot_be_used_leaves_the_one_before_in_force_and_says_what_to_do() {
    let mut case = Case::start();
    let token = case.agent.run_dir.join("auth_token");
    let good = fs::read_to_string(&token).unwrap();
    let certificate = case.agent.run_dir.join("ipc_cert.pem");
    let pem = fs::read_to_string(&certificate).unwrap();
    let (half, _) = pem.split_at(pem.len() / 2);
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let spoilt: [(&str, &str, Spoil<'_>); 4] = [
        (
            "auth_token cannot be used",
            "64 hex",
            Box::new(|| write_private(&token, &good[..30])),
        ),
        (
            "ipc_cert.pem cannot be used",
            "restore it",
            Box::new(|| write_private(&certificate, half)),
        ),
        (
            "cannot read",
            "auth_token",
            Box::new(|| fs::remove_file(&token).unwrap()),
        ),
        (
            "auth_token is open to others",
            "chmod 600",
            Box::new(|| fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap()),
        ),
    ];
    for (what, mend, spoil) in &spoilt {
        spoil();
        let line = case.agent.until_said(what);
        assert!(line.contains("ERROR") && line.contains(mend), "{line}");
        assert!(line.contains("those before stay in force"), "{line}");
        case.ask("before").demand(0, &[]);
        let shown = case.run("before", &["status"]);
        assert!(shown.out.contains(what), "{shown:?}");
        assert!(case.agent.page("/readyz").1.contains(what));
        assert!(case.agent.metric("configstream_credentials_healthy") < 0.5);
        write_private(&token, &good);
        write_private(&certificate, &pem);
        case.agent.until_said("certificate and token: good again");
        assert!(case.agent.metric("configstream_credentials_healthy") > 0.5);
    }
    assert!(!case.agent.has_said("was replaced"));
    // Each was said once.
    case.agent.signal(Signal::SIGTERM);
    assert_eq!(case.agent.wait(), Some(0));
    let said = case.agent.said().join("\n");
    assert_eq!(said.matches("ERROR").count(), spoilt.len(), "{said}");
}

#[test]
fn the_credentials_of_another_agent_in_the_same_place_are_not_taken() {
    let mut case = Case::start();
    fs::remove_dir_all(&case.agent.run_dir).unwrap();
    let second = Agent::start(&case.agent.run_dir, &[]);
    case.agent.until_said("another agent has taken over");
    case.agent.signal(Signal::SIGHUP);
    case.agent.until_said("nothing to reload");
    case.ask("before").demand(0, &[]);
    assert!(!case.agent.has_said("was replaced"));
    drop(second);
}
