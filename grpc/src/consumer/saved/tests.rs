use super::*;
use crate::encode::Encoder;
use configstream_engine::settings::{Key, Resolved, Setting, Source};
use configstream_engine::{Engine, Epoch, Sequence};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;

struct Case {
    _dir: tempfile::TempDir,
    file: SnapshotFile,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile {
            path: dir.path().join("replica"),
            max_age: Duration::from_secs(60),
        };
        Self { _dir: dir, file }
    }

    /// With something saved.
    fn saved(known_at: SystemTime) -> Self {
        let case = Self::new();
        case.file.save(&frame(), known_at).unwrap();
        case
    }

    fn refusal(&self) -> SavedErrorReason {
        self.file.load().unwrap_err().reason
    }

    /// Demands that the file is refused, and that exactly this is said about it.
    #[track_caller]
    fn demand_refusal(&self, what: &str) {
        let path = self.file.path.display();
        assert_eq!(
            self.file.load().unwrap_err().to_string(),
            format!(
                "the saved snapshot {path} {what}; the next snapshot from the server replaces it"
            )
        );
    }

    /// Changes the file's bytes.
    fn tamper(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(&self.file.path).unwrap();
        change(&mut bytes);
        fs::write(&self.file.path, bytes).unwrap();
    }
}

fn frame() -> Bytes {
    let setting = Setting::new(Source::File, Key::parse("a.b").unwrap(), "c").unwrap();
    let engine = Engine::builder(Resolved::from_settings([setting]).unwrap())
        .start_at(Epoch::new(3), Sequence::new(7))
        .build()
        .unwrap();
    Encoder::new("o".into(), 1024)
        .snapshot(&engine.head())
        .unwrap()
        .into_owned()
}

#[test]
fn what_was_saved_is_loaded() {
    let case = Case::saved(SystemTime::now());
    let (snapshot, known_at) = case.file.load().unwrap().unwrap();
    assert_eq!((snapshot.epoch.get(), snapshot.sequence.get()), (3, 7));
    assert_eq!(snapshot.origin, "o");
    assert_eq!(snapshot.settings[0].value().as_str(), Some("c"));
    assert!(known_at.elapsed().unwrap() < Duration::from_secs(60));
    let mode = fs::metadata(&case.file.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = fs::read_dir(case.file.path.parent().unwrap()).unwrap();
    assert_eq!(files.count(), 1, "nothing else is left there");
}

#[test]
fn nothing_saved_is_no_error() {
    assert!(Case::new().file.load().unwrap().is_none());
}

#[test]
fn every_way_to_be_cut_short_is_refused_and_says_what_is_missing() {
    let whole = fs::read(Case::saved(SystemTime::now()).file.path).unwrap();
    let message = whole.len() - HEAD_BYTES;
    let damaged = |found: usize, expected: usize| {
        format!("is damaged: {found} bytes where {expected} should be")
    };
    let case = Case::new();
    for length in 0..whole.len() {
        fs::write(&case.file.path, &whole[..length]).unwrap();
        case.demand_refusal(&match length {
            0..24 => FOREIGN.to_owned(),
            24..HEAD_BYTES => damaged(length, HEAD_BYTES),
            _ => damaged(length - HEAD_BYTES, message),
        });
    }
    fs::write(&case.file.path, [&whole, "x".as_bytes()].concat()).unwrap();
    case.demand_refusal(&damaged(message + 1, message));
}

#[test]
fn every_flipped_bit_is_noticed_and_told_as_what_it_is() {
    let case = Case::saved(SystemTime::now());
    let whole = fs::read(&case.file.path).unwrap();
    parse(&whole).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&case.file.path, bytes).unwrap();
        match bit / 8 {
            0..24 => case.demand_refusal(FOREIGN),
            // How many bytes there should be.
            32..36 => {
                let refusal = case.refusal();
                assert!(matches!(refusal, SavedErrorReason::Length { .. }), "{bit}");
            }
            _ => {
                case.demand_refusal("is damaged: its checksum does not fit");
                assert!(matches!(case.refusal(), SavedErrorReason::Corrupt), "{bit}");
            }
        }
    }
}

#[test]
fn a_foreign_file_and_another_version_are_refused() {
    let case = Case::new();
    fs::write(&case.file.path, "log_level: debug\n").unwrap();
    case.demand_refusal(FOREIGN);
    assert!(matches!(case.refusal(), SavedErrorReason::Foreign));
    let case = Case::saved(SystemTime::now());
    case.tamper(|bytes| bytes[21] = b'2');
    case.demand_refusal(FOREIGN);
}

#[test]
fn a_link_is_not_followed_even_to_a_good_file() {
    let case = Case::saved(SystemTime::now());
    let target = case.file.path.with_extension("target");
    fs::rename(&case.file.path, &target).unwrap();
    symlink(&target, &case.file.path).unwrap();
    let error = case.file.load().unwrap_err();
    assert!(matches!(error.reason(), SavedErrorReason::SymbolicLink));
    assert!(error.to_string().contains("is a symbolic link"), "{error}");
    // What is saved takes the place of the link, and leaves its target alone.
    let before = fs::read(&target).unwrap();
    case.file.save(&frame(), UNIX_EPOCH).unwrap();
    assert!(fs::symlink_metadata(&case.file.path).unwrap().is_file());
    assert_eq!(fs::read(&target).unwrap(), before);
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let makers: [&dyn Fn(&Path); 3] = [
        &|path| fs::create_dir(path).unwrap(),
        &|path| mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
        &|path| drop(UnixListener::bind(path).unwrap()),
    ];
    for make in makers {
        let case = Case::new();
        make(&case.file.path);
        let file = case.file.clone();
        let (sender, loaded) = mpsc::channel();
        thread::spawn(move || sender.send(file.load()));
        let loaded = loaded.recv_timeout(Duration::from_secs(20));
        let error = loaded.expect("it does not wait").unwrap_err();
        assert!(matches!(error.reason(), SavedErrorReason::NotAFile));
        assert!(
            error
                .to_string()
                .ends_with("remove it, or give another path"),
            "{error}"
        );
    }
}

#[test]
fn one_that_belongs_to_somebody_else_is_refused() {
    if !geteuid().is_root() {
        // Only root can give a file away; the rule itself has its own test.
        return;
    }
    let case = Case::saved(SystemTime::now());
    chown(&case.file.path, Some(7), None).unwrap();
    let text = case.file.load().unwrap_err().to_string();
    assert!(
        text.contains(
            "belongs to user 7, and this process runs as user 0: remove it, or chown 0 it"
        ),
        "{text}"
    );
}

#[test]
fn one_that_is_too_old_is_refused_and_one_from_the_future_is_not() {
    let case = Case::saved(SystemTime::now() - Duration::from_secs(3600));
    let text = case.file.load().unwrap_err().to_string();
    assert!(
        text.contains("is too old: 3600 s, where 60 s are allowed"),
        "{text}"
    );
    let case = Case::saved(SystemTime::now() + Duration::from_secs(3600));
    assert!(case.file.load().unwrap().is_some());
}

#[test]
fn one_that_others_may_write_is_refused() {
    let case = Case::saved(SystemTime::now());
    let others = fs::Permissions::from_mode(0o620);
    fs::set_permissions(&case.file.path, others).unwrap();
    assert!(matches!(
        case.refusal(),
        SavedErrorReason::WritableByOthers { mode: 0o620 }
    ));
}

#[test]
fn a_right_checksum_does_not_excuse_what_no_server_sends() {
    let case = Case::new();
    let update = ConfigEventMessage { event: None }.encode_to_vec();
    let frame = [&[0; PREFIX_BYTES], update.as_slice()].concat();
    case.file.save(&frame.into(), SystemTime::now()).unwrap();
    assert!(matches!(case.refusal(), SavedErrorReason::Content(_)));
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let mut case = Case::new();
    case.file.path = case.file.path.join("nowhere").join("replica");
    case.file.save(&frame(), SystemTime::now()).unwrap_err();
}

#[test]
fn whoever_reads_while_it_is_written_finds_the_old_one_or_the_new_one() {
    let case = Case::saved(SystemTime::now());
    let file = case.file.clone();
    let writer = thread::spawn(move || {
        for _ in 0..100 {
            file.save(&frame(), SystemTime::now()).unwrap();
        }
    });
    while !writer.is_finished() {
        let (snapshot, _) = case.file.load().unwrap().unwrap();
        assert_eq!(snapshot.sequence.get(), 7);
    }
    writer.join().unwrap();
}

const FOREIGN: &str = "was not written by this program, or by another version of it";
