//! Attention of the positions of a feature map to the tokens of a text and to each other at once.
//!
//! Source: Saharia et al., "Imagen" (arXiv 2205.11487, section 2.3 and appendix D.3.1), as in `DeepFloyd` IF; behaviour as diffusers'
//! `SimpleCrossAttn` blocks.

use burn::module::Module;
use burn::nn::{GroupNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::attention::{KeyValue, merge_heads, precision, scaled_dot_product, split_heads};
use super::group_norm;
use super::transformer::{Attended, TransformerContext};
use crate::ops::{self, Precision, to_map, to_tokens};
use crate::recall::{Branch, Recall};

/// Groups and epsilon of the norm over a text.
pub(crate) const TEXT_GROUPS: usize = 32;
const TEXT_EPSILON: f64 = 1e-5;

/// What the layer is built from.
#[derive(Debug, Clone, Copy)]
pub struct TextMapAttentionConfig {
    /// Channels of the feature map.
    pub channels: usize,
    /// Number of heads; divides `channels`.
    pub heads: usize,
    /// Width of the text states.
    pub context_width: usize,
    /// Groups of the norm in front.
    pub groups: usize,
    /// Whether the text is normed as well.
    pub text_norm: bool,
}

/// Positions attend to a text and to each other; the outcome is added to the input.
#[derive(Module, Debug)]
pub struct TextMapAttention {
    group_norm: GroupNorm,
    norm_cross: Option<GroupNorm>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    add_k_proj: Linear,
    add_v_proj: Linear,
    to_out: Linear,
    heads: usize,
}

impl TextMapAttention {
    /// Builds the layer; weights stay lazy until loaded.
    pub fn new(config: TextMapAttentionConfig, device: &Device) -> Self {
        let TextMapAttentionConfig {
            channels,
            heads,
            context_width,
            groups,
            text_norm,
        } = config;
        let linear = |input| LinearConfig::new(input, channels).init(device);
        let norm = || group_norm(TEXT_GROUPS, context_width, TEXT_EPSILON, device);
        Self {
            group_norm: group_norm(groups, channels, TEXT_EPSILON, device),
            norm_cross: text_norm.then(norm),
            to_q: linear(channels),
            to_k: linear(channels),
            to_v: linear(channels),
            add_k_proj: linear(context_width),
            add_v_proj: linear(context_width),
            to_out: linear(channels),
            heads,
        }
    }

    /// Keys and values of `text`, `[rows, tokens, context_width]`.
    pub fn context(&self, text: &Tensor<3>) -> TransformerContext {
        let text = match &self.norm_cross {
            Some(norm) => {
                let channels: Tensor<4> = text.clone().swap_dims(1, 2).unsqueeze_dim(3); // [rows, context_width, tokens, 1]
                let normed: Tensor<3> = ops::group_norm(norm, channels).squeeze_dim(3);
                normed.swap_dims(1, 2)
            }
            None => text.clone(),
        };
        let heads = |layer: &Linear| split_heads(ops::linear(layer, text.clone()), self.heads);
        let block = KeyValue {
            key: heads(&self.add_k_proj),
            value: heads(&self.add_v_proj),
        };
        TransformerContext::new(vec![block], Attended::Own)
    }

    /// `[rows, channels, height, width]` to the same.
    pub fn forward(
        &self,
        hidden: Tensor<4>,
        context: &TransformerContext,
        recall: &mut Recall<'_>,
    ) -> Tensor<4> {
        let size = hidden.dims();
        let attended = recall.branch(Branch::SelfAttention, || {
            self.attend(hidden.clone(), context.first_block())
        });
        ops::add(hidden, to_map(attended, size))
    }

    /// What is added to a map, as tokens: `[rows, height · width, channels]`. The text's keys come first.
    fn attend(&self, hidden: Tensor<4>, text: &KeyValue) -> Tensor<3> {
        let tokens = to_tokens(ops::group_norm(&self.group_norm, hidden)); // [rows, height · width, channels]
        let heads = |layer: &Linear| split_heads(ops::linear(layer, tokens.clone()), self.heads);
        let joined = |text: &Tensor<4>, own| Tensor::cat(vec![text.clone(), own], 2);
        let context = KeyValue {
            key: joined(&text.key, heads(&self.to_k)), // [rows, heads, tokens + height · width, head_width]
            value: joined(&text.value, heads(&self.to_v)),
        };
        let precision = precision(&self.to_q, Precision::Fused);
        let mixed = scaled_dot_product(heads(&self.to_q), context, precision);
        ops::linear(&self.to_out, merge_heads(mixed))
    }
}
