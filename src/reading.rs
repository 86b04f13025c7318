//! Files that are read as a whole, up to a length: what is long and empty, or goes on for ever, fills no memory.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::error::bytes;

/// Bytes of the longest text that belongs to a model: tokenizers of 250 thousand words have 17 million.
pub(crate) const LONGEST_TEXT: u64 = 64 << 20;

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
    fn what_never_ends_is_refused() {
        let error = read_bounded(Path::new("/dev/zero"), 1 << 16).unwrap_err();
        assert!(error.to_string().contains("64.0 KiB"), "{error}");
    }
}
