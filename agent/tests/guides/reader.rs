//! Somebody who does what a page says, word for word.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command as Program;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::commands::{self, Command, Kind, RELEASE};
use super::expected;
use super::page::{Block, Page, is_there, workspace};
use super::system::System;
use super::terminal::Terminal;

/// A person with an empty home directory, and a clone of the repository to stand in.
pub(crate) struct Reader {
    root: TempDir,
    system: System,
    agent: Option<Terminal>,
    watch: Option<Terminal>,
    /// Whatever else stays.
    others: Vec<Terminal>,
    /// What the last command has printed, and whether it stays.
    last: Last,
}

enum Last {
    Nothing,
    Printed(String),
    Agent,
    Watch,
    Other,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["home", "bin", "configstream"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        // What they write lands beside the repository's files, not among them.
        for entry in fs::read_dir(workspace()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == "target" {
                continue;
            }
            let link = root.path().join("configstream").join(entry.file_name());
            symlink(entry.path(), link).unwrap();
        }
        let reader = Self {
            system: System::new(root.path().join("system")),
            root,
            agent: None,
            watch: None,
            others: Vec::new(),
            last: Last::Nothing,
        };
        reader.install();
        reader
    }

    /// Puts programs on their path: ours, on ports of its own, and a `cargo` that only runs what is built.
    fn install(&self) {
        let configstream = env!("CARGO_BIN_EXE_configstream");
        let client = env!("CARGO_BIN_EXE_config-stream-client");
        let examples = Path::new(configstream).with_file_name("examples");
        let script = |name: &str, text: String| {
            let path = self.root.path().join("bin").join(name);
            fs::write(&path, format!("#!/usr/bin/env bash\n{text}")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script(
            "configstream",
            format!(
                "name=${{CALLED_AS:-configstream}}; unset CALLED_AS\n\
                 ports=()\n\
                 if [ \"$1\" = run ]; then\n\
                     [[ \" $* \" == *' --listen '* ]] || ports+=(--listen 127.0.0.1:0)\n\
                     [[ \" $* \" == *' --http '* ]] || ports+=(--http 127.0.0.1:0)\n\
                 fi\n\
                 exec -a \"$name\" '{configstream}' \"$@\" \"${{ports[@]}}\"\n"
            ),
        );
        script("config-stream-client", format!("exec '{client}' \"$@\"\n"));
        script(
            "cargo",
            format!(
                "if [ \"cargo $*\" = '{RELEASE}' ]; then\n\
                     mkdir -p target/release && exec ln -sf '{configstream}' '{client}' target/release/\n\
                 fi\n\
                 [ \"$1\" = run ] || exit 64\n\
                 kind=$2 name=$3; shift 3; [ \"$1\" != -- ] || shift\n\
                 if [ \"$kind\" = --example ]; then\n\
                     [ -x '{0}'/\"$name\" ] || echo 'not built: `cargo test --test guides` builds no examples' >&2\n\
                     exec '{0}'/\"$name\" \"$@\"\n\
                 fi\n\
                 CALLED_AS=target/debug/$name exec \"$name\" \"$@\"\n",
                examples.display()
            ),
        );
    }

    /// Does all that the page says, and demands that it shows what the page shows.
    pub(crate) fn follow(mut self, page: &Page) {
        let mut run = 0;
        for block in &page.blocks {
            let place = format!("{}:{}", page.path, block.line);
            match block.info.as_str() {
                "sh" => {
                    for command in commands::of(block) {
                        self.carry_out(&command, page.path);
                        run += 1;
                    }
                }
                "text watch" => self.shows(&place, &block.text, Last::Watch),
                "text program" => self.shows(&place, &block.text, Last::Other),
                "text agent" => self.shows(&place, &block.text, Last::Agent),
                "text" if block.adjoins => self.has_printed(&place, block),
                "text" => panic!(
                    "{place}: not right below a command, so nobody can say what prints it; mark it `text watch`, \
                     `text agent`, `text program`, `text elsewhere`, or `text picture` if nothing prints it"
                ),
                "text picture" | "text elsewhere" | "toml" | "yaml" | "nginx" | "rust"
                | "rust,no_run" | "python" => {}
                other => panic!("{place}: no block is marked {other:?}; commands are `sh`"),
            }
        }
        assert!(run > 0, "{} has no command", page.path);
        self.end_agent(page.path);
    }

    fn carry_out(&mut self, command: &Command, page: &str) {
        let place = format!("{page}:{}: {}", command.line, command.text);
        let kind = commands::kind(&command.text).unwrap_or_else(|| {
            panic!("{place}\nis no command that a page may hold: agent/tests/guides/commands.rs lists them")
        });
        if kind == Kind::Elsewhere {
            for word in command.text.split_whitespace() {
                assert_ne!(is_there(word), Some(false), "{place}\nnothing is at {word}");
            }
            self.last = Last::Nothing;
            return;
        }
        if kind == Kind::System {
            let folder = self.root.path().join("configstream");
            let done = self.system.carry_out(&command.text, &folder);
            done.unwrap_or_else(|fault| panic!("{place}\ndoes not work: {fault}"));
            self.last = Last::Nothing;
            return;
        }
        // What is to fail does not stay.
        let kind = if command.exit == 0 { kind } else { Kind::Once };
        if kind == Kind::Agent {
            self.end_agent(&place);
        }
        let mut terminal = Terminal::start(&mut self.shell(&command.text, kind != Kind::Once));
        let mark = match kind {
            Kind::Once => {
                let (code, printed) = terminal.end();
                assert_eq!(
                    code,
                    Some(command.exit),
                    "{place}\nended otherwise; it said\n{printed}\nand the agent\n{}",
                    self.agent.as_mut().map_or("", |agent| agent.said())
                );
                self.last = Last::Printed(printed);
                return;
            }
            Kind::Agent => "log_level debug",
            Kind::Watch => "snapshot",
            Kind::Stays(mark) => mark,
            Kind::System | Kind::Elsewhere => unreachable!("dealt with above"),
        };
        // Waits without taking anything: what it says may be shown on the page.
        let begun = terminal.until(|said| said.contains(mark).then_some(0));
        begun.unwrap_or_else(|said| panic!("{place}\nsays nothing of {mark:?}, but\n{said}"));
        let (slot, last) = match kind {
            Kind::Agent => (&mut self.agent, Last::Agent),
            Kind::Watch => (&mut self.watch, Last::Watch),
            _ => {
                self.others.push(terminal);
                self.last = Last::Other;
                return;
            }
        };
        *slot = Some(terminal);
        self.last = last;
    }

    /// A shell in the clone.
    fn shell(&self, text: &str, stays: bool) -> Program {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.root.path().join("bin").display());
        let text = self.real(text);
        // So that what stays is itself the process that gets the signal.
        let text = if stays {
            format!("exec env {text}")
        } else {
            text
        };
        let mut shell = super::support::program("bash");
        shell
            .args(["-c", &text])
            .current_dir(self.root.path().join("configstream"))
            .env("HOME", self.root.path().join("home"))
            .env("PATH", path)
            .env("USER", "you")
            .env("NO_COLOR", "1")
            .env("TERM", "xterm")
            .env_remove("XDG_STATE_HOME")
            .env_remove("COLUMNS");
        shell
    }

    /// What a terminal of somebody has to show next.
    fn shows(&mut self, place: &str, expected: &str, whose: Last) {
        let expected = self.real(expected);
        let terminal = match whose {
            Last::Watch => self.watch.as_mut(),
            Last::Agent => self.agent.as_mut(),
            _ => self.others.last_mut(),
        };
        let terminal = terminal.unwrap_or_else(|| panic!("{place}: nothing runs"));
        let found = terminal.until(|said| expected::beginning(&expected, said));
        found.unwrap_or_else(|said| panic!("{place}\nis not what it shows:\n{said}"));
    }

    fn has_printed(&mut self, place: &str, block: &Block) {
        match std::mem::replace(&mut self.last, Last::Nothing) {
            Last::Nothing => panic!(
                "{place}: the command above is not run here, so nobody compares this: mark it `text elsewhere`"
            ),
            Last::Printed(printed) => assert!(
                expected::matches(&self.real(&block.text), &printed),
                "{place}\nis not what it prints:\n{printed}"
            ),
            stays => self.shows(place, &block.text, stays),
        }
    }

    /// What a page says, with the addresses and the home directory that there really are.
    fn real(&self, text: &str) -> String {
        let (grpc, http) = self.ports();
        let home = self.root.path().join("home").display().to_string();
        [
            ("127.0.0.1:5001", grpc.as_ref()),
            ("localhost:5001", grpc.as_ref()),
            ("127.0.0.1:5002", http.as_ref()),
            ("/home/you", Some(&home)),
        ]
        .into_iter()
        .fold(text.to_owned(), |text, (shown, real)| match real {
            Some(real) => text.replace(shown, real),
            None => text,
        })
    }

    /// Where the agent listens.
    fn ports(&self) -> (Option<String>, Option<String>) {
        let file = self
            .root
            .path()
            .join("home/.local/state/configstream/address");
        let grpc = fs::read_to_string(file).ok();
        let grpc = grpc.map(|address| address.trim().to_owned());
        let http = self.agent.as_ref().and_then(|agent| {
            let (_, rest) = agent.so_far().split_once("http://")?;
            Some(rest.split('/').next()?.to_owned())
        });
        (grpc, http)
    }

    /// Presses Ctrl-C where the agent runs.
    fn end_agent(&mut self, place: &str) {
        let Some(mut agent) = self.agent.take() else {
            return;
        };
        agent.signal(Signal::SIGINT);
        let (code, said) = agent.end();
        assert_eq!(
            code,
            Some(0),
            "{place}: the agent ended badly; it said\n{said}"
        );
    }
}
