//! Attention with separate projections.
//!
//! Source: Vaswani et al. (arXiv 1706.03762, section 3.2).

use std::ops::Range;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, FloatDType, Tensor};

/// Attention scores held at a time where attention is written out.
pub(super) const SCORE_BYTES: usize = 128 << 20;

/// The widest head that fused kernels get (SD 1.x: 160): they would round one as wide as a level of LDM-4-G (384 to 960) to f16, or have
/// no room for it.
const FUSED_WIDTH: usize = 256;

/// Keys and values split into heads, `[rows, heads, tokens, head_width]` each.
#[derive(Debug, Clone)]
pub struct KeyValue {
    pub(super) key: Tensor<4>,
    pub(super) value: Tensor<4>,
}

impl KeyValue {
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
            key: split_heads(self.to_k.forward(context.clone()), self.heads),
            value: split_heads(self.to_v.forward(context), self.heads),
        }
    }

    /// Self-attention: `[rows, tokens, width]` to the same.
    pub fn attend_self(&self, hidden: Tensor<3>) -> Tensor<3> {
        let context = self.key_value(hidden.clone());
        self.attend(hidden, context)
    }

    /// Attention of `hidden`, `[rows, tokens, width]`, over given keys and values.
    pub fn attend(&self, hidden: Tensor<3>, context: KeyValue) -> Tensor<3> {
        let query = split_heads(self.to_q.forward(hidden), self.heads);
        let mixed = if self.upcast {
            upcast_scaled_dot_product(query, context)
        } else {
            scaled_dot_product(query, context)
        };
        self.to_out.forward(merge_heads(mixed)) // [rows, tokens, width]
    }
}

/// `softmax(q kᵀ / √head_width) v`, all `[rows, heads, tokens, head_width]`.
pub fn scaled_dot_product(query: Tensor<4>, context: KeyValue) -> Tensor<4> {
    if query.dims()[3] > FUSED_WIDTH {
        return written_out(query, context, SCORE_BYTES);
    }
    let KeyValue { key, value } = context;
    attention(
        query,
        key,
        value,
        None,
        None,
        AttentionModuleOptions::default(),
    )
}

/// [`scaled_dot_product`] in plain operations, in groups of queries whose scores fit into `bytes`.
pub(super) fn written_out(query: Tensor<4>, context: KeyValue, bytes: usize) -> Tensor<4> {
    let KeyValue { key, value } = context;
    let [rows, heads, queries, width] = query.dims();
    let row = rows * heads * key.dims()[2] * size_of::<f32>();
    let chunk = (bytes / row).clamp(1, queries);
    let query = query * (width as f64).powf(-0.5);
    let key = key.swap_dims(2, 3); // [rows, heads, head_width, tokens]
    let chunks = (0..queries).step_by(chunk).map(|start| {
        let some = query.clone().narrow(2, start, chunk.min(queries - start));
        softmax(some.matmul(key.clone()), 3).matmul(value.clone()) // [rows, heads, chunk, head_width]
    });
    Tensor::cat(chunks.collect(), 2)
}

fn upcast_scaled_dot_product(query: Tensor<4>, context: KeyValue) -> Tensor<4> {
    let dtype = query.dtype();
    let wide = |tensor: Tensor<4>| tensor.cast(FloatDType::F32);
    let context = KeyValue {
        key: wide(context.key),
        value: wide(context.value),
    };
    scaled_dot_product(wide(query), context).cast(dtype)
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn tensor(tokens: usize, shift: f32) -> Tensor<4> {
        let values = (0..2 * 2 * tokens * 4).map(|i| (i as f32 * 0.37 + shift).sin());
        let data = TensorData::new(values.collect::<Vec<_>>(), [2, 2, tokens, 4]);
        Tensor::from_data(data, &Device::flex())
    }

    fn context(tokens: usize) -> KeyValue {
        KeyValue {
            key: tensor(tokens, 1.0),
            value: tensor(tokens, 2.0),
        }
    }

    fn values(tensor: Tensor<4>) -> Vec<f32> {
        tensor.into_data().try_to_vec::<f32>().unwrap()
    }

    /// In one chunk or several, over the queries' own tokens, over fewer, over a single one.
    #[test]
    fn attention_written_out_is_the_fused_one() {
        for tokens in [7, 3, 1] {
            let fused = values(scaled_dot_product(tensor(7, 0.0), context(tokens)));
            for bytes in [1 << 20, 2 * 2 * tokens * 4 * 3] {
                let found = values(written_out(tensor(7, 0.0), context(tokens), bytes));
                for (a, b) in fused.iter().zip(found) {
                    assert!((a - b).abs() < 1e-6, "{tokens} tokens");
                }
            }
        }
    }
}
