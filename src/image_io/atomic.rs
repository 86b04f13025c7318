//! Files that appear whole or not at all: written beside their place under a temporary name, then renamed.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use tempfile::NamedTempFile;

use super::leftovers::{ENDING, PREFIX, claim, tidy};
use crate::error::{Error, FileError};

/// Answers before a long run whether `path` can be written at its end: its folder takes a file, and no folder bears its name.
///
/// # Errors
///
/// A file error that names the path.
pub fn check_writable(path: &Path, what: &str) -> Result<(), Error> {
    let checked = if path.is_dir() {
        Err(io::Error::from(io::ErrorKind::IsADirectory))
    } else {
        temporary_beside(path).map(drop)
    };
    checked.map_err(|source| unwritable(path, what, source))
}

/// Writes `path` through `fill`. If anything fails, what was there before is still there.
///
/// # Errors
///
/// A file error that names the path and `what` it was to hold.
pub fn write_atomically(
    path: &Path,
    what: &str,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), Error> {
    let written = temporary_beside(path).and_then(|temporary| {
        let mut writer = BufWriter::new(temporary.as_file());
        fill(&mut writer)?;
        writer.flush()?;
        drop(writer);
        // Some file systems say only now that there is no room.
        temporary.as_file().sync_all()?;
        temporary.persist(path)?;
        Ok(())
    });
    written.map_err(|source| unwritable(path, what, source))
}

/// A temporary file in the folder of `path` (renaming works only within a file system), removed when dropped.
pub(super) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
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
        assert!(message.starts_with("cannot write the picture: the pen broke\nhint: "));
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
}
