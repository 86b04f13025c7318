//! Transformer blocks over the positions of a feature map.
//!
//! Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752, appendix E.2.1);
//! GEGLU: Shazeer, "GLU Variants Improve Transformer" (arXiv 2002.05202).

use std::ops::Range;

use burn::module::Module;
use burn::nn::{GroupNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::attention::{Attention, AttentionConfig, KeyValue};
use super::group_norm;
use super::layer_norm::LayerNorm;
use crate::ops::{self, to_map, to_tokens};
use crate::recall::{Branch, Recall};

/// Epsilon of the group norm in front of a spatial transformer, whatever the `UNet`'s own.
pub(super) const NORM_EPSILON: f64 = 1e-6;

/// Epsilon of the layer norms inside a block.
pub(super) const TOKEN_EPSILON: f64 = 1e-5;

/// Width of the feed-forward layer over that of the block.
const EXPANSION: usize = 4;

/// What a spatial transformer is built from.
#[derive(Debug, Clone, Copy)]
pub struct TransformerConfig {
    /// Channels of the feature map.
    pub channels: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks in a row.
    pub depth: usize,
    /// Width of the text states.
    pub context_width: usize,
    /// Groups of the norm in front.
    pub groups: usize,
    /// Attention scores in f32.
    pub upcast: bool,
    /// Whether the first attention of a block reads the text too, not the map.
    pub only_text: bool,
}

/// A gated feed-forward layer, `out(a · gelu(b))` with `[a, b] = proj(x)`.
#[derive(Module, Debug)]
pub struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    /// Builds the layer for tokens of `width`.
    pub fn new(width: usize, device: &Device) -> Self {
        let inner = EXPANSION * width;
        Self {
            proj: LinearConfig::new(width, 2 * inner).init(device),
            out: LinearConfig::new(inner, width).init(device),
        }
    }

    /// `[rows, tokens, width]` to the same.
    pub fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let gated = ops::linear_geglu(&self.proj, hidden); // [rows, tokens, inner]
        ops::linear(&self.out, gated) // [rows, tokens, width]
    }
}

/// Self-attention, cross-attention, feed-forward, each after a layer norm and added to its input.
#[derive(Module, Debug)]
pub struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
    only_text: bool,
}

impl BasicTransformerBlock {
    pub(super) fn new(config: TransformerConfig, device: &Device) -> Self {
        let width = config.channels;
        let norm = || LayerNorm::new(width, TOKEN_EPSILON, device);
        let attention = |context_width| {
            let TransformerConfig { heads, upcast, .. } = config;
            Attention::new(
                AttentionConfig {
                    width,
                    context_width,
                    heads,
                    bias: false,
                    upcast,
                },
                device,
            )
        };
        Self {
            norm1: norm(),
            attn1: attention(if config.only_text {
                config.context_width
            } else {
                width
            }),
            norm2: norm(),
            attn2: attention(config.context_width),
            norm3: norm(),
            ff: FeedForward::new(width, device),
            only_text: config.only_text,
        }
    }

    /// Keys and values of `text`, `[rows, tokens, context_width]`.
    pub(super) fn context(&self, text: &Tensor<3>) -> KeyValue {
        self.attn2.key_value(text.clone())
    }

    /// Those of the first attention, if it reads the text.
    fn first_context(&self, text: &Tensor<3>) -> Option<KeyValue> {
        self.only_text.then(|| self.attn1.key_value(text.clone()))
    }

    /// `[rows, tokens, width]` to the same.
    pub(super) fn forward(
        &self,
        hidden: Tensor<3>,
        context: &KeyValue,
        recall: &mut Recall<'_>,
    ) -> Tensor<3> {
        self.run(hidden, Looked::AtFrames(1), Some(context), recall)
    }

    /// [`forward`](Self::forward) where there is no context: the second attention is among the tokens as well.
    pub(super) fn forward_alone(&self, hidden: Tensor<3>, recall: &mut Recall<'_>) -> Tensor<3> {
        self.run(hidden, Looked::AtFrames(1), None, recall)
    }

    fn run(
        &self,
        hidden: Tensor<3>,
        looked: Looked<'_>,
        context: Option<&KeyValue>,
        recall: &mut Recall<'_>,
    ) -> Tensor<3> {
        let first = match looked {
            Looked::AtFrames(_) => Branch::SelfAttention,
            Looked::AtText(_) => Branch::CrossAttention,
        };
        let attended = recall.branch(first, || {
            let normed = self.norm1.forward(hidden.clone());
            match looked {
                Looked::AtFrames(frames) => self.attn1.attend_first(normed, frames),
                Looked::AtText(text) => self.attn1.attend(normed, text.clone()),
            }
        });
        let hidden = ops::add(hidden, attended);
        let second = match context {
            Some(_) => Branch::CrossAttention,
            None => Branch::SelfAttention,
        };
        let attended = recall.branch(second, || {
            let normed = self.norm2.forward(hidden.clone());
            match context {
                Some(context) => self.attn2.attend(normed, context.clone()),
                None => self.attn2.attend_self(normed),
            }
        });
        let hidden = ops::add(hidden, attended);
        let fed = recall.branch(Branch::FeedForward, || {
            self.ff.forward(self.norm3.forward(hidden.clone()))
        });
        ops::add(hidden, fed)
    }
}

/// What a block's first attention looks at.
#[derive(Debug, Clone, Copy)]
enum Looked<'a> {
    /// The first of so many frames; 1 is the map itself.
    AtFrames(usize),
    AtText(&'a KeyValue),
}

/// The positions that those of a map attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attended {
    /// Their own map's.
    #[default]
    Own,
    /// Those of the first frame of the film that the map is a frame of (arXiv 2303.13439, section 3.3.2).
    FirstFrame {
        /// Frames of a film.
        frames: usize,
    },
}

impl Attended {
    /// In films of so many frames, 1 for pictures: the first.
    pub fn first_of(frames: usize) -> Self {
        if frames == 1 {
            Self::Own
        } else {
            Self::FirstFrame { frames }
        }
    }

    /// Rows that attend to the first of them.
    pub fn frames(self) -> usize {
        match self {
            Self::Own => 1,
            Self::FirstFrame { frames } => frames,
        }
    }
}

/// What a transformer reads besides its map.
#[derive(Debug, Clone, Default)]
pub struct TransformerContext {
    /// Cross-attention keys and values of every block.
    blocks: Vec<KeyValue>,
    /// Those of the blocks' first attention; none where that looks at the map.
    first: Vec<KeyValue>,
    attended: Attended,
}

impl TransformerContext {
    /// Keys and values of the text, of one block each.
    pub(super) fn new(blocks: Vec<KeyValue>, attended: Attended) -> Self {
        Self {
            blocks,
            first: Vec::new(),
            attended,
        }
    }

    /// Those of the first block.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(super) fn first_block(&self) -> &KeyValue {
        &self.blocks[0]
    }

    /// What the first attention of block `index` looks at.
    fn looked(&self, index: usize) -> Looked<'_> {
        match self.first.get(index) {
            Some(text) => Looked::AtText(text),
            None => Looked::AtFrames(self.attended.frames()),
        }
    }

    /// Some of the rows of the text.
    #[must_use]
    pub fn select(&self, rows: Range<usize>) -> Self {
        self.each(|block| block.select(rows.clone()))
    }

    /// The same rows once per step, step-major.
    #[must_use]
    pub fn repeat(&self, steps: usize) -> Self {
        match steps {
            1 => self.clone(),
            steps => self.each(|block| block.repeat(steps)),
        }
    }

    fn each(&self, change: impl Fn(&KeyValue) -> KeyValue) -> Self {
        let all = |blocks: &[KeyValue]| blocks.iter().map(&change).collect();
        Self {
            blocks: all(&self.blocks),
            first: all(&self.first),
            attended: self.attended,
        }
    }
}

/// A spatial transformer: positions become tokens, attend to each other and to the text, and are added back.
///
/// `proj_in` and `proj_out` are linear layers; SD 1.x checkpoints store them as 1x1 convolutions of the same meaning, whose two
/// unit sides the loader drops.
#[derive(Module, Debug)]
pub struct Transformer2d {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<BasicTransformerBlock>,
    proj_out: Linear,
}

impl Transformer2d {
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
            proj_out: linear(),
        }
    }

    /// What a run reads, made once: from text states `[rows, tokens, context_width]`. Rows of maps that follow each other may share a
    /// row of the text, as the frames of a film do; `attended` says which of them they look at.
    pub fn context(&self, text: &Tensor<3>, attended: Attended) -> TransformerContext {
        let blocks = self.transformer_blocks.iter();
        let first = blocks.clone();
        TransformerContext {
            blocks: blocks.map(|block| block.context(text)).collect(),
            first: first
                .filter_map(|block| block.first_context(text))
                .collect(),
            attended,
        }
    }

    /// `[rows, channels, height, width]` to the same.
    pub fn forward(
        &self,
        hidden: Tensor<4>,
        context: &TransformerContext,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let size = hidden.dims();
        let tokens = to_tokens(ops::group_norm(&self.norm, hidden.clone()));
        let tokens = ops::linear(&self.proj_in, tokens);
        let blocks = self.transformer_blocks.iter().zip(&context.blocks);
        let tokens = blocks
            .enumerate()
            .fold(tokens, |tokens, (index, (block, text))| {
                block.run(tokens, context.looked(index), Some(text), recall)
            });
        ops::add(hidden, to_map(ops::linear(&self.proj_out, tokens), size))
    }
}
