//! The nested blocks, as in the checkpoint.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{EmbeddingConfig, GroupNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::config::{AttentionKind, Labels, Level, Resampling, UNetConfig};
use super::parts::{Attention, Downsampler, LabelEmbedding, TextEmbedding, Upsampler};
use crate::nn::activation::Activation;
use crate::nn::embed::TimestepEmbedding;
use crate::nn::map_attention::{MapAttention, MapAttentionConfig};
use crate::nn::resnet::{Downsample2d, ResnetBlock2d, ResnetConfig, ResnetForm, Upsample2d};
use crate::nn::text_map_attention::{TextMapAttention, TextMapAttentionConfig};
use crate::nn::text_time::TextTimeEmbedding;
use crate::nn::transformer::{Transformer2d, TransformerConfig, TransformerContext};
use crate::nn::{conv3x3, group_norm};
use crate::ops;
use crate::recall::Recall;

/// One level of the encoder half.
#[derive(Module, Debug)]
pub(in crate::models) struct DownBlock {
    pub(super) resnets: Vec<ResnetBlock2d>,
    pub(super) attentions: Option<Vec<Attention>>,
    pub(super) downsamplers: Option<Vec<Downsampler>>,
}

/// The innermost block.
#[derive(Module, Debug)]
pub(in crate::models) struct MidBlock {
    pub(super) resnets: Vec<ResnetBlock2d>,
    pub(super) attentions: Vec<Attention>,
}

/// One level of the decoder half.
#[derive(Module, Debug)]
pub(super) struct UpBlock {
    pub(super) resnets: Vec<ResnetBlock2d>,
    pub(super) attentions: Option<Vec<Attention>>,
    pub(super) upsamplers: Option<Vec<Upsampler>>,
}

/// The weights of a conditional `UNet`, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct UNet2DConditionModel {
    pub(super) conv_in: Conv2d,
    pub(super) time_embedding: TimestepEmbedding,
    pub(super) add_embedding: Option<TextEmbedding>,
    pub(super) class_embedding: Option<LabelEmbedding>,
    pub(super) encoder_hid_proj: Option<Linear>,
    pub(super) down_blocks: Vec<DownBlock>,
    pub(super) mid_block: MidBlock,
    pub(super) up_blocks: Vec<UpBlock>,
    pub(super) conv_norm_out: GroupNorm,
    pub(super) conv_out: Conv2d,
    #[module(skip)]
    activation: Activation,
}

impl UNet2DConditionModel {
    /// Builds the network; weights stay lazy until loaded.
    pub fn new(config: &UNetConfig, device: &Device) -> Self {
        let builder = Builder { config, device };
        let outer = config.levels[0].channels;
        let activation = config.resnets.activation;
        let time = builder.embedding(config.sinusoid.width).with(activation);
        let projected = |width| LinearConfig::new(width, config.context_width).init(device);
        Self {
            conv_in: conv3x3(config.in_channels, outer, 1, device),
            time_embedding: match config.guidance_width {
                Some(width) => time.guided(width, device),
                None => time,
            },
            add_embedding: builder.of_text(),
            class_embedding: config.labels.map(|labels| builder.of_labels(labels)),
            encoder_hid_proj: config.text.projected.map(projected),
            down_blocks: (0..config.levels.len())
                .map(|level| builder.down(level))
                .collect(),
            mid_block: builder.mid(),
            up_blocks: (0..config.levels.len())
                .rev()
                .map(|level| builder.up(level))
                .collect(),
            conv_norm_out: group_norm(config.groups, outer, config.epsilon, device),
            conv_out: conv3x3(outer, config.out_channels, 1, device),
            activation,
        }
    }

    /// The prediction from the last hidden tensor, `[rows, channels, height, width]`.
    pub(super) fn head(&self, hidden: Tensor<4>) -> Tensor<4> {
        let hidden = self.activation.after(&self.conv_norm_out, hidden);
        ops::conv2d(&self.conv_out, hidden)
    }
}

/// A residual block and the attention after it, if the level attends.
pub(super) fn layer(
    resnet: &ResnetBlock2d,
    attention: Option<&Attention>,
    hidden: Tensor<4>,
    time: &Tensor<2>,
    context: &TransformerContext,
    recall: &mut Recall<'_>,
) -> Tensor<4> {
    let hidden = resnet.forward(hidden, Some(time));
    match attention {
        Some(attention) => attention.forward(hidden, context, recall),
        None => hidden,
    }
}

impl MidBlock {
    pub(super) fn forward(
        &self,
        hidden: Tensor<4>,
        time: &Tensor<2>,
        context: &TransformerContext,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let Some((first, rest)) = self.resnets.split_first() else {
            return hidden;
        };
        let attention = self.attentions.first();
        let hidden = layer(first, attention, hidden, time, context, recall);
        let forward = |hidden, resnet: &ResnetBlock2d| resnet.forward(hidden, Some(time));
        rest.iter().fold(hidden, forward)
    }
}

/// Channel arithmetic of the levels.
#[derive(Debug)]
pub(in crate::models) struct Builder<'a> {
    pub(in crate::models) config: &'a UNetConfig,
    pub(in crate::models) device: &'a Device,
}

impl Builder<'_> {
    /// From vectors of width `input` to what is added to the time embedding.
    fn embedding(&self, input: usize) -> TimestepEmbedding {
        TimestepEmbedding::new(input, self.config.time_width, self.device)
    }

    fn of_text(&self) -> Option<TextEmbedding> {
        let UNetConfig {
            added,
            text,
            time_width,
            ..
        } = self.config;
        let width = self.config.text_width();
        let states = |heads| TextTimeEmbedding::new(width, heads, *time_width, self.device);
        let states = text.pooled_heads.map(states).map(TextEmbedding::States);
        let pooled = added.map(|added| TextEmbedding::Pooled(self.embedding(added.width)));
        states.or(pooled)
    }

    fn of_labels(&self, labels: Labels) -> LabelEmbedding {
        let UNetConfig {
            sinusoid,
            time_width,
            resnets,
            ..
        } = self.config;
        match labels {
            Labels::Vectors(width) => LabelEmbedding::Network(self.embedding(width)),
            Labels::Timesteps => {
                let network = self.embedding(sinusoid.width).with(resnets.activation);
                LabelEmbedding::Network(network)
            }
            Labels::Table(entries) => {
                let table = EmbeddingConfig::new(entries, *time_width);
                LabelEmbedding::Table(table.init(self.device))
            }
        }
    }

    pub(in crate::models) fn down(&self, index: usize) -> DownBlock {
        let level = &self.config.levels[index];
        let input = self.config.encoder_input(index);
        let resnet = |layer| {
            self.resnet(
                if layer == 0 { input } else { level.channels },
                level.channels,
            )
        };
        let inner = index + 1 < self.config.levels.len();
        DownBlock {
            resnets: (0..level.layers).map(resnet).collect(),
            attentions: self.attentions(level, &level.encoder_depths),
            downsamplers: inner.then(|| vec![self.downsampler(level.channels)]),
        }
    }

    pub(in crate::models) fn mid(&self) -> MidBlock {
        let level = &self.config.levels[self.config.levels.len() - 1];
        let depths = Some(self.config.mid_depth).filter(|&depth| depth > 0);
        let form = ResnetForm {
            divisor: self.config.mid_divisor,
            ..self.config.resnets
        };
        let resnet = |_| self.resnet_of(form, level.channels, level.channels);
        let level = Level {
            only_text: false,
            ..level.clone()
        };
        MidBlock {
            resnets: (0..self.config.mid_resnets).map(resnet).collect(),
            attentions: self
                .attentions(&level, depths.as_slice())
                .unwrap_or_default(),
        }
    }

    fn up(&self, index: usize) -> UpBlock {
        let level = &self.config.levels[index];
        let resnet = |layer| self.resnet(self.config.decoder_input(index, layer), level.channels);
        UpBlock {
            resnets: (0..=level.layers).map(resnet).collect(),
            attentions: self.attentions(level, &level.decoder_depths),
            upsamplers: (index > 0).then(|| vec![self.upsampler(level.channels)]),
        }
    }

    fn resnet(&self, input: usize, output: usize) -> ResnetBlock2d {
        self.resnet_of(self.config.resnets, input, output)
    }

    fn resnet_of(&self, form: ResnetForm, input: usize, output: usize) -> ResnetBlock2d {
        let UNetConfig {
            groups,
            epsilon,
            time_width,
            ..
        } = *self.config;
        let config = ResnetConfig {
            input,
            output,
            time_width: Some(time_width),
            groups,
            epsilon,
        };
        ResnetBlock2d::with_form(config, form, self.device)
    }

    fn downsampler(&self, channels: usize) -> Downsampler {
        match self.config.resampling {
            Resampling::Even => Downsampler::Conv(Downsample2d::new(channels, self.device)),
            Resampling::Asymmetric => {
                Downsampler::Conv(Downsample2d::new_asymmetric(channels, self.device))
            }
            Resampling::Resnet => Downsampler::Resnet(self.resnet(channels, channels)),
        }
    }

    fn upsampler(&self, channels: usize) -> Upsampler {
        match self.config.resampling {
            Resampling::Even | Resampling::Asymmetric => {
                Upsampler::Conv(Upsample2d::new(channels, self.device))
            }
            Resampling::Resnet => Upsampler::Resnet(self.resnet(channels, channels)),
        }
    }

    /// One for each of `depths`, if there are any.
    fn attentions(&self, level: &Level, depths: &[usize]) -> Option<Vec<Attention>> {
        let attention = |&depth| match self.config.attention {
            AttentionKind::Transformer => Attention::Transformer(self.transformer(level, depth)),
            AttentionKind::Map => Attention::Map(self.map_attention(level)),
            AttentionKind::TextAndMap { text_norm } => {
                Attention::TextAndMap(self.text_map_attention(level, text_norm))
            }
        };
        (!depths.is_empty()).then(|| depths.iter().map(attention).collect())
    }

    fn map_attention(&self, level: &Level) -> MapAttention {
        let config = MapAttentionConfig {
            channels: level.channels,
            heads: level.heads,
            groups: self.config.groups,
            epsilon: self.config.epsilon,
        };
        MapAttention::new(config, self.device)
    }

    fn text_map_attention(&self, level: &Level, text_norm: bool) -> TextMapAttention {
        let config = TextMapAttentionConfig {
            channels: level.channels,
            heads: level.heads,
            context_width: self.config.context_width,
            groups: self.config.groups,
            text_norm,
        };
        TextMapAttention::new(config, self.device)
    }

    fn transformer(&self, level: &Level, depth: usize) -> Transformer2d {
        let config = TransformerConfig {
            channels: level.channels,
            heads: level.heads,
            depth,
            context_width: self.config.context_width,
            groups: self.config.groups,
            upcast: self.config.upcast_attention,
            only_text: level.only_text,
        };
        Transformer2d::new(config, self.device)
    }
}

impl UNetConfig {
    /// Channels that enter the first residual block of an encoder level.
    pub(in crate::models) fn encoder_input(&self, level: usize) -> usize {
        self.levels[level.saturating_sub(1)].channels
    }

    /// Channels of the skip that decoder layer `layer` of `level` pops: the level's own, or those that entered the level.
    pub(super) fn skip_channels(&self, level: usize, layer: usize) -> usize {
        let Level {
            channels, layers, ..
        } = self.levels[level];
        if layer < layers {
            channels
        } else {
            self.encoder_input(level)
        }
    }

    /// Channels that enter decoder layer `layer` of `level`, skip included.
    pub(in crate::models) fn decoder_input(&self, level: usize, layer: usize) -> usize {
        let deeper = self.levels[(level + 1).min(self.levels.len() - 1)].channels;
        let hidden = if layer == 0 {
            deeper
        } else {
            self.levels[level].channels
        };
        hidden + self.skip_channels(level, layer)
    }
}
