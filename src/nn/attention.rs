//! Attention with separate projections.
//!
//! Source: Vaswani et al. (arXiv 1706.03762, section 3.2).

use std::ops::Range;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, FloatDType, Tensor};

use crate::ops::{self, Precision, attention};

/// Keys and values split into heads, `[rows, heads, tokens, head_width]` each.
#[derive(Debug, Clone)]
pub struct KeyValue {
    pub(super) key: Tensor<4>,
    pub(super) value: Tensor<4>,
}

impl KeyValue {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.key.dims()[0]
    }

    /// Some of the rows.
    #[must_use]
    pub fn select(&self, rows: Range<usize>) -> Self {
        let select = |tensor: &Tensor<4>| tensor.clone().narrow(0, rows.start, rows.len());
        Self {
            key: select(&self.key),
            value: select(&self.value),
        }
    }

    /// The same rows once per step, step-major.
    #[must_use]
    pub fn repeat(&self, steps: usize) -> Self {
        Self {
            key: self.key.clone().repeat_dim(0, steps),
            value: self.value.clone().repeat_dim(0, steps),
        }
    }
}

/// Multi-head attention as `UNets` store it: `to_q`, `to_k`, `to_v` without bias, `to_out` with one.
#[derive(Module, Debug)]
pub struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
    upcast: bool,
}

/// What an attention layer is built from.
#[derive(Debug, Clone, Copy)]
pub struct AttentionConfig {
    /// Width of the queries and of the output.
    pub width: usize,
    /// Width of what keys and values are made from.
    pub context_width: usize,
    /// Number of heads; divides `width`.
    pub heads: usize,
    /// Whether the three input projections have a bias.
    pub bias: bool,
    /// Whether scores are computed in f32 whatever the weights' type (SD 2.x overflows f16 otherwise).
    pub upcast: bool,
}

impl Attention {
    /// Builds the layer; weights stay lazy until loaded.
    pub fn new(config: AttentionConfig, device: &Device) -> Self {
        let AttentionConfig {
            width,
            context_width,
            heads,
            bias,
            upcast,
        } = config;
        let linear = |input| LinearConfig::new(input, width).with_bias(bias).init(device);
        Self {
            to_q: linear(width),
            to_k: linear(context_width),
            to_v: linear(context_width),
            to_out: LinearConfig::new(width, width).init(device),
            heads,
            upcast,
        }
    }

    /// Keys and values of `context`, `[rows, tokens, context_width]`.
    pub fn key_value(&self, context: Tensor<3>) -> KeyValue {
        KeyValue {
            key: split_heads(ops::linear(&self.to_k, context.clone()), self.heads),
            value: split_heads(ops::linear(&self.to_v, context), self.heads),
        }
    }

    /// Self-attention: `[rows, tokens, width]` to the same.
    pub fn attend_self(&self, hidden: Tensor<3>) -> Tensor<3> {
        let context = self.key_value(hidden.clone());
        self.attend(hidden, context)
    }

    /// Self-attention of frames, `[films · frames, tokens, width]`, that all look at the first frame of their film alone.
    ///
    /// Source: Khachatryan et al., "Text2Video-Zero" (arXiv 2303.13439, section 3.3.2).
    pub fn attend_first(&self, hidden: Tensor<3>, frames: usize) -> Tensor<3> {
        let [rows, tokens, width] = hidden.dims();
        let films = hidden.clone();
        let first = films
            .reshape([rows / frames, frames * tokens, width])
            .narrow(1, 0, tokens);
        self.attend(hidden, self.key_value(first))
    }

    /// Attention of `hidden`, `[rows, tokens, width]`, over given keys and values, of as many rows or of fewer: rows that follow each
    /// other share one of those then, as the frames of a film do.
    pub fn attend(&self, hidden: Tensor<3>, context: KeyValue) -> Tensor<3> {
        let [rows, tokens, width] = hidden.dims();
        let groups = context.rows();
        let hidden = hidden.reshape([groups, rows / groups * tokens, width]);
        let query = split_heads(ops::linear(&self.to_q, hidden), self.heads);
        let mixed = if self.upcast {
            upcast_scaled_dot_product(query, context)
        } else {
            scaled_dot_product(query, context, precision(&self.to_q, Precision::Fused))
        };
        ops::linear(&self.to_out, merge_heads(mixed)).reshape([rows, tokens, width])
    }
}

/// How queries that `layer` gives are attended with, if not otherwise in `usual`: by narrow products behind products in 8 bits, which round as
/// they do.
pub fn precision(layer: &Linear, usual: Precision) -> Precision {
    if ops::multiplies_in_8_bits(layer) {
        Precision::Rounded
    } else {
        usual
    }
}

/// `softmax(q kᵀ / √head_width) v`, all `[rows, heads, tokens, head_width]`.
pub fn scaled_dot_product(query: Tensor<4>, context: KeyValue, precision: Precision) -> Tensor<4> {
    attention(query, context.key, context.value, precision)
}

fn upcast_scaled_dot_product(query: Tensor<4>, context: KeyValue) -> Tensor<4> {
    let dtype = query.dtype();
    let wide = |tensor: Tensor<4>| tensor.cast(FloatDType::F32);
    let context = KeyValue {
        key: wide(context.key),
        value: wide(context.value),
    };
    scaled_dot_product(wide(query), context, Precision::Fused).cast(dtype)
}

/// `[rows, tokens, heads · head_width]` as `[rows, heads, tokens, head_width]`.
pub fn split_heads(tensor: Tensor<3>, heads: usize) -> Tensor<4> {
    let [rows, tokens, width] = tensor.dims();
    tensor
        .reshape([rows, tokens, heads, width / heads])
        .swap_dims(1, 2)
}

/// `[rows, heads, tokens, head_width]` as `[rows, tokens, heads · head_width]`.
pub fn merge_heads(tensor: Tensor<4>) -> Tensor<3> {
    let [rows, heads, tokens, width] = tensor.dims();
    tensor
        .swap_dims(1, 2)
        .reshape([rows, tokens, heads * width])
}
