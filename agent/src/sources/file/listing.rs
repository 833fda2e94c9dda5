//! Which files there are, what they look like from outside, and what is in them.
//!
//! A path that names a folder stands for the files in it whose names end in `.yaml` or `.yml`, in the order of their
//! names (byte by byte, so `10-` stands before `9-`). Names that start with a dot or a `#` are left out, and with
//! them what editors and package managers leave behind: `.a.yaml.swp`, `.#a.yaml`, `#a.yaml#`, `a.yaml~`,
//! `a.yaml.bak`. Folders within a folder are not looked into.

use std::collections::BinaryHeap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::Assignment;

use crate::known::Known;
use crate::yaml::{self, Budget, Document, FileError, Problem};

/// The most files that are read.
pub const MAX_FILES: usize = 1024;

/// The most bytes that are read from all files together.
pub const MAX_TOTAL_BYTES: u64 = yaml::MAX_FILE_BYTES;

/// What is in the files, in their order.
pub(super) type Texts = Vec<(PathBuf, Arc<str>)>;

/// Reads all files.
pub(super) fn read(paths: &[PathBuf]) -> Result<Texts, FileError> {
    let mut texts = Texts::new();
    let mut total = 0;
    for path in paths {
        let in_folder = path.is_dir();
        for file in files_of(path)? {
            if texts.len() == MAX_FILES {
                let limit = MAX_FILES;
                return Err(FileError::whole(&file, Problem::TooManyFiles { limit }));
            }
            let text = match yaml::read(&file) {
                Ok(text) => text,
                // It went after the folder was listed. A link to nothing is still there, and an error.
                Err(_) if in_folder && file.symlink_metadata().is_err() => continue,
                Err(error) => return Err(error),
            };
            total += text.len() as u64;
            if total > MAX_TOTAL_BYTES {
                let limit_bytes = MAX_TOTAL_BYTES;
                return Err(FileError::whole(
                    &file,
                    Problem::FilesTooLong { limit_bytes },
                ));
            }
            texts.push((file, text.into()));
        }
    }
    Ok(texts)
}

/// The settings of all files.
pub(super) fn parse(texts: &Texts, known: &Known) -> Result<Vec<Assignment>, FileError> {
    let mut budget = Budget::default();
    let documents: Vec<Document> = texts
        .iter()
        .map(|(path, text)| Document::parse_within(path, text, &mut budget))
        .collect::<Result<_, _>>()?;
    let paths = texts.iter().map(|(path, _)| path.as_path());
    let named: Vec<(&Path, &Document)> = paths.zip(&documents).collect();
    yaml::assignments_within(&named, known, &mut budget)
}

/// The path itself, or the files of the folder that it names.
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error: io::Error| {
        let (kind, reason) = (error.kind(), error.to_string());
        FileError::whole(path, Problem::Unreadable { kind, reason })
    };
    // The first by name, and one more, which tells that there are too many: a folder may hold
    // millions.
    let mut files = BinaryHeap::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if is_configuration(&file) && !file.is_dir() {
            files.push(file);
            if files.len() > MAX_FILES + 1 {
                files.pop();
            }
        }
    }
    Ok(files.into_sorted_vec())
}

/// Whether a file in a folder is one to read, by its name.
fn is_configuration(file: &Path) -> bool {
    let name = file
        .file_name()
        .map_or(&b""[..], |name| name.as_encoded_bytes());
    let ends = name.ends_with(b".yaml") || name.ends_with(b".yml");
    ends && !name.starts_with(b".") && !name.starts_with(b"#")
}

/// What all files look like, and the folders they are in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Looks(Vec<(PathBuf, Option<Look>)>);

impl Looks {
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut looks = Vec::new();
        for path in paths {
            looks.push((path.clone(), Look::at(path)));
            if path.is_dir() {
                // A folder that cannot be listed says so when it is read.
                let files = files_of(path).unwrap_or_default().into_iter();
                looks.extend(files.map(|file| {
                    let look = Look::at(&file);
                    (file, look)
                }));
            }
        }
        Self(looks)
    }

    /// A file that looks different there.
    pub(super) fn differing(&self, other: &Self) -> Option<&Path> {
        let mut mine = self.0.iter();
        let differs = |look: &&(PathBuf, Option<Look>)| !other.0.contains(look);
        mine.find(differs).map(|(path, _)| path.as_path())
    }

    /// Whether a further change of a file within the grain of its clock would show.
    pub(super) fn are_settled(&self) -> bool {
        let now = SystemTime::now();
        let mut looks = self.0.iter().filter_map(|(_, look)| look.as_ref());
        looks.all(|look| look.changed + CLOCK_GRAIN <= now)
    }
}

/// What a file looks like from outside.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    changed: SystemTime,
    /// The time of the last change to the inode, which nothing can set back.
    status_changed: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: metadata.modified().ok()?,
            status_changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Two changes closer together than this may carry the same time. Generous: network file systems count in seconds.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_yaml_files_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.yaml",
            "a.yml",
            "9-c.yaml",
            "10-d.yaml",
            ".hidden.yaml",
            ".b.yaml.swp",
            ".#b.yaml",
            "#b.yaml#",
            "#b.yaml",
            "b.yaml~",
            "b.yaml.bak",
            "b.yaml.dpkg-old",
            "README",
            "b.json",
            "yaml",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("z.yaml")).unwrap();
        let files = files_of(folder.path()).unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|file| file.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["10-d.yaml", "9-c.yaml", "a.yml", "b.yaml"]);
    }

    #[test]
    fn the_order_is_that_of_the_arguments_and_within_a_folder_that_of_the_names() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("conf.d");
        fs::create_dir(&folder).unwrap();
        let (first, last) = (
            root.path().join("first.yaml"),
            root.path().join("last.yaml"),
        );
        for (path, text) in [
            (&first, "a: 1\nb: 1\nc: 1\nd: 1\n"),
            (&folder.join("1.yaml"), "b: 2\nc: 2\nd: 2\n"),
            (&folder.join("2.yaml"), "c: 3\nd: 3\n"),
            (&last, "d: 4\n"),
        ] {
            fs::write(path, text).unwrap();
        }
        let texts = read(&[first, folder, last]).unwrap();
        let found = parse(&texts, &Known::nothing()).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|found| {
                let place = found.provenance.as_ref().unwrap().to_string();
                let (_, place) = place.rsplit_once('/').unwrap();
                format!("{}={} {place}", found.key, found.value)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a=1 first.yaml:1",
                "b=2 1.yaml:1",
                "c=3 2.yaml:1",
                "d=4 last.yaml:1"
            ]
        );
    }

    #[test]
    fn a_folder_that_is_empty_sets_nothing_and_a_link_to_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().to_owned()];
        assert_eq!(read(&paths), Ok(Texts::new()));
        std::os::unix::fs::symlink("nowhere", folder.path().join("a.yaml")).unwrap();
        let error = read(&paths).unwrap_err().to_string();
        assert!(error.contains("a.yaml: cannot be read"), "{error}");
        let error = read(&[folder.path().join("gone")]).unwrap_err().to_string();
        assert!(
            error.contains("gone: cannot be read") && error.contains("create it"),
            "{error}"
        );
    }

    #[test]
    fn too_many_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=MAX_FILES {
            fs::write(folder.path().join(format!("{number:04}.yaml")), "").unwrap();
        }
        let error = read(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("1024.yaml: is one file too many") && error.contains("merge"),
            "{error}"
        );
    }
}
