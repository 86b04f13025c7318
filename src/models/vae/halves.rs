//! The halves of an autoencoder, of whatever kind.

#![allow(
    clippy::large_enum_variant,
    reason = "an autoencoder has one encoder and one decoder"
)]

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use super::VaeConfig;
use super::layers::{Decoder, Encoder};
use super::temporal::TemporalDecoder;
use super::tiny::{TinyDecoder, TinyEncoder};

/// Pixels to moments, or to latents where nothing is drawn.
#[derive(Module, Debug)]
pub(super) enum AnyEncoder {
    /// Of residual blocks and norms.
    Deep(Encoder),
    /// Of a few convolutions.
    Tiny(TinyEncoder),
}

impl AnyEncoder {
    pub(super) fn new(config: &VaeConfig, device: &Device) -> Self {
        let (pixels, latents) = (config.in_channels, config.latent_channels);
        match &config.tiny {
            Some(tiny) => Self::Tiny(TinyEncoder::new(tiny, pixels, latents, device)),
            None => Self::Deep(Encoder::new(config, device)),
        }
    }

    /// `[rows, in_channels, height, width]` to `[rows, encoded_channels, height / factor, width / factor]`.
    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Deep(encoder) => encoder.forward(pixels),
            Self::Tiny(encoder) => encoder.forward(pixels),
        }
    }
}

/// Latents to pixels.
#[derive(Module, Debug)]
pub(super) enum AnyDecoder {
    /// Every row by itself.
    Pictures(Decoder),
    /// Rows are the frames of a film.
    Frames(TemporalDecoder),
    /// Every row by itself, of a few convolutions.
    Tiny(TinyDecoder),
}

impl AnyDecoder {
    pub(super) fn new(config: &VaeConfig, device: &Device) -> Self {
        let (latents, pixels) = (config.latent_channels, config.out_channels);
        match &config.tiny {
            Some(tiny) => Self::Tiny(TinyDecoder::new(tiny, latents, pixels, device)),
            None if config.over_frames => Self::Frames(TemporalDecoder::new(config, device)),
            None => Self::Pictures(Decoder::new(config, device)),
        }
    }

    /// The type it computes in, which inputs must have too.
    pub(super) fn dtype(&self) -> DType {
        match self {
            Self::Pictures(decoder) => decoder.dtype(),
            Self::Frames(decoder) => decoder.dtype(),
            Self::Tiny(decoder) => decoder.dtype(),
        }
    }

    /// `[rows, latent_channels, height, width]` to `[rows, out_channels, factor · height, factor · width]`.
    pub(super) fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Pictures(decoder) => decoder.forward(latents),
            Self::Frames(decoder) => decoder.forward(latents),
            Self::Tiny(decoder) => decoder.forward(latents),
        }
    }
}
