//! A machine with systemd, as far as a page needs one: a root directory that `sudo` works in, and the service in there.
//!
//! `install` and `rm` are the real ones, on paths that lead into this root; so are `systemd-sysusers` and `systemctl enable`
//! where the machine has them. What systemd does with a running service is done here, as its unit says: it is started by
//! `ExecStart`, heard over a socket, reloaded by `ExecReload`, and stopped by SIGTERM.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use super::support::{PATIENCE, program};

/// What is there before anything of ours is.
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run",
    "usr/bin",
    "usr/lib/sysusers.d",
    "var/lib",
];

/// Why a command of a page is none that works.
type Fault = String;

#[derive(Debug)]
pub(crate) struct System {
    root: PathBuf,
    notify: UnixDatagram,
    service: Option<Child>,
}

impl System {
    pub(crate) fn new(root: PathBuf) -> Self {
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        let notify = UnixDatagram::bind(root.join("run/notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            root,
            notify,
            service: None,
        }
    }

    /// Carries out `sudo …` or `journalctl …`, standing in this folder.
    pub(crate) fn carry_out(&mut self, command: &str, folder: &Path) -> Result<(), Fault> {
        let command = command.split(" #").next().unwrap_or_default();
        let words: Vec<&str> = command.split_whitespace().collect();
        match &words[..] {
            ["sudo", "-u", user, rest @ ..] => self.sudo(user, rest, folder),
            ["sudo", rest @ ..] => self.sudo("root", rest, folder),
            ["journalctl", "-u", name, "-p", "warning"] => self.unit(name).map(drop),
            _ => Err("unknown here".to_owned()),
        }
    }

    fn sudo(&mut self, user: &str, words: &[&str], folder: &Path) -> Result<(), Fault> {
        if !self.has_user(user) {
            return Err(format!("there is no user {user}"));
        }
        match words {
            [tool @ ("install" | "rm"), arguments @ ..] if user == "root" => {
                self.run(Path::new(tool), arguments, folder)
            }
            ["configstream", arguments @ ..] => {
                self.run(&self.root.join("usr/bin/configstream"), arguments, folder)
            }
            ["systemd-sysusers"] => self.make_users(),
            ["systemctl", "daemon-reload"] => Ok(()),
            ["systemctl", "enable", "--now", name] => {
                self.enable(name)?;
                self.start(name)
            }
            ["systemctl", "start", name] => self.start(name),
            ["systemctl", "status", name] => {
                self.unit(name)?;
                self.main_pid().map(drop)
            }
            ["systemctl", "reload", name] => self.reload(name),
            ["systemctl", "stop", name] => self.stop(name),
            _ => Err("unknown here".to_owned()),
        }
    }

    /// Where a path of the machine is in this root; any other word as it is.
    fn place(&self, word: &str) -> String {
        let (scheme, path) = match word.strip_prefix("unix:") {
            Some(path) => ("unix:", path),
            None => ("", word),
        };
        let ours = ["/etc/", "/run/", "/usr/", "/var/"];
        if ours.iter().any(|begin| path.starts_with(begin)) {
            format!("{scheme}{}{path}", self.root.display())
        } else {
            word.to_owned()
        }
    }

    fn run(&self, tool: &Path, arguments: &[&str], folder: &Path) -> Result<(), Fault> {
        let arguments = arguments.iter().map(|word| self.place(word));
        let mut command = program(&tool.display().to_string());
        succeed(command.args(arguments).current_dir(folder))
    }

    fn has_user(&self, name: &str) -> bool {
        let users = fs::read_to_string(self.root.join("etc/passwd")).unwrap();
        users
            .lines()
            .any(|user| user.split(':').next() == Some(name))
    }

    fn make_users(&self) -> Result<(), Fault> {
        let mut command = Command::new("systemd-sysusers");
        command.arg(format!("--root={}", self.root.display()));
        // It gives files to root, which nobody else can.
        if !Uid::effective().is_root() {
            command.arg("--dry-run");
        }
        succeed_where_there_is(&mut command)?;
        // Where it could not, as its file says: `u NAME …`.
        for entry in fs::read_dir(self.root.join("usr/lib/sysusers.d")).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            for name in text.lines().filter_map(|line| line.strip_prefix("u ")) {
                let name = name.split(' ').next().unwrap_or_default();
                if !self.has_user(name) {
                    let file = self.root.join("etc/passwd");
                    let users = fs::read_to_string(&file).unwrap();
                    fs::write(file, format!("{users}{name}:x:999:999::/:/bin/false\n")).unwrap();
                }
            }
        }
        Ok(())
    }

    /// The text of a unit that is installed.
    fn unit(&self, name: &str) -> Result<String, Fault> {
        let file = format!("etc/systemd/system/{name}.service");
        let unit = fs::read_to_string(self.root.join(&file));
        let unit = unit.map_err(|error| format!("/{file}: {error}"))?;
        Ok(unit.replace("\\\n", " "))
    }

    /// What a unit says for a key.
    fn value(&self, name: &str, key: &str) -> Result<String, Fault> {
        let unit = self.unit(name)?;
        let mut values = unit
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = values.next().ok_or(format!("{name} has no {key}"))?;
        Ok(value.to_owned())
    }

    fn enable(&self, name: &str) -> Result<(), Fault> {
        self.value(name, "WantedBy")?;
        let mut command = Command::new("systemctl");
        command.arg(format!("--root={}", self.root.display()));
        succeed_where_there_is(command.args(["enable", name]))
    }

    fn start(&mut self, name: &str) -> Result<(), Fault> {
        if self.service.is_some() {
            return Err("it runs already".to_owned());
        }
        let user = self.value(name, "User")?;
        if !self.has_user(&user) {
            return Err(format!("there is no user {user}"));
        }
        let folder = |above: &str, key| -> Result<PathBuf, Fault> {
            let folder = self.root.join(above).join(self.value(name, key)?);
            fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
            Ok(folder)
        };
        let state = folder("var/lib", "StateDirectory")?;
        folder("run", "RuntimeDirectory")?;
        let line = self.value(name, "ExecStart")?;
        // The ports of the machine are those of whoever runs the test.
        let line = line.replace("%t", "/run").replace(":5001", ":0");
        let mut words = line.split_whitespace().map(|word| self.place(word));
        let executable = words.next().unwrap_or_default();
        let journal = File::create(self.root.join("run/journal")).unwrap();
        let service = program(&executable)
            .args(words)
            .args(["--http", "127.0.0.1:0"])
            .env("STATE_DIRECTORY", state)
            .env("NOTIFY_SOCKET", self.root.join("run/notify"))
            .env_remove("HOME")
            .stdout(journal.try_clone().unwrap())
            .stderr(journal)
            .spawn()
            .map_err(|error| format!("{executable}: {error}"))?;
        self.service = Some(service);
        self.hear("READY=1")
    }

    fn reload(&self, name: &str) -> Result<(), Fault> {
        let pid = self.main_pid()?;
        let line = self
            .value(name, "ExecReload")?
            .replace("$MAINPID", &pid.to_string());
        let mut words = line.split_whitespace();
        succeed(Command::new(words.next().unwrap_or_default()).args(words))?;
        self.hear("RELOADING=1")?;
        self.hear("READY=1")
    }

    fn stop(&mut self, name: &str) -> Result<(), Fault> {
        self.unit(name)?;
        kill(self.main_pid()?, Signal::SIGTERM).unwrap();
        let mut service = self.service.take().ok_or("it does not run")?;
        let status = service.wait().unwrap();
        if status.success() {
            Ok(())
        } else {
            Err(format!("it ended badly: {status}; {}", self.journal()))
        }
    }

    fn main_pid(&self) -> Result<Pid, Fault> {
        let service = self.service.as_ref().ok_or("it does not run")?;
        Ok(Pid::from_raw(service.id().try_into().unwrap()))
    }

    /// Waits until the service tells this.
    fn hear(&self, what: &str) -> Result<(), Fault> {
        let mut bytes = [0; 4096];
        loop {
            let heard = self.notify.recv(&mut bytes);
            let length = heard.map_err(|_| format!("no {what}; {}", self.journal()))?;
            let text = String::from_utf8_lossy(&bytes[..length]);
            if text.lines().any(|line| line == what) {
                return Ok(());
            }
        }
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.root.join("run/journal")).unwrap_or_default()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

fn succeed(command: &mut Command) -> Result<(), Fault> {
    let done = command.output().map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    Err(format!(
        "{}; {}",
        done.status,
        String::from_utf8_lossy(&said)
    ))
}

/// The same, for a tool of systemd, which not every machine has.
fn succeed_where_there_is(command: &mut Command) -> Result<(), Fault> {
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        _ => succeed(command),
    }
}

#[test]
fn what_does_not_work_on_a_machine_does_not_work_here() {
    let folder = tempfile::tempdir().unwrap();
    let mut system = System::new(folder.path().join("system"));
    let unit = super::page::workspace().join("agent/systemd/configstream.service");
    let mut tell = |command: &str| system.carry_out(command, folder.path());
    for (command, fault) in [
        ("sudo -u configstream configstream doctor", "no user"),
        ("sudo install -m 644 nothing /etc/configstream/", "nothing"),
        ("sudo systemctl status configstream", "configstream.service"),
        ("sudo systemctl enabel --now configstream", "unknown"),
        ("sudo systemctl restrat configstream", "unknown"),
        (
            "journalctl -u configstrem -p warning",
            "configstrem.service",
        ),
        ("sudo frobnicate", "unknown"),
    ] {
        let said = tell(command).unwrap_err();
        assert!(said.contains(fault), "{command}: {said}");
    }
    let install = format!(
        "sudo install -m 644 {} /etc/systemd/system/",
        unit.display()
    );
    tell(&install).unwrap();
    let start = "sudo systemctl enable --now configstream";
    assert!(tell(start).unwrap_err().contains("no user configstream"));
}
