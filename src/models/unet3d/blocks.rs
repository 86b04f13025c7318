//! The nested blocks, as in the checkpoint.

use burn::module::Module;
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};

use super::config::UNet3dConfig;
use crate::models::unet::Level;
use crate::nn::embed::TimestepEmbedding;
use crate::nn::resnet::{Downsample2d, ResnetBlock2d, ResnetConfig, Upsample2d};
use crate::nn::temporal::{TemporalConvLayer, TransformerTemporal, TransformerTemporalConfig};
use crate::nn::transformer::{Attended, Transformer2d, TransformerConfig, TransformerContext};
use crate::nn::{conv3x3, group_norm};
use crate::ops::{self, group_norm_silu};
use crate::recall::Recall;

/// One level of the encoder half.
#[derive(Module, Debug)]
pub(super) struct DownBlock {
    pub(super) resnets: Vec<ResnetBlock2d>,
    pub(super) temp_convs: Vec<TemporalConvLayer>,
    pub(super) attentions: Option<Vec<Transformer2d>>,
    pub(super) temp_attentions: Option<Vec<TransformerTemporal>>,
    pub(super) downsamplers: Option<Vec<Downsample2d>>,
}

/// The innermost block.
#[derive(Module, Debug)]
pub(super) struct MidBlock {
    pub(super) resnets: Vec<ResnetBlock2d>,
    pub(super) temp_convs: Vec<TemporalConvLayer>,
    pub(super) attentions: Option<Vec<Transformer2d>>,
    pub(super) temp_attentions: Option<Vec<TransformerTemporal>>,
}

/// One level of the decoder half.
#[derive(Module, Debug)]
pub(super) struct UpBlock {
    pub(super) resnets: Vec<ResnetBlock2d>,
    pub(super) temp_convs: Vec<TemporalConvLayer>,
    pub(super) attentions: Option<Vec<Transformer2d>>,
    pub(super) temp_attentions: Option<Vec<TransformerTemporal>>,
    pub(super) upsamplers: Option<Vec<Upsample2d>>,
}

/// The weights of a `UNet` over films, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct UNet3DConditionModel {
    pub(super) conv_in: Conv2d,
    pub(super) time_embedding: TimestepEmbedding,
    pub(super) transformer_in: TransformerTemporal,
    pub(super) down_blocks: Vec<DownBlock>,
    pub(super) mid_block: MidBlock,
    pub(super) up_blocks: Vec<UpBlock>,
    pub(super) conv_norm_out: GroupNorm,
    pub(super) conv_out: Conv2d,
}

/// One residual block, and what follows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a> {
    resnet: &'a ResnetBlock2d,
    convolutions: &'a TemporalConvLayer,
    attention: Option<(&'a Transformer2d, &'a TransformerTemporal)>,
}

/// What the cells tell their layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellInput<'a> {
    /// Activated, `[films · frames, time_width]`.
    pub(super) time: &'a Tensor<2>,
    /// Of a cell that attends, with a row of text a film.
    pub(super) context: &'a TransformerContext,
    /// Of a film.
    pub(super) frames: usize,
}

impl Layer<'_> {
    /// What is read of `text`, `[films, tokens, width]`, if it is.
    pub(super) fn context(self, text: &Tensor<3>) -> TransformerContext {
        let context = |(positions, _): (&Transformer2d, _)| positions.context(text, Attended::Own);
        self.attention.map(context).unwrap_or_default()
    }

    /// `[films · frames, channels, height, width]` in and out.
    pub(super) fn forward(
        self,
        hidden: Tensor<4>,
        input: CellInput<'_>,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let hidden = self.resnet.forward(hidden, Some(input.time));
        let hidden = self.convolutions.forward(hidden, input.frames);
        match self.attention {
            Some((positions, frames)) => {
                let hidden = positions.forward(hidden, input.context, recall);
                frames.forward(hidden, input.frames, recall)
            }
            None => hidden,
        }
    }
}

/// The layer at `index` of a block, and its transformers if there are so many.
macro_rules! layer {
    ($block:expr, $index:expr) => {{
        let (block, index) = ($block, $index);
        let of_positions = block.attentions.as_ref();
        let of_frames = block.temp_attentions.as_ref();
        Layer {
            resnet: &block.resnets[index],
            convolutions: &block.temp_convs[index],
            attention: of_positions
                .and_then(|all| all.get(index))
                .zip(of_frames.and_then(|all| all.get(index))),
        }
    }};
}

impl UNet3DConditionModel {
    /// Builds the network; weights stay lazy until loaded.
    pub fn new(config: &UNet3dConfig, device: &Device) -> Self {
        let builder = Builder { config, device };
        let spatial = &config.spatial;
        let (outer, levels) = (spatial.levels[0].channels, spatial.levels.len());
        Self {
            conv_in: conv3x3(spatial.in_channels, outer, 1, device),
            time_embedding: TimestepEmbedding::new(
                spatial.sinusoid.width,
                spatial.time_width,
                device,
            ),
            transformer_in: builder.along_frames(outer, UNet3dConfig::FIRST_HEADS),
            down_blocks: (0..levels).map(|level| builder.down(level)).collect(),
            mid_block: builder.mid(),
            up_blocks: (0..levels).rev().map(|level| builder.up(level)).collect(),
            conv_norm_out: group_norm(spatial.groups, outer, spatial.epsilon, device),
            conv_out: conv3x3(outer, spatial.out_channels, 1, device),
        }
    }

    /// Layer `index` of an encoder level, outermost 0.
    pub(super) fn down_layer(&self, level: usize, index: usize) -> Layer<'_> {
        layer!(&self.down_blocks[level], index)
    }

    /// Layer `index` of the middle.
    pub(super) fn mid_layer(&self, index: usize) -> Layer<'_> {
        layer!(&self.mid_block, index)
    }

    /// Layer `index` of a decoder level, outermost 0.
    pub(super) fn up_layer(&self, level: usize, index: usize) -> Layer<'_> {
        layer!(self.up(level), index)
    }

    /// The decoder half's block of `level`, outermost 0.
    pub(super) fn up(&self, level: usize) -> &UpBlock {
        &self.up_blocks[self.up_blocks.len() - 1 - level]
    }

    /// The first cell: `[films · frames, in_channels, height, width]` to the width of the outermost level.
    pub(super) fn first(
        &self,
        sample: Tensor<4>,
        frames: usize,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let hidden = ops::conv2d(&self.conv_in, sample);
        self.transformer_in.forward(hidden, frames, recall)
    }

    /// The prediction from the last hidden tensor, `[rows, channels, height, width]`.
    pub(super) fn head(&self, hidden: Tensor<4>) -> Tensor<4> {
        ops::conv2d(&self.conv_out, group_norm_silu(&self.conv_norm_out, hidden))
    }
}

struct Builder<'a> {
    config: &'a UNet3dConfig,
    device: &'a Device,
}

impl Builder<'_> {
    fn down(&self, index: usize) -> DownBlock {
        let level = &self.config.spatial.levels[index];
        let input = self.config.spatial.encoder_input(index);
        let resnet = |layer| {
            let input = if layer == 0 { input } else { level.channels };
            self.resnet(input, level.channels)
        };
        let inner = index + 1 < self.config.spatial.levels.len();
        let attends = !level.encoder_depths.is_empty();
        DownBlock {
            resnets: (0..level.layers).map(resnet).collect(),
            temp_convs: self.convolutions(level, level.layers),
            attentions: attends.then(|| self.of_positions(level, level.layers)),
            temp_attentions: attends.then(|| self.of_frames(level, level.layers)),
            downsamplers: inner.then(|| vec![Downsample2d::new(level.channels, self.device)]),
        }
    }

    fn mid(&self) -> MidBlock {
        let levels = &self.config.spatial.levels;
        let level = &levels[levels.len() - 1];
        let resnet = |_| self.resnet(level.channels, level.channels);
        MidBlock {
            resnets: (0..2).map(resnet).collect(),
            temp_convs: self.convolutions(level, 2),
            attentions: Some(self.of_positions(level, 1)),
            temp_attentions: Some(self.of_frames(level, 1)),
        }
    }

    fn up(&self, index: usize) -> UpBlock {
        let spatial = &self.config.spatial;
        let level = &spatial.levels[index];
        let resnet = |layer| self.resnet(spatial.decoder_input(index, layer), level.channels);
        let (layers, attends) = (level.layers + 1, !level.decoder_depths.is_empty());
        UpBlock {
            resnets: (0..layers).map(resnet).collect(),
            temp_convs: self.convolutions(level, layers),
            attentions: attends.then(|| self.of_positions(level, layers)),
            temp_attentions: attends.then(|| self.of_frames(level, layers)),
            upsamplers: (index > 0).then(|| vec![Upsample2d::new(level.channels, self.device)]),
        }
    }

    fn resnet(&self, input: usize, output: usize) -> ResnetBlock2d {
        let spatial = &self.config.spatial;
        let config = ResnetConfig {
            input,
            output,
            time_width: Some(spatial.time_width),
            groups: spatial.groups,
            epsilon: spatial.epsilon,
        };
        ResnetBlock2d::new(config, self.device)
    }

    fn convolutions(&self, level: &Level, count: usize) -> Vec<TemporalConvLayer> {
        let groups = self.config.spatial.groups;
        let layer = |_| TemporalConvLayer::new(level.channels, groups, self.device);
        (0..count).map(layer).collect()
    }

    fn of_positions(&self, level: &Level, count: usize) -> Vec<Transformer2d> {
        let spatial = &self.config.spatial;
        let config = TransformerConfig {
            channels: level.channels,
            heads: level.heads,
            depth: 1,
            context_width: spatial.context_width,
            groups: spatial.groups,
            upcast: spatial.upcast_attention,
            only_text: false,
        };
        let transformer = |_| Transformer2d::new(config, self.device);
        (0..count).map(transformer).collect()
    }

    fn of_frames(&self, level: &Level, count: usize) -> Vec<TransformerTemporal> {
        let transformer = |_| self.along_frames(level.channels, level.heads);
        (0..count).map(transformer).collect()
    }

    fn along_frames(&self, channels: usize, heads: usize) -> TransformerTemporal {
        let config = TransformerTemporalConfig {
            channels,
            heads,
            head_width: self.config.head_width,
            groups: self.config.spatial.groups,
        };
        TransformerTemporal::new(config, self.device)
    }
}
