//! What lies in a file's place where the file itself was never fetched, and what kind of file it is if it was.
//!
//! **Source.** The pointer files of Git LFS (specification v1: a text whose first line names the version, then `oid` and `size`).

use std::{io, path::Path};

use crate::error::{Error, FileError, WeightsError};

/// Bytes of a file that are looked at.
pub(super) const START: usize = 4096;
/// How a pointer begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// How pages of the web begin, in small letters.
const PAGES: [&str; 5] = ["<!doctype html", "<html", "<?xml", "<head", "<!--"];
/// Characters of a text that are quoted.
const QUOTED: usize = 80;

/// What helps against a file that has not all that it says.
pub(super) const CUT: &str = "\nhint: the file is cut short, fetch it again";

/// Refuses what downloads and clones leave in a file's place, by the `start` of the file (at least 512 bytes where it has them): a Git LFS
/// pointer, a page of the web. For files of every kind, texts included.
pub(crate) fn refuse_stand_in(start: &[u8], path: &Path) -> Result<(), WeightsError> {
    let path = || path.to_owned();
    if start.starts_with(POINTER) {
        let text = String::from_utf8_lossy(start);
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        let whole = size.and_then(|size| size.trim().parse().ok());
        return Err(WeightsError::LfsPointer {
            whole,
            path: path(),
        });
    }
    if let Some(target) = link_text(start) {
        let (target, path) = (target.to_owned(), path());
        return Err(WeightsError::LinkText { target, path });
    }
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let start = start.trim_ascii_start();
    let start = String::from_utf8_lossy(&start[..start.len().min(QUOTED)]).to_ascii_lowercase();
    if PAGES.iter().any(|page| start.starts_with(page)) {
        return Err(WeightsError::WebPage { path: path() });
    }
    Ok(())
}

/// What a link leads to whose path was written into a file in its place.
fn link_text(start: &[u8]) -> Option<&str> {
    const LONGEST: usize = 512;
    let text = std::str::from_utf8(start.get(..start.len().min(LONGEST))?).ok()?;
    let is_path = |text: &&str| text.starts_with("../") && !text.contains(char::is_whitespace);
    Some(text.trim_end())
        .filter(is_path)
        .filter(|_| start.len() < LONGEST)
}

/// The text of a small file, without the mark that editors of Windows put in front; `what` is what errors call it.
pub(crate) fn text_of(bytes: Vec<u8>, what: &str, path: &Path) -> Result<String, Error> {
    refuse_stand_in(&bytes, path)?;
    let text = String::from_utf8(bytes).map_err(|error| FileError::Read {
        what: what.to_owned(),
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

/// How files of other kinds begin, what they are, and what helps.
const OTHERS: [(&[u8], &str, &str); 11] = [
    (b"\x89PNG\r\n\x1a\n", PICTURE.0, PICTURE.1),
    (b"\xff\xd8\xff", PICTURE.0, PICTURE.1),
    (b"GIF8", PICTURE.0, PICTURE.1),
    (b"Rar!\x1a\x07", PACKED.0, PACKED.1),
    (b"7z\xbc\xaf\x27\x1c", PACKED.0, PACKED.1),
    (b"\x1f\x8b", PACKED.0, PACKED.1),
    (b"BZh", PACKED.0, PACKED.1),
    (b"\xfd7zXZ\0", PACKED.0, PACKED.1),
    (b"\x28\xb5\x2f\xfd", PACKED.0, PACKED.1),
    (
        b"\x89HDF\r\n\x1a\n",
        "a file of Keras",
        "use a file of the same model in safetensors or torch's format",
    ),
    (b"%PDF-", "a document", "give the file of the weights"),
];
const PICTURE: (&str, &str) = (
    "a picture",
    "give the file of the weights, what a picture carries is not read",
);
const EMPTY: (&str, &str) = (
    "an empty file",
    "nothing of it was downloaded or written: fetch it again",
);
const PACKED: (&str, &str) = ("a packed archive", "unpack it first");
/// How the names of weight files end.
const ENDINGS: [&str; 6] = [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf"];
/// Where an archive of `tar` says that it is one.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Refuses what is no regular file: weights are read from many places of it.
pub(super) fn refuse_places(path: &Path) -> Result<(), WeightsError> {
    let Ok(place) = path.metadata() else {
        return Ok(()); // opening it says why
    };
    if place.is_dir() {
        return Err(other("a folder", inside(path), path));
    }
    if place.is_file() {
        return Ok(());
    }
    let hint = "write it to a file first";
    Err(other("a pipe or a device", hint, path))
}

/// Which file of a folder may be meant.
fn inside(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
        .collect();
    names.sort();
    match names.first() {
        Some(first) => format!(
            "name the file in it, as in `{}`",
            folder.join(first).display()
        ),
        None => "name a file; no weights lie in it".to_owned(),
    }
}

/// Refuses empty files, and files of other kinds by how they begin.
pub(super) fn refuse_others(start: &[u8], path: &Path) -> Result<(), WeightsError> {
    let tar = start.get(TAR.0..).is_some_and(|at| at.starts_with(TAR.1));
    let found = OTHERS.iter().find(|(begin, ..)| start.starts_with(begin));
    match found {
        _ if start.is_empty() => Err(other(EMPTY.0, EMPTY.1, path)),
        Some((_, kind, hint)) => Err(other(kind, *hint, path)),
        None if tar => Err(other(PACKED.0, PACKED.1, path)),
        None => Ok(()),
    }
}

fn other(kind: &'static str, hint: impl Into<String>, path: &Path) -> WeightsError {
    let (hint, path) = (hint.into(), path.to_owned());
    WeightsError::OtherKind { kind, hint, path }
}

/// Refuses a short text in place of weights: what a server answers instead of a file.
pub(super) fn refuse_text(start: &[u8], path: &Path) -> Result<(), WeightsError> {
    let text = std::str::from_utf8(start).ok();
    let text = text.filter(|_| start.len() < START).map(str::trim);
    let readable = |one: char| !one.is_control() || one.is_whitespace();
    match text {
        Some(text) if !text.is_empty() && text.chars().all(readable) => {
            let line = text.lines().next().unwrap_or_default();
            Err(WeightsError::Text {
                text: line.chars().take(QUOTED).collect(),
                path: path.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// The formats of weight files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    Torch,
    Gguf,
    Index,
}

/// The format of a file: what its `start` says, whatever it is called; else what its name says.
pub(super) fn kind(start: &[u8], length: u64, path: &Path) -> Kind {
    let header = start.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let described = header.is_some_and(|header| header <= length);
    let pickle = matches!(start, [0x80, 2..=5, ..]);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Kind::Index,
        _ if described && start.get(8) == Some(&b'{') => Kind::Safetensors,
        _ if pickle || start.starts_with(b"PK\x03\x04") => Kind::Torch,
        _ if start.starts_with(b"GGUF") => Kind::Gguf,
        Some("bin" | "pt" | "pth" | "ckpt") => Kind::Torch,
        _ => Kind::Safetensors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(start: &[u8]) -> Option<String> {
        let outcome = refuse_stand_in(start, "a.bin".as_ref());
        let outcome = outcome.and_then(|()| refuse_text(start, "a.bin".as_ref()));
        outcome.err().map(|error| error.to_string())
    }

    #[test]
    fn pointers_pages_and_answers_are_told_apart() {
        let pointer =
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167534\n";
        let text = said(pointer).unwrap();
        assert!(text.contains("Git LFS") && text.contains("3438167534"));
        for page in [
            &b"\xef\xbb\xbf\n <!DOCTYPE html><html>"[..],
            b"<html lang=en>",
        ] {
            assert!(said(page).unwrap().contains("page of the web"));
        }
        let link = said(b"../../blobs/4d7a4d7a\n").unwrap();
        assert!(
            link.contains("the text of a link to `../../blobs/4d7a4d7a`"),
            "{link}"
        );
        let answer = said(b"Entry not found").unwrap();
        assert!(answer.contains("`Entry not found`"), "{answer}");
        assert_eq!(said(b"\x80\x02}q\x00."), None);
        assert_eq!(said(b""), None);
        assert_eq!(said(&[b'a'; START]), None, "nobody answers so much");
    }

    #[test]
    fn the_content_tells_the_format_whatever_the_name() {
        let kind = |start: &[u8], name: &str| kind(start, 100, name.as_ref());
        let header = b"\x80\0\0\0\0\0\0\0{";
        assert_eq!(kind(header, "a.ckpt"), Kind::Torch, "128 of 100 bytes");
        let header = b"\x02\0\0\0\0\0\0\0{}";
        assert_eq!(kind(header, "a.ckpt"), Kind::Safetensors);
        assert_eq!(kind(b"PK\x03\x04", "a.safetensors"), Kind::Torch);
        assert_eq!(kind(b"\x80\x02}", "a.safetensors"), Kind::Torch);
        assert_eq!(kind(b"", "a.pt"), Kind::Torch);
        assert_eq!(kind(b"", "a"), Kind::Safetensors);
        assert_eq!(kind(b"GGUF", "a.bin"), Kind::Gguf);
    }
}
