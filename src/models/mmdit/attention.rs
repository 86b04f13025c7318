//! Attention of image tokens whose queries and keys may be normed head by head, and of two streams of tokens at once, each with
//! projections of its own.
//!
//! **Source**: Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis" (arXiv 2403.03206, section 4 and
//! figure 2b; section 5.3.2 for the norms).

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::nn::attention::{merge_heads, precision, split_heads};
use crate::nn::head_norm::HeadNorm;
use crate::ops::{self, Precision, attention};

/// Epsilon of the norms of queries and keys.
const EPSILON: f64 = 1e-6;

/// What an attention over one or two streams is built from.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadsConfig {
    /// Width of the tokens of all streams.
    pub(super) width: usize,
    /// Number of heads; divides `width`.
    pub(super) heads: usize,
    /// Whether queries and keys are normed.
    pub(super) normed: bool,
}

impl HeadsConfig {
    fn linear(self, device: &Device) -> Linear {
        LinearConfig::new(self.width, self.width).init(device)
    }

    fn norm(self, device: &Device) -> Option<HeadNorm> {
        self.normed
            .then(|| HeadNorm::new(self.width / self.heads, EPSILON, device))
    }
}

/// Queries, keys and values of one stream, `[rows, heads, tokens, head_width]` each.
struct Heads {
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    precision: Precision,
}

impl Heads {
    /// Of `tokens`, `[rows, tokens, width]`, by the layers for queries, keys and values, and the norms of the first two.
    fn of(
        layers: [&Linear; 3],
        norms: [Option<&HeadNorm>; 2],
        tokens: &Tensor<3>,
        heads: usize,
    ) -> Self {
        let [query, key, value] =
            layers.map(|layer| split_heads(ops::linear(layer, tokens.clone()), heads));
        let normed = |norm: Option<&HeadNorm>, heads| match norm {
            Some(norm) => norm.forward(heads),
            None => heads,
        };
        Self {
            query: normed(norms[0], query),
            key: normed(norms[1], key),
            value,
            precision: precision(layers[0], Precision::Fused),
        }
    }

    /// The tokens of `other` after its own.
    fn followed_by(self, other: Self) -> Self {
        let join = |one, other| Tensor::cat(vec![one, other], 2);
        Self {
            query: join(self.query, other.query),
            key: join(self.key, other.key),
            value: join(self.value, other.value),
            precision: self.precision,
        }
    }

    /// What every token reads of all, `[rows, tokens, width]`.
    fn attended(self) -> Tensor<3> {
        merge_heads(attention(self.query, self.key, self.value, self.precision))
    }
}

/// Self-attention of one stream.
#[derive(Module, Debug)]
pub(super) struct HeadedAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: Option<HeadNorm>,
    norm_k: Option<HeadNorm>,
    heads: usize,
}

impl HeadedAttention {
    /// Builds the layer; weights stay lazy until loaded.
    pub(super) fn new(config: HeadsConfig, device: &Device) -> Self {
        let linear = || config.linear(device);
        Self {
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            to_out: linear(),
            norm_q: config.norm(device),
            norm_k: config.norm(device),
            heads: config.heads,
        }
    }

    /// `[rows, tokens, width]` to the same.
    pub(super) fn forward(&self, tokens: &Tensor<3>) -> Tensor<3> {
        let layers = [&self.to_q, &self.to_k, &self.to_v];
        let norms = [self.norm_q.as_ref(), self.norm_k.as_ref()];
        let heads = Heads::of(layers, norms, tokens, self.heads);
        ops::linear(&self.to_out, heads.attended())
    }
}

/// One attention over the tokens of a text and of a picture.
#[derive(Module, Debug)]
pub(super) struct JointAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    add_q_proj: Linear,
    add_k_proj: Linear,
    add_v_proj: Linear,
    to_add_out: Option<Linear>,
    norm_q: Option<HeadNorm>,
    norm_k: Option<HeadNorm>,
    norm_added_q: Option<HeadNorm>,
    norm_added_k: Option<HeadNorm>,
    heads: usize,
}

impl JointAttention {
    /// Builds the layer, with an output for the text if it `goes_on`; weights stay lazy until loaded.
    pub(super) fn new(config: HeadsConfig, goes_on: bool, device: &Device) -> Self {
        let linear = || config.linear(device);
        Self {
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            to_out: linear(),
            add_q_proj: linear(),
            add_k_proj: linear(),
            add_v_proj: linear(),
            to_add_out: goes_on.then(linear),
            norm_q: config.norm(device),
            norm_k: config.norm(device),
            norm_added_q: config.norm(device),
            norm_added_k: config.norm(device),
            heads: config.heads,
        }
    }

    /// What `text`, `[rows, text, width]`, and `image`, `[rows, image, width]`, read of both, the text first: `[rows, text + image,
    /// width]`, or `[rows, image, width]` where the text does not go on.
    pub(super) fn forward(&self, text: &Tensor<3>, image: &Tensor<3>) -> Tensor<3> {
        let of_text = Heads::of(
            [&self.add_q_proj, &self.add_k_proj, &self.add_v_proj],
            [self.norm_added_q.as_ref(), self.norm_added_k.as_ref()],
            text,
            self.heads,
        );
        let of_image = Heads::of(
            [&self.to_q, &self.to_k, &self.to_v],
            [self.norm_q.as_ref(), self.norm_k.as_ref()],
            image,
            self.heads,
        );
        let both = of_text.followed_by(of_image).attended(); // [rows, text + image, width]
        let [first, second] = parted(both, text.dims()[1]);
        let image = ops::linear(&self.to_out, second);
        match &self.to_add_out {
            Some(out) => Tensor::cat(vec![ops::linear(out, first), image], 1),
            None => image,
        }
    }
}

/// The first `count` tokens of `[rows, tokens, width]`, and the rest.
pub(super) fn parted(both: Tensor<3>, count: usize) -> [Tensor<3>; 2] {
    let rest = both.dims()[1] - count;
    [
        both.clone().narrow(1, 0, count),
        both.narrow(1, count, rest),
    ]
}
