//! Where the bytes of a weight file are.

use std::{
    fs::File,
    io::{Error, ErrorKind, Read as _, Result, Seek as _, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};

/// A file, or bytes that are compiled in.
#[derive(Debug, Clone)]
pub(super) enum Place {
    File(Arc<Mutex<File>>),
    Static(&'static [u8]),
}

impl Place {
    pub(super) fn of(file: File) -> Self {
        Self::File(Arc::new(Mutex::new(file)))
    }

    /// Reads `length` bytes from byte `start`. No more memory is taken than there are bytes.
    pub(super) fn read(&self, start: u64, length: usize) -> Result<Vec<u8>> {
        let short = || Error::from(ErrorKind::UnexpectedEof);
        match self {
            Self::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let end = start.checked_add(length as u64).ok_or_else(short)?;
                if end > file.metadata()?.len() {
                    return Err(short());
                }
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = vec![0; length];
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
            Self::Static(bytes) => usize::try_from(start)
                .ok()
                .and_then(|start| bytes.get(start..start.checked_add(length)?))
                .map(<[u8]>::to_vec)
                .ok_or_else(short),
        }
    }
}
