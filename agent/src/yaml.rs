//! Configuration files: YAML 1.2 in, settings with file and line out, or an error that says where and what to do.
//!
//! The text is parsed by `granit-parser` (the parser inside `serde-saphyr`), whose events carry line and column.
//! [`Document::parse`] turns them into a small tree, and [`assignments`] flattens that tree into settings.
//!
//! # Bounds
//!
//! A file is at most [`MAX_FILE_BYTES`] long and nests at most [`MAX_DEPTH`] deep. All that is read
//! for one purpose, such as the files of one reload, shares one [`Budget`] of [`MAX_NODES`] and
//! [`MAX_TEXT_BYTES`], counted **with every alias written out**. Aliases share their target, so
//! small files that stand for billions of nodes are refused without building them.

mod budget;
mod document;
mod error;
mod flatten;

pub use budget::{Budget, MAX_NODES, MAX_TEXT_BYTES};
pub use document::{Content, Document, MAX_DEPTH, Node, Position, Tag};
pub use error::{FileError, Problem};
pub(crate) use flatten::{Typed, lone_value, settings, settings_and_nulls};
pub use flatten::{assignments, assignments_within};

use std::io::Read;
use std::path::Path;

use configstream_grpc::safe_file::{Demand, OpenError};

/// The longest configuration file that is read.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a whole file, bounded, as UTF-8.
///
/// # Errors
///
/// The file cannot be read, is longer than [`MAX_FILE_BYTES`], or is not UTF-8.
pub fn read(path: &Path) -> Result<String, FileError> {
    let file = Demand::REGULAR.open(path).map_err(|error| match error {
        OpenError::Io(error) => unreadable(path, &error),
        _ if path.is_dir() => FileError::whole(path, Problem::Directory),
        OpenError::NotAFile(kind) => FileError::whole(path, Problem::NotAFile(kind)),
        other => unreadable(path, &other.into()),
    })?;
    read_from(path, file)
}

/// Reads all of `file`, bounded, as UTF-8. `path` is for the errors only.
pub(crate) fn read_from(path: &Path, file: impl Read) -> Result<String, FileError> {
    let unreadable = |error| unreadable(path, &error);
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

fn unreadable(path: &Path, error: &std::io::Error) -> FileError {
    FileError::whole(
        path,
        Problem::Unreadable {
            kind: error.kind(),
            reason: error.to_string(),
        },
    )
}
