//! The nested layers, as in the checkpoint.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::config::DiTConfig;
use crate::models::patches::PatchEmbed;
use crate::nn::attention::{Attention, AttentionConfig};
use crate::nn::embed::TimestepEmbedding;
use crate::nn::modulation::{PlainFeedForward, modulate, modulation};
use crate::ops::{self, standardised};
use crate::recall::{Branch, Recall};

/// Epsilon of the norm in front of attention and of the last one.
const NORM_EPSILON: f64 = 1e-6;

/// The weights of a `DiT`, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct DiTTransformer2DModel {
    pub(super) pos_embed: PatchEmbed,
    pub(super) transformer_blocks: Vec<DiTBlock>,
    proj_out_1: Linear,
    proj_out_2: Linear,
}

impl DiTTransformer2DModel {
    /// Builds the network; weights stay lazy until loaded.
    pub fn new(config: &DiTConfig, device: &Device) -> Self {
        let &DiTConfig {
            width,
            patch,
            out_channels,
            ..
        } = config;
        let linear = |output| LinearConfig::new(width, output).init(device);
        Self {
            pos_embed: PatchEmbed::new(config.in_channels, width, patch, device),
            transformer_blocks: (0..config.layers)
                .map(|index| DiTBlock::new(config, index == 0, device))
                .collect(),
            proj_out_1: linear(2 * width),
            proj_out_2: linear(patch * patch * out_channels),
        }
    }

    /// The embedders, which the first block holds for all.
    pub(super) fn embedders(&self) -> &Embedders {
        let embedders = self.transformer_blocks[0].norm1.emb.as_ref();
        embedders.expect("`new` gives them to the first block")
    }

    /// Patches of the prediction, `[rows, patches, patch · patch · channels]`, from the last tokens, `[rows, patches, width]`, and
    /// the activated conditioning, `[rows, width]`.
    pub(super) fn head(&self, hidden: Tensor<3>, conditioning: &Tensor<2>) -> Tensor<3> {
        let [shift, scale] = modulation(&self.proj_out_1, conditioning);
        let hidden = modulate(standardised(hidden, NORM_EPSILON), shift, scale);
        ops::linear(&self.proj_out_2, hidden)
    }
}

/// Timestep and class as one vector.
#[derive(Module, Debug)]
pub(super) struct Embedders {
    pub(super) timestep_embedder: TimestepEmbedding,
    pub(super) class_embedder: LabelEmbedding,
}

/// One vector a class, and one for none.
#[derive(Module, Debug)]
pub(super) struct LabelEmbedding {
    pub(super) embedding_table: Embedding,
}

/// A norm whose shift and scale come from the conditioning, as do the gates after both branches.
///
/// diffusers repeats the embedders in every block; they are the same (loading holds them to that), so the first block keeps them.
#[derive(Module, Debug)]
pub(super) struct AdaLayerNormZero {
    emb: Option<Embedders>,
    linear: Linear,
}

impl AdaLayerNormZero {
    fn new(config: &DiTConfig, embeds: bool, device: &Device) -> Self {
        let width = config.width;
        let embedders = || Embedders {
            timestep_embedder: TimestepEmbedding::new(config.sinusoid.width, width, device),
            class_embedder: LabelEmbedding {
                embedding_table: EmbeddingConfig::new(config.classes + 1, width).init(device),
            },
        };
        Self {
            emb: embeds.then(embedders),
            linear: LinearConfig::new(width, 6 * width).init(device),
        }
    }
}

/// Attention and feed-forward, each after a modulated norm and gated.
#[derive(Module, Debug)]
pub(super) struct DiTBlock {
    norm1: AdaLayerNormZero,
    attn1: Attention,
    ff: PlainFeedForward,
    feed_forward_epsilon: f64,
}

impl DiTBlock {
    fn new(config: &DiTConfig, embeds: bool, device: &Device) -> Self {
        let &DiTConfig { width, heads, .. } = config;
        let attention = AttentionConfig {
            width,
            context_width: width,
            heads,
            bias: true,
            upcast: config.upcast_attention,
        };
        Self {
            norm1: AdaLayerNormZero::new(config, embeds, device),
            attn1: Attention::new(attention, device),
            ff: PlainFeedForward::new(width, device),
            feed_forward_epsilon: config.feed_forward_epsilon,
        }
    }

    /// `[rows, tokens, width]` to the same; `conditioning` is activated, `[rows, width]`.
    ///
    /// What the branches give is not gated yet, so that an output of an earlier evaluation meets the gates of this one.
    pub(super) fn forward(
        &self,
        hidden: Tensor<3>,
        conditioning: &Tensor<2>,
        recall: &mut Recall<'_>,
    ) -> Tensor<3> {
        let [
            shift_attention,
            scale_attention,
            gate_attention,
            shift_fed,
            scale_fed,
            gate_fed,
        ] = modulation(&self.norm1.linear, conditioning);
        let attended = recall.branch(Branch::SelfAttention, || {
            let normed = standardised(hidden.clone(), NORM_EPSILON);
            self.attn1
                .attend_self(modulate(normed, shift_attention, scale_attention))
        });
        let hidden = hidden + gate_attention * attended;
        let fed = recall.branch(Branch::FeedForward, || {
            let normed = standardised(hidden.clone(), self.feed_forward_epsilon);
            self.ff.forward(modulate(normed, shift_fed, scale_fed))
        });
        hidden + gate_fed * fed
    }
}
