//! Finished latents in a file, so that a failure after the denoising loop does not lose them.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;

use super::tensor_file::write_kept;
use crate::error::{DeviceError, Error, FileError};
use crate::pipeline::request::Rescue;

/// Finished latents in a file, until their pictures are safe: dropping this removes the file.
#[derive(Debug)]
pub struct KeptLatents {
    path: Option<PathBuf>,
    /// Whether the file says how it is decoded.
    told: bool,
}

impl KeptLatents {
    /// Leaves the file where it is.
    pub fn leave(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }

    /// Whether the run's recipe is in the file, so that nothing else is needed to decode it.
    pub fn has_recipe(&self) -> bool {
        self.told
    }
}

impl Drop for KeptLatents {
    fn drop(&mut self) {
        let removed = self.path.take().map_or(Ok(()), std::fs::remove_file);
        if let Err(error) = removed {
            tracing::warn!("the finished latents stay: {error}");
        }
    }
}

/// Latents, and where they are kept until they are pictures.
pub(super) struct Rescuer<'a> {
    latents: &'a Tensor<4>,
    asked: Option<&'a Rescue>,
    /// The file, once it is written.
    saved: Option<KeptLatents>,
}

impl<'a> Rescuer<'a> {
    /// Nothing is written yet.
    pub(super) fn new(latents: &'a Tensor<4>, asked: Option<&'a Rescue>) -> Self {
        Self {
            latents,
            asked,
            saved: None,
        }
    }

    /// Writes the latents, once, and over no other file. What prevents it is said and prevents nothing else.
    pub(super) fn save(&mut self, warn: &mut dyn FnMut(&str)) {
        let Some(asked) = self.asked.filter(|_| self.saved.is_none()) else {
            return;
        };
        let path = unused(&asked.path);
        match write_kept(&path, self.latents, &asked.texts) {
            Ok(told) => {
                let path = Some(path);
                self.saved = Some(KeptLatents { path, told });
            }
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
                told: kept.has_recipe(),
                path: kept.leave(),
            }
            .into(),
            None => error,
        }
    }
}

/// `error`, for which pictures could not be written, and where their latents are: in the file that is `kept`, or else in one that is
/// `asked` for, if at least that can be written.
pub(super) fn unwritten(
    latents: &Tensor<4>,
    kept: Option<KeptLatents>,
    asked: Option<&Rescue>,
    error: Error,
) -> Error {
    let mut rescue = Rescuer::new(latents, asked);
    rescue.saved = kept;
    rescue.save(&mut |reason| tracing::debug!("{reason}"));
    match rescue.saved {
        Some(kept) => FileError::Unwritten {
            cause: Box::new(error),
            told: kept.has_recipe(),
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
