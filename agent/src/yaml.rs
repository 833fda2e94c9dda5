//! Configuration files: YAML 1.2 in, settings with file and line out, or an error that says where and what to do.
//!
//! The text is parsed by `granit-parser` (the parser inside `serde-saphyr`), whose events carry line and column.
//! [`Document::parse`] turns them into a small tree, and [`assignments`] flattens that tree into settings.
//!
//! # Bounds
//!
//! A file is at most [`MAX_FILE_BYTES`] long, nests at most [`MAX_DEPTH`] deep and has at most [`MAX_NODES`] nodes
//! **with every alias written out**. Aliases share their target, so a small file that stands for billions of nodes is
//! refused without building them.

mod document;
mod error;
mod flatten;

pub use document::{Content, Document, MAX_DEPTH, MAX_NODES, Node, Position, Tag};
pub use error::{FileError, Problem};
pub use flatten::assignments;
pub(crate) use flatten::{lone_value, settings};

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The longest configuration file that is read.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a whole file, bounded, as UTF-8.
///
/// # Errors
///
/// The file cannot be read, is longer than [`MAX_FILE_BYTES`], or is not UTF-8.
pub fn read(path: &Path) -> Result<String, FileError> {
    let unreadable = |error: std::io::Error| {
        FileError::whole(
            path,
            Problem::Unreadable {
                kind: error.kind(),
                reason: error.to_string(),
            },
        )
    };
    // Before it is opened, since opening a pipe can wait for ever.
    let kind = fs::metadata(path).map_err(unreadable)?.file_type();
    if kind.is_dir() {
        return Err(FileError::whole(path, Problem::Directory));
    }
    if kind.is_fifo() || kind.is_socket() {
        return Err(FileError::whole(path, Problem::Pipe));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::whole(
            path,
            Problem::FileTooLong {
                limit_bytes: MAX_FILE_BYTES,
            },
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..valid];
        let line = before.split(|byte| *byte == b'\n').count();
        let column = valid
            - before
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |newline| newline + 1)
            + 1;
        FileError::new(path, Position { line, column }, Problem::NotUtf8)
    })
}
