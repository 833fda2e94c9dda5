//! Opening a file that another user may have put there.
//!
//! A path says nothing about what it leads to: a named pipe would be waited at for ever, a symbolic
//! link would lead a write elsewhere, and a file of another user holds what that user likes. So a
//! file is opened without waiting, and what was opened is looked at before anything is read or
//! written: its type always, and its owner and mode as far as a [`Demand`] says. Looking before
//! opening would prove nothing, since the path can lead elsewhere a moment later.
//!
//! Every file is opened here that a user other than this process's can reach.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// What a file must be, beside a regular one.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    follows_links: bool,
    owners: Owners,
    /// Permissions that no other user may have.
    denied: u32,
}

#[derive(Clone, Copy, Debug)]
enum Owners {
    Any,
    /// This user, root, and the owner of the directory: these can put a file there anyway.
    WithDirectory,
    UserOrRoot,
}

impl Demand {
    /// A regular file, of any owner and mode, links followed: for a configuration file, which an
    /// operator names.
    pub const REGULAR: Self = Self {
        follows_links: true,
        owners: Owners::Any,
        denied: 0,
    };

    /// One that only this user, root, and the owner of its directory can have written. Links are
    /// followed, as volumes of Kubernetes consist of them: for credentials that an operator names.
    pub const TRUSTED: Self = Self {
        follows_links: true,
        owners: Owners::WithDirectory,
        denied: WRITE,
    };

    /// The same, and no other user can read it: for a secret that an operator names.
    pub const TRUSTED_SECRET: Self = Self {
        denied: READ | WRITE | EXECUTE,
        ..Self::TRUSTED
    };

    /// As [`TRUSTED`](Self::TRUSTED), and no link: for a file of a run directory.
    pub const KEPT: Self = Self {
        follows_links: false,
        ..Self::TRUSTED
    };

    /// As [`TRUSTED_SECRET`](Self::TRUSTED_SECRET), and no link: for a secret of a run directory.
    pub const KEPT_SECRET: Self = Self {
        follows_links: false,
        ..Self::TRUSTED_SECRET
    };

    /// One that only this user and root can have written, and no link.
    pub const OWN: Self = Self {
        follows_links: false,
        owners: Owners::UserOrRoot,
        denied: WRITE,
    };

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or it is not what is demanded.
    pub fn open(self, path: &Path) -> Result<File, OpenError> {
        self.open_with(path, File::options().read(true))
    }

    /// Opens a file with other options than for reading alone. It must not be emptied by them: it
    /// has not been checked then.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or it is not what is demanded.
    pub fn open_with(self, path: &Path, options: &mut OpenOptions) -> Result<File, OpenError> {
        let mut flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        if !self.follows_links {
            flags |= OFlag::O_NOFOLLOW;
        }
        let file = options
            .custom_flags(flags.bits())
            .open(path)
            .map_err(|error| self.explain(path, error))?;
        self.check(path, &file.metadata()?)?;
        Ok(file)
    }

    /// Reads a file, but no more than `limit` bytes of it; one byte more tells that there are more.
    ///
    /// # Errors
    ///
    /// It cannot be opened or read, or it is not what is demanded.
    pub fn read(self, path: &Path, limit: u64) -> Result<Vec<u8>, OpenError> {
        let mut bytes = Vec::new();
        self.open(path)?
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn check(self, path: &Path, found: &Metadata) -> Result<(), OpenError> {
        let user = geteuid().as_raw();
        if !found.is_file() {
            return Err(OpenError::NotAFile(kind(found)));
        }
        let is_trusted = match self.owners {
            Owners::Any => true,
            Owners::UserOrRoot => is_user_or_root(found.uid(), user),
            Owners::WithDirectory => {
                is_user_or_root(found.uid(), user)
                    || directory_of(path).metadata()?.uid() == found.uid()
            }
        };
        if !is_trusted {
            let owner = found.uid();
            return Err(OpenError::OwnedByAnother { owner, user });
        }
        check_mode(found.mode(), self.denied)
    }

    /// What an error of opening means: which depends on what is there, so it is a guess, for
    /// people.
    fn explain(self, path: &Path, error: io::Error) -> OpenError {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ELOOP) if !self.follows_links => OpenError::SymbolicLink,
            // A socket cannot even be opened, nor a pipe for writing that has no reader.
            Some(Errno::ENXIO) => OpenError::NotAFile(match path.symlink_metadata() {
                Ok(found) => kind(&found),
                Err(_) => "something else",
            }),
            _ => OpenError::Io(error),
        }
    }
}

/// Creates a file that only this user can read or write. Nothing may be there, not even a link to
/// nothing.
///
/// # Errors
///
/// Something is there, or it cannot be created.
pub fn create_new(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Checks that a directory is one in which only this user and root can create, rename and remove
/// files: what is in it, and what is put there, is theirs. With `of_others`, it may be the
/// directory of one other user.
///
/// The directories above it are looked at too: one that all users may write must have its sticky
/// bit set, as `/tmp` has, or they could put another directory in the place of this one. Their
/// owners are trusted.
///
/// # Errors
///
/// It is not so, or it cannot be told.
pub fn check_directory(path: &Path, of_others: bool) -> Result<(), OpenError> {
    let path = path.canonicalize()?;
    let found = path.metadata()?;
    let (owner, user) = (found.uid(), geteuid().as_raw());
    if !found.is_dir() {
        return Err(OpenError::NotADirectory);
    }
    if !of_others && !is_user_or_root(owner, user) {
        return Err(OpenError::OwnedByAnother { owner, user });
    }
    check_mode(found.mode(), WRITE)?;
    for above in path.ancestors().skip(1) {
        let mode = above.metadata()?.mode();
        if mode & STICKY == 0 && mode & WRITE & OTHERS != 0 {
            return Err(OpenError::Replaceable(above.to_owned()));
        }
    }
    Ok(())
}

/// Which file a path has led to: its device and its inode. While a process has the file open, no
/// other gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that this was learned of.
    #[must_use]
    pub fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }

    /// Whether a path leads to it now. No link is followed.
    ///
    /// # Errors
    ///
    /// It cannot be told. That nothing is there is no error.
    pub fn is_at(self, path: &Path) -> io::Result<bool> {
        match path.symlink_metadata() {
            Ok(found) => Ok(Self::of(&found) == self),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A file, such as a socket, that is to be removed later, and only if the path still leads to it
/// then.
#[derive(Debug)]
pub struct Removable {
    path: PathBuf,
    id: FileId,
    /// Not to be read: while it is open, its inode is not used again.
    _pinned: File,
}

impl Removable {
    /// Whatever is at a path now, a link included.
    ///
    /// # Errors
    ///
    /// Nothing is there, or the system does not tell what.
    pub fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let pinned = File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(path)?;
        Ok(Self {
            path: path.to_owned(),
            id: FileId::of(&pinned.metadata()?),
            _pinned: pinned,
        })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, unless something else is at its path. What comes there between the look and the
    /// removal is removed all the same: no system call does both at once.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        if self.id.is_at(&self.path)? {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// Why a file is not opened, or a directory not used.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The system does not let it be opened or read.
    Io(io::Error),
    /// It is a symbolic link: the user who placed it there would choose what is read or written.
    SymbolicLink,
    /// It is something else than a regular file; what.
    NotAFile(&'static str),
    /// It is something else than a directory.
    NotADirectory,
    /// It belongs to a user who is not trusted with it.
    OwnedByAnother {
        /// Its owner.
        owner: u32,
        /// The user that this process runs as.
        user: u32,
    },
    /// Others than its owner may write it.
    WritableByOthers {
        /// Its mode.
        mode: u32,
    },
    /// Others than its owner may read it, and know the secret in it.
    ReadableByOthers {
        /// Its mode.
        mode: u32,
    },
    /// It lies in this directory, which all users may write, and where they may replace it.
    Replaceable(PathBuf),
}

impl OpenError {
    /// Whether nothing is there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// What to do about it; `None` where the system's error says what is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io(_) => return None,
            Self::SymbolicLink => "remove the link, or put the file itself there".to_owned(),
            Self::NotAFile(_) | Self::NotADirectory => "remove it, or name another".to_owned(),
            Self::OwnedByAnother { user, .. } => format!(
                "run as the user that it belongs to; or remove it; or, if its content is to be trusted: chown {user}"
            ),
            Self::WritableByOthers { .. } => {
                "remove what others may have put there, then let only its owner write: chmod go-w"
                    .to_owned()
            }
            Self::ReadableByOthers { .. } => {
                "remove it, so that a new one is made; or, if no other user was here: chmod 600"
                    .to_owned()
            }
            Self::Replaceable(above) => format!(
                "choose a place that only its owner can change; or set the sticky bit: chmod +t {}",
                above.display()
            ),
        })
    }

    /// What [`hint`](Self::hint) says of an error that was made of one of these.
    #[must_use]
    pub fn hint_of(error: &io::Error) -> Option<String> {
        error.get_ref()?.downcast_ref::<Self>()?.hint()
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::SymbolicLink => f.write_str("it is a symbolic link, which is not followed"),
            Self::NotAFile(kind) => write!(f, "it is {kind}, not a regular file"),
            Self::NotADirectory => f.write_str("it is not a directory"),
            Self::OwnedByAnother { owner, user } => write!(
                f,
                "it belongs to user {owner}, and this process runs as user {user}"
            ),
            Self::WritableByOthers { mode } => {
                write!(f, "its mode is {mode:04o}, so other users may write there")
            }
            Self::ReadableByOthers { mode } => write!(
                f,
                "its mode is {mode:04o}, so other users may know the secret in it"
            ),
            Self::Replaceable(above) => write!(
                f,
                "all users may write {}, and put something else in its place",
                above.display()
            ),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidInput, other),
        }
    }
}

fn is_user_or_root(owner: u32, user: u32) -> bool {
    owner == user || owner == ROOT
}

fn check_mode(mode: u32, denied: u32) -> Result<(), OpenError> {
    let mode = mode & 0o777;
    if mode & denied & WRITE != 0 {
        Err(OpenError::WritableByOthers { mode })
    } else if mode & denied != 0 {
        Err(OpenError::ReadableByOthers { mode })
    } else {
        Ok(())
    }
}

/// The directory in which a path has its last part.
pub fn directory_of(path: &Path) -> &Path {
    let parent = path.parent();
    parent
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn kind(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

const ROOT: u32 = 0;
const READ: u32 = 0o044;
const WRITE: u32 = 0o022;
const EXECUTE: u32 = 0o011;
const OTHERS: u32 = 0o007;
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests;
