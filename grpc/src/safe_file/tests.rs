use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

const ALL: [Demand; 6] = [
    Demand::REGULAR,
    Demand::TRUSTED,
    Demand::TRUSTED_SECRET,
    Demand::KEPT,
    Demand::KEPT_SECRET,
    Demand::OWN,
];

/// A file in a directory of its own.
fn file(mode: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "content").unwrap();
    chmod(&path, mode);
    (dir, path)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What `open` says, which must not take for ever.
fn within_a_deadline(open: impl FnOnce() -> String + Send + 'static) -> String {
    let (said, saying) = mpsc::channel();
    thread::spawn(move || said.send(open()));
    let said = saying.recv_timeout(Duration::from_secs(20));
    said.expect("it waits for something")
}

#[test]
fn nothing_but_a_regular_file_is_opened_and_nothing_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (path, kind) in [
        (pipe, "a named pipe"),
        (socket, "a socket"),
        (dir.path().to_owned(), "a directory"),
        ("/dev/zero".into(), "a device"),
    ] {
        for demand in ALL {
            let (path, shown) = (path.clone(), path.display().to_string());
            let said = within_a_deadline(move || match demand.open(&path) {
                Ok(_) => "opened".to_owned(),
                Err(error) => error.to_string(),
            });
            assert!(said.contains(&format!("it is {kind}")), "{shown}: {said}");
        }
    }
}

#[test]
fn a_pipe_is_not_waited_at_for_a_reader_either() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    for reads in [true, false] {
        let pipe = pipe.clone();
        let said = within_a_deadline(move || {
            let opened = Demand::OWN.open_with(&pipe, File::options().read(reads).write(true));
            opened.unwrap_err().to_string()
        });
        assert_eq!(said, "it is a named pipe, not a regular file");
    }
}

#[test]
fn a_link_is_followed_only_where_an_operator_names_the_file() {
    let (dir, path) = file(0o600);
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    for demand in [Demand::REGULAR, Demand::TRUSTED, Demand::TRUSTED_SECRET] {
        demand.open(&link).unwrap();
    }
    for demand in [Demand::KEPT, Demand::KEPT_SECRET, Demand::OWN] {
        assert!(matches!(demand.open(&link), Err(OpenError::SymbolicLink)));
    }
    fs::remove_file(&path).unwrap();
    let error = create_new(&link).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(!path.exists(), "a link to nothing was followed");
}

#[test]
fn what_others_may_write_or_know_is_refused() {
    for (mode, refused) in [
        (0o600, "none"),
        (0o644, "secrets"),
        (0o640, "secrets"),
        (0o620, "all"),
        (0o602, "all"),
        (0o666, "all"),
    ] {
        let (_dir, path) = file(mode);
        Demand::REGULAR.open(&path).unwrap();
        for demand in [Demand::TRUSTED, Demand::KEPT, Demand::OWN] {
            assert_eq!(
                demand.open(&path).is_err(),
                refused == "all",
                "{mode:o} {demand:?}"
            );
        }
        for demand in [Demand::TRUSTED_SECRET, Demand::KEPT_SECRET] {
            assert_eq!(
                demand.open(&path).is_err(),
                refused != "none",
                "{mode:o} {demand:?}"
            );
        }
    }
}

#[test]
fn a_file_of_another_user_is_refused_unless_the_directory_is_theirs_too() {
    if !geteuid().is_root() {
        // Only root can give a file away.
        return;
    }
    let (dir, path) = file(0o600);
    chown(&path, Some(65_534), None).unwrap();
    for demand in [
        Demand::KEPT,
        Demand::KEPT_SECRET,
        Demand::TRUSTED,
        Demand::OWN,
    ] {
        let error = demand.open(&path).unwrap_err();
        assert!(
            error.to_string().contains("it belongs to user 65534")
                && error.hint().unwrap().contains("chown 0"),
            "{error}"
        );
    }
    chown(dir.path(), Some(65_534), None).unwrap();
    for demand in [Demand::KEPT, Demand::KEPT_SECRET, Demand::TRUSTED] {
        demand.open(&path).unwrap();
    }
    Demand::OWN.open(&path).unwrap_err();
}

#[test]
fn a_directory_that_others_can_write_or_replace_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    for mode in [0o700, 0o750, 0o755] {
        chmod(&inner, mode);
        check_directory(&inner, false).unwrap();
    }
    for mode in [0o720, 0o702, 0o777, 0o1777] {
        chmod(&inner, mode);
        let error = check_directory(&inner, false).unwrap_err();
        assert!(
            matches!(error, OpenError::WritableByOthers { .. }),
            "{mode:o}: {error}"
        );
    }
    chmod(&inner, 0o700);
    chmod(dir.path(), 0o777);
    let error = check_directory(&inner, false).unwrap_err();
    assert!(matches!(error, OpenError::Replaceable(_)), "{error}");
    assert!(error.hint().unwrap().contains("chmod +t"));
    chmod(dir.path(), 0o1777);
    check_directory(&inner, false).unwrap();
    if geteuid().is_root() {
        chown(&inner, Some(65_534), None).unwrap();
        let error = check_directory(&inner, false).unwrap_err();
        assert!(matches!(error, OpenError::OwnedByAnother { .. }), "{error}");
        check_directory(&inner, true).unwrap();
    }
}

#[test]
fn an_error_keeps_its_hint_as_an_error_of_io() {
    let error = io::Error::from(OpenError::SymbolicLink);
    assert!(
        OpenError::hint_of(&error)
            .unwrap()
            .contains("remove the link")
    );
    let plain = io::Error::from(OpenError::Io(io::ErrorKind::NotFound.into()));
    assert_eq!(plain.kind(), io::ErrorKind::NotFound);
    assert_eq!(OpenError::hint_of(&plain), None);
}

#[test]
fn no_more_is_read_than_was_asked_for_and_one_byte() {
    let (_dir, path) = file(0o600);
    assert_eq!(Demand::OWN.read(&path, 7).unwrap(), b"content");
    assert_eq!(Demand::OWN.read(&path, 6).unwrap(), b"content");
    assert_eq!(Demand::OWN.read(&path, 3).unwrap(), b"cont");
}

#[test]
fn what_has_taken_the_place_of_a_file_is_not_removed_in_its_stead() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let _first = UnixListener::bind(&path).unwrap();
    let first = Removable::at(&path).unwrap();
    fs::remove_file(&path).unwrap();
    first.remove().unwrap();
    let _second = UnixListener::bind(&path).unwrap();
    first.remove().unwrap();
    assert!(path.exists());
    Removable::at(&path).unwrap().remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn the_inode_of_a_file_that_is_to_be_removed_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let first = Removable::at(&path).unwrap();
    // Without the pin most file systems give the same inode again, at once.
    for _ in 0..64 {
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        first.remove().unwrap();
        assert!(path.exists());
    }
}
