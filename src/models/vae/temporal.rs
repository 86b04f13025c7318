//! The decoder that looks along the frames of a film.
//!
//! Source: Blattmann et al., "Align your Latents" (arXiv 2304.08818, section 3.1.1); behaviour as diffusers'
//! `AutoencoderKLTemporalDecoder`.

use burn::module::Module;
use burn::nn::GroupNorm;
use burn::nn::conv::{Conv2d, Conv3d};
use burn::tensor::{DType, Device, Tensor};

use super::config::{Level, VaeConfig};
use super::layers::{NORM_EPSILON, mid_attention};
use crate::nn::frames::{along_frames, conv_frames, one_by_one, side_by_side};
use crate::nn::map_attention::MapAttention;
use crate::nn::resnet::{ResnetConfig, Upsample2d};
use crate::nn::spatio_temporal::{ShareOf, SpatioTemporalConfig, SpatioTemporalResBlock};
use crate::nn::{conv3x3, group_norm};
use crate::ops::{self, group_norm_silu};
use crate::recall::Recall;

/// Epsilon of the norms along frames.
const TEMPORAL_EPSILON: f64 = 1e-5;

fn resnet(input: usize, output: usize, groups: usize, device: &Device) -> SpatioTemporalResBlock {
    let spatial = ResnetConfig {
        input,
        output,
        time_width: None,
        groups,
        epsilon: NORM_EPSILON,
    };
    let config = SpatioTemporalConfig {
        spatial,
        temporal_epsilon: TEMPORAL_EPSILON,
        share: ShareOf::Temporal,
    };
    SpatioTemporalResBlock::new(config, device)
}

/// `resnets` over one film, `[frames, channels, height, width]`.
fn run(resnets: &[SpatioTemporalResBlock], film: Tensor<4>) -> Tensor<4> {
    let frames = film.dims()[0];
    let forward = |film, resnet: &SpatioTemporalResBlock| resnet.forward(film, None, frames);
    resnets.iter().fold(film, forward)
}

#[derive(Module, Debug)]
struct TemporalMidBlock {
    resnets: Vec<SpatioTemporalResBlock>,
    attentions: Vec<MapAttention>,
}

impl TemporalMidBlock {
    fn new(config: &VaeConfig, device: &Device) -> Self {
        let (channels, groups) = (config.mid_channels(), config.groups);
        Self {
            resnets: (0..config.layers)
                .map(|_| resnet(channels, channels, groups, device))
                .collect(),
            attentions: vec![mid_attention(channels, groups, device)],
        }
    }

    fn forward(&self, film: Tensor<4>) -> Tensor<4> {
        let (before, after) = self.resnets.split_at(1);
        let film = self.attentions[0].forward(run(before, film), &mut Recall::none());
        run(after, film)
    }
}

#[derive(Module, Debug)]
struct TemporalUpBlock {
    resnets: Vec<SpatioTemporalResBlock>,
    upsamplers: Vec<Upsample2d>,
}

impl TemporalUpBlock {
    fn new(level: Level, groups: usize, device: &Device) -> Self {
        let inputs = std::iter::once(level.input).chain(std::iter::repeat(level.output));
        let upsampler = || Upsample2d::new(level.output, device);
        Self {
            resnets: inputs
                .take(level.resnets)
                .map(|input| resnet(input, level.output, groups, device))
                .collect(),
            upsamplers: level.resample.then(upsampler).into_iter().collect(),
        }
    }

    fn forward(&self, film: Tensor<4>) -> Tensor<4> {
        let film = run(&self.resnets, film);
        let enlarge = |film: Tensor<4>, layer: &Upsample2d| {
            let [_, _, height, width] = film.dims();
            layer.forward(film, [2 * height, 2 * width])
        };
        self.upsamplers.iter().fold(film, enlarge)
    }
}

/// Latents of a film to its frames.
#[derive(Module, Debug)]
pub(super) struct TemporalDecoder {
    conv_in: Conv2d,
    mid_block: TemporalMidBlock,
    up_blocks: Vec<TemporalUpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    time_conv_out: Conv3d,
}

impl TemporalDecoder {
    pub(super) fn new(config: &VaeConfig, device: &Device) -> Self {
        let (groups, last) = (config.groups, config.channels[0]);
        let levels = config.decoder_levels().into_iter();
        Self {
            conv_in: conv3x3(config.latent_channels, config.mid_channels(), 1, device),
            mid_block: TemporalMidBlock::new(config, device),
            up_blocks: levels
                .map(|level| TemporalUpBlock::new(level, groups, device))
                .collect(),
            conv_norm_out: group_norm(groups, last, NORM_EPSILON, device),
            conv_out: conv3x3(last, config.out_channels, 1, device),
            time_conv_out: conv_frames(config.out_channels, config.out_channels, device),
        }
    }

    /// The type it computes in, which inputs must have too.
    pub(super) fn dtype(&self) -> DType {
        ops::dtype(self.conv_in.bias.as_ref())
    }

    /// `[frames, latent_channels, height, width]` to `[frames, out_channels, factor · height, factor · width]`.
    pub(super) fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let frames = latents.dims()[0];
        let film = self.mid_block.forward(ops::conv2d(&self.conv_in, latents));
        let up = |film, block: &TemporalUpBlock| block.forward(film);
        let film = self.up_blocks.iter().fold(film, up); // [frames, channels, factor · height, factor · width]
        let film = ops::conv2d(&self.conv_out, group_norm_silu(&self.conv_norm_out, film));
        let [_, _, height, width] = film.dims();
        let mixed = along_frames(&self.time_conv_out, side_by_side(film, frames));
        one_by_one(mixed, [height, width])
    }
}
