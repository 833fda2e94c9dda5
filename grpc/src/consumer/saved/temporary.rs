//! What a snapshot is written to before it takes the place of the last one.
//!
//! Who is killed while it writes leaves such a file behind, and the next process removes it. It knows the file by its name,
//! and that nobody writes it any more by its lock, which the system lets go with the process that held it. Where a file
//! system has no locks, nothing is removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;
use tempfile::NamedTempFile;

use crate::safe_file::Demand;

/// A new file in `dir`, of mode 0600, that nobody sweeps. It is removed when it is dropped.
pub(super) fn create(dir: &Path) -> io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .rand_bytes(RANDOM_BYTES)
            .tempfile_in(dir)?;
        // Refused where there are no locks, and so to who sweeps.
        let _ = file.as_file().lock();
        // Who sweeps may have been quicker. From now on it is not.
        if file.as_file().metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// Removes from `dir` what nobody writes any more. What cannot be removed stays: it is in nobody's way.
pub(super) fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name())
            && let Ok(true) = remove_abandoned(&entry.path())
        {
            tracing::info!(
                path = %entry.path().display(),
                "removed what a process left that was killed while it saved the configuration"
            );
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes().strip_prefix(PREFIX.as_bytes());
    let random = name.and_then(|name| name.strip_suffix(SUFFIX.as_bytes()));
    random.is_some_and(|random| {
        random.len() == RANDOM_BYTES && random.iter().all(u8::is_ascii_alphanumeric)
    })
}

/// Whether it was a file of this user's that nobody has locked.
fn remove_abandoned(path: &Path) -> io::Result<bool> {
    // For writing: over a network, a lock needs that.
    let file = Demand::OWN.open_with(path, File::options().write(true))?;
    if file.metadata()?.uid() != geteuid().as_raw() || file.try_lock().is_err() {
        return Ok(false);
    }
    // The lock is held until it is gone, so that its writer, if it has just been created, sees that.
    fs::remove_file(path)?;
    Ok(true)
}

const PREFIX: &str = ".configstream-saved-";
const SUFFIX: &str = ".tmp";
const RANDOM_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::env;
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::{chown, symlink};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Sweeps until only these are left: what is started meanwhile, by another test, holds on to what is open here, and so to
    /// its lock, for a moment.
    #[track_caller]
    fn sweep_down_to(dir: &Path, left: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while names(dir) != left && Instant::now() < deadline {
            sweep(dir);
        }
        assert_eq!(names(dir), left);
    }

    /// As a process leaves it that is killed.
    fn abandon(dir: &Path) {
        create(dir).unwrap().keep().unwrap();
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_and_what_a_live_one_writes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        abandon(dir.path());
        let live = create(dir.path()).unwrap();
        abandon(dir.path());
        let name = live.path().file_name().unwrap().to_str().unwrap();
        sweep_down_to(dir.path(), &[name]);
        sweep(dir.path());
        live.persist(dir.path().join("replica")).unwrap();
        sweep(dir.path());
        assert_eq!(names(dir.path()), ["replica"]);
    }

    #[test]
    fn the_file_of_another_process_stays_until_that_is_killed() {
        const DIR: &str = "CONFIGSTREAM_TEST_WRITES_IN";
        if let Some(dir) = env::var_os(DIR) {
            // The other process, until it is killed.
            let _file = create(Path::new(&dir)).unwrap();
            println!("it writes");
            loop {
                thread::park();
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (_, module) = module_path!().split_once("::").unwrap();
        let this = format!("{module}::the_file_of_another_process_stays_until_that_is_killed");
        let mut other = Command::new(env::current_exe().unwrap())
            .args(["--exact", &this, "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(other.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("it writes")));
        sweep(dir.path());
        let alive = names(dir.path());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(alive.len(), 1, "{alive:?}");
        assert_eq!(names(dir.path()), alive, "it had no time to tidy up");
        sweep_down_to(dir.path(), &[]);
    }

    #[test]
    fn nothing_but_files_of_our_own_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in [
            "replica",
            ".tmpAb12cd",
            ".configstream-saved-Ab12c.tmp",
            ".configstream-saved-Ab12cde.tmp",
            ".configstream-saved-Ab-2cd.tmp",
            ".configstream-saved-Ab12cd.tmp.bak",
            "x.configstream-saved-Ab12cd.tmp",
        ] {
            fs::write(path(name), "somebody's").unwrap();
        }
        let ours = |random: &str| path(&format!("{PREFIX}{random}{SUFFIX}"));
        fs::create_dir(ours("folder")).unwrap();
        symlink(path("replica"), ours("linked")).unwrap();
        mkfifo(&ours("piped0"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        if geteuid().is_root() {
            // Only root can give a file away.
            fs::write(ours("others"), "somebody's").unwrap();
            chown(ours("others"), Some(7), None).unwrap();
        }
        let before = names(dir.path());
        sweep(dir.path());
        assert_eq!(names(dir.path()), before);
        // It is not the rest that keeps it from being swept.
        fs::write(ours("Ab12cd"), "half a snap").unwrap();
        sweep(dir.path());
        assert_eq!(names(dir.path()), before);
    }

    #[test]
    fn whoever_writes_while_others_sweep_keeps_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        sweep(dir.path());
                    }
                });
            }
            let saved = (0..2_000).try_for_each(|_| {
                let file = create(dir.path())?;
                file.persist(dir.path().join("replica"))?;
                Ok::<_, io::Error>(())
            });
            over.store(true, Ordering::Relaxed);
            saved.unwrap();
        });
        assert_eq!(names(dir.path()), ["replica"]);
    }

    #[test]
    fn a_place_that_is_not_there_is_swept_without_a_word() {
        sweep(Path::new("/nowhere/at/all"));
    }
}
