//! A page of documentation: its blocks of code, its links, and its code in passing.

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// README and every guide.
pub(crate) const PAGES: [&str; 6] = [
    "README.md",
    "agent/guides/operating.md",
    "agent/guides/troubleshooting.md",
    "agent/guides/remote-agent-rust.md",
    "agent/guides/remote-agent-python.md",
    "engine/guides/embedding.md",
];

/// The top of the repository.
pub(crate) fn workspace() -> PathBuf {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR"));
    agent.parent().unwrap().to_owned()
}

#[derive(Debug)]
pub(crate) struct Page {
    /// Its path from the top of the repository.
    pub(crate) path: &'static str,
    pub(crate) text: String,
    pub(crate) blocks: Vec<Block>,
    /// Where its links lead, as they are written.
    pub(crate) links: Vec<String>,
    /// What stands between single backticks.
    pub(crate) spans: Vec<String>,
}

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block {
    /// What stands behind the fence.
    pub(crate) info: String,
    pub(crate) text: String,
    /// The line of the page at which its content begins.
    pub(crate) line: usize,
    /// Whether nothing stands between it and the block before.
    pub(crate) adjoins: bool,
}

impl Page {
    pub(crate) fn open(path: &'static str) -> Self {
        let text = fs::read_to_string(workspace().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut page = Self {
            path,
            text: text.clone(),
            blocks: Vec::new(),
            links: Vec::new(),
            spans: Vec::new(),
        };
        let mut open: Option<Block> = None;
        let mut adjoins = false;
        for (event, range) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    open = Some(Block {
                        info: info.into_string(),
                        text: String::new(),
                        line: text[..range.start].lines().count() + 2,
                        adjoins,
                    });
                }
                Event::End(TagEnd::CodeBlock) => {
                    page.blocks.extend(open.take());
                    adjoins = true;
                }
                Event::Text(piece) if open.is_some() => {
                    let block = open.as_mut().expect("looked at");
                    block.text.push_str(&piece);
                }
                other => {
                    adjoins = false;
                    match other {
                        Event::Start(Tag::Link { dest_url, .. }) => {
                            page.links.push(dest_url.into_string());
                        }
                        Event::Code(span) => page.spans.push(span.into_string()),
                        _ => {}
                    }
                }
            }
        }
        page
    }

    /// The part below a heading of the second level, up to the next.
    pub(crate) fn section(&self, heading: &str) -> &str {
        let begin = format!("\n## {heading}\n");
        let (_, rest) = self
            .text
            .split_once(&begin)
            .unwrap_or_else(|| panic!("{} has no section {heading:?}", self.path));
        rest.split("\n## ").next().unwrap_or(rest)
    }
}

/// Whether a word that names something of the repository names something that is there; `None` for any other word.
pub(crate) fn is_there(word: &str) -> Option<bool> {
    let (folder, _) = word.split_once('/')?;
    let ours = [
        ".ci",
        "agent",
        "benches",
        "engine",
        "grpc",
        "loom-tests",
        "proto",
    ];
    ours.contains(&folder)
        .then(|| workspace().join(word).exists())
}

/// The name that a heading goes by in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        letter if letter.is_alphanumeric() || "-_".contains(letter) => Some(letter),
        _ => None,
    });
    kept.collect()
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    for page in PAGES.map(Page::open) {
        for link in &page.links {
            if link.starts_with("https://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = workspace().join(page.path);
            let target = match path {
                "" => folder,
                path => folder.parent().expect("a file is in a folder").join(path),
            };
            assert!(target.exists(), "{}: nothing is at {link}", page.path);
            if heading.is_empty() {
                continue;
            }
            let text = fs::read_to_string(&target).unwrap();
            let mut headings = text.lines().filter(|line| line.starts_with('#'));
            assert!(
                headings.any(|line| anchor(line.trim_start_matches('#')) == heading),
                "{}: no heading for {link}",
                page.path
            );
        }
    }
}

#[test]
fn the_readme_leads_to_every_guide() {
    let readme = Page::open("README.md");
    for guide in &PAGES[1..] {
        assert!(
            readme.links.iter().any(|link| link == guide),
            "README.md does not link {guide}"
        );
    }
    let mut listed: Vec<_> = ["agent/guides", "engine/guides"]
        .iter()
        .flat_map(|folder| fs::read_dir(workspace().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    let mut known: Vec<_> = PAGES[1..]
        .iter()
        .map(|guide| workspace().join(guide))
        .collect();
    listed.sort();
    known.sort();
    assert_eq!(listed, known, "a guide is not tested");
}

/// `engine/tests/stress.rs` and `cargo loom` in passing are a file and an alias that are there.
#[test]
fn paths_and_cargo_commands_in_passing_are_there() {
    let config = fs::read_to_string(workspace().join(".cargo/config.toml")).unwrap();
    let known = ["bench", "build", "doc", "fmt", "run", "test"];
    let (mut paths, mut commands) = (0, 0);
    for page in PAGES.map(Page::open) {
        for span in &page.spans {
            let mut words = span.split_whitespace();
            let first = words.next().unwrap_or_default();
            if let Some(is_there) = is_there(first) {
                assert!(is_there, "{}: nothing is at `{first}`", page.path);
                paths += 1;
            }
            if first == "cargo"
                && let Some(name) = words.next()
            {
                let there = known.contains(&name) || config.contains(&format!("\n{name} = "));
                assert!(there, "{}: no such command: `{span}`", page.path);
                commands += 1;
            }
        }
    }
    assert!(
        paths >= 20 && commands >= 3,
        "{paths} paths, {commands} commands"
    );
}
