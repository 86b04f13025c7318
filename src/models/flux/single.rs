//! The blocks with one stream.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::config::FluxConfig;
use super::parts::{AdaNorm, EPSILON, Given};
use crate::nn::attention::{merge_heads, precision, split_heads};
use crate::nn::head_norm::HeadNorm;
use crate::nn::modulation::{modulate, modulation};
use crate::nn::rotary::Rotary;
use crate::ops::{self, Gelu, Precision, attention, standardised};
use crate::recall::{Branch, Recall};

/// Width of the feed-forward layer over that of the tokens.
pub(super) const EXPANSION: usize = 4;

/// Attention without a layer behind it.
#[derive(Module, Debug)]
struct BareAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    norm_q: HeadNorm,
    norm_k: HeadNorm,
    heads: usize,
}

impl BareAttention {
    fn new(config: &FluxConfig, device: &Device) -> Self {
        let linear = || LinearConfig::new(config.width, config.width).init(device);
        let norm = || HeadNorm::new(config.head_width(), EPSILON, device);
        Self {
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            norm_q: norm(),
            norm_k: norm(),
            heads: config.heads,
        }
    }

    /// `[rows, tokens, width]` to the same.
    fn forward(&self, tokens: &Tensor<3>, rotary: &Rotary) -> Tensor<3> {
        let heads = |layer: &Linear| split_heads(ops::linear(layer, tokens.clone()), self.heads);
        let query = rotary.turned(self.norm_q.forward(heads(&self.to_q)));
        let key = rotary.turned(self.norm_k.forward(heads(&self.to_k)));
        let precision = precision(&self.to_q, Precision::Fused);
        merge_heads(attention(query, key, heads(&self.to_v), precision))
    }
}

/// Attention and feed-forward side by side, after one modulated norm; a layer over both is gated.
#[derive(Module, Debug)]
pub(super) struct SingleBlock {
    norm: AdaNorm,
    proj_mlp: Linear,
    proj_out: Linear,
    attn: BareAttention,
}

impl SingleBlock {
    pub(super) fn new(config: &FluxConfig, device: &Device) -> Self {
        let (width, inner) = (config.width, EXPANSION * config.width);
        Self {
            norm: AdaNorm::new(width, 3, device),
            proj_mlp: LinearConfig::new(width, inner).init(device),
            proj_out: LinearConfig::new(width + inner, width).init(device),
            attn: BareAttention::new(config, device),
        }
    }

    /// `[rows, tokens, width]`, text in front, to the same.
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        given: &Given<'_>,
        recall: &mut Recall<'_>,
    ) -> Tensor<3> {
        let [shift, scale, gate] = modulation(&self.norm.linear, given.conditioning);
        let normed = modulate(standardised(tokens.clone(), EPSILON), shift, scale);
        let attended = recall.branch(Branch::SelfAttention, || {
            self.attn.forward(&normed, given.rotary)
        });
        let fed = recall.branch(Branch::FeedForward, || {
            ops::gelu(ops::linear(&self.proj_mlp, normed.clone()), Gelu::Tanh) // [rows, tokens, 4 · width]
        });
        let both = Tensor::cat(vec![attended, fed], 2); // [rows, tokens, 5 · width]
        tokens + gate * ops::linear(&self.proj_out, both)
    }
}
