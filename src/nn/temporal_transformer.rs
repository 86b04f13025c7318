//! Transformers over the positions of a frame and then over the frames of a position, mixed by a learned share.
//!
//! Source: Blattmann et al., "Align your Latents" (arXiv 2304.08818, section 3.1) as in Stable Video Diffusion (arXiv 2311.15127,
//! appendix D); behaviour as diffusers' `TransformerSpatioTemporalModel`.

use std::ops::Range;

use burn::module::Module;
use burn::nn::{GroupNorm, Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor};

use super::attention::{Attention, AttentionConfig, KeyValue};
use super::embed::{Sinusoid, TimestepEmbedding};
use super::group_norm;
use super::layer_norm::LayerNorm;
use super::spatio_temporal::{AlphaBlender, ShareOf};
use super::transformer::{
    BasicTransformerBlock, FeedForward, NORM_EPSILON, TOKEN_EPSILON, TransformerConfig,
};
use crate::ops::{self, to_map, to_tokens};
use crate::recall::{Branch, Recall};

/// A feed-forward layer, self-attention along frames, cross-attention, a feed-forward layer, each after a layer norm and added to its
/// input.
#[derive(Module, Debug)]
struct TemporalBasicTransformerBlock {
    norm_in: LayerNorm,
    ff_in: FeedForward,
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl TemporalBasicTransformerBlock {
    fn new(config: TransformerConfig, device: &Device) -> Self {
        let width = config.channels;
        let norm = || LayerNorm::new(width, TOKEN_EPSILON, device);
        let attention = |context_width| {
            let config = AttentionConfig {
                width,
                context_width,
                heads: config.heads,
                bias: false,
                upcast: config.upcast,
            };
            Attention::new(config, device)
        };
        Self {
            norm_in: norm(),
            ff_in: FeedForward::new(width, device),
            norm1: norm(),
            attn1: attention(width),
            norm2: norm(),
            attn2: attention(config.context_width),
            norm3: norm(),
            ff: FeedForward::new(width, device),
        }
    }

    /// `[films · frames, tokens, width]` to the same; `context` has a row a film.
    fn forward(
        &self,
        hidden: Tensor<3>,
        context: &KeyValue,
        frames: usize,
        recall: &mut Recall<'_>,
    ) -> Tensor<3> {
        let fed = recall.branch(Branch::FeedForward, || {
            self.ff_in.forward(self.norm_in.forward(hidden.clone()))
        });
        let hidden = ops::add(hidden, fed);
        let attended = recall.branch(Branch::SelfAttention, || {
            self.along_frames(self.norm1.forward(hidden.clone()), frames)
        });
        let hidden = ops::add(hidden, attended);
        let attended = recall.branch(Branch::CrossAttention, || {
            let normed = self.norm2.forward(hidden.clone());
            self.attn2.attend(normed, context.clone())
        });
        let hidden = ops::add(hidden, attended);
        let fed = recall.branch(Branch::FeedForward, || {
            self.ff.forward(self.norm3.forward(hidden.clone()))
        });
        ops::add(hidden, fed)
    }

    /// The frames of each position attend to each other.
    fn along_frames(&self, hidden: Tensor<3>, frames: usize) -> Tensor<3> {
        let [rows, tokens, width] = hidden.dims();
        let films = rows / frames;
        let positions = hidden
            .reshape([films, frames, tokens, width])
            .swap_dims(1, 2)
            .reshape([films * tokens, frames, width]);
        self.attn1
            .attend_self(positions)
            .reshape([films, tokens, frames, width])
            .swap_dims(1, 2)
            .reshape([rows, tokens, width])
    }
}

/// What a transformer over frames reads besides them.
#[derive(Debug, Clone)]
pub struct TemporalContext {
    /// Cross-attention keys and values, a row a film, of each block over positions and then of the one over frames after it.
    blocks: Vec<[KeyValue; 2]>,
    /// What tells frames their place, `[frames, channels]`.
    places: Tensor<2>,
}

impl TemporalContext {
    /// Some of the films.
    #[must_use]
    pub fn select(&self, films: Range<usize>) -> Self {
        self.each(|block| block.select(films.clone()))
    }

    /// The same films once per step, step-major.
    #[must_use]
    pub fn repeat(&self, steps: usize) -> Self {
        self.each(|block| block.repeat(steps))
    }

    fn each(&self, change: impl Fn(&KeyValue) -> KeyValue) -> Self {
        let blocks = self.blocks.iter();
        Self {
            blocks: blocks.map(|pair| pair.each_ref().map(&change)).collect(),
            places: self.places.clone(),
        }
    }
}

/// A transformer over the positions of each frame whose every block is followed by one over the frames of each position.
#[derive(Module, Debug)]
pub struct TransformerSpatioTemporal {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<BasicTransformerBlock>,
    temporal_transformer_blocks: Vec<TemporalBasicTransformerBlock>,
    time_pos_embed: TimestepEmbedding,
    time_mixer: AlphaBlender,
    proj_out: Linear,
    channels: usize,
}

impl TransformerSpatioTemporal {
    /// Builds the transformer; weights stay lazy until loaded.
    pub fn new(config: TransformerConfig, device: &Device) -> Self {
        let TransformerConfig {
            channels,
            depth,
            groups,
            ..
        } = config;
        let linear = || LinearConfig::new(channels, channels).init(device);
        Self {
            norm: group_norm(groups, channels, NORM_EPSILON, device),
            proj_in: linear(),
            transformer_blocks: (0..depth)
                .map(|_| BasicTransformerBlock::new(config, device))
                .collect(),
            temporal_transformer_blocks: (0..depth)
                .map(|_| TemporalBasicTransformerBlock::new(config, device))
                .collect(),
            time_pos_embed: TimestepEmbedding::through(channels, 4 * channels, channels, device),
            time_mixer: AlphaBlender::new(ShareOf::Spatial, device),
            proj_out: linear(),
            channels,
        }
    }

    /// What a run over films of so many frames reads, made once: from the conditions' states, `[films, tokens, context_width]`.
    pub fn context(&self, states: &Tensor<3>, frames: usize) -> TemporalContext {
        let sinusoid = Sinusoid {
            width: self.channels,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
        };
        let places: Vec<f64> = (0..frames).map(|frame| frame as f64).collect();
        let blocks = self.blocks().map(|(spatial, temporal)| {
            let along = temporal.attn2.key_value(states.clone());
            [spatial.context(states), along]
        });
        TemporalContext {
            blocks: blocks.collect(),
            places: self.time_pos_embed.embed(&places, sinusoid),
        }
    }

    fn blocks(
        &self,
    ) -> impl Iterator<Item = (&BasicTransformerBlock, &TemporalBasicTransformerBlock)> {
        self.transformer_blocks
            .iter()
            .zip(&self.temporal_transformer_blocks)
    }

    /// `[films · frames, channels, height, width]` to the same.
    pub fn forward(
        &self,
        hidden: Tensor<4>,
        context: &TemporalContext,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let size = hidden.dims();
        let share: Tensor<3> = self.time_mixer.temporal(hidden.dtype());
        let tokens = to_tokens(ops::group_norm(&self.norm, hidden.clone()));
        let mut tokens = ops::linear(&self.proj_in, tokens); // [films · frames, height · width, channels]
        let frames = context.places.dims()[0];
        for ((spatial, temporal), [across, along]) in self.blocks().zip(&context.blocks) {
            tokens = spatial.forward(tokens, across, recall);
            let placed = placed(tokens.clone(), &context.places);
            let placed = temporal.forward(placed, along, frames, recall);
            tokens = tokens.clone() + (placed - tokens) * share.clone();
        }
        ops::add(hidden, to_map(ops::linear(&self.proj_out, tokens), size))
    }
}

/// `tokens`, `[films · frames, tokens, width]`, with the place of each frame, `[frames, width]`, added.
fn placed(tokens: Tensor<3>, places: &Tensor<2>) -> Tensor<3> {
    let [rows, count, width] = tokens.dims();
    let frames = places.dims()[0];
    let dtype: DType = tokens.dtype();
    let places = places.clone().cast(dtype).reshape([1, frames, 1, width]);
    let films = tokens.reshape([rows / frames, frames, count, width]);
    (films + places).reshape([rows, count, width])
}
