//! The nested layers, as in the checkpoint.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

use super::config::PixArtConfig;
use crate::models::patches::PatchEmbed;
use crate::nn::attention::{Attention, AttentionConfig};
use crate::nn::embed::TimestepEmbedding;
use crate::nn::modulation::{PlainFeedForward, modulate, parts};
use crate::nn::ragged::RaggedContext;
use crate::ops::{self, Gelu, standardised};
use crate::recall::{Branch, Recall};
use crate::weights::{AnyStack, Stack, Stacked};

/// Epsilon of the last norm.
const LAST_EPSILON: f64 = 1e-6;

/// Shift, scale and gate of both halves of a block.
const MODULATIONS: usize = 6;

/// The weights of a `PixArt` transformer, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct PixArtTransformer2DModel {
    pub(super) pos_embed: PatchEmbed,
    pub(super) adaln_single: AdaLayerNormSingle,
    pub(super) caption_projection: CaptionProjection,
    pub(super) transformer_blocks: Stack<PixArtBlock>,
    scale_shift_table: Param<Tensor<2>>,
    proj_out: Linear,
}

impl PixArtTransformer2DModel {
    /// Builds the network; weights stay lazy until loaded.
    pub fn new(config: &PixArtConfig, device: &Device) -> Self {
        let &PixArtConfig {
            width,
            patch,
            in_channels,
            out_channels,
            layers,
            ..
        } = config;
        let blocks = (0..layers).map(|_| PixArtBlock::new(config, device));
        Self {
            pos_embed: PatchEmbed::new(in_channels, width, patch, device),
            adaln_single: AdaLayerNormSingle::new(config, device),
            caption_projection: CaptionProjection::new(config, device),
            transformer_blocks: blocks.collect(),
            scale_shift_table: table(2, width, device),
            proj_out: LinearConfig::new(width, patch * patch * out_channels).init(device),
        }
    }

    /// Patches of what comes out, `[rows, patches, patch · patch · channels]`, from the last tokens, `[rows, patches, width]`, and the
    /// embedded timestep, `[rows, width]`.
    pub(super) fn head(&self, hidden: Tensor<3>, embedded: &Tensor<2>) -> Tensor<3> {
        let twice = embedded.clone().repeat_dim(1, 2).unsqueeze_dim(1); // [rows, 1, 2 · width]
        let [shift, scale] = parts(twice + flat(&self.scale_shift_table));
        let hidden = modulate(standardised(hidden, LAST_EPSILON), shift, scale);
        ops::linear(&self.proj_out, hidden)
    }
}

impl Stacked for PixArtTransformer2DModel {
    fn stacks(&mut self) -> Vec<(&'static str, &mut dyn AnyStack)> {
        vec![("transformer_blocks", &mut self.transformer_blocks)]
    }
}

/// Vectors that are learned and added to what the timestep says.
fn table(rows: usize, width: usize, device: &Device) -> Param<Tensor<2>> {
    Initializer::Zeros.init([rows, width], device)
}

/// The rows of a table side by side, `[1, 1, rows · width]`.
fn flat(table: &Param<Tensor<2>>) -> Tensor<3> {
    let table = table.val();
    let [rows, width] = table.dims();
    table.reshape([1, 1, rows * width])
}

/// Timestep, and where the model is told them size and ratio, as one vector; and what the blocks make of it.
#[derive(Module, Debug)]
pub(super) struct AdaLayerNormSingle {
    pub(super) emb: Embedders,
    linear: Linear,
}

/// The embedders of timestep, size and ratio.
#[derive(Module, Debug)]
#[allow(
    clippy::struct_field_names,
    reason = "named after the weights they are filled from"
)]
pub(super) struct Embedders {
    pub(super) timestep_embedder: TimestepEmbedding,
    resolution_embedder: Option<TimestepEmbedding>,
    aspect_ratio_embedder: Option<TimestepEmbedding>,
}

impl AdaLayerNormSingle {
    fn new(config: &PixArtConfig, device: &Device) -> Self {
        let width = config.width;
        let embedder = |width| TimestepEmbedding::new(PixArtConfig::SINUSOID.width, width, device);
        let told = || config.told_sizes.then(|| embedder(width / 3));
        Self {
            emb: Embedders {
                timestep_embedder: embedder(width),
                resolution_embedder: told(),
                aspect_ratio_embedder: told(),
            },
            linear: LinearConfig::new(width, MODULATIONS * width).init(device),
        }
    }

    /// What all blocks are modulated by, `[rows, 1, 6 · width]`, of the embedded timestep, `[rows, width]`.
    pub(super) fn modulations(&self, embedded: &Tensor<2>) -> Tensor<3> {
        ops::linear(&self.linear, silu(embedded.clone())).unsqueeze_dim(1)
    }
}

impl Embedders {
    /// Height, width and their ratio, one entry a row, as one vector a row, `[rows, width]`; `None` from a model that is not told them.
    ///
    /// # Panics
    ///
    /// If a row has other than three numbers.
    pub(super) fn sizes(&self, numbers: &[Vec<f64>], device: &Device) -> Option<Tensor<2>> {
        let embed = |embedder: &TimestepEmbedding, numbers: Vec<f64>| {
            let count = numbers.len();
            let sinusoids = PixArtConfig::SINUSOID.embed(&numbers, device);
            let embedded = embedder.forward(sinusoids); // [numbers, width / 3]
            let width = embedded.dims()[1];
            (embedded, count, width)
        };
        let rows = numbers.len();
        let sides = numbers.iter().flat_map(|row| row[..2].iter().copied());
        let (sides, count, width) = embed(self.resolution_embedder.as_ref()?, sides.collect());
        let sides = sides.reshape([rows, count / rows * width]); // [rows, 2 · width / 3]
        let ratios = numbers.iter().map(|row| row[2]);
        let (ratios, _, _) = embed(self.aspect_ratio_embedder.as_ref()?, ratios.collect());
        Some(Tensor::cat(vec![sides, ratios], 1))
    }
}

/// Text states to the width of the tokens.
#[derive(Module, Debug)]
pub(super) struct CaptionProjection {
    linear_1: Linear,
    linear_2: Linear,
}

impl CaptionProjection {
    fn new(config: &PixArtConfig, device: &Device) -> Self {
        let &PixArtConfig {
            width, text_width, ..
        } = config;
        Self {
            linear_1: LinearConfig::new(text_width, width).init(device),
            linear_2: LinearConfig::new(width, width).init(device),
        }
    }

    /// `[rows, tokens, text width]` to `[rows, tokens, width]`.
    pub(super) fn forward(&self, states: Tensor<3>) -> Tensor<3> {
        let hidden = ops::gelu(ops::linear(&self.linear_1, states), Gelu::Tanh);
        ops::linear(&self.linear_2, hidden)
    }
}

/// Self-attention and feed-forward, each after a modulated norm and gated; between them attention to the text, neither normed nor gated.
#[derive(Module, Debug)]
pub(super) struct PixArtBlock {
    scale_shift_table: Param<Tensor<2>>,
    attn1: Attention,
    attn2: Attention,
    ff: PlainFeedForward,
    epsilon: f64,
}

impl PixArtBlock {
    fn new(config: &PixArtConfig, device: &Device) -> Self {
        let &PixArtConfig { width, heads, .. } = config;
        let attention = AttentionConfig {
            width,
            context_width: width,
            heads,
            bias: true,
            upcast: config.upcast_attention,
        };
        Self {
            scale_shift_table: table(MODULATIONS, width, device),
            attn1: Attention::new(attention, device),
            attn2: Attention::new(attention, device),
            ff: PlainFeedForward::new(width, device),
            epsilon: config.norm_epsilon,
        }
    }

    /// Keys and values of the projected text, `[rows, tokens, width]`.
    pub(super) fn context(&self, text: &Tensor<3>, lengths: &[usize]) -> RaggedContext {
        RaggedContext::new(&self.attn2, text, lengths)
    }

    /// `[rows, tokens, width]` to the same; `modulations` are those of all blocks, `[rows, 1, 6 · width]`.
    ///
    /// What the branches give is not gated yet, so that an output of an earlier evaluation meets the gates of this one.
    pub(super) fn forward(
        &self,
        hidden: Tensor<3>,
        modulations: &Tensor<3>,
        text: &RaggedContext,
        recall: &mut Recall<'_>,
    ) -> Tensor<3> {
        let own = modulations.clone() + flat(&self.scale_shift_table);
        let [
            shift_attention,
            scale_attention,
            gate_attention,
            shift_fed,
            scale_fed,
            gate_fed,
        ] = parts(own);
        let attended = recall.branch(Branch::SelfAttention, || {
            let normed = standardised(hidden.clone(), self.epsilon);
            self.attn1
                .attend_self(modulate(normed, shift_attention, scale_attention))
        });
        let hidden = hidden + gate_attention * attended;
        let read = recall.branch(Branch::CrossAttention, || {
            text.attended(&self.attn2, hidden.clone())
        });
        let hidden = hidden + read;
        let fed = recall.branch(Branch::FeedForward, || {
            let normed = standardised(hidden.clone(), self.epsilon);
            self.ff.forward(modulate(normed, shift_fed, scale_fed))
        });
        hidden + gate_fed * fed
    }
}
