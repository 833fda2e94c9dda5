//! README and the guides, held against the programs and the tests that they name.
//!
//! What the pages may do, and what is demanded of them:
//! * A block marked `sh` holds commands. Each is run, in order, page by page, with a home directory of its own; one that
//!   ends with anything but 0, or but the N of a comment `# exits with N`, fails the test. [`commands`] says which commands
//!   there may be, which of them stay (`run`, `watch`), and which are run by another step of CI. What needs root and systemd
//!   is done in a root directory by [`system`].
//! * A block marked `text` right below one of commands is what the last of them prints on a terminal; marked `text watch`,
//!   what the newest `watch` shows next; `text agent`, what the agent says next; `text program`, what another program that
//!   stays says next. [`expected`] compares, and says what may differ. What another step compares is marked
//!   `text elsewhere`, and what nothing prints `text picture`; any other `text` fails the test.
//! * The ports 5001 and 5002 stand for those that the agent of the test got.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod expected;
mod guarantees;
mod page;
mod reader;
mod system;
mod terminal;
mod texts;

use page::Page;
use reader::Reader;

#[test]
fn the_commands_of_the_readme_work() {
    Reader::new().follow(&Page::open("README.md"));
}

#[test]
fn the_commands_of_the_operating_guide_work() {
    Reader::new().follow(&Page::open("agent/guides/operating.md"));
}

#[test]
fn the_commands_of_the_troubleshooting_guide_work() {
    Reader::new().follow(&Page::open("agent/guides/troubleshooting.md"));
}

#[test]
fn the_commands_of_the_guide_to_agents_in_rust_work() {
    Reader::new().follow(&Page::open("agent/guides/remote-agent-rust.md"));
}

#[test]
fn the_commands_of_the_guide_to_agents_in_python_work() {
    Reader::new().follow(&Page::open("agent/guides/remote-agent-python.md"));
}

#[test]
fn the_commands_of_the_guide_to_embedding_work() {
    Reader::new().follow(&Page::open("engine/guides/embedding.md"));
}

#[test]
fn the_program_in_the_guide_to_agents_in_rust_is_the_example_that_is_run() {
    let guide = Page::open("agent/guides/remote-agent-rust.md");
    let program = guide
        .blocks
        .iter()
        .find(|block| block.info.starts_with("rust"));
    let example = page::workspace().join("agent/examples/remote_agent.rs");
    let example = std::fs::read_to_string(example).unwrap();
    assert_eq!(program.expect("there is a program").text, example);
}
