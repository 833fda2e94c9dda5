//! Why changes do not persist, and what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use configstream_engine::settings::Source;
use configstream_grpc::safe_file::OpenError;

use super::{MAX_BYTES, MAX_CHANGES, MAX_VALUES};
use crate::run_dir::mend_write;

/// Why a change cannot persist, or why those that did cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum PersistError {
    /// The file is there but cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is there but is not what was written.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file cannot be written.
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
        /// Whether the change may be in the file all the same.
        uncertain: bool,
    },
    /// As many changes persist as can.
    TooMany,
    /// The file would be too long.
    TooLong,
    /// Its lists and maps would hold too many values.
    TooManyValues,
    /// The layer is filled from elsewhere at each start.
    Layer(Source),
    /// A layer as a whole was to persist.
    WholeLayer(Source),
}

impl PersistError {
    /// What to do about it.
    #[must_use]
    pub fn mend(&self) -> String {
        match self {
            Self::Unreadable { error, .. } => OpenError::hint_of(error)
                .unwrap_or_else(|| "let this user read and write it".to_owned()),
            Self::Corrupt { path, .. } => format!(
                "restore it from a backup, or remove it (rm {}): what persisted is then gone, and has to be set again",
                path.display()
            ),
            Self::Unwritable { error, .. } => {
                format!("{}; or do without --persist", mend_write(error))
            }
            Self::TooMany | Self::TooLong | Self::TooManyValues => {
                "put some of them into a configuration file, and unset them with --persist"
                    .to_owned()
            }
            Self::Layer(_) | Self::WholeLayer(_) => format!(
                "set it in {}, or change it where the layer comes from",
                Source::AgentRuntime
            ),
        }
    }
}

impl fmt::Display for PersistError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(
                    formatter,
                    "cannot read the persisted changes {}: {error}",
                    path.display()
                )
            }
            Self::Corrupt { path, why } => {
                write!(
                    formatter,
                    "the file of persisted changes {} is damaged: {why}",
                    path.display()
                )
            }
            Self::Unwritable {
                path,
                error,
                uncertain,
            } => {
                write!(
                    formatter,
                    "cannot write the persisted changes {}: {error}",
                    path.display()
                )?;
                formatter.write_str(if *uncertain {
                    " (a restart may find the change all the same)"
                } else {
                    ""
                })
            }
            Self::TooMany => write!(formatter, "{MAX_CHANGES} changes persist already"),
            Self::TooLong => write!(formatter, "all that persists may take {MAX_BYTES} bytes"),
            Self::TooManyValues => write!(
                formatter,
                "all that persists may hold {MAX_VALUES} values, those of lists and maps included"
            ),
            Self::Layer(source) => {
                write!(
                    formatter,
                    "a change of {source} cannot persist: each start fills that layer anew"
                )
            }
            Self::WholeLayer(source) => {
                write!(
                    formatter,
                    "{source} as a whole cannot persist, only single settings"
                )
            }
        }
    }
}

impl Error for PersistError {}
