//! A small file that is replaced in one step, for what has to survive a crash.
//!
//! The new content goes to a file beside it (`x` by way of `x.new`), which is synced and renamed over the old one; then
//! the directory is synced. A crash at any point leaves the old content or the new one, whole. Who is told that a write
//! has succeeded finds it after a power cut.
//!
//! A write that fails leaves the old content too, unless what failed is the last step: then the new one is there, and
//! perhaps only until the power goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use configstream_grpc::safe_file::{self, Demand, FileId, Removable, directory_of};

use crate::claim::Claim;

/// A point in a write at which a machine can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Created,
    Written,
    Synced,
    Renamed,
}

#[cfg(test)]
impl Step {
    pub(crate) const ALL: [Self; 4] = [Self::Created, Self::Written, Self::Synced, Self::Renamed];
}

/// Replaces a file, readable by its owner alone. Where that fails, the room that the new content took is free again.
///
/// With a claim, nothing is replaced in a directory on which it has been lost.
pub(crate) fn write(path: &Path, content: &[u8], claim: Option<&Claim>) -> io::Result<()> {
    write_by_steps(path, content, claim, &mut |_| Ok(()))
}

/// Where the new content is written first.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// The same; `reached` is told each step. In tests it fails there.
pub(crate) fn write_by_steps(
    path: &Path,
    content: &[u8],
    claim: Option<&Claim>,
    reached: &mut dyn FnMut(Step) -> io::Result<()>,
) -> io::Result<()> {
    let check = || claim.map_or(Ok(()), Claim::check);
    check()?;
    let new = beside(path);
    // One that was left behind, or a link that was put there: neither is written to.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = safe_file::create_new(&new)?;
    let written = Removable::at(&new)?;
    let mut replace = || {
        reached(Step::Created)?;
        file.write_all(content)?;
        reached(Step::Written)?;
        file.sync_all()?;
        reached(Step::Synced)?;
        // Syncing takes its time: another agent may have begun meanwhile.
        check()?;
        if !FileId::of(&file.metadata()?).is_at(&new)? {
            return Err(io::Error::other(
                "another process has replaced what was written",
            ));
        }
        fs::rename(&new, path)?;
        reached(Step::Renamed)
    };
    replace().inspect_err(|_| {
        // What failed says enough. In a directory that is another agent's, its own file stays.
        let _ = written.remove();
    })?;
    File::open(directory_of(path))?.sync_all()
}

/// Reads a file of our own, but no more than so many bytes and one; nothing if there is none.
pub(crate) fn read(path: &Path, most_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    match Demand::OWN.read(path, most_bytes) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lines of text with a last line by which damage shows: their CRC-32.
pub(crate) fn sealed(lines: &str) -> String {
    let checksum = crc32fast::hash(lines.as_bytes());
    format!("{lines}crc32 {checksum:08x}\n")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_crash_at_any_step_leaves_the_old_content_or_the_new_and_the_next_write_works() {
        for stop in Step::ALL {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("file");
            write(&path, b"old", None).unwrap();
            let failing = &mut |step| {
                if step == stop {
                    Err(io::Error::other("power cut"))
                } else {
                    Ok(())
                }
            };
            write_by_steps(&path, b"new and longer", None, failing).unwrap_err();
            let expected: &[u8] = if stop == Step::Renamed {
                b"new and longer"
            } else {
                b"old"
            };
            assert_eq!(fs::read(&path).unwrap(), expected, "{stop:?}");
            write(&path, b"next", None).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"next", "{stop:?}");
        }
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::create_dir(&path).unwrap();
        write(&path, b"it is a directory", None).unwrap_err();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_owner_can_read_it_whatever_was_left_behind() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let left = root.path().join("file.new");
        fs::write(&left, "a longer rest").unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o666)).unwrap();
        write(&path, b"x", None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    #[test]
    fn a_link_that_was_planted_is_replaced_and_what_it_leads_to_is_not_written() {
        let root = tempfile::tempdir().unwrap();
        let precious = root.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        let path = root.path().join("file");
        symlink(&precious, root.path().join("file.new")).unwrap();
        symlink(&precious, &path).unwrap();
        read(&path, 100).unwrap_err();
        write(&path, b"ours", None).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert_eq!(read(&path, 100).unwrap().unwrap(), b"ours");
    }

    #[test]
    fn nothing_is_replaced_once_the_claim_is_lost_not_even_by_a_write_under_way() {
        let root = tempfile::tempdir().unwrap();
        let (path, lock) = (root.path().join("file"), root.path().join("lock"));
        for stop in Step::ALL {
            let locked = File::create(&lock).unwrap();
            let claim = Claim::by(&lock, &locked).unwrap();
            write(&path, b"old", Some(&claim)).unwrap();
            // Another agent takes over, and is about to write, too.
            let mut take_over = |step| {
                if step == stop {
                    fs::remove_file(&lock)?;
                    fs::write(&lock, "")?;
                    if step != Step::Renamed {
                        fs::remove_file(root.path().join("file.new"))?;
                        fs::write(root.path().join("file.new"), "the other's")?;
                    }
                }
                Ok(())
            };
            let done = write_by_steps(&path, b"new", Some(&claim), &mut take_over);
            if stop == Step::Renamed {
                done.unwrap();
                assert_eq!(fs::read(&path).unwrap(), b"new");
            } else {
                let error = done.unwrap_err();
                assert!(error.to_string().contains("another agent"), "{error}");
                assert_eq!(fs::read(&path).unwrap(), b"old", "{stop:?}");
                let others = fs::read(root.path().join("file.new")).unwrap();
                assert_eq!(others, b"the other's", "{stop:?}");
            }
            write(&path, b"late", Some(&claim)).unwrap_err();
            assert_ne!(fs::read(&path).unwrap(), b"late");
        }
    }
}
