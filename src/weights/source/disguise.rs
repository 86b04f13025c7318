//! Files that are not what their name says: pointers of Git LFS, web pages.

use std::{fs::File, io::Read as _, path::Path};

use crate::error::FileError;

/// Bytes of a file that tell. A pointer is shorter.
const HEAD: usize = 1024;

/// The first line of a pointer of Git LFS.
const POINTER: &str = "version https://git-lfs.github.com/spec/";

/// Beginnings of what a server answers instead of a file, in lower case.
const PAGES: [&str; 4] = ["<!doctype", "<html", "<?xml", "<head"];

/// Refuses a file that begins as a pointer or a web page does. A file that cannot be read is left to its reader.
///
/// # Errors
///
/// A file error that says which of them it is.
pub(crate) fn check_file(path: &Path) -> Result<(), FileError> {
    let mut head = Vec::with_capacity(HEAD);
    let read = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    match read {
        Ok(_) => check_head(&head, path),
        Err(_) => Ok(()),
    }
}

/// [`check_file`], for a file of which the beginning is at hand.
///
/// # Errors
///
/// As there.
pub(crate) fn check_head(head: &[u8], path: &Path) -> Result<(), FileError> {
    let head = &head[..head.len().min(HEAD)];
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with(POINTER) {
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        return Err(FileError::Pointer {
            bytes: size.and_then(|size| size.trim().parse().ok()),
            path: path.to_owned(),
        });
    }
    let lower = text.to_lowercase();
    if PAGES.iter().any(|page| lower.starts_with(page)) {
        return Err(FileError::WebPage {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(head: &str) -> String {
        let checked = check_head(head.as_bytes(), Path::new("unet/model.bin"));
        checked.map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn pointers_and_pages_are_told_apart() {
        let pointer =
            said("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167534\n");
        assert!(
            pointer
                .starts_with("this file is a pointer of Git LFS to 3.44 GB, not the file itself"),
            "{pointer}"
        );
        assert!(pointer.contains("`git lfs pull`"), "{pointer}");
        assert!(said("\n<!DOCTYPE html>\n<html>").starts_with("this file is a web page"));
        assert_eq!(said("{\"a\": 1}"), "");
        assert_eq!(said("#version: 0.2\n"), "");
    }
}
