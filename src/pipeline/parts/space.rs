//! What a model denoises in, and how that becomes pictures.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::error::Error;
use crate::models::vae::AutoencoderKl;
use crate::pipeline::made::{Decoder, Decoding, KeptLatents, of_pixels};
use crate::pipeline::request::Rescue;

/// Turns what was denoised into pictures, `[items · frames, 3, height, width]` in 0 to 1.
pub(in crate::pipeline) trait Space: Debug + Send + Sync {
    /// Of a run that goes on, or of latents that were kept.
    fn decode(&self, latents: Tensor<4>, how: Decoding) -> Result<Tensor<4>, Error>;

    /// At the end of a run, which must not be lost: `rescue` is where latents are kept if memory is short, and `warn` says so.
    fn finish(
        &self,
        latents: Tensor<4>,
        how: Decoding,
        rescue: Option<&Rescue>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<(Tensor<4>, Option<KeptLatents>), Error>;

    /// What turns pictures into latents, where runs can start from pictures.
    fn autoencoder(&self) -> Option<&AutoencoderKl>;
}

/// Latents.
impl Space for Decoder {
    fn decode(&self, latents: Tensor<4>, how: Decoding) -> Result<Tensor<4>, Error> {
        self.decode(latents, how)
    }

    fn finish(
        &self,
        latents: Tensor<4>,
        how: Decoding,
        rescue: Option<&Rescue>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<(Tensor<4>, Option<KeptLatents>), Error> {
        self.finish(latents, how, rescue, warn)
    }

    fn autoencoder(&self) -> Option<&AutoencoderKl> {
        Some(self.vae())
    }
}

/// Pictures themselves, -1 to 1.
#[derive(Debug)]
pub(super) struct Pixels;

impl Space for Pixels {
    fn decode(&self, samples: Tensor<4>, _how: Decoding) -> Result<Tensor<4>, Error> {
        of_pixels(samples)
    }

    fn finish(
        &self,
        samples: Tensor<4>,
        how: Decoding,
        _rescue: Option<&Rescue>,
        _warn: &mut dyn FnMut(&str),
    ) -> Result<(Tensor<4>, Option<KeptLatents>), Error> {
        Ok((self.decode(samples, how)?, None))
    }

    fn autoencoder(&self) -> Option<&AutoencoderKl> {
        None
    }
}
