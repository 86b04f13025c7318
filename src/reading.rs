//! Files that are read as a whole, up to a length: what is long and empty, or goes on for ever, fills no memory.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::error::{FileError, bytes};

/// Bytes of the longest text that belongs to a model: tokenizers of 250 thousand words have 17 million.
pub(crate) const LONGEST_TEXT: u64 = 64 << 20;

/// What is wrong where `path` is not there, if that is for a link on the way to it that leads to nothing: copies of the Hub's cache are full of
/// them where what its links lead to was left behind.
pub(crate) fn dead_link(path: &Path) -> Option<FileError> {
    let mut ways = path.ancestors().filter(|way| !way.as_os_str().is_empty());
    let link = ways.find(|way| way.symlink_metadata().is_ok())?;
    let target = link.read_link().ok()?;
    let path = link.to_owned();
    (!link.exists()).then_some(FileError::DeadLink { path, target })
}

/// The whole of a file or pipe, unless it has more than `most` bytes.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    take_bounded(File::open(path)?, most)
}

/// The same as text.
pub(crate) fn read_text_bounded(path: &Path, most: u64) -> io::Result<String> {
    let text = String::from_utf8(read_bounded(path, most)?);
    text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// All that is left of `reader`, unless that is more than `most` bytes. A pipe says its length by ending alone, so no length is asked for.
pub(crate) fn take_bounded(reader: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    reader.take(most.saturating_add(1)).read_to_end(&mut read)?;
    if read.len() as u64 <= most {
        return Ok(read);
    }
    let said = format!("it is longer than {}, the most that is read", bytes(most));
    Err(io::Error::new(io::ErrorKind::FileTooLarge, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read_text_bounded(&path, 4).unwrap(), "1234");
        let error = read_bounded(&path, 3).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is longer than 3 B, the most that is read"
        );
        std::fs::write(&path, [0xff]).unwrap();
        let error = read_text_bounded(&path, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[cfg(unix)]
    #[test]
    fn links_to_nothing_are_found_wherever_they_are_on_the_way() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("there")).unwrap();
        for (link, target) in [("file", "../blobs/1"), ("part", "gone"), ("whole", "there")] {
            symlink(target, at(link)).unwrap();
        }
        let dead = |name: &str| dead_link(&at(name)).map(|error| error.to_string());
        let file = dead("file").unwrap();
        assert!(file.contains("file` is a link to `../blobs/1`"), "{file}");
        let part = dead("part/config.json").unwrap();
        assert!(part.contains("part` is a link to `gone`"), "{part}");
        for name in [
            "there",
            "whole",
            "whole/nothing",
            "nothing",
            "nothing/at/all",
        ] {
            assert_eq!(dead(name), None, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_never_ends_is_refused() {
        let error = read_bounded(Path::new("/dev/zero"), 1 << 16).unwrap_err();
        assert!(error.to_string().contains("64.0 KiB"), "{error}");
    }
}
