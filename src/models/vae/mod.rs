//! The autoencoder between pixels and latents: of moments (diffusers' `AutoencoderKL`), or with a codebook in front of its decoder
//! (`VQModel`), or with a decoder that looks along the frames of a film (`AutoencoderKLTemporalDecoder`), or tiny (`AutoencoderTiny`).
//!
//! Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752, section 3.1 and
//! appendix G).

mod codebook;
mod config;
mod cost;
mod halves;
mod layers;
mod statistics;
mod temporal;
mod tiles;
mod tiny;

pub use config::{VaeConfig, VaeJson};
pub use statistics::Statistics;
pub use tiny::{TinyConfig, TinyHalf};

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::conv1x1;
use crate::ops;
use codebook::Codebook;
use halves::{AnyDecoder, AnyEncoder};
use tiles::Tiles;

/// The log variance's range; outside of it, exponentials are of no use.
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);

/// Whether large pictures are worked on in overlapping tiles, which bounds memory and changes the result a little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tiling {
    /// Where the whole would take more than 2 GiB.
    #[default]
    Automatic,
    /// Wherever the picture is larger than a tile.
    Always,
    /// Never, whatever memory it takes.
    Never,
}

/// The distribution of latents that a picture is encoded to, in the autoencoder's own units.
#[derive(Debug, Clone)]
pub struct Moments {
    /// `[rows, latent_channels, height, width]`
    pub mean: Tensor<4>,
    /// Natural logarithm of the variance, clamped to [-30, 20]; of the mean's shape. Where nothing is drawn
    /// ([`VaeConfig::draws`]) it is -30, which no draw in f32 tells from 0.
    pub log_variance: Tensor<4>,
}

impl Moments {
    /// A draw, from standard normal `noise` of the mean's shape.
    pub fn sample(&self, noise: Tensor<4>) -> Tensor<4> {
        let deviation = (self.log_variance.clone() * 0.5).exp();
        self.mean.clone() + deviation * noise
    }
}

/// The autoencoder by the name that most checkpoints have for it.
pub type AutoencoderKl = Autoencoder;

/// The autoencoder. Latents passed in and out are the autoencoder's own; [`to_denoiser`](Self::to_denoiser) and
/// [`from_denoiser`](Self::from_denoiser) change units.
#[derive(Module, Debug)]
pub struct Autoencoder {
    encoder: AnyEncoder,
    decoder: AnyDecoder,
    quant_conv: Option<Conv2d>,
    quantize: Option<Codebook>,
    post_quant_conv: Option<Conv2d>,
    #[module(skip)]
    config: VaeConfig,
}

impl Autoencoder {
    /// Builds the autoencoder; weights stay lazy until loaded.
    pub fn new(config: VaeConfig, device: &Device) -> Self {
        let quant = |there: bool, channels| there.then(|| conv1x1(channels, channels, device));
        Self {
            encoder: AnyEncoder::new(&config, device),
            decoder: AnyDecoder::new(&config, device),
            quant_conv: quant(config.quant_conv, config.encoded_channels()),
            quantize: config
                .codes
                .map(|codes| Codebook::new(codes, config.latent_channels, device)),
            post_quant_conv: quant(config.post_quant_conv, config.latent_channels),
            config,
        }
    }

    /// What it was built from.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// The autoencoder's latents in the denoiser's units, `[rows, latent_channels, height, width]`.
    pub fn to_denoiser(&self, latents: Tensor<4>) -> Tensor<4> {
        match &self.config.statistics {
            None => (latents - self.config.shift_factor) * self.config.scaling_factor,
            Some(each) => {
                let [mean, deviation] = each.for_maps(&latents);
                (latents - mean) * self.config.scaling_factor / deviation
            }
        }
    }

    /// The denoiser's latents in the autoencoder's units, `[rows, latent_channels, height, width]`.
    pub fn from_denoiser(&self, latents: Tensor<4>) -> Tensor<4> {
        match &self.config.statistics {
            None => latents / self.config.scaling_factor + self.config.shift_factor,
            Some(each) => {
                let [mean, deviation] = each.for_maps(&latents);
                latents * deviation / self.config.scaling_factor + mean
            }
        }
    }

    /// Moments of `pixels` in [-1, 1], one row at a time; in f32 where it computes in half precision.
    ///
    /// # Shapes
    ///
    /// - pixels: `[rows, in_channels, height, width]`
    /// - moments: `[rows, latent_channels, height / factor, width / factor]`
    pub fn encode(&self, pixels: Tensor<4>, tiling: Tiling) -> Moments {
        let factor = self.config.factor();
        let side = self.config.tile();
        let tiles = Tiles::new(side * factor, side);
        let moments = each_row(pixels.cast(self.dtype()), |row| {
            let [_, _, height, width] = row.dims();
            if self
                .config
                .tiled([1, 3, height / factor, width / factor], tiling)
            {
                tiles.run(&row, |tile| self.encode_whole(tile))
            } else {
                self.encode_whole(row)
            }
        });
        let channels = self.config.latent_channels;
        let (least, most) = LOG_VARIANCE;
        let mean = moments.clone().narrow(1, 0, channels);
        let log_variance = if self.config.draws() {
            moments.narrow(1, channels, channels).clamp(least, most)
        } else {
            mean.full_like(least)
        };
        Moments { mean, log_variance }
    }

    /// The nearest code in place of every position of `latents`, `[rows, latent_channels, height, width]`, or the same latents where
    /// there is no codebook. [`decode`](Self::decode) does it by itself.
    pub fn quantise(&self, latents: Tensor<4>) -> Tensor<4> {
        match &self.quantize {
            Some(codebook) => codebook.forward(latents),
            None => latents,
        }
    }

    /// Pixels, in [-1, 1] but not clamped, of `latents`, one row at a time; in f32 where it computes in half precision.
    ///
    /// # Shapes
    ///
    /// - latents: `[rows, latent_channels, height, width]`
    /// - pixels: `[rows, out_channels, factor · height, factor · width]`
    pub fn decode(&self, latents: Tensor<4>, tiling: Tiling) -> Tensor<4> {
        self.decode_frames(latents, 1, tiling)
    }

    /// Pixels, in [-1, 1] but not clamped, of the frames of a film, `chunk` of them at a time: shapes are those of
    /// [`decode`](Self::decode). Where the decoder looks along frames, it does not look past a chunk; the last may be shorter.
    ///
    /// # Panics
    ///
    /// If `chunk` is 0.
    pub fn decode_frames(&self, latents: Tensor<4>, chunk: usize, tiling: Tiling) -> Tensor<4> {
        let side = self.config.tile();
        let tiles = Tiles::new(side, side * self.config.factor());
        each_chunk(latents.cast(self.dtype()), chunk, |frames| {
            if self.config.tiled(frames.dims(), tiling) {
                tiles.run(&frames, |tile| self.decode_whole(tile))
            } else {
                self.decode_whole(frames)
            }
        })
    }

    fn encode_whole(&self, pixels: Tensor<4>) -> Tensor<4> {
        let moments = self.encoder.forward(pixels);
        widened(match &self.quant_conv {
            Some(conv) => ops::conv2d(conv, moments),
            None => moments,
        })
    }

    fn decode_whole(&self, latents: Tensor<4>) -> Tensor<4> {
        let latents = self.quantise(latents);
        let latents = match &self.post_quant_conv {
            Some(conv) => ops::conv2d(conv, latents),
            None => latents,
        };
        widened(self.decoder.forward(latents))
    }

    /// The type it computes in, to which what it reads is brought.
    pub fn dtype(&self) -> DType {
        self.decoder.dtype()
    }
}

/// What comes out of half precision, for what is done to it in f32.
fn widened(map: Tensor<4>) -> Tensor<4> {
    match map.dtype() {
        DType::F16 | DType::BF16 => map.cast(FloatDType::F32),
        _ => map,
    }
}

/// `process` on one row after another: memory does not grow with the batch.
fn each_row(input: Tensor<4>, process: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    each_chunk(input, 1, process)
}

/// `process` on `chunk` rows at a time.
fn each_chunk(
    input: Tensor<4>,
    chunk: usize,
    process: impl Fn(Tensor<4>) -> Tensor<4>,
) -> Tensor<4> {
    let rows = input.split(chunk, 0).into_iter().map(process);
    Tensor::cat(rows.collect(), 0)
}
