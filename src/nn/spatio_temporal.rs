//! Residual blocks over frames one by one and then along them, mixed by a learned share.
//!
//! Source: Blattmann et al., "Stable Video Diffusion" (arXiv 2311.15127, appendix D) on the layers of Blattmann et al., "Align your
//! Latents" (arXiv 2304.08818, section 3.1); behaviour as diffusers' `SpatioTemporalResBlock`.

use burn::module::{Module, Param};
use burn::nn::conv::Conv3d;
use burn::nn::{GroupNorm, Initializer, Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::frames::{along_frames, conv_frames, one_by_one, side_by_side};
use super::group_norm;
use super::resnet::{ResnetBlock2d, ResnetConfig};
use crate::ops::{self, group_norm_silu};

/// The branch that a learned share is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareOf {
    /// What frames are by themselves: in `UNets`.
    Spatial,
    /// What they are among their neighbours: in decoders.
    Temporal,
}

/// A learned mix of what a frame is by itself and among its neighbours.
#[derive(Module, Debug)]
pub struct AlphaBlender {
    mix_factor: Param<Tensor<1>>,
    of_temporal: bool,
}

impl AlphaBlender {
    /// Builds the mix; the share stays lazy until loaded.
    pub fn new(of: ShareOf, device: &Device) -> Self {
        Self {
            mix_factor: Initializer::Constant { value: 0.5 }.init([1], device),
            of_temporal: of == ShareOf::Temporal,
        }
    }

    /// The share of the temporal branch in `dtype`, of one element.
    pub(super) fn temporal<const D: usize>(&self, dtype: DType) -> Tensor<D> {
        let learned = sigmoid(self.mix_factor.val().cast(FloatDType::F32));
        let share = if self.of_temporal {
            learned
        } else {
            -learned + 1.0
        };
        share.cast(dtype).reshape([1; D])
    }
}

/// `conv2(silu(norm2(conv1(silu(norm1(x))) + time)))` over the frames of a film, to be added to `x`.
#[derive(Module, Debug)]
struct TemporalResnetBlock {
    norm1: GroupNorm,
    conv1: Conv3d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv3d,
}

impl TemporalResnetBlock {
    fn new(config: SpatioTemporalConfig, device: &Device) -> Self {
        let SpatioTemporalConfig {
            spatial,
            temporal_epsilon,
            ..
        } = config;
        let channels = spatial.output;
        let norm = || group_norm(spatial.groups, channels, temporal_epsilon, device);
        let project = |width| LinearConfig::new(width, channels).init(device);
        Self {
            norm1: norm(),
            conv1: conv_frames(channels, channels, device),
            time_emb_proj: spatial.time_width.map(project),
            norm2: norm(),
            conv2: conv_frames(channels, channels, device),
        }
    }

    /// `[films, channels, frames, positions]` to the same; `time` is `[films · frames, time_width]`.
    fn branch(&self, films: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        let [count, channels, frames, _] = films.dims();
        let branch = along_frames(&self.conv1, group_norm_silu(&self.norm1, films));
        let time = self.time_emb_proj.as_ref().zip(time);
        let branch = match time {
            None => branch,
            Some((project, time)) => {
                let time = ops::linear(project, time.clone()); // [films · frames, channels]
                let time = time.reshape([count, frames, channels]).swap_dims(1, 2);
                branch + time.unsqueeze_dim::<4>(3)
            }
        };
        along_frames(&self.conv2, group_norm_silu(&self.norm2, branch))
    }
}

/// What a residual block over frames is built from.
#[derive(Debug, Clone, Copy)]
pub struct SpatioTemporalConfig {
    /// Frames by themselves.
    pub spatial: ResnetConfig,
    /// Epsilon of the norms along frames.
    pub temporal_epsilon: f64,
    /// What the learned share is of.
    pub share: ShareOf,
}

/// A residual block over frames by themselves, one along them after it, and the mix of both.
#[derive(Module, Debug)]
pub struct SpatioTemporalResBlock {
    spatial_res_block: ResnetBlock2d,
    temporal_res_block: TemporalResnetBlock,
    time_mixer: AlphaBlender,
}

impl SpatioTemporalResBlock {
    /// Builds the block; weights stay lazy until loaded.
    pub fn new(config: SpatioTemporalConfig, device: &Device) -> Self {
        Self {
            spatial_res_block: ResnetBlock2d::new(config.spatial, device),
            temporal_res_block: TemporalResnetBlock::new(config, device),
            time_mixer: AlphaBlender::new(config.share, device),
        }
    }

    /// # Shapes
    ///
    /// - hidden: `[films · frames, input, height, width]`
    /// - time: `[films · frames, time_width]`, already activated; `None` in autoencoders
    /// - output: `[films · frames, output, height, width]`
    pub fn forward(&self, hidden: Tensor<4>, time: Option<&Tensor<2>>, frames: usize) -> Tensor<4> {
        let spatial = self.spatial_res_block.forward(hidden, time); // [films · frames, output, height, width]
        let [_, _, height, width] = spatial.dims();
        let films = side_by_side(spatial.clone(), frames); // [films, output, frames, height · width]
        let branch = one_by_one(self.temporal_res_block.branch(films, time), [height, width]);
        // The temporal branch is the spatial one and what is added to it: mixed, only its share of the addition is left.
        let share = self.time_mixer.temporal(spatial.dtype());
        spatial + branch * share
    }
}
