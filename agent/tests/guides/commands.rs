//! The commands that pages may hold, and who runs each.

use super::page::Block;

/// A command, and how it is to end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// As it stands there, here-documents included.
    pub(crate) text: String,
    pub(crate) exit: i32,
    /// The line of the page.
    pub(crate) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ends by itself.
    Once,
    /// The agent, which stays until the next one is started, or the page ends.
    Agent,
    /// Shows the stream, until the page ends.
    Watch,
    /// Something else that stays, until the page ends. It has begun when it says this.
    Stays(&'static str),
    /// Works on a machine with systemd: [`System`](super::system::System) plays it.
    System,
    /// Another step runs it.
    Elsewhere,
}

/// What another step of CI runs, or nobody for the reason given: the command as a whole, but for what stands for a
/// comment, or for any arguments.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "cargo test --workspace --all-features",
        "`.ci/run tests`: this test is a part of it",
    ),
    (
        "cargo run -p configstream-engine --example threads",
        "engine/tests/examples.rs runs what it does",
    ),
    (
        "cargo run -p configstream-engine --example async --features stream",
        "the same",
    ),
    (
        "cargo run -p configstream-engine --example custom_state",
        "the same",
    ),
    (
        "cargo bench -p configstream-benches --features peers",
        "`.ci/run smoke` runs each bench once",
    ),
    (
        "cargo full",
        "hours: benches/tests/full.rs runs it with little to do, also interrupted",
    ),
    (
        "cargo reach FILE",
        "`.ci/run tests`: the tests of benches/src/reach.rs",
    ),
    (
        "cargo compare FILE… FILE",
        "`.ci/run tests`: benches/tests/compare.rs runs it",
    ),
    (
        "cargo draw FILE",
        "by hand: it writes README's table, which benches/tests/readme.rs checks",
    ),
    (
        "python3 -m venv agent-env",
        "`.ci/interop` makes an environment with the same packages",
    ),
    (
        "agent-env/bin/pip install …",
        "agent/tests/interop/python/test_guide.py compares it with what is installed there",
    ),
    (
        "agent-env/bin/python -m grpc_tools.protoc …",
        "agent/tests/interop/python/test_guide.py runs this very command",
    ),
    (
        "PYTHONPATH=wire agent-env/bin/python remote_agent.py …",
        "the same",
    ),
];

/// A build that takes minutes with link-time optimisation: `.ci/run instructions` builds and runs that profile. What it makes
/// is there without it.
pub(crate) const RELEASE: &str = "cargo build --release -p configstream-agent";

/// Programs of the system that pages use.
const TOOLS: &[&str] = &[
    "cat", "chmod", "cp", "curl", "grep", "kill", "ls", "mkdir", "mv", "printf", "rm", "sed",
];

/// The commands of a block.
pub(crate) fn of(block: &Block) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut lines = block.text.lines().zip(block.line..);
    while let Some((first, line)) = lines.next() {
        if first.trim().is_empty() || first.starts_with('#') {
            continue;
        }
        let mut text = first.to_owned();
        let mut last = first;
        while last.ends_with('\\') {
            let Some((next, _)) = lines.next() else {
                panic!("line {line}: the command does not end");
            };
            text.push('\n');
            text.push_str(next);
            last = next;
        }
        if let Some((_, mark)) = first.split_once("<<") {
            let mark = mark.trim_matches(|letter| "' \"".contains(letter));
            for (next, _) in lines.by_ref() {
                text.push('\n');
                text.push_str(next);
                if next == mark {
                    break;
                }
            }
            text.push('\n');
        }
        commands.push(Command {
            exit: exit(&text),
            text,
            line,
        });
    }
    commands
}

/// What `# exits with N` says.
fn exit(text: &str) -> i32 {
    let Some((_, said)) = text.split_once("# exits with ") else {
        return 0;
    };
    let digits = said.split(|letter: char| !letter.is_ascii_digit());
    let digits = digits.into_iter().next().unwrap_or_default();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no exit code: {text}"))
}

/// What to do with a command. `None`: it is none that a page may hold.
pub(crate) fn kind(text: &str) -> Option<Kind> {
    let bare = text.split("  #").next().unwrap_or(text).trim();
    let elsewhere = |known: &str| match known.strip_suffix('…') {
        Some(begin) => bare.starts_with(begin),
        None => bare == known,
    };
    if ELSEWHERE.iter().any(|(known, _)| elsewhere(known)) {
        return Some(Kind::Elsewhere);
    }
    if bare.starts_with("sudo ") || bare.starts_with("journalctl ") {
        return Some(Kind::System);
    }
    if bare == RELEASE {
        return Some(Kind::Once);
    }
    let mut words = text
        .split_whitespace()
        .skip_while(|word| is_assignment(word))
        .peekable();
    let mut program = words.next()?;
    if program == "cargo" {
        let (run, which) = (words.next()?, words.next()?);
        if run != "run" || !["--bin", "--example"].contains(&which) {
            return None;
        }
        program = words.next()?;
        if words.next_if_eq(&"--").is_none() && words.peek().is_some() {
            return None;
        }
    }
    match program {
        "configstream" => Some(match words.next()? {
            "run" => Kind::Agent,
            "watch" if !text.contains(" --events ") => Kind::Watch,
            _ => Kind::Once,
        }),
        "config-stream-client" => Some(Kind::Once),
        "remote_agent" => Some(Kind::Stays("ready")),
        tool => TOOLS.contains(&tool).then_some(Kind::Once),
    }
}

fn is_assignment(word: &str) -> bool {
    let name = |name: &str| {
        name.chars()
            .all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
    };
    word.split_once('=')
        .is_some_and(|(begin, _)| !begin.is_empty() && name(begin))
}

#[test]
fn a_block_is_read_as_a_shell_would() {
    let block = Block {
        info: "sh".to_owned(),
        text: "# first\nA=1 configstream run \\\n  --set a=1  # stays\n\ncat > my.yaml <<'END'\na: 1\nEND\n\
               configstream get nope   # exits with 11: none\n"
            .to_owned(),
        line: 7,
        adjoins: false,
    };
    let commands = of(&block);
    let said: Vec<_> = commands
        .iter()
        .map(|command| (command.text.as_str(), command.exit, command.line))
        .collect();
    assert_eq!(
        said,
        [
            ("A=1 configstream run \\\n  --set a=1  # stays", 0, 8),
            ("cat > my.yaml <<'END'\na: 1\nEND\n", 0, 11),
            ("configstream get nope   # exits with 11: none", 11, 14),
        ]
    );
    let kinds: Vec<_> = commands.iter().map(|command| kind(&command.text)).collect();
    assert_eq!(
        kinds,
        [Some(Kind::Agent), Some(Kind::Once), Some(Kind::Once)]
    );
    assert_eq!(kind("configstrem run"), None);
    for wrong in [
        "cargo run -p configstream-grpc",
        "cargo run -p configstream-engine --example thread",
        "cargo build --release -p configstream-agents",
        "cargo test --workspace --all-feature",
    ] {
        assert_eq!(kind(wrong), None, "{wrong}");
    }
    assert_eq!(kind("cargo full   # all of that"), Some(Kind::Elsewhere));
    assert_eq!(
        kind("cargo run --bin configstream -- watch shop"),
        Some(Kind::Watch)
    );
}
