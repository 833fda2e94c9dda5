//! The run directory: where an agent keeps its certificate, its token and its saved sequence, and where clients find
//! them.
//!
//! No other user may write there: it is refused if one can, and each file in it is opened with the
//! checks of [`safe_file`](configstream_grpc::safe_file).
//!
//! Unless told otherwise it is `$XDG_STATE_HOME/configstream`, or `~/.local/state/configstream`. It is created with
//! mode 0700 on first start. One agent at a time uses it, which a lock on `configstream.lock` sees to; the system
//! releases the lock when the agent ends, however it ends.

use std::env;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use configstream_grpc::safe_file::{Demand, OpenError, check_directory};

use crate::atomic_file;
use crate::claim::{Claim, ClaimLost};
use crate::exit::{Exit, Failure};

/// The environment variable that names the directory, where `--run-dir` does not.
pub const RUN_DIR: &str = "CONFIGSTREAM_RUN_DIR";

/// A directory for what one agent keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The directory asked for, or else the user's own. Nothing is created.
    ///
    /// # Errors
    ///
    /// An empty one was asked for; or none was, and neither `XDG_STATE_HOME` nor `HOME` says where the user's is.
    pub fn locate(asked: Option<&Path>) -> Result<Self, Failure> {
        if asked.is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(nameless(
                env::var_os(RUN_DIR).is_some_and(|it| it.is_empty()),
            ));
        }
        Self::locate_in(asked, env::var_os("XDG_STATE_HOME"), env::var_os("HOME"))
    }

    fn locate_in(
        asked: Option<&Path>,
        state_home: Option<OsString>,
        home: Option<OsString>,
    ) -> Result<Self, Failure> {
        let absolute =
            |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
        let path = match (asked, absolute(state_home), absolute(home)) {
            (Some(path), ..) => path.to_owned(),
            (None, Some(state), _) => state.join("configstream"),
            (None, None, Some(home)) => home.join(".local/state/configstream"),
            (None, None, None) => {
                return Err(Failure::new(
                    Exit::RunDir,
                    "there is no place for certificate, token and sequence",
                    "neither XDG_STATE_HOME nor HOME is set to an absolute path",
                    "give one with --run-dir DIR",
                ));
            }
        };
        Ok(Self { path })
    }

    /// Creates the directory if it is missing. Of a directory that was asked for, its parent must exist: a slip in a
    /// path should not leave a tree of directories behind.
    ///
    /// # Errors
    ///
    /// It is not there and cannot be created, it is no directory, it belongs to another user, or
    /// other users may write it.
    pub fn create(&self, asked: bool) -> Result<(), Failure> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(!asked);
        let failure = |why: &dyn std::fmt::Display, mend: &str| {
            Failure::new(
                Exit::RunDir,
                format!("cannot use the run directory {}", self.path.display()),
                why,
                mend,
            )
        };
        match builder.create(&self.path) {
            Ok(()) => self.check(false),
            Err(_) if self.path.is_dir() => self.check(false),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::AlreadyExists => failure(
                    &"it is not a directory",
                    "name another with --run-dir, or remove the file",
                ),
                io::ErrorKind::NotFound => failure(
                    &format_args!("the directory above it does not exist ({error})"),
                    &format!("create it with: mkdir -p {}", self.path.display()),
                ),
                _ => failure(&error, &mend_write(&error)),
            }),
        }
    }

    /// Checks that no other user can put files there, or the directory of another user there;
    /// `of_others`: than the one whose directory it is.
    ///
    /// # Errors
    ///
    /// Other users can, or it cannot be told.
    pub fn check(&self, of_others: bool) -> Result<(), Failure> {
        check_directory(&self.path, of_others).map_err(|error| {
            let path = self.path.display();
            let mend = match &error {
                OpenError::WritableByOthers { .. } => format!(
                    "if no other user was here: chmod 700 {path}; else remove it, so that the agent makes a new one"
                ),
                OpenError::OwnedByAnother { .. } => {
                    "run as the user that it belongs to, or name a directory of this user's with --run-dir".to_owned()
                }
                other => other.hint().unwrap_or_else(|| {
                    "make it readable for this user, or name another with --run-dir".to_owned()
                }),
            };
            Failure::new(
                Exit::RunDir,
                format!("cannot use the run directory {path}"),
                error,
                mend,
            )
        })
    }

    /// Claims the directory for this process, for as long as the returned lock lives.
    ///
    /// # Errors
    ///
    /// Another agent runs here, or the lock file cannot be written.
    pub fn lock(&self) -> Result<RunDirLock, Failure> {
        let path = self.lock_file();
        let unusable = |error: io::Error| {
            Failure::new(
                Exit::RunDir,
                format!("cannot lock the run directory {}", self.path.display()),
                format_args!("{}: {error}", path.display()),
                mend_write(&error),
            )
        };
        let mut options = File::options();
        options.read(true).write(true).create(true).mode(0o600);
        let mut file = Demand::OWN
            .open_with(&path, &mut options)
            .map_err(|error| unusable(error.into()))?;
        // `configstream doctor` looks at the lock for an instant; an agent keeps it.
        let mut tries = 0;
        let locked = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if tries < 3 => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                locked => break locked,
            }
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = name_holder(file);
                return Err(Failure::new(
                    Exit::Running,
                    format!("another agent runs in {}", self.path.display()),
                    format_args!("{holder} holds {}", path.display()),
                    "stop it first, or give this one a directory of its own with --run-dir",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(unusable)?;
        let claim = Claim::by(&path, &file).map_err(unusable)?;
        Ok(RunDirLock { _file: file, claim })
    }

    /// Which process runs an agent here, if one does.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        let file = Demand::KEPT.open(&self.lock_file()).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(name_holder(file)),
            _ => None,
        }
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join("configstream.lock")
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the certificate and its key are.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path.join("ipc_cert.pem")
    }

    /// Where the token is.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.path.join("auth_token")
    }

    /// Where the saved sequence is.
    #[must_use]
    pub fn sequence(&self) -> PathBuf {
        self.path.join("sequence")
    }

    /// Where the changes are that survive a restart.
    #[must_use]
    pub fn persisted(&self) -> PathBuf {
        self.path.join("persisted")
    }

    /// Where a running agent writes the address it listens on, so that the other verbs find it.
    #[must_use]
    pub fn address(&self) -> PathBuf {
        self.path.join("address")
    }

    /// Says where a running agent listens; for [`RunDir::announced_address`].
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn announce_address(&self, address: &str, claim: &Claim) -> io::Result<()> {
        let line = format!("{address}\n");
        atomic_file::write(&self.address(), line.as_bytes(), Some(claim))
    }

    /// The address that the last agent to start here listens on.
    #[must_use]
    pub fn announced_address(&self) -> Option<String> {
        let bytes = Demand::KEPT.read(&self.address(), 4096).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// What to do where a file of a run directory cannot be written.
pub(crate) fn mend_write(error: &io::Error) -> String {
    if let Some(hint) = OpenError::hint_of(error) {
        return hint;
    }
    if let Some(mend) = ClaimLost::mend(error) {
        return mend.to_owned();
    }
    let mend = match error.kind() {
        io::ErrorKind::NotFound => {
            "the run directory is gone: restart the agent, which makes a new one"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk, or name another run directory with --run-dir"
        }
        io::ErrorKind::FileTooLarge => "raise the limit of file sizes (ulimit -f, LimitFSIZE=)",
        _ => "make the run directory writable for this user, or name another with --run-dir",
    };
    mend.to_owned()
}

/// The failure for a run directory that is asked for without a name. To take the user's own instead could reach another
/// agent than the one that was meant.
fn nameless(by_variable: bool) -> Failure {
    let (what, mend) = if by_variable {
        (
            format!("the environment variable {RUN_DIR}"),
            "name a directory there or with --run-dir DIR; or unset it, for your own",
        )
    } else {
        (
            "--run-dir".to_owned(),
            "name a directory; or leave it out, for your own",
        )
    };
    let why = format_args!("{what} is empty");
    Failure::new(
        Exit::Usage,
        "cannot tell which run directory is meant",
        why,
        mend,
    )
}

/// Who has written itself into a lock file; for messages.
fn name_holder(file: File) -> String {
    let mut holder = String::new();
    // A few digits at most.
    let _ = file.take(20).read_to_string(&mut holder);
    holder.trim().parse::<u32>().map_or_else(
        |_| "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

/// The claim on a run directory. Dropping it, or the end of the process, gives the directory free.
#[derive(Debug)]
#[must_use = "dropping the lock lets another agent use the run directory"]
pub struct RunDirLock {
    _file: File,
    claim: Claim,
}

impl RunDirLock {
    /// What the lock entitles to.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        &self.claim
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_directory_asked_for_wins() {
        let located = |asked, state: Option<&str>, home: Option<&str>| {
            RunDir::locate_in(asked, state.map(OsString::from), home.map(OsString::from))
                .map(|dir| dir.path)
        };
        let asked = Path::new("here");
        assert_eq!(
            located(Some(asked), Some("/state"), Some("/home/u")),
            Ok("here".into())
        );
        assert_eq!(
            located(None, Some("/state"), Some("/home/u")),
            Ok("/state/configstream".into())
        );
        assert_eq!(
            located(None, None, Some("/home/u")),
            Ok("/home/u/.local/state/configstream".into())
        );
        assert_eq!(
            located(None, Some("relative"), Some("/home/u")),
            Ok("/home/u/.local/state/configstream".into())
        );
        let error = located(None, None, None).unwrap_err();
        assert_eq!(error.exit(), Exit::RunDir);
        assert!(error.to_string().contains("--run-dir"), "{error}");
    }

    #[test]
    fn a_missing_parent_is_an_error_with_the_mend() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir {
            path: root.path().join("a/b"),
        };
        let error = dir.create(true).unwrap_err().to_string();
        assert!(
            error.contains("does not exist") && error.contains("mkdir -p"),
            "{error}"
        );
        dir.create(false).unwrap();
        dir.create(true).unwrap();
        assert_eq!(
            fs::metadata(&dir.path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        fs::write(root.path().join("file"), "").unwrap();
        let error = RunDir {
            path: root.path().join("file"),
        }
        .create(true)
        .unwrap_err()
        .to_string();
        assert!(error.contains("not a directory"), "{error}");
    }

    #[test]
    fn what_to_do_about_a_full_disk_is_to_make_room() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(mend_write(&kind.into()).starts_with("make room on the disk"));
        }
        let closed = io::ErrorKind::PermissionDenied.into();
        assert!(mend_write(&closed).starts_with("make the run directory writable"));
        let gone = io::ErrorKind::NotFound.into();
        assert!(mend_write(&gone).starts_with("the run directory is gone: restart"));
    }

    #[test]
    fn a_second_agent_is_told_who_is_there() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir {
            path: root.path().to_owned(),
        };
        let lock = dir.lock().unwrap();
        let error = dir.lock().unwrap_err();
        assert_eq!(error.exit(), Exit::Running);
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(lock);
        drop(dir.lock().unwrap());
    }
}
