//! What a source can say about where a value came from.

use std::{fmt, time::SystemTime};

use crate::sync::Arc;

/// Where exactly a value came from, for people. It stays in its layer: it is explained, never streamed.
///
/// # Examples
///
/// ```
/// use configstream_engine::settings::Provenance;
///
/// assert_eq!(Provenance::file("agent.yaml", 12).to_string(), "agent.yaml:12");
/// assert_eq!(Provenance::environment("DD_SITE").to_string(), "variable DD_SITE");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provenance {
    /// A line of a file.
    File {
        /// The file as the source knows it.
        path: Arc<str>,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        variable: Arc<str>,
    },
    /// An argument of the command line.
    CommandLine,
    /// A change at run time.
    Runtime {
        /// Who asked for it.
        who: Arc<str>,
        /// When that was, if it was told.
        when: Option<SystemTime>,
    },
    /// A line of the configuration that the program carries inside.
    Embedded {
        /// Counted from 1.
        line: usize,
    },
}

impl Provenance {
    /// A line of a file, counted from 1.
    #[must_use]
    pub fn file(path: impl Into<Arc<str>>, line: usize) -> Self {
        Self::File {
            path: path.into(),
            line,
        }
    }

    /// A variable of the environment.
    #[must_use]
    pub fn environment(variable: impl Into<Arc<str>>) -> Self {
        Self::Environment {
            variable: variable.into(),
        }
    }

    /// A change at run time, and who asked for it.
    #[must_use]
    pub fn runtime(who: impl Into<Arc<str>>) -> Self {
        Self::Runtime {
            who: who.into(),
            when: None,
        }
    }

    /// A change at run time, who asked for it, and when.
    #[must_use]
    pub fn runtime_at(who: impl Into<Arc<str>>, when: SystemTime) -> Self {
        Self::Runtime {
            who: who.into(),
            when: Some(when),
        }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment { variable } => write!(f, "variable {variable}"),
            Self::CommandLine => f.write_str("command line"),
            Self::Runtime { who, .. } => write!(f, "at run time by {who}"),
            Self::Embedded { line } => write!(f, "built in, line {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provenance_reads_well() {
        for (provenance, text) in [
            (Provenance::file("/etc/agent.yaml", 3), "/etc/agent.yaml:3"),
            (Provenance::environment("DD_X"), "variable DD_X"),
            (Provenance::CommandLine, "command line"),
            (Provenance::runtime("root"), "at run time by root"),
            (
                Provenance::runtime_at("root", SystemTime::UNIX_EPOCH),
                "at run time by root",
            ),
            (Provenance::Embedded { line: 7 }, "built in, line 7"),
        ] {
            assert_eq!(provenance.to_string(), text);
        }
    }

    #[test]
    fn a_setting_pays_for_a_file_and_a_line_and_nothing_more() {
        let file_and_line = size_of::<(Arc<str>, usize)>();
        let tag = size_of::<usize>();
        assert!(size_of::<Option<Provenance>>() <= file_and_line + tag);
    }
}
