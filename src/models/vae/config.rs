//! What an autoencoder is built from.

use serde::Deserialize;

use crate::error::{ConfigError, Error};
use crate::models::json::{Sides, all_positive, current_block, current_class, each_positive, only};

use super::statistics::Statistics;
use super::tiny::{TinyConfig, TinyJson};

/// `vae/config.json` as it stands.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct VaeJson {
    #[serde(rename = "_class_name")]
    class_name: Option<String>,
    act_fn: Option<String>,
    block_out_channels: Option<Vec<usize>>,
    down_block_types: Option<Vec<String>>,
    up_block_types: Option<Vec<String>>,
    force_upcast: Option<bool>,
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    latent_channels: Option<usize>,
    latents_mean: Option<Vec<f64>>,
    latents_std: Option<Vec<f64>>,
    layers_per_block: Option<usize>,
    mid_block_add_attention: Option<bool>,
    norm_num_groups: Option<usize>,
    sample_size: Option<Sides>,
    scaling_factor: Option<f64>,
    shift_factor: Option<f64>,
    use_quant_conv: Option<bool>,
    use_post_quant_conv: Option<bool>,
    num_vq_embeddings: Option<usize>,
    vq_embed_dim: Option<usize>,
    norm_type: Option<String>,
    lookup_from_codebook: Option<bool>,
    #[serde(flatten)]
    tiny: TinyJson,
}

/// Class of the autoencoders that quantise their latents.
const QUANTISING: &str = "VQModel";

/// Class of the autoencoders whose decoder looks along the frames of a film.
const OVER_FRAMES: &str = "AutoencoderKLTemporalDecoder";

/// Class of the tiny autoencoders.
const TINY: &str = "AutoencoderTiny";

/// Channels of a picture.
const COLOURS: usize = 3;

/// Side of the pictures that tiles of a tiny autoencoder follow, in pixels.
const TINY_SAMPLE: usize = 512;

/// Residual blocks of a level, and of the middle, of a decoder that looks along frames: the class runs no others in the middle.
const LAYERS_OVER_FRAMES: usize = 2;

/// The shape of an autoencoder and the units of its latents. What a checkpoint leaves out has the default of diffusers'
/// `AutoencoderKL`, for one with a codebook `VQModel`, for a tiny one `AutoencoderTiny`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "the checkpoint's own switches"
)]
#[derive(Debug, Clone, PartialEq)]
pub struct VaeConfig {
    /// Channels of the pictures read.
    pub in_channels: usize,
    /// Channels of the pictures made.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of each level, largest pictures first; each level but the last halves the sides.
    pub channels: Vec<usize>,
    /// Residual blocks of an encoder level; the decoder's levels have one more.
    pub layers: usize,
    /// Groups of every norm.
    pub groups: usize,
    /// Self-attention between the two residual blocks of the middle.
    pub mid_attention: bool,
    /// A 1x1 convolution behind the encoder.
    pub quant_conv: bool,
    /// A 1x1 convolution in front of the decoder.
    pub post_quant_conv: bool,
    /// Codes that latents are rounded to in front of the decoder; `None` for an autoencoder of moments.
    pub codes: Option<usize>,
    /// Denoiser's latents per unit of this autoencoder's (0.18215 for SD 1.x and 2.x).
    pub scaling_factor: f64,
    /// Subtracted from this autoencoder's latents before they are scaled.
    pub shift_factor: f64,
    /// By which each channel is normalised, besides; `None` where the factors serve all channels.
    pub statistics: Option<Statistics>,
    /// Side of the pictures it was made for, in pixels; tiles follow it.
    pub sample_size: usize,
    /// Overflows f16 and is to be run in f32.
    pub force_upcast: bool,
    /// The decoder looks along the frames of a film.
    pub over_frames: bool,
    /// Built of a few plain convolutions; `layers`, `groups` and what follows from them say nothing then.
    pub tiny: Option<TinyConfig>,
}

impl VaeConfig {
    /// Fills in defaults and checks what the checkpoint asks for.
    ///
    /// # Errors
    ///
    /// If it asks for a block, an activation or a normalisation of latents that is not supported, for other pictures than those in colour, or
    /// for nothing where something is needed.
    pub fn new(json: VaeJson) -> Result<Self, Error> {
        let config = if json.class_name.as_deref().map(current_class) == Some(TINY) {
            Self::tiny(json)?
        } else {
            Self::deep(json)?
        };
        scaled("scaling_factor", config.scaling_factor)?;
        config.check_sizes()?;
        Ok(config)
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        for (key, found) in [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
        ] {
            if found != COLOURS {
                let hint = format!("pictures have {COLOURS} channels: red, green and blue");
                return Err(ConfigError::unsupported(key, found, hint));
            }
        }
        each_positive("block_out_channels", &self.channels)?;
        all_positive(&[
            ("latent_channels", self.latent_channels),
            ("num_vq_embeddings", self.codes.unwrap_or(1)),
            // A tiny one has none.
            (
                "layers_per_block",
                if self.tiny.is_some() { 1 } else { self.layers },
            ),
        ])
    }

    /// Of residual blocks and norms.
    fn deep(json: VaeJson) -> Result<Self, Error> {
        let channels = json.block_out_channels.unwrap_or_else(|| vec![64]);
        let groups = json.norm_num_groups.unwrap_or(32);
        let class_name = json
            .class_name
            .as_deref()
            .map(current_class)
            .map(str::to_owned);
        let quantises = class_name.as_deref() == Some(QUANTISING);
        let latent_channels = json
            .latent_channels
            .unwrap_or(if quantises { 3 } else { 4 });
        let over_frames = class_name.as_deref() == Some(OVER_FRAMES);
        only(
            "_class_name",
            class_name,
            &["AutoencoderKL", QUANTISING, OVER_FRAMES, TINY],
        )?;
        let layers = json.layers_per_block.unwrap_or(1);
        layered(layers, over_frames)?;
        only("norm_type", json.norm_type, &["group"])?;
        whole_latents(json.vq_embed_dim, latent_channels)?;
        decoded(json.lookup_from_codebook)?;
        only("act_fn", json.act_fn, &["silu", "swish"])?;
        let halves = [json.down_block_types, json.up_block_types];
        blocks_of_halves(halves, over_frames, &channels)?;
        grouped(&channels, groups)?;
        let shift_factor = json.shift_factor.unwrap_or(0.0);
        let plain = !(quantises || over_frames || shift_factor.abs() > 0.0);
        let statistics = Statistics::new(json.latents_mean, json.latents_std, latent_channels)?;
        let statistics = statistics.map(|each| each.placed(plain)).transpose()?;
        Ok(Self {
            in_channels: json.in_channels.unwrap_or(3),
            out_channels: json.out_channels.unwrap_or(3),
            latent_channels,
            channels,
            layers,
            groups,
            mid_attention: json.mid_block_add_attention.unwrap_or(true),
            quant_conv: json.use_quant_conv.unwrap_or(true),
            post_quant_conv: json.use_post_quant_conv.unwrap_or(!over_frames),
            codes: quantises.then(|| json.num_vq_embeddings.unwrap_or(256)),
            scaling_factor: json.scaling_factor.unwrap_or(0.18215),
            shift_factor,
            statistics,
            sample_size: json.sample_size.unwrap_or(Sides::Square(32)).resolve()[0],
            force_upcast: json.force_upcast.unwrap_or(!quantises),
            over_frames,
            tiny: None,
        })
    }

    /// As diffusers' `AutoencoderTiny`: its latents are the denoiser's.
    fn tiny(json: VaeJson) -> Result<Self, ConfigError> {
        only("act_fn", json.act_fn, &["relu"])?;
        let tiny = json.tiny.resolve()?;
        Ok(Self {
            in_channels: json.in_channels.unwrap_or(3),
            out_channels: json.out_channels.unwrap_or(3),
            latent_channels: json.latent_channels.unwrap_or(4),
            channels: vec![tiny.decoder.channels; tiny.decoder.blocks.len()],
            layers: 0,
            groups: 1,
            mid_attention: false,
            quant_conv: false,
            post_quant_conv: false,
            codes: None,
            scaling_factor: json.scaling_factor.unwrap_or(1.0),
            shift_factor: json.shift_factor.unwrap_or(0.0),
            statistics: None,
            sample_size: TINY_SAMPLE,
            force_upcast: json.force_upcast.unwrap_or(false),
            over_frames: false,
            tiny: Some(tiny),
        })
    }

    /// Whether a picture's latents are drawn from a distribution; else every picture has one encoding.
    pub fn draws(&self) -> bool {
        self.codes.is_none() && self.tiny.is_none()
    }

    /// Pixels per latent position, along each side.
    pub fn factor(&self) -> usize {
        1 << (self.channels.len() - 1)
    }

    /// Channels behind the encoder: the latents, or their moments.
    pub(super) fn encoded_channels(&self) -> usize {
        if self.draws() {
            2 * self.latent_channels
        } else {
            self.latent_channels
        }
    }

    /// Channels of the middle of both halves.
    pub(super) fn mid_channels(&self) -> usize {
        self.channels[self.channels.len() - 1]
    }

    /// The most channels that go into a convolution, and that come out of one.
    pub fn widest(&self) -> [usize; 2] {
        let most = self.channels.iter().copied().max().unwrap_or(0);
        [most, most]
    }

    /// Levels of the encoder, in the order they run.
    pub(super) fn encoder_levels(&self) -> Vec<Level> {
        levels(&self.channels, self.channels[0], self.layers)
    }

    /// Levels of the decoder, in the order they run.
    pub(super) fn decoder_levels(&self) -> Vec<Level> {
        let channels = self.channels.iter().rev().copied().collect::<Vec<_>>();
        levels(&channels, channels[0], self.layers + 1)
    }
}

/// One level of a half: residual blocks at one size, then a change of size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// Channels of the first block's input.
    pub(super) input: usize,
    /// Channels of everything behind it.
    pub(super) output: usize,
    /// Residual blocks.
    pub(super) resnets: usize,
    /// Whether the sides change behind them.
    pub(super) resample: bool,
}

fn levels(channels: &[usize], first: usize, resnets: usize) -> Vec<Level> {
    let inputs = std::iter::once(first).chain(channels.iter().copied());
    inputs
        .zip(channels)
        .enumerate()
        .map(|(index, (input, &output))| Level {
            input,
            output,
            resnets,
            resample: index + 1 < channels.len(),
        })
        .collect()
}

/// Of encoder and decoder; a decoder over frames has blocks of its own.
fn blocks_of_halves(
    [down, up]: [Option<Vec<String>>; 2],
    over_frames: bool,
    channels: &[usize],
) -> Result<(), ConfigError> {
    blocks("down_block_types", down, "DownEncoderBlock2D", channels)?;
    if over_frames {
        return Ok(());
    }
    blocks("up_block_types", up, "UpDecoderBlock2D", channels)
}

fn blocks(
    key: &str,
    names: Option<Vec<String>>,
    known: &str,
    channels: &[usize],
) -> Result<(), ConfigError> {
    let names = names.unwrap_or_else(|| vec![known.to_owned()]);
    if names.len() != channels.len() || channels.is_empty() {
        let hint = format!("`block_out_channels` names {} levels", channels.len());
        return Err(ConfigError::unsupported(key, names.len(), hint));
    }
    names
        .into_iter()
        .try_for_each(|name| only(key, Some(current_block(&name).to_owned()), &[known]))
}

/// A decoder over frames has a middle of its own.
fn layered(layers: usize, over_frames: bool) -> Result<(), ConfigError> {
    if !over_frames || layers == LAYERS_OVER_FRAMES {
        return Ok(());
    }
    let hint = format!("built over frames is {LAYERS_OVER_FRAMES}");
    Err(ConfigError::unsupported("layers_per_block", layers, hint))
}

fn grouped(channels: &[usize], groups: usize) -> Result<(), ConfigError> {
    let divides = |&width: &usize| groups > 0 && width.is_multiple_of(groups);
    if channels.iter().all(divides) {
        return Ok(());
    }
    let hint = format!("it must divide `block_out_channels`, {channels:?}");
    Err(ConfigError::unsupported("norm_num_groups", groups, hint))
}

/// Codes have the latents' own channels.
fn whole_latents(codes: Option<usize>, latents: usize) -> Result<(), ConfigError> {
    match codes {
        Some(width) if width != latents => {
            let hint = format!("built is the width of the latents, `latent_channels` = {latents}");
            Err(ConfigError::unsupported("vq_embed_dim", width, hint))
        }
        _ => Ok(()),
    }
}

fn decoded(lookup: Option<bool>) -> Result<(), ConfigError> {
    match lookup {
        Some(true) => {
            let hint = "latents that are code numbers are not supported";
            Err(ConfigError::unsupported("lookup_from_codebook", true, hint))
        }
        _ => Ok(()),
    }
}

/// Latents are divided by it in front of the decoder.
fn scaled(key: &str, factor: f64) -> Result<(), ConfigError> {
    if factor.is_normal() {
        return Ok(());
    }
    let hint = "latents are divided by it: it is a number that is not 0";
    Err(ConfigError::unsupported(key, factor, hint))
}

#[cfg(test)]
mod tests;
