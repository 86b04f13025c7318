//! The nested blocks, as in the checkpoint.

use burn::module::Module;
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};

use super::config::SpatioTemporalUNetConfig;
use crate::models::unet::Level;
use crate::nn::embed::TimestepEmbedding;
use crate::nn::resnet::{Downsample2d, ResnetConfig, Upsample2d};
use crate::nn::spatio_temporal::{ShareOf, SpatioTemporalConfig, SpatioTemporalResBlock};
use crate::nn::temporal_transformer::{TemporalContext, TransformerSpatioTemporal};
use crate::nn::transformer::TransformerConfig;
use crate::nn::{conv3x3, group_norm};
use crate::ops::{self, group_norm_silu};
use crate::recall::Recall;

/// Epsilon of the residual blocks' norms in the decoder half and where an encoder level attends; elsewhere it is the configuration's.
const EPSILON: f64 = 1e-6;

/// One level of the encoder half.
#[derive(Module, Debug)]
pub(super) struct DownBlock {
    pub(super) resnets: Vec<SpatioTemporalResBlock>,
    pub(super) attentions: Option<Vec<TransformerSpatioTemporal>>,
    pub(super) downsamplers: Option<Vec<Downsample2d>>,
}

/// The innermost block.
#[derive(Module, Debug)]
pub(super) struct MidBlock {
    pub(super) resnets: Vec<SpatioTemporalResBlock>,
    pub(super) attentions: Vec<TransformerSpatioTemporal>,
}

/// One level of the decoder half.
#[derive(Module, Debug)]
pub(super) struct UpBlock {
    pub(super) resnets: Vec<SpatioTemporalResBlock>,
    pub(super) attentions: Option<Vec<TransformerSpatioTemporal>>,
    pub(super) upsamplers: Option<Vec<Upsample2d>>,
}

/// The weights of a `UNet` over frames, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct UNetSpatioTemporalConditionModel {
    pub(super) conv_in: Conv2d,
    pub(super) time_embedding: TimestepEmbedding,
    pub(super) add_embedding: TimestepEmbedding,
    pub(super) down_blocks: Vec<DownBlock>,
    pub(super) mid_block: MidBlock,
    pub(super) up_blocks: Vec<UpBlock>,
    pub(super) conv_norm_out: GroupNorm,
    pub(super) conv_out: Conv2d,
}

/// What the cells tell their layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellInput<'a> {
    /// Activated, `[films · frames, time_width]`.
    pub(super) time: &'a Tensor<2>,
    /// Of a cell that attends.
    pub(super) context: Option<&'a TemporalContext>,
    /// Of a film.
    pub(super) frames: usize,
}

impl CellInput<'_> {
    /// A residual block and the attention after it, if the level attends: `[films · frames, channels, height, width]` in and out.
    pub(super) fn layer(
        self,
        resnet: &SpatioTemporalResBlock,
        attention: Option<&TransformerSpatioTemporal>,
        hidden: Tensor<4>,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let hidden = resnet.forward(hidden, Some(self.time), self.frames);
        match attention.zip(self.context) {
            Some((attention, context)) => attention.forward(hidden, context, recall),
            None => hidden,
        }
    }
}

impl MidBlock {
    pub(super) fn forward(
        &self,
        hidden: Tensor<4>,
        input: CellInput<'_>,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let hidden = input.layer(&self.resnets[0], self.attentions.first(), hidden, recall);
        input.layer(&self.resnets[1], None, hidden, recall)
    }
}

impl UNetSpatioTemporalConditionModel {
    /// Builds the network; weights stay lazy until loaded.
    pub fn new(config: &SpatioTemporalUNetConfig, device: &Device) -> Self {
        let builder = Builder { config, device };
        let spatial = &config.spatial;
        let (outer, levels) = (spatial.levels[0].channels, spatial.levels.len());
        let added = spatial.added.map_or(0, |added| added.width);
        let embedding = |input| TimestepEmbedding::new(input, spatial.time_width, device);
        Self {
            conv_in: conv3x3(spatial.in_channels, outer, 1, device),
            time_embedding: embedding(spatial.sinusoid.width),
            add_embedding: embedding(added),
            down_blocks: (0..levels).map(|level| builder.down(level)).collect(),
            mid_block: builder.mid(),
            up_blocks: (0..levels).rev().map(|level| builder.up(level)).collect(),
            conv_norm_out: group_norm(spatial.groups, outer, spatial.epsilon, device),
            conv_out: conv3x3(outer, spatial.out_channels, 1, device),
        }
    }

    /// The decoder half's block of `level`, outermost 0.
    pub(super) fn up(&self, level: usize) -> &UpBlock {
        &self.up_blocks[self.up_blocks.len() - 1 - level]
    }

    /// The prediction from the last hidden tensor, `[rows, channels, height, width]`.
    pub(super) fn head(&self, hidden: Tensor<4>) -> Tensor<4> {
        ops::conv2d(&self.conv_out, group_norm_silu(&self.conv_norm_out, hidden))
    }
}

struct Builder<'a> {
    config: &'a SpatioTemporalUNetConfig,
    device: &'a Device,
}

impl Builder<'_> {
    fn down(&self, index: usize) -> DownBlock {
        let level = &self.config.spatial.levels[index];
        let input = self.config.spatial.encoder_input(index);
        let epsilon = if level.encoder_depths.is_empty() {
            self.config.spatial.epsilon
        } else {
            EPSILON
        };
        let resnet = |layer| {
            let input = if layer == 0 { input } else { level.channels };
            self.resnet(input, level.channels, epsilon)
        };
        let inner = index + 1 < self.config.spatial.levels.len();
        DownBlock {
            resnets: (0..level.layers).map(resnet).collect(),
            attentions: self.attentions(level, &level.encoder_depths),
            downsamplers: inner.then(|| vec![Downsample2d::new(level.channels, self.device)]),
        }
    }

    fn mid(&self) -> MidBlock {
        let spatial = &self.config.spatial;
        let level = &spatial.levels[spatial.levels.len() - 1];
        let resnet = |_| self.resnet(level.channels, level.channels, spatial.epsilon);
        let attentions = self.attentions(level, &[spatial.mid_depth]);
        MidBlock {
            resnets: (0..2).map(resnet).collect(),
            attentions: attentions.unwrap_or_default(),
        }
    }

    fn up(&self, index: usize) -> UpBlock {
        let spatial = &self.config.spatial;
        let level = &spatial.levels[index];
        let resnet = |layer| {
            let input = spatial.decoder_input(index, layer);
            self.resnet(input, level.channels, EPSILON)
        };
        let upsampler = || vec![Upsample2d::new(level.channels, self.device)];
        UpBlock {
            resnets: (0..=level.layers).map(resnet).collect(),
            attentions: self.attentions(level, &level.decoder_depths),
            upsamplers: (index > 0).then(upsampler),
        }
    }

    fn resnet(&self, input: usize, output: usize, epsilon: f64) -> SpatioTemporalResBlock {
        let spatial = ResnetConfig {
            input,
            output,
            time_width: Some(self.config.spatial.time_width),
            groups: self.config.spatial.groups,
            epsilon,
        };
        let config = SpatioTemporalConfig {
            spatial,
            temporal_epsilon: epsilon,
            share: ShareOf::Spatial,
        };
        SpatioTemporalResBlock::new(config, self.device)
    }

    fn attentions(
        &self,
        level: &Level,
        depths: &[usize],
    ) -> Option<Vec<TransformerSpatioTemporal>> {
        let config = |&depth| TransformerConfig {
            channels: level.channels,
            heads: level.heads,
            depth,
            context_width: self.config.spatial.context_width,
            groups: self.config.spatial.groups,
            upcast: self.config.spatial.upcast_attention,
            only_text: false,
        };
        let attention = |config| TransformerSpatioTemporal::new(config, self.device);
        (!depths.is_empty()).then(|| depths.iter().map(config).map(attention).collect())
    }
}
