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
    #[error("{cause}\nhint: the finished latents are kept; `afterimage decode` with the same `--model` makes their pictures\nlatents: {}", path.display())]
    Unwritten {
        cause: Box<super::Error>,
        path: PathBuf,
    },
    #[error("`{file}` is missing from the model `{model}`")]
    Missing { file: String, model: String },
    #[error("`{name}` is not a model: it has no `model_index.json`\nhint: {hint}")]
    NotAModel { name: String, hint: &'static str },
    #[error("`{name}` is no part of a model: it has no `config.json`\nhint: {}", if *model { "this is a whole model, name the folder of its part" } else { "a ControlNet is a folder with `config.json` and weights" })]
    NotAPart { name: String, model: bool },
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
    #[error("cannot read {what}: {reason}\nhint: {hint}\nfile: {}", path.display())]
    Picture {
        what: String,
        path: PathBuf,
        reason: String,
        hint: &'static str,
    },
    #[error("the picture has {width}x{height} pixels\nhint: pictures of up to {side} pixels a side and {mebibytes} MiB are read, make it smaller first\nfile: {}", path.display())]
    PictureTooLarge {
        width: u32,
        height: u32,
        side: u32,
        mebibytes: u64,
        path: PathBuf,
    },
    #[error("the mask is dark all over, so nothing would be painted\nhint: paint white what is to change\nfile: {}", path.display())]
    EmptyMask { path: PathBuf },
}
