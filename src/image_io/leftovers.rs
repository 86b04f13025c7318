//! What killed processes leave of files that they were writing.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What temporary files are called, but for what makes each another.
pub(super) const PREFIX: &str = ".afterimage-";
pub(super) const ENDING: &str = ".partial";

/// How long ago a leftover was written at least. Its writer may not have claimed a younger one yet.
const LEAST_AGE: Duration = Duration::from_mins(1);

/// Marks a temporary file as being written, until it is closed or its process ends. Where a file system knows no locks, nobody takes
/// the file for a leftover either.
pub(super) fn claim(file: &File) {
    if let Err(error) = file.try_lock() {
        tracing::debug!("a temporary file cannot be locked: {error}");
    }
}

/// Removes leftovers from `folder` before this process writes there for the first time.
pub(super) fn tidy(folder: &Path) {
    static TIDIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut tidied = TIDIED.lock().unwrap_or_else(PoisonError::into_inner);
    if tidied.insert(folder.into()) {
        remove_leftovers(folder);
    }
}

/// Removes the temporary files in `folder` whose writers have not lived to rename them. What cannot be removed stays.
fn remove_leftovers(folder: &Path) {
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
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() {
        return Ok(false);
    }
    let file = File::options().write(true).open(path)?;
    // A clock that was set back makes a file of the future, which is left for later.
    let age = found.modified()?.elapsed().unwrap_or_default();
    Ok(age >= LEAST_AGE && file.try_lock().is_ok())
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
        let hour = Duration::from_hours(1);
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
}
