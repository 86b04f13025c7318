//! Files that appear only where there is none, and what killed processes leave of files that they were writing.

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write as _},
    path::Path,
    time::Duration,
};

use super::atomic::{ENDING, PREFIX, temporary_beside, unwritable};
use crate::error::Error;

/// How long ago a leftover was written at least. Its writer may not have claimed a younger one yet.
const LEAST_AGE: Duration = Duration::from_secs(60);

/// Marks a temporary file as being written, until it is closed or its process ends. Where a file system knows no locks, nobody takes
/// the file for a leftover either.
pub(super) fn claim(file: &File) {
    if let Err(error) = file.try_lock() {
        tracing::debug!("a temporary file cannot be locked: {error}");
    }
}

/// Removes the temporary files in `folder` whose writers have not lived to rename them. What cannot be removed stays.
pub fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(PREFIX.as_bytes()) && name.ends_with(ENDING.as_bytes()) {
            let path = entry.path();
            if is_leftover(&path).unwrap_or(false) {
                tracing::debug!("`{}` was left by another process", path.display());
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn is_leftover(path: &Path) -> io::Result<bool> {
    let file = File::options().write(true).open(path)?;
    let found = file.metadata()?;
    // A clock that was set back makes a file of the future, which is left for later.
    let age = found.modified()?.elapsed().unwrap_or_default();
    Ok(found.is_file() && age >= LEAST_AGE && file.try_lock().is_ok())
}

/// Writes `path` through `fill` unless something stands there, or does by the time that it is written; whether it was written.
///
/// # Errors
///
/// A file error that names the path and `what` it was to hold.
pub fn create_atomically(
    path: &Path,
    what: &str,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<bool, Error> {
    let written = temporary_beside(path).and_then(|temporary| {
        let mut writer = BufWriter::new(temporary.as_file());
        fill(&mut writer)?;
        writer.flush()?;
        drop(writer);
        temporary.as_file().sync_all()?;
        match temporary.persist_noclobber(path) {
            Ok(_) => Ok(true),
            Err(taken) if taken.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            // Some file systems can do no more than rename.
            Err(failed) if knows_no_other_way(&failed.error) && !path.exists() => {
                failed.file.persist(path)?;
                Ok(true)
            }
            Err(failed) => Err(failed.error),
        }
    });
    written.map_err(|source| unwritable(path, what, source))
}

fn knows_no_other_way(error: &io::Error) -> bool {
    use ErrorKind::{InvalidInput, PermissionDenied, Unsupported};

    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().display().to_string())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let hour = Duration::from_secs(3600);
        let (now, set) = (SystemTime::now(), File::set_modified);
        let file = |name: &str| File::create(folder.path().join(name)).expect("a file");
        let (writing, young) = (file(".afterimage-a.partial"), file(".afterimage-b.partial"));
        claim(&writing);
        set(&writing, now - hour).expect("a time");
        set(&young, now).expect("a time");
        set(&file(".afterimage-c.partial"), now + hour).expect("a time");
        set(&file(".afterimage-d.partial"), now - hour).expect("a time");
        set(&file("e.partial"), now - hour).expect("a time");
        drop(young);
        remove_leftovers(folder.path());
        let left =
            ["a.partial", "b.partial", "c.partial"].map(|name| format!(".afterimage-{name}"));
        assert_eq!(
            names(folder.path()),
            [&left[..], &["e.partial".into()]].concat()
        );
        drop(writing);
        remove_leftovers(folder.path());
        assert_eq!(names(folder.path()).len(), 3);
        remove_leftovers(Path::new("/no/such/folder"));
    }

    #[test]
    fn the_first_of_a_name_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("manifest.json");
        let create = |text: &'static str| {
            create_atomically(&path, "the manifest", |file| {
                file.write_all(text.as_bytes())
            })
        };
        assert!(create("first").expect("a file"));
        assert!(!create("second").expect("no file"));
        assert_eq!(fs::read(&path).expect("the file"), b"first");
        assert_eq!(names(folder.path()), ["manifest.json"]);
    }
}
