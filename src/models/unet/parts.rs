//! The layers that `UNets` of different families have in the same place.

#![allow(
    clippy::large_enum_variant,
    reason = "a network's layers are all of one variant"
)]

use burn::module::Module;
use burn::nn::Embedding;
use burn::tensor::{FloatDType, Int, Tensor, TensorData};

use super::config::{AddedConfig, Labels};
use crate::conditioning::Conditioning;
use crate::nn::embed::{Sinusoid, TimestepEmbedding};
use crate::nn::map_attention::MapAttention;
use crate::nn::resnet::{Downsample2d, ResnetBlock2d, Upsample2d, halved};
use crate::nn::text_map_attention::TextMapAttention;
use crate::nn::text_time::TextTimeEmbedding;
use crate::nn::transformer::{Attended, Transformer2d, TransformerContext};
use crate::ops::enlarged;
use crate::recall::Recall;

/// What attends after a residual block.
#[derive(Module, Debug)]
pub(super) enum Attention {
    /// Positions attend to each other and to the context.
    Transformer(Transformer2d),
    /// Positions attend to each other.
    Map(MapAttention),
    /// Positions attend to each other and to the context at once.
    TextAndMap(TextMapAttention),
}

impl Attention {
    /// What blocks read of `text`, `[rows, tokens, width]`, if they read it.
    pub(super) fn context(&self, text: &Tensor<3>, attended: Attended) -> TransformerContext {
        match self {
            Self::Transformer(transformer) => transformer.context(text, attended),
            Self::Map(_) => TransformerContext::default(),
            Self::TextAndMap(attention) => attention.context(text),
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
            Self::TextAndMap(attention) => attention.forward(hidden, context, recall),
        }
    }
}

/// What the text adds to the time embedding.
#[derive(Module, Debug)]
pub(super) enum TextEmbedding {
    /// Pooled by its encoder, beside numbers (SDXL).
    Pooled(TimestepEmbedding),
    /// Pooled here.
    States(TextTimeEmbedding),
}

impl TextEmbedding {
    /// `[rows, time_width]`, f32; `config` is of the numbers.
    pub(super) fn forward(
        &self,
        conditioning: &Conditioning,
        config: Option<&AddedConfig>,
    ) -> Tensor<2> {
        match self {
            Self::Pooled(embedding) => {
                let config = config.expect("built with one");
                embedding.forward(config.joined(conditioning))
            }
            Self::States(embedding) => embedding.forward(conditioning.states().clone()),
        }
    }
}

/// What labels add to the time embedding.
#[derive(Module, Debug)]
pub(super) enum LabelEmbedding {
    /// Through a network.
    Network(TimestepEmbedding),
    /// From a table.
    Table(Embedding),
}

impl LabelEmbedding {
    /// `[rows, time_width]`, f32.
    ///
    /// # Panics
    ///
    /// If there are no labels.
    pub(super) fn forward(
        &self,
        conditioning: &Conditioning,
        kind: Labels,
        sinusoid: Sinusoid,
    ) -> Tensor<2> {
        match (self, kind) {
            (Self::Network(embedding), Labels::Vectors(_)) => {
                let labels = conditioning.label_vectors.clone();
                embedding.forward(labels.expect("a UNet with labels is given them"))
            }
            (Self::Network(embedding), _) => {
                let labels = conditioning.labels.iter();
                let labels: Vec<f64> = labels.map(|&label| label as f64).collect();
                embedding.embed(&labels, sinusoid)
            }
            (Self::Table(table), _) => {
                let labels = conditioning.labels.iter();
                let labels: Vec<i32> = labels.map(|&label| label.cast_signed() as i32).collect();
                let labels = TensorData::new(labels, [1, conditioning.labels.len()]);
                let device = table.weight.val().device();
                let rows = table.forward(Tensor::<2, Int>::from_data(labels, &device)); // [1, rows, time_width]
                rows.squeeze_dim::<2>(0).cast(FloatDType::F32)
            }
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
