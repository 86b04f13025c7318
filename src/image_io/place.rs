//! Where the name of an output leads: to a file, which is replaced as a whole, or to a pipe, a device or an open descriptor, which
//! stays what it is and is written through.

use std::{
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

#[cfg(feature = "eval")]
use crate::error::FileError;

/// Links that are followed before a name counts as a circle, as in Linux.
const MOST_LINKS: usize = 40;

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A file, or nothing yet, at this path: links were followed, so that they stay.
    File(PathBuf),
    /// Something to write through.
    Stream,
}

impl Place {
    /// # Errors
    ///
    /// If the path is a folder, or cannot be looked at.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if is_folder_by_name(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() || is_stdout(path) => Ok(Self::Stream),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(followed(path)?.map_or(Self::Stream, Self::File)),
        }
    }
}

/// Makes the folder that `what` is written into, unless it is there.
///
/// # Errors
///
/// A file error if it cannot be made, or a file has its name.
#[cfg(feature = "eval")]
pub(crate) fn make_folder(path: &Path, what: &str) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|source| {
        let (what, path) = (what.to_owned(), path.to_owned());
        if source.kind() == io::ErrorKind::AlreadyExists {
            FileError::NotAFolder { what, path }
        } else {
            FileError::Write { what, path, source }
        }
    })
}

/// Whether `path` leads to a pipe, a device or an open descriptor, which takes one picture whatever its name.
pub fn is_stream(path: &Path) -> bool {
    matches!(Place::of(path), Ok(Place::Stream))
}

/// Whether what is written to `path` goes where the standard output goes.
pub fn is_stdout(path: &Path) -> bool {
    let theirs = fs::metadata(path).ok().and_then(|found| identity(&found));
    let ours = stdout().and_then(|file| file.metadata()).ok();
    theirs.is_some() && theirs == ours.and_then(|found| identity(&found))
}

/// Whether two names are of one file, which need not be there yet, or of one pipe. A device, as `/dev/null`, takes what comes.
pub fn is_same_place(one: &Path, other: &Path) -> bool {
    match (Place::of(one), Place::of(other)) {
        (Ok(Place::File(one)), Ok(Place::File(other))) => {
            one == other || resolved(&one).is_some_and(|one| Some(one) == resolved(&other))
        }
        (Ok(Place::Stream), Ok(Place::Stream)) => {
            let found = |path| fs::metadata(path).ok().filter(|found| !is_device(found));
            let [one, other] = [one, other].map(|path| identity(&found(path)?));
            one.is_some() && one == other
        }
        // A folder of frames has no file's name.
        (Err(_), _) | (_, Err(_)) => one.components().eq(other.components()),
        _ => false,
    }
}

/// The path without links and detours.
fn resolved(path: &Path) -> Option<PathBuf> {
    path.canonicalize()
        .ok()
        .or_else(|| Some(folder(path).canonicalize().ok()?.join(path.file_name()?)))
}

#[cfg(unix)]
fn is_device(found: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;

    found.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_device(_found: &Metadata) -> bool {
    true
}

/// The standard output, unbuffered.
#[cfg(unix)]
fn stdout() -> io::Result<File> {
    use std::os::fd::AsFd;

    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(not(unix))]
fn stdout() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Device and number of a file.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems tell neither")]
fn identity(found: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(_found: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Opens what is written through: the standard output as it stands, anything else anew.
pub(super) fn open_stream(path: &Path) -> io::Result<File> {
    if is_stdout(path) {
        return stdout();
    }
    File::options().write(true).truncate(true).open(path)
}

/// Answers whether a stream takes what is written, as far as that can be known without disturbing it: opening a pipe waits for a reader.
pub(super) fn check_stream(path: &Path) -> io::Result<()> {
    if is_stdout(path) || is_pipe(&fs::metadata(path)?) {
        return Ok(());
    }
    File::options().write(true).open(path).map(drop)
}

#[cfg(unix)]
fn is_pipe(found: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;

    found.file_type().is_fifo()
}

#[cfg(not(unix))]
fn is_pipe(_found: &Metadata) -> bool {
    true
}

/// Where the links from `path` end; `None` if that is an open descriptor of this process or another.
fn followed(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if is_descriptor(&path) {
            return Ok(None);
        }
        match fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            Err(_) => return Ok(Some(path)),
        }
    }
    Err(io::Error::other("too many links lead from one to another"))
}

fn is_descriptor(path: &Path) -> bool {
    cfg!(unix)
        && ["/dev/fd", "/proc"]
            .iter()
            .any(|root| path.starts_with(root))
}

/// The folder that `path` is in.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent();
    let named = folder.filter(|folder| !folder.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// Whether the name of `path` ends in a separator.
pub(super) fn is_folder_by_name(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    let last = name.last().copied();
    last.is_some_and(|last| std::path::is_separator(last.into()))
}

/// Whether a name is a film's and no picture's, whatever this build writes.
pub(super) fn is_film_by_name(path: &Path) -> bool {
    const NAMES: [&str; 4] = ["apng", "gif", "mp4", "y4m"];
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    NAMES.iter().any(|name| extension == *name)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[cfg(feature = "eval")]
    #[test]
    fn a_file_is_no_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "a file").expect("a file");
        assert!(make_folder(&at("b/c"), "results").is_ok() && at("b/c").is_dir());
        assert!(make_folder(&at("b"), "results").is_ok(), "it is there");
        let said = |path: &Path| {
            make_folder(path, "results")
                .expect_err("a file")
                .to_string()
        };
        let taken = said(&at("a"));
        let words = "cannot write results: a file has that name, and a folder is wanted\nhint: ";
        assert!(taken.starts_with(words), "{taken}");
        let below = said(&at("a/b"));
        assert!(below.starts_with("cannot write results: "), "{below}");
    }

    #[test]
    fn links_are_followed_and_descriptors_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        symlink("b.png", at("a.png")).expect("a link");
        symlink("c.png", at("b.png")).expect("a link");
        let place = |path: &Path| Place::of(path).expect("a place");
        assert_eq!(
            place(&at("a.png")),
            Place::File(at("c.png")),
            "not there yet"
        );
        fs::write(at("c.png"), "there").expect("a file");
        assert_eq!(place(&at("a.png")), Place::File(at("c.png")));
        assert_eq!(place(Path::new("/dev/null")), Place::Stream);
        symlink("/dev/null", at("null.png")).expect("a link");
        assert_eq!(place(&at("null.png")), Place::Stream);
        let open = File::create(at("open")).expect("a file");
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        let descriptor = format!("/proc/self/fd/{number}");
        assert_eq!(place(Path::new(&descriptor)), Place::Stream);
    }

    #[test]
    fn one_file_has_many_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).expect("a folder");
        symlink("b.png", at("a.png")).expect("a link");
        let same = |one: &str, other: &str| is_same_place(&at(one), &at(other));
        assert!(same("b.png", "below/../b.png"), "not there yet");
        assert!(same("a.png", "b.png"), "by a link");
        fs::write(at("b.png"), "there").expect("a file");
        assert!(same("b.png", "below/../b.png") && same("a.png", "b.png"));
        assert!(!same("b.png", "c.png") && !same("b.png", "below/b.png"));
        let null = Path::new("/dev/null");
        assert!(!is_same_place(null, null));
    }

    #[test]
    fn folders_and_circles_take_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = |path: &Path| Place::of(path).expect_err("no place").kind();
        assert_eq!(refused(folder.path()), io::ErrorKind::IsADirectory);
        let new = folder.path().join("new.png/");
        assert_eq!(refused(&new), io::ErrorKind::IsADirectory);
        let circle = folder.path().join("circle.png");
        symlink("circle.png", &circle).expect("a link");
        assert!(Place::of(&circle).is_err());
    }
}
