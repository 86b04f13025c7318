//! Files that could not be read or written.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {what}: {source}\nfile: {}", path.display())]
    Read {
        what: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot write {what}: {source}\nfile: {}", path.display())]
    Write {
        what: String,
        path: PathBuf,
        source: io::Error,
    },
}
