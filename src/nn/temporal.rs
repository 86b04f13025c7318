//! Layers along the frames of a film: convolutions, and transformers that read no context.
//!
//! Source: Wang et al., "`ModelScope` Text-to-Video Technical Report" (arXiv 2308.06571, section 3.2); behaviour as diffusers'
//! `TemporalConvLayer` and `TransformerTemporalModel`.

use burn::module::Module;
use burn::nn::conv::Conv3d;
use burn::nn::{GroupNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::frames::{along_frames, conv_frames, one_by_one, side_by_side};
use super::group_norm;
use super::transformer::{BasicTransformerBlock, NORM_EPSILON, TransformerConfig};
use crate::ops::{self, group_norm_silu};
use crate::recall::Recall;

/// Epsilon of the norms in front of convolutions along frames, whatever the `UNet`'s own.
const CONVOLUTION_EPSILON: f64 = 1e-5;

/// A convolution along frames after a norm and `SiLU`.
#[derive(Module, Debug)]
struct NormedConvolution {
    norm: GroupNorm,
    conv: Conv3d,
}

impl NormedConvolution {
    fn new(channels: usize, groups: usize, device: &Device) -> Self {
        Self {
            norm: group_norm(groups, channels, CONVOLUTION_EPSILON, device),
            conv: conv_frames(channels, channels, device),
        }
    }

    /// `[films, channels, frames, positions]` to the same.
    fn forward(&self, films: Tensor<4>) -> Tensor<4> {
        along_frames(&self.conv, group_norm_silu(&self.norm, films))
    }
}

/// `x + conv4(conv3(conv2(conv1(x))))`, each convolution along frames and after a norm over the whole film.
#[derive(Module, Debug)]
pub struct TemporalConvLayer {
    conv1: NormedConvolution,
    conv2: NormedConvolution,
    conv3: NormedConvolution,
    conv4: NormedConvolution,
}

impl TemporalConvLayer {
    /// Builds the layer; weights stay lazy until loaded.
    pub fn new(channels: usize, groups: usize, device: &Device) -> Self {
        let convolution = || NormedConvolution::new(channels, groups, device);
        Self {
            conv1: convolution(),
            conv2: convolution(),
            conv3: convolution(),
            conv4: convolution(),
        }
    }

    /// `[films · frames, channels, height, width]` to the same.
    pub fn forward(&self, hidden: Tensor<4>, frames: usize) -> Tensor<4> {
        let [_, _, height, width] = hidden.dims();
        let films = side_by_side(hidden.clone(), frames); // [films, channels, frames, height · width]
        let layers = [&self.conv1, &self.conv2, &self.conv3, &self.conv4];
        let branch = layers
            .into_iter()
            .fold(films, |films, layer| layer.forward(films));
        hidden + one_by_one(branch, [height, width])
    }
}

/// What a transformer along frames is built from.
#[derive(Debug, Clone, Copy)]
pub struct TransformerTemporalConfig {
    /// Channels of the feature map.
    pub channels: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head; the tokens are as wide as all heads together.
    pub head_width: usize,
    /// Groups of the norm in front.
    pub groups: usize,
}

/// A transformer along frames: the frames of each position attend to each other, twice, and the outcome is added back.
#[derive(Module, Debug)]
pub struct TransformerTemporal {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<BasicTransformerBlock>,
    proj_out: Linear,
}

impl TransformerTemporal {
    /// Builds the transformer, of one block; weights stay lazy until loaded.
    pub fn new(config: TransformerTemporalConfig, device: &Device) -> Self {
        let TransformerTemporalConfig {
            channels,
            heads,
            head_width,
            groups,
        } = config;
        let width = heads * head_width;
        let block = TransformerConfig {
            channels: width,
            heads,
            depth: 1,
            context_width: width,
            groups,
            upcast: false,
            only_text: false,
        };
        Self {
            norm: group_norm(groups, channels, NORM_EPSILON, device),
            proj_in: LinearConfig::new(channels, width).init(device),
            transformer_blocks: vec![BasicTransformerBlock::new(block, device)],
            proj_out: LinearConfig::new(width, channels).init(device),
        }
    }

    /// `[films · frames, channels, height, width]` to the same. The norm is over the whole film. Branches are of as many rows as there
    /// are positions in all films, whose tokens are the frames.
    pub fn forward(&self, hidden: Tensor<4>, frames: usize, recall: &mut Recall<'_>) -> Tensor<4> {
        let [_, _, height, width] = hidden.dims();
        let films = side_by_side(hidden.clone(), frames); // [films, channels, frames, positions]
        let normed = ops::group_norm(&self.norm, films);
        let [count, channels, _, positions] = normed.dims();
        let tokens = normed
            .permute([0, 3, 2, 1])
            .reshape([count * positions, frames, channels]);
        let tokens = ops::linear(&self.proj_in, tokens); // [films · positions, frames, heads · head_width]
        let blocks = self.transformer_blocks.iter();
        let tokens = blocks.fold(tokens, |tokens, block| block.forward_alone(tokens, recall));
        let films = ops::linear(&self.proj_out, tokens)
            .reshape([count, positions, frames, channels])
            .permute([0, 3, 2, 1]); // [films, channels, frames, positions]
        hidden + one_by_one(films, [height, width])
    }
}
