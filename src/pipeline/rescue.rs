//! Finished latents in a file, so that a failure behind the denoising loop does not lose them.

use std::path::Path;

use burn::tensor::Tensor;

use super::tensor_file::write_latents;
use crate::error::{DeviceError, Error};

/// Latents, and where they are kept until they are pictures.
pub(super) struct Rescue<'a> {
    latents: &'a Tensor<4>,
    path: Option<&'a Path>,
    saved: bool,
}

impl<'a> Rescue<'a> {
    /// Nothing is written yet.
    pub(super) fn new(latents: &'a Tensor<4>, path: Option<&'a Path>) -> Self {
        Self {
            latents,
            path,
            saved: false,
        }
    }

    /// Writes the latents, once. What prevents it is said and prevents nothing else.
    pub(super) fn save(&mut self, warn: &mut dyn FnMut(&str)) {
        let Some(path) = self.path.filter(|_| !self.saved) else {
            return;
        };
        match write_latents(path, self.latents) {
            Ok(()) => self.saved = true,
            Err(error) => warn(&format!("the finished latents cannot be kept: {error}")),
        }
    }

    /// Removes what was written.
    pub(super) fn discard(self) {
        let written = self.path.filter(|_| self.saved);
        let removed = written.map_or(Ok(()), std::fs::remove_file);
        if let Err(error) = removed {
            tracing::warn!("the finished latents stay behind: {error}");
        }
    }

    /// `error`, and where the latents are.
    pub(super) fn named(self, error: Error) -> Error {
        match self.path.filter(|_| self.saved) {
            Some(path) => DeviceError::Undecoded {
                cause: Box::new(error),
                path: path.to_owned(),
            }
            .into(),
            None => error,
        }
    }
}
