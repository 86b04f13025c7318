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
    #[error("cannot write {what}: {source}\nhint: name a file in a folder that exists and that you may write to\nfile: {}", path.display())]
    Write {
        what: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot read {what}: {reason}\nhint: PNG and JPEG pictures are read\nfile: {}", path.display())]
    Picture {
        what: String,
        path: PathBuf,
        reason: String,
    },
}
