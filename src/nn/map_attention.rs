//! Self-attention over the positions of a feature map, without a transformer around it.
//!
//! Source: Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239, appendix B: one head); Dhariwal and Nichol,
//! "Diffusion Models Beat GANs on Image Synthesis" (arXiv 2105.05233, section 3: several heads).

use burn::module::Module;
use burn::nn::{GroupNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::attention::{KeyValue, merge_heads, precision, scaled_dot_product, split_heads};
use super::group_norm;
use crate::ops::{self, Precision, to_map, to_tokens};
use crate::recall::{Branch, Recall};

/// What the layer is built from.
#[derive(Debug, Clone, Copy)]
pub struct MapAttentionConfig {
    /// Channels of the feature map.
    pub channels: usize,
    /// Number of heads; divides `channels`.
    pub heads: usize,
    /// Groups of the norm in front.
    pub groups: usize,
    /// Epsilon of that norm.
    pub epsilon: f64,
}

/// Positions attend to each other; the outcome is added to the input.
#[derive(Module, Debug)]
pub struct MapAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl MapAttention {
    /// Builds the layer; weights stay lazy until loaded.
    pub fn new(config: MapAttentionConfig, device: &Device) -> Self {
        let MapAttentionConfig {
            channels,
            heads,
            groups,
            epsilon,
        } = config;
        let linear = || LinearConfig::new(channels, channels).init(device);
        Self {
            group_norm: group_norm(groups, channels, epsilon, device),
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            to_out: linear(),
            heads,
        }
    }

    /// `[rows, channels, height, width]` to the same.
    pub fn forward(&self, hidden: Tensor<4>, recall: &mut Recall<'_>) -> Tensor<4> {
        let size = hidden.dims();
        let attended = recall.branch(Branch::SelfAttention, || self.attend(hidden.clone()));
        ops::add(hidden, to_map(attended, size))
    }

    /// What is added to a map, as tokens: `[rows, height · width, channels]`.
    fn attend(&self, hidden: Tensor<4>) -> Tensor<3> {
        let tokens = to_tokens(ops::group_norm(&self.group_norm, hidden)); // [rows, height · width, channels]
        let heads = |layer: &Linear| split_heads(ops::linear(layer, tokens.clone()), self.heads);
        let context = KeyValue {
            key: heads(&self.to_k),
            value: heads(&self.to_v),
        };
        let precision = precision(&self.to_q, Precision::Operands);
        let mixed = scaled_dot_product(heads(&self.to_q), context, precision);
        ops::linear(&self.to_out, merge_heads(mixed))
    }
}
