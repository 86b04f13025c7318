//! Files that appear whole or not at all: written beside their place under a temporary name, then renamed.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, ErrorKind, Seek, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{
    leftovers::{ENDING, PREFIX, claim, tidy},
    place::{Place, check_stream, folder, open_stream},
};
use crate::error::{Error, FileError};

/// Answers before a long run whether `path` can be written at its end: its folder takes a file, what is there may be replaced, and no
/// folder bears its name.
///
/// # Errors
///
/// A file error that names the path.
pub fn check_writable(path: &Path, what: &str) -> Result<(), Error> {
    let checked = Place::of(path).and_then(|place| match place {
        Place::File(target) => check_file(&target),
        Place::Stream => check_stream(path),
    });
    checked.map_err(|source| unwritable(path, what, source))
}

/// Writes `path` through `fill`. If anything fails, what was there before is still there.
///
/// Links are followed and stay; a file keeps its permissions. Pipes, devices and open descriptors are written through, and so is a file
/// in a folder that takes no other beside it: there, nothing is written before `fill` is through.
///
/// # Errors
///
/// A file error that names the path and `what` it was to hold.
pub fn write_atomically(
    path: &Path,
    what: &str,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), Error> {
    let written = Place::of(path).and_then(|place| match place {
        Place::File(target) => replace(&target, fill),
        Place::Stream => fill_file(&open_stream(path)?, fill),
    });
    written.map_err(|source| unwritable(path, what, source))
}

fn check_file(target: &Path) -> io::Result<()> {
    let present = present(target)?;
    match temporary_beside(target) {
        Err(error) if present.is_some() && is_closed(&error) => Ok(()),
        other => other.map(drop),
    }
}

fn replace(
    target: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    match Pending::open(target) {
        Err(error) if is_closed(&error) && present(target)?.is_some() => {
            let elsewhere = tempfile::tempfile()?;
            fill_file(&elsewhere, fill)?;
            pour(elsewhere, target)
        }
        opened => opened?.filled(fill)?.place(),
    }
}

/// A file under a temporary name beside its place, removed when dropped.
pub(super) struct Pending {
    temporary: NamedTempFile,
    target: PathBuf,
    /// Of the file that is there, which the new one takes over.
    permissions: Option<Permissions>,
}

impl Pending {
    /// Writes what `target` is to hold, all of it, but does not put it there yet.
    pub(super) fn write(
        target: &Path,
        fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> io::Result<Self> {
        Self::open(target)?.filled(fill)
    }

    fn open(target: &Path) -> io::Result<Self> {
        Ok(Self {
            permissions: present(target)?,
            temporary: temporary_beside(target)?,
            target: target.into(),
        })
    }

    fn filled(
        self,
        fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let file = self.temporary.as_file();
        fill_file(file, fill)?;
        if let Some(permissions) = &self.permissions {
            file.set_permissions(permissions.clone())?;
        }
        // Some file systems say only now that there is no room.
        file.sync_all()?;
        Ok(self)
    }

    pub(super) fn place(self) -> io::Result<()> {
        match self.temporary.persist(&self.target) {
            Ok(_) => Ok(()),
            // A file that is a mount of its own, as in containers, cannot be renamed over.
            Err(failed) if is_mount(&failed.error) => pour(failed.file.reopen()?, &self.target),
            Err(failed) => Err(failed.error),
        }
    }
}

pub(super) fn fill_file(
    file: &File,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = BufWriter::new(file);
    let filled = fill(&mut writer).and_then(|()| writer.flush());
    // What is left of a failure is not tried again.
    drop(writer.into_parts());
    filled
}

/// Puts all of `file` in the place of what `target` holds.
fn pour(mut file: File, target: &Path) -> io::Result<()> {
    file.rewind()?;
    let mut target = File::options().write(true).truncate(true).open(target)?;
    io::copy(&mut file, &mut target)?;
    target.sync_all()
}

/// The permissions of the file that is there, if one is.
///
/// # Errors
///
/// If it may not be written: a file that is protected is not replaced either.
fn present(target: &Path) -> io::Result<Option<Permissions>> {
    match File::options().write(true).open(target) {
        Ok(file) => Ok(Some(file.metadata()?.permissions())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a folder takes no new file.
fn is_closed(error: &io::Error) -> bool {
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem};

    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

fn is_mount(error: &io::Error) -> bool {
    use ErrorKind::{CrossesDevices, ResourceBusy};

    matches!(error.kind(), CrossesDevices | ResourceBusy)
}

/// A temporary file in the folder of `path` (renaming works only within a file system), removed when dropped.
pub(super) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = folder(path);
    tidy(folder);
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(ENDING);
    // Opened here, so that it has the usual permissions of a new file, not those of a secret.
    builder.make_in(folder, |path| {
        let file = File::options().write(true).create_new(true).open(path);
        file.inspect(claim)
    })
}

pub(super) fn unwritable(path: &Path, what: &str, source: io::Error) -> Error {
    FileError::Write {
        what: what.into(),
        path: path.into(),
        source,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").file_name().display().to_string())
            .collect()
    }

    fn write(path: &Path, text: &str) {
        let written = write_atomically(path, "the text", |file| file.write_all(text.as_bytes()));
        written.expect("a file");
    }

    #[test]
    fn a_failed_write_keeps_what_was_there_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("picture.png");
        std::fs::write(&path, "before").expect("a file");
        let failed = write_atomically(&path, "the picture", |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the pen broke"))
        });
        let message = failed.expect_err("the pen broke").to_string();
        assert!(message.starts_with("cannot write the picture: the pen broke\nfile: "));
        assert_eq!(std::fs::read(&path).expect("the file"), b"before");
        assert_eq!(names(folder.path()), ["picture.png"]);
    }

    #[test]
    fn places_that_take_no_file_are_known_beforehand() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(check_writable(&folder.path().join("a.png"), "the picture").is_ok());
        assert!(names(folder.path()).is_empty());
        for path in [folder.path().join("missing/a.png"), folder.path().into()] {
            let error = check_writable(&path, "the picture").expect_err("unwritable");
            let message = error.to_string();
            assert!(error.is_file() && message.ends_with(&path.display().to_string()));
            assert!(!message.contains(".partial"), "{message}");
        }
    }

    #[test]
    fn what_is_poured_over_a_longer_file_stands_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mounted");
        std::fs::write(&path, "long before").expect("a file");
        let mut other = tempfile::tempfile().expect("a file");
        other.write_all(b"after").expect("room");
        pour(other, &path).expect("a file");
        assert_eq!(std::fs::read(&path).expect("the file"), b"after");
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        symlink("file", &link).expect("a link");
        write(&link, "through a link to nothing");
        let read = || std::fs::read_to_string(&file).expect("the target");
        assert_eq!(read(), "through a link to nothing");
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("our file");
        write(&link, "again");
        assert_eq!(read(), "again");
        assert!(link.is_symlink());
        let mode = file.metadata().expect("the target").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_written_through_and_say_when_they_are_full() {
        write(Path::new("/dev/null"), "nothing");
        let Ok(()) = check_writable(Path::new("/dev/full"), "the text") else {
            return; // Only Linux has it.
        };
        let full = write_atomically(Path::new("/dev/full"), "the text", |file| {
            file.write_all(b"too much")
        });
        let message = full.expect_err("no room").to_string();
        assert!(message.contains("hint: make room there"), "{message}");
        assert!(!Path::new("/dev/full").is_file());
    }
}
