//! The file of a database, looked at before anything opens it: cubecl goes on without one that it cannot open, and tunes anew in every
//! process.
//!
//! Source: "Database File Format", <https://www.sqlite.org/fileformat.html>, section 1.3, the header.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

const HEADER: usize = 100;

/// Where a header has the size of a page, 2 bytes from the highest on; 1 means 65536.
const PAGE_SIZE: usize = 16;

/// Where it has the number of pages, 4 bytes.
const PAGES: usize = 28;

/// Removes the database at `path`, and what lies beside it of the same name, if it is damaged; it is made anew then. Logs that.
pub(super) fn discard_damaged(path: &Path) {
    let Ok(Some(reason)) = damage(path) else {
        return;
    };
    let removed = parts(path).iter().try_for_each(fs::remove_file);
    let place = path.display();
    match removed {
        Ok(()) => tracing::warn!(
            "what is known of tuned kernels is of no use, and made anew: {reason}\nfile: {place}"
        ),
        Err(error) => tracing::warn!(
            "what is known of tuned kernels is of no use: {reason}\nhint: it cannot be removed ({error}); until it is, kernels are tuned in every run\nfile: {place}"
        ),
    }
}

/// How the database at `path` is damaged, as far as its header and its length tell.
fn damage(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(None); // One that is new.
    }
    let mut header = [0; HEADER];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Some("it is cut off".into()));
        }
        other => other?,
    }
    if !header.starts_with(MAGIC) {
        return Ok(Some("it is not a database".into()));
    }
    let byte = |at: usize| u64::from(header[at]);
    let size = match byte(PAGE_SIZE) << 8 | byte(PAGE_SIZE + 1) {
        1 => 65536,
        size => size,
    };
    let pages = (PAGES..PAGES + 4).fold(0, |sum, at| sum << 8 | byte(at));
    if !size.is_power_of_two() || size < 512 {
        return Ok(Some(format!("its pages have {size} bytes")));
    }
    // What is written and not yet in its place is in the log, and may be more than the file has.
    let has_log = fs::metadata(log(path)).is_ok_and(|log| log.len() > 0);
    let is_short = length < pages * size || !length.is_multiple_of(size);
    Ok((is_short && !has_log).then(|| "it is cut off".into()))
}

fn log(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// The database, its log and its locks, and the list of what kernels were tuned for.
fn parts(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let name = name.as_encoded_bytes();
    let beside = |file: &fs::DirEntry| {
        let other = file.file_name();
        let rest = other.as_encoded_bytes().strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-"))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut parts: Vec<_> = entries.filter(beside).map(|file| file.path()).collect();
    let list = path.with_extension(super::TUNED);
    parts.extend(list.exists().then_some(list));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a database of two pages, and their bytes.
    fn database() -> Vec<u8> {
        let mut bytes = vec![0; 2 * 4096];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[PAGE_SIZE] = 0x10;
        bytes[PAGES + 3] = 2;
        bytes
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().display().to_string())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn damaged_databases_go_with_all_that_belongs_to_them() {
        let whole = database();
        let mut pages = whole.clone();
        pages[PAGE_SIZE] = 0x11;
        let zeroed = vec![0; whole.len()];
        let damages = [&whole[..50], &whole[..5000], &zeroed, b"garbage", &pages];
        for (number, damaged) in damages.into_iter().enumerate() {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("cuda.db");
            let mine = ["cuda.db-tshm", "cuda.runs"];
            let others = ["cuda-2.db", "cuda-2.runs", "cuda.db2"];
            for name in mine.iter().chain(&others) {
                fs::write(folder.path().join(name), "").expect("a file");
            }
            fs::write(&path, damaged).expect("a file");
            discard_damaged(&path);
            assert_eq!(names(folder.path()), others, "damage {number}");
        }
    }

    #[test]
    fn what_may_be_whole_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cuda.db");
        discard_damaged(&path);
        let whole = database();
        for bytes in [&whole[..], &[]] {
            fs::write(&path, bytes).expect("a file");
            discard_damaged(&path);
            assert_eq!(names(folder.path()), ["cuda.db"]);
        }
        fs::write(log(&path), "pages").expect("a file");
        fs::write(&path, &whole[..4096]).expect("a file");
        discard_damaged(&path);
        assert_eq!(names(folder.path()), ["cuda.db", "cuda.db-wal"]);
    }
}
