//! The layers that `UNets` of different families have in the same place.

#![allow(
    clippy::large_enum_variant,
    reason = "a network's layers are all of one variant"
)]

use burn::module::Module;
use burn::tensor::Tensor;

use crate::nn::map_attention::MapAttention;
use crate::nn::resnet::{Downsample2d, ResnetBlock2d, Upsample2d, enlarged, halved};
use crate::nn::transformer::{Attended, Transformer2d, TransformerContext};
use crate::recall::Recall;

/// What attends after a residual block.
#[derive(Module, Debug)]
pub(super) enum Attention {
    /// Positions attend to each other and to the context.
    Transformer(Transformer2d),
    /// Positions attend to each other.
    Map(MapAttention),
}

impl Attention {
    /// What blocks read of `text`, `[rows, tokens, width]`, if they read it.
    pub(super) fn context(&self, text: &Tensor<3>, attended: Attended) -> TransformerContext {
        match self {
            Self::Transformer(transformer) => transformer.context(text, attended),
            Self::Map(_) => TransformerContext::default(),
        }
    }

    /// `[rows, channels, height, width]` to the same.
    pub(super) fn forward(
        &self,
        hidden: Tensor<4>,
        context: &TransformerContext,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        match self {
            Self::Transformer(transformer) => transformer.forward(hidden, context, recall),
            Self::Map(attention) => attention.forward(hidden, recall),
        }
    }
}

/// Goes down to the next level.
#[derive(Module, Debug)]
pub(super) enum Downsampler {
    /// A strided convolution.
    Conv(Downsample2d),
    /// A residual block that averages.
    Resnet(ResnetBlock2d),
}

impl Downsampler {
    /// `[rows, channels, height, width]` to half the sides; `time` is `[rows, time_width]`.
    pub(super) fn forward(&self, hidden: Tensor<4>, time: &Tensor<2>) -> Tensor<4> {
        match self {
            Self::Conv(conv) => conv.forward(hidden),
            Self::Resnet(resnet) => resnet.resampled(hidden, Some(time), halved),
        }
    }
}

/// Goes up to the level above.
#[derive(Module, Debug)]
pub(super) enum Upsampler {
    /// Repetition, then a convolution.
    Conv(Upsample2d),
    /// A residual block that repeats.
    Resnet(ResnetBlock2d),
}

impl Upsampler {
    /// `[rows, channels, height, width]` to the sides `size`; `time` is `[rows, time_width]`.
    pub(super) fn forward(
        &self,
        hidden: Tensor<4>,
        time: &Tensor<2>,
        size: [usize; 2],
    ) -> Tensor<4> {
        match self {
            Self::Conv(conv) => conv.forward(hidden, size),
            Self::Resnet(resnet) => resnet.resampled(hidden, Some(time), |map| enlarged(map, size)),
        }
    }
}
