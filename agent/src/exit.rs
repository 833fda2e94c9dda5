//! How the programs end: exit codes, and errors in three parts.
//!
//! | code | name | means |
//! | --- | --- | --- |
//! | 0 | | all went well |
//! | 1 | [`Failed`](Exit::Failed) | something failed that has no code of its own; for `config-stream-client`, the verdict "not good" |
//! | 2 | [`Usage`](Exit::Usage) | the command line is wrong |
//! | 3 | [`Configuration`](Exit::Configuration) | a configuration file, an environment variable or a `--set` is wrong |
//! | 4 | [`RunDir`](Exit::RunDir) | the run directory cannot be used |
//! | 5 | [`Running`](Exit::Running) | another agent runs in this run directory |
//! | 6 | [`Credentials`](Exit::Credentials) | certificate or token are missing, damaged, or open to others; or the agent at the address has another certificate |
//! | 7 | [`Sequence`](Exit::Sequence) | the saved sequence is damaged or cannot be written |
//! | 8 | [`Listen`](Exit::Listen) | an address is in use or cannot be listened on |
//! | 9 | [`Unreachable`](Exit::Unreachable) | no agent answers at the address |
//! | 10 | [`Refused`](Exit::Refused) | the agent answered, and refused |
//! | 11 | [`NotFound`](Exit::NotFound) | the setting asked for does not exist |
//! | 12 | [`Behind`](Exit::Behind) | the change is made, but not every stream has been handed it in time |
//! | 13 | [`Conflict`](Exit::Conflict) | the change is not made: something has changed that it was made for |
//! | 14 | [`Exists`](Exit::Exists) | what should be written is there already, and stays as it is |

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::narration::say;

/// Why a program ends, other than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Exit {
    /// Something failed that has no code of its own.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A configuration file, an environment variable or a `--set` is wrong.
    Configuration = 3,
    /// The run directory cannot be used.
    RunDir = 4,
    /// Another agent runs in this run directory.
    Running = 5,
    /// Certificate or token are missing, damaged, or open to others; or the agent at the address
    /// has another certificate.
    Credentials = 6,
    /// The saved sequence is damaged or cannot be written.
    Sequence = 7,
    /// An address is in use or cannot be listened on.
    Listen = 8,
    /// No agent answers at the address.
    Unreachable = 9,
    /// The agent answered, and refused.
    Refused = 10,
    /// The setting asked for does not exist.
    NotFound = 11,
    /// The change is made, but not every stream has been handed it in time.
    Behind = 12,
    /// The change is not made: something has changed that it was made for.
    Conflict = 13,
    /// What should be written is there already, and stays as it is.
    Exists = 14,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error for the person at the terminal: what could not be done, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    what: String,
    why: String,
    mend: String,
}

impl Failure {
    /// Puts the three parts together.
    pub fn new(
        exit: Exit,
        what: impl Into<String>,
        why: impl fmt::Display,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            what: what.into(),
            why: why.to_string(),
            mend: mend.into(),
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The error in a line: what, why, and what to do.
    #[must_use]
    pub(crate) fn line(&self) -> String {
        let parts = [": ", &self.why, "; ", &self.mend];
        let shown = parts.chunks(2).filter(|part| !part[1].is_empty());
        shown
            .flatten()
            .fold(self.what.clone(), |line, part| line + part)
    }

    /// Writes the error into the log, for programs that read it.
    pub fn log(&self) {
        let Self { why, mend, .. } = self;
        tracing::error!(
            exit_code = self.exit as u8,
            why,
            to_do = mend,
            "{}",
            self.what
        );
    }

    /// Prints the error the way every program of ours does, and gives the exit code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        say(format_args!("error: {self}"));
        self.exit.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.what)?;
        if !self.why.is_empty() {
            write!(formatter, "\n  why: {}", self.why)?;
        }
        if !self.mend.is_empty() {
            write!(formatter, "\n  to do: {}", self.mend)?;
        }
        Ok(())
    }
}

impl Error for Failure {}
