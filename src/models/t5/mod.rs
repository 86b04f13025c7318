//! The encoder of T5 v1.1, which conditions `DeepFloyd` IF.
//!
//! Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (arXiv 1910.10683,
//! section 2.1); gated GELU from Shazeer, "GLU Variants Improve Transformer" (arXiv 2002.05202). Names are transformers'.
//!
//! Its states outgrow f16: the residual stream, the norms, the scores' softmax and the last product of every feed-forward layer are in
//! f32 whatever the weights are.

mod config;

pub use config::T5Config;

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use crate::nn::attention::{merge_heads, split_heads};
use crate::ops::{self, Gelu};
use crate::text::SentenceEncoder;
use crate::weights::{AnyStack, BlockReader, Stack, Stacked};

/// Added to the scores of padding: far below any score, and finite, as GPU compilers may assume no infinity.
const MASKED: f32 = -1e9;

impl T5Config {
    fn norm(&self, device: &Device) -> RmsNorm {
        RmsNorm {
            weight: Initializer::Ones.init([self.width], device),
            epsilon: self.epsilon,
        }
    }
}

fn linear(input: usize, output: usize, device: &Device) -> Linear {
    LinearConfig::new(input, output)
        .with_bias(false)
        .init(device)
}

/// Every token to a mean square of 1, then a learned scale; no mean is taken off.
#[derive(Module, Debug)]
struct RmsNorm {
    weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// `[rows, tokens, width]` to the same, f32 both.
    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let square = (hidden.clone() * hidden.clone()).mean_dim(2); // [rows, tokens, 1]
        let weight = self.weight.val().cast(FloatDType::F32);
        hidden / (square + self.epsilon).sqrt() * weight.unsqueeze()
    }
}

/// Attention whose scores are not scaled; the first layer holds the position bias of all.
#[derive(Module, Debug)]
struct T5Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    relative_attention_bias: Option<Embedding>,
    heads: usize,
}

impl T5Attention {
    fn new(config: &T5Config, first: bool, device: &Device) -> Self {
        let inside = config.heads * config.head_width;
        let into = || linear(config.width, inside, device);
        let bias = || EmbeddingConfig::new(config.buckets, config.heads).init(device);
        Self {
            q: into(),
            k: into(),
            v: into(),
            o: linear(inside, config.width, device),
            relative_attention_bias: first.then(bias),
            heads: config.heads,
        }
    }

    /// Scores are written out, as a bias is added to them: `[rows, tokens, width]` and `[rows or 1, heads, tokens, tokens]`.
    fn forward(&self, hidden: Tensor<3>, bias: &Tensor<4>) -> Tensor<3> {
        let dtype = hidden.dtype();
        let heads =
            |projection: &Linear, hidden| split_heads(ops::linear(projection, hidden), self.heads);
        let query = heads(&self.q, hidden.clone()); // [rows, heads, tokens, head_width]
        let key = heads(&self.k, hidden.clone());
        let value = heads(&self.v, hidden);
        let scores = query.matmul(key.transpose()).cast(FloatDType::F32) + bias.clone(); // [rows, heads, tokens, tokens]
        let mixed = softmax(scores, 3).cast(dtype).matmul(value);
        ops::linear(&self.o, merge_heads(mixed)) // [rows, tokens, width]
    }
}

#[derive(Module, Debug)]
struct T5AttentionLayer {
    self_attention: T5Attention,
    layer_norm: RmsNorm,
}

/// `wo(gelu(wi_0 x) · wi_1 x)`.
#[derive(Module, Debug)]
struct T5FeedForward {
    wi_0: Linear,
    wi_1: Linear,
    wo: Linear,
}

impl T5FeedForward {
    /// `[rows, tokens, width]` to the same in f32.
    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let wide = |inner: Tensor<3>| inner.cast(FloatDType::F32);
        let gate = ops::gelu(ops::linear(&self.wi_0, hidden.clone()), Gelu::Tanh); // [rows, tokens, inner]
        let gated = wide(gate) * wide(ops::linear(&self.wi_1, hidden.clone()));
        match hidden.dtype() {
            DType::F32 => ops::linear(&self.wo, gated),
            _ => ops::linear(&in_single(&self.wo), gated),
        }
    }
}

/// `layer` with its weight in f32.
fn in_single(layer: &Linear) -> Linear {
    let mut layer = layer.clone();
    layer.weight = layer.weight.map(|weight| weight.cast(FloatDType::F32));
    layer
}

#[derive(Module, Debug)]
struct T5FeedForwardLayer {
    dense: T5FeedForward,
    layer_norm: RmsNorm,
}

#[derive(Module, Debug)]
struct T5Block {
    layer: (T5AttentionLayer, T5FeedForwardLayer),
}

impl T5Block {
    fn new(config: &T5Config, first: bool, device: &Device) -> Self {
        let attention = T5AttentionLayer {
            self_attention: T5Attention::new(config, first, device),
            layer_norm: config.norm(device),
        };
        let feed_forward = T5FeedForwardLayer {
            dense: T5FeedForward {
                wi_0: linear(config.width, config.inner, device),
                wi_1: linear(config.width, config.inner, device),
                wo: linear(config.inner, config.width, device),
            },
            layer_norm: config.norm(device),
        };
        Self {
            layer: (attention, feed_forward),
        }
    }

    /// `hidden` is in f32, what the layers read of it in `dtype`.
    fn forward(&self, hidden: Tensor<3>, bias: &Tensor<4>, dtype: DType) -> Tensor<3> {
        let (attention, feed_forward) = &self.layer;
        let normed = attention.layer_norm.forward(hidden.clone()).cast(dtype);
        let hidden = hidden
            + attention
                .self_attention
                .forward(normed, bias)
                .cast(FloatDType::F32);
        let normed = feed_forward.layer_norm.forward(hidden.clone()).cast(dtype);
        hidden + feed_forward.dense.forward(normed)
    }
}

#[derive(Module, Debug)]
struct T5Stack {
    block: Stack<T5Block>,
    final_layer_norm: RmsNorm,
}

/// The encoder, with its table of tokens.
#[derive(Module, Debug)]
pub struct T5EncoderModel {
    shared: Embedding,
    encoder: T5Stack,
    buckets: usize,
    farthest: usize,
}

impl T5EncoderModel {
    /// Builds the encoder; weights stay lazy until loaded.
    pub fn new(config: &T5Config, device: &Device) -> Self {
        let block = |index| T5Block::new(config, index == 0, device);
        Self {
            shared: EmbeddingConfig::new(config.vocabulary, config.width).init(device),
            encoder: T5Stack {
                block: (0..config.layers).map(block).collect(),
                final_layer_norm: config.norm(device),
            },
            buckets: config.buckets,
            farthest: config.farthest,
        }
    }

    /// What is added to every layer's scores for the distance between two tokens; `None` from an encoder without layers.
    ///
    /// # Shapes
    ///
    /// - output: `[1, heads, tokens, tokens]`, queries then keys
    pub fn position_bias(&self, tokens: usize, device: &Device) -> Option<Tensor<4>> {
        let blocks = &self.encoder.block;
        let first = 0..blocks.len().min(1);
        blocks.fold(first, None, |_, _, block| self.bias(block, tokens, device))
    }

    /// [`position_bias`](Self::position_bias), which the first block holds.
    fn bias(&self, first: &T5Block, tokens: usize, device: &Device) -> Option<Tensor<4>> {
        let (attention, _) = &first.layer;
        let table = attention.self_attention.relative_attention_bias.as_ref()?;
        let bucket = |query, key| bucket(query, key, self.buckets, self.farthest);
        let buckets = (0..tokens)
            .flat_map(|query| (0..tokens).map(move |key| bucket(query, key)))
            .collect::<Vec<i32>>();
        let buckets = TensorData::new(buckets, [tokens, tokens]);
        let bias = table.forward(Tensor::<2, Int>::from_data(buckets, device)); // [tokens, tokens, heads]
        Some(bias.cast(FloatDType::F32).permute([2, 0, 1]).unsqueeze())
    }

    /// States after all layers and the last norm; nothing looks at tokens whose `mask` is 0.
    ///
    /// # Shapes
    ///
    /// - ids: `[rows, tokens]`
    /// - mask: `[rows, tokens]`, 1 for text and 0 for padding
    /// - output: `[rows, tokens, width]`, f32
    pub fn encode(&self, ids: Tensor<2, Int>, mask: Option<Tensor<2>>) -> Tensor<3> {
        let ([_, tokens], device) = (ids.dims(), ids.device());
        let dtype = self.encoder.final_layer_norm.weight.val().dtype();
        let hidden = self.shared.forward(ids).cast(FloatDType::F32); // [rows, tokens, width]
        let padding = mask.map(|mask| ((mask - 1.0) * -MASKED).unsqueeze_dims(&[1, 1]));
        let of_first = |block: &T5Block| {
            let bias = self.bias(block, tokens, &device)?;
            Some(match &padding {
                Some(padding) => bias + padding.clone(), // [rows, heads, tokens, tokens]
                None => bias,
            })
        };
        let blocks = &self.encoder.block;
        let (hidden, _) = blocks.fold(
            0..blocks.len(),
            (hidden, None),
            |(hidden, bias), _, block| match bias.or_else(|| of_first(block)) {
                Some(bias) => (block.forward(hidden, &bias, dtype), Some(bias)),
                None => (hidden, None),
            },
        );
        self.encoder.final_layer_norm.forward(hidden)
    }

    /// What reads the blocks, where they are read as they are needed.
    pub fn reader(&self) -> Option<&BlockReader> {
        self.encoder.block.reader()
    }
}

impl Stacked for T5EncoderModel {
    fn stacks(&mut self) -> Vec<(&'static str, &mut dyn AnyStack)> {
        vec![("encoder.block", &mut self.encoder.block)]
    }
}

impl SentenceEncoder for T5EncoderModel {
    fn states(&self, ids: &[Vec<u32>], ends: &[usize]) -> Tensor<3> {
        let (rows, tokens) = (ids.len(), ids.first().map_or(0, Vec::len));
        let device = self.shared.weight.val().device();
        let flat: Vec<i32> = ids.iter().flatten().map(|id| id.cast_signed()).collect();
        let ids = Tensor::from_data(TensorData::new(flat, [rows, tokens]), &device);
        let read = |end: usize| (0..tokens).map(move |token| f32::from(u8::from(token <= end)));
        let mask: Vec<f32> = ends.iter().flat_map(|&end| read(end)).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [rows, tokens]), &device);
        self.encode(ids, Some(mask))
    }
}

/// The bucket of the distance from `query` to `key`: near ones have their own, farther ones share by the logarithm up to `farthest`.
fn bucket(query: usize, key: usize, buckets: usize, farthest: usize) -> i32 {
    let half = buckets / 2;
    let side = if key > query { half } else { 0 };
    let (distance, exact) = (key.abs_diff(query), half / 2);
    let within = if distance < exact {
        distance
    } else {
        let octaves = (distance as f32 / exact as f32).ln() / (farthest as f32 / exact as f32).ln();
        (exact + (octaves * (half - exact) as f32) as usize).min(half - 1)
    };
    (side + within).cast_signed() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_tokens_have_their_own_bucket_and_far_ones_share() {
        let to = |key| bucket(200, key, 32, 128);
        assert_eq!([to(200), to(199), to(193), to(201)], [0, 1, 7, 17]);
        assert_eq!([to(192), to(191), to(0), to(400)], [8, 8, 15, 31]);
    }
}
