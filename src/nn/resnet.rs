//! Residual convolution blocks, and the resamplers between levels.
//!
//! Source: He et al. (arXiv 1512.03385) as in Ho et al. (arXiv 2006.11239, appendix B); group norm and `SiLU` before each convolution.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::silu;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};

use super::{conv1x1, conv3x3, group_norm};

/// What a residual block is built from.
#[derive(Debug, Clone, Copy)]
pub struct ResnetConfig {
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub output: usize,
    /// Width of the time embedding; `None` in autoencoders.
    pub time_width: Option<usize>,
    /// Groups of both norms.
    pub groups: usize,
    /// Epsilon of both norms.
    pub epsilon: f64,
}

/// `x + conv2(silu(norm2(conv1(silu(norm1(x))) + time)))`.
#[derive(Module, Debug)]
pub struct ResnetBlock2d {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock2d {
    /// Builds the block; weights stay lazy until loaded.
    pub fn new(config: ResnetConfig, device: &Device) -> Self {
        let ResnetConfig {
            input,
            output,
            time_width,
            groups,
            epsilon,
        } = config;
        Self {
            norm1: group_norm(groups, input, epsilon, device),
            conv1: conv3x3(input, output, 1, device),
            time_emb_proj: time_width.map(|width| LinearConfig::new(width, output).init(device)),
            norm2: group_norm(groups, output, epsilon, device),
            conv2: conv3x3(output, output, 1, device),
            conv_shortcut: (input != output).then(|| conv1x1(input, output, device)),
        }
    }

    /// # Shapes
    ///
    /// - hidden: `[rows, input, height, width]`
    /// - time: `[rows, time_width]`, already activated; `None` in autoencoders
    /// - output: `[rows, output, height, width]`
    pub fn forward(&self, hidden: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        let branch = silu(self.norm1.forward(hidden.clone()));
        let branch = self.conv1.forward(branch); // [rows, output, height, width]
        let branch = match (&self.time_emb_proj, time) {
            (Some(project), Some(time)) => branch + per_channel(project.forward(time.clone())),
            _ => branch,
        };
        let branch = self.conv2.forward(silu(self.norm2.forward(branch)));
        let shortcut = match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(hidden),
            None => hidden,
        };
        shortcut + branch
    }
}

/// `[rows, channels]` as `[rows, channels, 1, 1]`.
fn per_channel(features: Tensor<2>) -> Tensor<4> {
    features.unsqueeze_dims(&[2, 3])
}

/// Halves both sides with a strided convolution.
#[derive(Module, Debug)]
pub struct Downsample2d {
    conv: Conv2d,
}

impl Downsample2d {
    /// Pads evenly, as `UNets` do: odd sides round up.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            conv: conv3x3(channels, channels, 2, device),
        }
    }

    /// Pads below and to the right only, as autoencoders do.
    pub fn new_asymmetric(channels: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [3, 3])
            .with_stride([2, 2])
            .with_padding(PaddingConfig2d::Explicit(0, 0, 1, 1))
            .init(device);
        Self { conv }
    }

    /// `[rows, channels, height, width]` to `[rows, channels, height/2, width/2]`.
    pub fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        self.conv.forward(hidden)
    }
}

/// Enlarges by repetition, then convolves.
#[derive(Module, Debug)]
pub struct Upsample2d {
    conv: Conv2d,
}

impl Upsample2d {
    /// Keeps the number of channels.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            conv: conv3x3(channels, channels, 1, device),
        }
    }

    /// To `[rows, channels, size[0], size[1]]`: twice the sides, or one less where the level above has an odd side.
    pub fn forward(&self, hidden: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        let options = InterpolateOptions::new(InterpolateMode::Nearest).with_output_size(size);
        self.conv.forward(interpolate(hidden, options))
    }
}
