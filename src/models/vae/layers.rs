//! The two halves of the autoencoder and what they share.

use burn::module::Module;
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::{DType, Device, Tensor};

use super::config::{Level, VaeConfig};
use crate::nn::map_attention::{MapAttention, MapAttentionConfig};
use crate::nn::resnet::{Downsample2d, ResnetBlock2d, ResnetConfig, Upsample2d};
use crate::nn::{conv3x3, group_norm};
use crate::ops::{self, group_norm_silu};
use crate::recall::Recall;

/// Epsilon of every norm.
pub(super) const NORM_EPSILON: f64 = 1e-6;

fn resnet(input: usize, output: usize, groups: usize, device: &Device) -> ResnetBlock2d {
    let config = ResnetConfig {
        input,
        output,
        time_width: None,
        groups,
        epsilon: NORM_EPSILON,
    };
    ResnetBlock2d::new(config, device)
}

fn level_resnets(level: Level, groups: usize, device: &Device) -> Vec<ResnetBlock2d> {
    let first = std::iter::once(level.input);
    let inputs = first.chain(std::iter::repeat(level.output));
    inputs
        .take(level.resnets)
        .map(|input| resnet(input, level.output, groups, device))
        .collect()
}

fn run_resnets(resnets: &[ResnetBlock2d], hidden: Tensor<4>) -> Tensor<4> {
    resnets
        .iter()
        .fold(hidden, |hidden, resnet| resnet.forward(hidden, None))
}

/// Self-attention of the middle, with one head.
pub(super) fn mid_attention(channels: usize, groups: usize, device: &Device) -> MapAttention {
    let config = MapAttentionConfig {
        channels,
        heads: 1,
        groups,
        epsilon: NORM_EPSILON,
    };
    MapAttention::new(config, device)
}

/// The smallest, widest level of both halves.
#[derive(Module, Debug)]
struct MidBlock {
    resnets: Vec<ResnetBlock2d>,
    attentions: Vec<MapAttention>,
}

impl MidBlock {
    fn new(config: &VaeConfig, device: &Device) -> Self {
        let (channels, groups) = (config.mid_channels(), config.groups);
        let attention = || mid_attention(channels, groups, device);
        Self {
            resnets: (0..2)
                .map(|_| resnet(channels, channels, groups, device))
                .collect(),
            attentions: config.mid_attention.then(attention).into_iter().collect(),
        }
    }

    fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        let (before, after) = self.resnets.split_at(1);
        let hidden = run_resnets(before, hidden);
        let attend =
            |hidden, attention: &MapAttention| attention.forward(hidden, &mut Recall::none());
        let hidden = self.attentions.iter().fold(hidden, attend);
        run_resnets(after, hidden)
    }
}

#[derive(Module, Debug)]
struct DownBlock {
    resnets: Vec<ResnetBlock2d>,
    downsamplers: Vec<Downsample2d>,
}

impl DownBlock {
    fn new(level: Level, groups: usize, device: &Device) -> Self {
        let downsampler = || Downsample2d::new_asymmetric(level.output, device);
        Self {
            resnets: level_resnets(level, groups, device),
            downsamplers: level.resample.then(downsampler).into_iter().collect(),
        }
    }

    fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        let hidden = run_resnets(&self.resnets, hidden);
        let shrink = |hidden, layer: &Downsample2d| layer.forward(hidden);
        self.downsamplers.iter().fold(hidden, shrink)
    }
}

#[derive(Module, Debug)]
struct UpBlock {
    resnets: Vec<ResnetBlock2d>,
    upsamplers: Vec<Upsample2d>,
}

impl UpBlock {
    fn new(level: Level, groups: usize, device: &Device) -> Self {
        let upsampler = || Upsample2d::new(level.output, device);
        Self {
            resnets: level_resnets(level, groups, device),
            upsamplers: level.resample.then(upsampler).into_iter().collect(),
        }
    }

    fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        let hidden = run_resnets(&self.resnets, hidden);
        let enlarge = |hidden: Tensor<4>, layer: &Upsample2d| {
            let [_, _, height, width] = hidden.dims();
            layer.forward(hidden, [2 * height, 2 * width])
        };
        self.upsamplers.iter().fold(hidden, enlarge)
    }
}

/// Pixels to moments, or to latents where there is a codebook.
#[derive(Module, Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    pub(super) fn new(config: &VaeConfig, device: &Device) -> Self {
        let (groups, mid) = (config.groups, config.mid_channels());
        let levels = config.encoder_levels().into_iter();
        Self {
            conv_in: conv3x3(config.in_channels, config.channels[0], 1, device),
            down_blocks: levels
                .map(|level| DownBlock::new(level, groups, device))
                .collect(),
            mid_block: MidBlock::new(config, device),
            conv_norm_out: group_norm(groups, mid, NORM_EPSILON, device),
            conv_out: conv3x3(mid, config.encoded_channels(), 1, device),
        }
    }

    /// `[rows, in_channels, height, width]` to `[rows, encoded_channels, height / factor, width / factor]`.
    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let hidden = ops::conv2d(&self.conv_in, pixels);
        let down = |hidden, block: &DownBlock| block.forward(hidden);
        let hidden = self.down_blocks.iter().fold(hidden, down);
        let hidden = self.mid_block.forward(hidden);
        ops::conv2d(&self.conv_out, group_norm_silu(&self.conv_norm_out, hidden))
    }
}

/// Latents to pixels.
#[derive(Module, Debug)]
pub(super) struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    pub(super) fn new(config: &VaeConfig, device: &Device) -> Self {
        let (groups, last) = (config.groups, config.channels[0]);
        let levels = config.decoder_levels().into_iter();
        Self {
            conv_in: conv3x3(config.latent_channels, config.mid_channels(), 1, device),
            mid_block: MidBlock::new(config, device),
            up_blocks: levels
                .map(|level| UpBlock::new(level, groups, device))
                .collect(),
            conv_norm_out: group_norm(groups, last, NORM_EPSILON, device),
            conv_out: conv3x3(last, config.out_channels, 1, device),
        }
    }

    /// The type it computes in, which inputs must have too.
    pub(super) fn dtype(&self) -> DType {
        ops::dtype(self.conv_in.bias.as_ref())
    }

    /// `[rows, latent_channels, height, width]` to `[rows, out_channels, factor · height, factor · width]`.
    pub(super) fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let hidden = self.mid_block.forward(ops::conv2d(&self.conv_in, latents));
        let up = |hidden, block: &UpBlock| block.forward(hidden);
        let hidden = self.up_blocks.iter().fold(hidden, up);
        ops::conv2d(&self.conv_out, group_norm_silu(&self.conv_norm_out, hidden))
    }
}
