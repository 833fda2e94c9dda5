//! A parsed file as a tree in which every node knows its line and column.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Options, Parser, ScalarStyle};

use super::{Budget, FileError, Problem};

/// How deep collections may nest. Far beyond what a setting can carry, far below what a stack can.
pub const MAX_DEPTH: usize = 128;

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self {
            line: marker.line(),
            column: marker.col() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// What a `!tag` says about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tag {
    /// `!duration`: a span of time such as `30s`.
    Duration,
    /// `!map` or `!!map`: one map value, never a section.
    Map,
    /// `!!seq`: a list, which says nothing new.
    List,
    /// `!!str`, or the lone `!`: text, whatever it looks like.
    String,
    /// `!!bool`.
    Bool,
    /// `!!int`.
    Int,
    /// `!!float`.
    Float,
}

/// A node of a [`Document`].
#[derive(Debug)]
pub struct Node {
    /// Where it starts.
    pub position: Position,
    /// Its tag, if it has one.
    pub tag: Option<Tag>,
    /// What it is.
    pub content: Content,
    /// How many nodes it stands for, itself included.
    nodes: u64,
    /// How many bytes the texts and keys of these have.
    text_bytes: u64,
    /// How deep it nests: 0 for a scalar.
    depth: usize,
}

/// What a [`Node`] is.
#[derive(Debug)]
pub enum Content {
    /// A text, and whether it stood without quotes and not as a block.
    Scalar {
        /// The text, unescaped.
        text: Arc<str>,
        /// Whether it was written plainly, so that `true` may mean a boolean.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Arc<Node>>),
    /// A mapping, in the order of the file, its keys unique.
    Mapping(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// Where the key stands.
    pub position: Position,
    /// Its value.
    pub value: Arc<Node>,
}

/// One parsed file.
#[derive(Debug)]
pub struct Document {
    root: Option<Arc<Node>>,
}

impl Document {
    /// Parses a text. `path` is for the errors only.
    ///
    /// # Errors
    ///
    /// Broken YAML, a second document, a duplicate key, a key that is no text, an unknown tag, or one of the bounds.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        Self::parse_within(path, text, &mut Budget::default())
    }

    /// The same, for one text of several that share a budget.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse); the bounds are those of all texts together.
    pub fn parse_within(path: &Path, text: &str, budget: &mut Budget) -> Result<Self, FileError> {
        let mut options = Options::default();
        options.emit_comments = false;
        let mut builder = Builder {
            path,
            budget,
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
        };
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| {
                let problem = match error.kind() {
                    ErrorKind::RecursionLimitExceeded => Problem::TooDeep { limit: MAX_DEPTH },
                    _ => Problem::Syntax(error.info()),
                };
                FileError::new(path, (*error.marker()).into(), problem)
            })?;
            // A tagged node starts at its tag; people look for the value.
            builder.event(event, span.start.into())?;
        }
        Ok(Self { root: builder.root })
    }

    /// The outermost node; none if the file holds nothing but comments.
    #[must_use]
    pub fn root(&self) -> Option<&Node> {
        self.root.as_deref()
    }

    pub(crate) fn shared_root(&self) -> Option<&Arc<Node>> {
        self.root.as_ref()
    }
}

/// Builds the tree from events. `open` is the path of collections that have not ended.
struct Builder<'a> {
    path: &'a Path,
    budget: &'a mut Budget,
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
    documents: usize,
}

struct Open {
    position: Position,
    tag: Option<Tag>,
    anchor: usize,
    nodes: u64,
    text_bytes: u64,
    depth: usize,
    collection: Collection,
}

enum Collection {
    Sequence(Vec<Arc<Node>>),
    /// The entries so far, where each key stands, and the key whose value is awaited.
    Mapping {
        entries: Vec<Entry>,
        seen: HashMap<Arc<str>, Position>,
        key: Option<(Arc<str>, Position)>,
    },
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, position: Position) -> Result<(), FileError> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.error(position, Problem::SecondDocument));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let text_bytes = text.len() as u64;
                self.spend(position, 1, text_bytes)?;
                let tag = self.tag(position, tag.as_deref())?;
                let plain = style == ScalarStyle::Plain;
                let content = Content::Scalar {
                    text: Arc::from(&*text),
                    plain,
                };
                self.node(
                    Node {
                        position,
                        tag,
                        content,
                        nodes: 1,
                        text_bytes,
                        depth: 0,
                    },
                    anchor,
                )?;
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.spend(position, node.nodes, node.text_bytes)?;
                    self.place(node, position)?;
                }
                None => return Err(self.error(position, Problem::AliasOfItself)),
            },
            Event::SequenceStart(_, anchor, tag) => {
                let tag = self.tag(position, tag.as_deref())?;
                self.open(position, tag, anchor, Collection::Sequence(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                let tag = self.tag(position, tag.as_deref())?;
                let collection = Collection::Mapping {
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: None,
                };
                self.open(position, tag, anchor, collection)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                // The parser balances starts and ends; an end without a start has nothing to close.
                if let Some(open) = self.open.pop() {
                    let content = match open.collection {
                        Collection::Sequence(items) => Content::Sequence(items),
                        Collection::Mapping { entries, .. } => Content::Mapping(entries),
                    };
                    let Open {
                        position,
                        tag,
                        nodes,
                        text_bytes,
                        depth,
                        ..
                    } = open;
                    self.node(
                        Node {
                            position,
                            tag,
                            content,
                            nodes,
                            text_bytes,
                            depth,
                        },
                        open.anchor,
                    )?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        position: Position,
        tag: Option<Tag>,
        anchor: usize,
        collection: Collection,
    ) -> Result<(), FileError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.error(position, Problem::TooDeep { limit: MAX_DEPTH }));
        }
        self.spend(position, 1, 0)?;
        self.open.push(Open {
            position,
            tag,
            anchor,
            nodes: 1,
            text_bytes: 0,
            depth: 1,
            collection,
        });
        Ok(())
    }

    /// A node is complete: remember it under its anchor and put it where it belongs.
    fn node(&mut self, node: Node, anchor: usize) -> Result<(), FileError> {
        let position = node.position;
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node, position)
    }

    fn place(&mut self, node: Arc<Node>, position: Position) -> Result<(), FileError> {
        let depth_above = self.open.len();
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        // What an alias stands for has been spent, so neither sum passes the budget.
        open.nodes += node.nodes;
        open.text_bytes += node.text_bytes;
        // An alias brings its whole subtree along, which the check at its opening has not seen
        // here.
        open.depth = open.depth.max(node.depth + 1);
        if depth_above + node.depth > MAX_DEPTH {
            return Err(self.error(position, Problem::TooDeep { limit: MAX_DEPTH }));
        }
        let problem = match &mut open.collection {
            Collection::Sequence(items) => {
                items.push(node);
                return Ok(());
            }
            Collection::Mapping { entries, seen, key } => match (key.take(), &node.content) {
                (Some((key, position)), _) => {
                    entries.push(Entry {
                        key,
                        position,
                        value: node,
                    });
                    return Ok(());
                }
                (None, Content::Scalar { text, plain }) => {
                    if *plain && &**text == "<<" {
                        Problem::MergeKey
                    } else if let Some(first) = seen.get(text) {
                        Problem::DuplicateKey {
                            key: text.clone(),
                            first: *first,
                        }
                    } else {
                        seen.insert(text.clone(), position);
                        *key = Some((text.clone(), position));
                        return Ok(());
                    }
                }
                (None, _) => Problem::KeyIsNoText,
            },
        };
        Err(self.error(position, problem))
    }

    fn tag(
        &self,
        position: Position,
        tag: Option<&granit_parser::Tag>,
    ) -> Result<Option<Tag>, FileError> {
        let Some(tag) = tag else { return Ok(None) };
        Ok(Some(match tag.core_suffix() {
            Some("str") => Tag::String,
            Some("bool") => Tag::Bool,
            Some("int") => Tag::Int,
            Some("float") => Tag::Float,
            Some("map") => Tag::Map,
            Some("seq") => Tag::List,
            _ => match &*tag.original() {
                "!" => Tag::String,
                "!duration" => Tag::Duration,
                "!map" => Tag::Map,
                _ => {
                    let key = self.key().map(Arc::from);
                    return Err(self.error(position, Problem::UnknownTag { key }));
                }
            },
        }))
    }

    /// The nearest key above what comes next.
    fn key(&self) -> Option<&str> {
        let mut above = self.open.iter().rev();
        above.find_map(|open| match &open.collection {
            Collection::Mapping { key, .. } => key.as_ref().map(|(key, _)| &**key),
            Collection::Sequence(_) => None,
        })
    }

    fn spend(&mut self, position: Position, nodes: u64, text_bytes: u64) -> Result<(), FileError> {
        let spent = self.budget.spend(nodes, text_bytes);
        spent.map_err(|problem| self.error(position, problem))
    }

    fn error(&self, position: Position, problem: Problem) -> FileError {
        FileError::new(self.path, position, problem)
    }
}
