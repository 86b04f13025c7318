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
    #[error("`{file}` is missing from the model `{model}`")]
    Missing { file: String, model: String },
    #[error("`{name}` is not a model: it has no `model_index.json`\nhint: {hint}")]
    NotAModel { name: String, hint: &'static str },
    #[cfg(feature = "hub")]
    #[error("`{id}` is not complete in the cache and cannot be fetched: {reason}\nhint: {hint}\nwanted: {}", wanted.join(", "))]
    Fetch {
        id: String,
        reason: String,
        hint: &'static str,
        wanted: Vec<String>,
    },
    #[cfg(feature = "hub")]
    #[error(
        "`{file}` is missing from `{id}` on the Hub\nhint: a model there must have the diffusers layout"
    )]
    NotOnHub { id: String, file: String },
    #[error("cannot read {what}: {reason}\nhint: PNG and JPEG pictures are read\nfile: {}", path.display())]
    Picture {
        what: String,
        path: PathBuf,
        reason: String,
    },
}
