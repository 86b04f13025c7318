//! The identity of weights and files.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use crate::{
    error::{Error, FileError},
    weights::WeightSource,
};

/// Largest tensor, in elements, that the weights' hash reads: norms, biases and the narrow attention layers, some ten megabytes of
/// a Stable Diffusion model.
const HASHED_ELEMENTS: usize = 1 << 17;

/// Bytes of a file that are in memory at a time.
const PIECE: usize = 1 << 18;

/// FNV-1a, 64 bits: the same on every platform and in every release.
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds what a file holds, a piece at a time: files of weights are large.
    fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let mut file = BufReader::with_capacity(PIECE, File::open(path)?);
        loop {
            let piece = match file.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                piece => piece?,
            };
            let length = piece.len();
            if length == 0 {
                return Ok(());
            }
            self.add(piece);
            file.consume(length);
        }
    }

    /// Adds a part and its weights.
    pub(super) fn add_part(&mut self, name: &str, source: &WeightSource) -> Result<(), Error> {
        self.add(name.as_bytes());
        for tensor in source.packed() {
            let shape = tensor.shape.to_vec();
            let head = format!("{} {} {shape:?}", tensor.name, tensor.stored());
            self.add(head.as_bytes());
            if shape.iter().product::<usize>() <= HASHED_ELEMENTS {
                self.add(source.read(&tensor.name)?.as_bytes());
            }
        }
        Ok(())
    }

    pub(super) fn digits(&self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Sixteen digits that differ when `bytes` do: what [`file_hash`] answers for a file of them.
pub(crate) fn bytes_hash(bytes: &[u8]) -> String {
    let mut hash = Fingerprint::new();
    hash.add(bytes);
    hash.digits()
}

/// Sixteen digits that differ when the bytes of a file do; of a folder, those of its files in the order of their names.
///
/// # Errors
///
/// When it is unreadable.
pub fn file_hash(path: &Path) -> Result<String, Error> {
    let read = |source| FileError::Read {
        what: "the file".into(),
        path: path.into(),
        source,
    };
    let mut hash = Fingerprint::new();
    if !path.is_dir() {
        hash.add_file(path).map_err(read)?;
        return Ok(hash.digits());
    }
    let entries = std::fs::read_dir(path).map_err(read)?;
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let mut files: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
    files.retain(|file| file.is_file());
    files.sort();
    for file in files {
        hash.add(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.add_file(&file).map_err(read)?;
    }
    Ok(hash.digits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_published_one() {
        let mut hash = Fingerprint::new();
        hash.add(b"foobar");
        assert_eq!(hash.0, 0x8594_4171_f739_67e8);
    }
}
