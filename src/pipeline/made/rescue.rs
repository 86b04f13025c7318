//! Finished latents in a file, so that a failure after the denoising loop does not lose them.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;

use super::tensor_file::write_latents;
use crate::error::{DeviceError, Error, FileError};

/// Finished latents in a file, until their pictures are safe: dropping this removes the file.
#[derive(Debug)]
pub struct KeptLatents(Option<PathBuf>);

impl KeptLatents {
    /// Leaves the file where it is.
    pub fn leave(mut self) -> PathBuf {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for KeptLatents {
    fn drop(&mut self) {
        let removed = self.0.take().map_or(Ok(()), std::fs::remove_file);
        if let Err(error) = removed {
            tracing::warn!("the finished latents stay: {error}");
        }
    }
}

/// Latents, and where they are kept until they are pictures.
pub(super) struct Rescue<'a> {
    latents: &'a Tensor<4>,
    path: Option<&'a Path>,
    /// The file, once it is written.
    saved: Option<KeptLatents>,
}

impl<'a> Rescue<'a> {
    /// Nothing is written yet.
    pub(super) fn new(latents: &'a Tensor<4>, path: Option<&'a Path>) -> Self {
        Self {
            latents,
            path,
            saved: None,
        }
    }

    /// Writes the latents, once, and over no other file. What prevents it is said and prevents nothing else.
    pub(super) fn save(&mut self, warn: &mut dyn FnMut(&str)) {
        let Some(path) = self.path.filter(|_| self.saved.is_none()) else {
            return;
        };
        let path = unused(path);
        match write_latents(&path, self.latents) {
            Ok(()) => self.saved = Some(KeptLatents(Some(path))),
            Err(error) => warn(&format!("the finished latents cannot be kept: {error}")),
        }
    }

    /// What was written, if anything was.
    pub(super) fn kept(self) -> Option<KeptLatents> {
        self.saved
    }

    /// `error`, and where the latents are.
    pub(super) fn named(self, error: Error) -> Error {
        match self.saved {
            Some(kept) => DeviceError::Undecoded {
                cause: Box::new(error),
                path: kept.leave(),
            }
            .into(),
            None => error,
        }
    }
}

/// `error`, for which pictures could not be written, and where their latents are: in the file that is `kept`, or else in one at `path`,
/// if at least that can be written.
pub(super) fn unwritten(
    latents: &Tensor<4>,
    kept: Option<KeptLatents>,
    path: Option<&Path>,
    error: Error,
) -> Error {
    let mut rescue = Rescue::new(latents, path);
    rescue.saved = kept;
    rescue.save(&mut |reason| tracing::debug!("{reason}"));
    match rescue.saved {
        Some(kept) => FileError::Unwritten {
            cause: Box::new(error),
            path: kept.leave(),
        }
        .into(),
        None => error,
    }
}

/// `path` where no file is, else the first of `fox.latents.1.safetensors`, `fox.latents.2.safetensors`, … that is free: another run may
/// have left its latents, or these may be what this run began from.
fn unused(path: &Path) -> PathBuf {
    let kind = path.extension().unwrap_or_default().to_string_lossy();
    let numbered = (1..).map(|number| path.with_extension(format!("{number}.{kind}")));
    let mut names = std::iter::once(path.to_owned()).chain(numbered);
    let free = names.find(|name| !name.exists());
    free.unwrap_or_else(|| path.to_owned())
}
