//! Files that appear only where there is none.

use std::{
    fs::File,
    io::{self, BufWriter, ErrorKind},
    path::Path,
};

use super::atomic::{fill_file, temporary_beside, unwritable};
use crate::error::Error;

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
        fill_file(temporary.as_file(), fill)?;
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
    use std::io::Write as _;

    use super::*;

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
        assert_eq!(std::fs::read(&path).expect("the file"), b"first");
        let files = std::fs::read_dir(folder.path()).expect("a folder");
        assert_eq!(files.count(), 1);
    }
}
