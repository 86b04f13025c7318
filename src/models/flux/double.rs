//! The blocks with two streams.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::config::FluxConfig;
use super::parts::{AdaNorm, EPSILON, Given, joined, streams};
use crate::nn::attention::{merge_heads, precision, split_heads};
use crate::nn::head_norm::HeadNorm;
use crate::nn::modulation::{PlainFeedForward, modulate, modulation};
use crate::nn::rotary::Rotary;
use crate::ops::{self, Precision, attention, standardised};
use crate::recall::{Branch, Recall};

/// Attention of both streams to both, with weights of its own for each.
#[derive(Module, Debug)]
struct JointAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: HeadNorm,
    norm_k: HeadNorm,
    add_q_proj: Linear,
    add_k_proj: Linear,
    add_v_proj: Linear,
    to_add_out: Linear,
    norm_added_q: HeadNorm,
    norm_added_k: HeadNorm,
    heads: usize,
}

impl JointAttention {
    fn new(config: &FluxConfig, device: &Device) -> Self {
        let width = config.width;
        let linear = || LinearConfig::new(width, width).init(device);
        let norm = || HeadNorm::new(config.head_width(), EPSILON, device);
        Self {
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            to_out: linear(),
            norm_q: norm(),
            norm_k: norm(),
            add_q_proj: linear(),
            add_k_proj: linear(),
            add_v_proj: linear(),
            to_add_out: linear(),
            norm_added_q: norm(),
            norm_added_k: norm(),
            heads: config.heads,
        }
    }

    /// `[rows, tokens, width]` of text and of image to the same.
    fn forward(&self, [text, image]: [Tensor<3>; 2], rotary: &Rotary) -> [Tensor<3>; 2] {
        let tokens = text.dims()[1];
        let heads = |layer: &Linear, of: &Tensor<3>| {
            split_heads(ops::linear(layer, of.clone()), self.heads) // [rows, heads, tokens, head_width]
        };
        let both = |text: Tensor<4>, image: Tensor<4>| Tensor::cat(vec![text, image], 2);
        let query = both(
            self.norm_added_q.forward(heads(&self.add_q_proj, &text)),
            self.norm_q.forward(heads(&self.to_q, &image)),
        );
        let key = both(
            self.norm_added_k.forward(heads(&self.add_k_proj, &text)),
            self.norm_k.forward(heads(&self.to_k, &image)),
        );
        let value = both(heads(&self.add_v_proj, &text), heads(&self.to_v, &image));
        let (query, key) = (rotary.turned(query), rotary.turned(key));
        let precision = precision(&self.to_q, Precision::Fused);
        let mixed = merge_heads(attention(query, key, value, precision));
        let [text, image] = streams(mixed, tokens);
        [
            ops::linear(&self.to_add_out, text),
            ops::linear(&self.to_out, image),
        ]
    }
}

/// Attention across both streams and a feed-forward layer for each, after modulated norms and gated.
#[derive(Module, Debug)]
pub(super) struct DoubleBlock {
    norm1: AdaNorm,
    norm1_context: AdaNorm,
    attn: JointAttention,
    ff: PlainFeedForward,
    ff_context: PlainFeedForward,
}

impl DoubleBlock {
    pub(super) fn new(config: &FluxConfig, device: &Device) -> Self {
        let width = config.width;
        Self {
            norm1: AdaNorm::new(width, 6, device),
            norm1_context: AdaNorm::new(width, 6, device),
            attn: JointAttention::new(config, device),
            ff: PlainFeedForward::new(width, device),
            ff_context: PlainFeedForward::new(width, device),
        }
    }

    /// `[rows, tokens, width]`, text in front, to the same.
    ///
    /// What the branches give, of both streams, is not gated yet, so that an output of an earlier evaluation meets the gates of this one.
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        given: &Given<'_>,
        recall: &mut Recall<'_>,
    ) -> Tensor<3> {
        let [text, image] = streams(tokens, given.text);
        let of_text = Modulations::of(&self.norm1_context, given.conditioning);
        let of_image = Modulations::of(&self.norm1, given.conditioning);
        let attended = recall.branch(Branch::SelfAttention, || {
            let normed = [of_text.attended(&text), of_image.attended(&image)];
            joined(self.attn.forward(normed, given.rotary))
        });
        let [of_attention, image_attended] = streams(attended, given.text);
        let text = text + of_text.gate_attention.clone() * of_attention;
        let image = image + of_image.gate_attention.clone() * image_attended;
        let fed = recall.branch(Branch::FeedForward, || {
            joined([
                self.ff_context.forward(of_text.fed(&text)),
                self.ff.forward(of_image.fed(&image)),
            ])
        });
        let [text_fed, image_fed] = streams(fed, given.text);
        joined([
            text + of_text.gate_fed * text_fed,
            image + of_image.gate_fed * image_fed,
        ])
    }
}

/// What one stream of a block is modulated by, `[rows, 1, width]` each.
struct Modulations {
    shift_attention: Tensor<3>,
    scale_attention: Tensor<3>,
    gate_attention: Tensor<3>,
    shift_fed: Tensor<3>,
    scale_fed: Tensor<3>,
    gate_fed: Tensor<3>,
}

impl Modulations {
    fn of(norm: &AdaNorm, conditioning: &Tensor<2>) -> Self {
        let [
            shift_attention,
            scale_attention,
            gate_attention,
            shift_fed,
            scale_fed,
            gate_fed,
        ] = modulation(&norm.linear, conditioning);
        Self {
            shift_attention,
            scale_attention,
            gate_attention,
            shift_fed,
            scale_fed,
            gate_fed,
        }
    }

    /// Tokens as attention reads them.
    fn attended(&self, tokens: &Tensor<3>) -> Tensor<3> {
        let normed = standardised(tokens.clone(), EPSILON);
        modulate(
            normed,
            self.shift_attention.clone(),
            self.scale_attention.clone(),
        )
    }

    /// Tokens as the feed-forward layer reads them.
    fn fed(&self, tokens: &Tensor<3>) -> Tensor<3> {
        let normed = standardised(tokens.clone(), EPSILON);
        modulate(normed, self.shift_fed.clone(), self.scale_fed.clone())
    }
}
