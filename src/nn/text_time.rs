//! A whole text as one vector that is added to the time embedding.
//!
//! Source: Saharia et al., "Imagen" (arXiv 2205.11487, section 2.3: a pooled embedding vector of the text states), with the attention
//! pooling of Radford et al. (arXiv 2103.00020, section 2.3); behaviour as diffusers' `TextTimeEmbedding`.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, FloatDType, Tensor};

use super::attention::{KeyValue, merge_heads, scaled_dot_product, split_heads};
use super::layer_norm::LayerNorm;
use crate::ops::{self, Precision};

/// Epsilon of both norms.
const EPSILON: f64 = 1e-5;

/// Attention whose one query is the mean of the text.
#[derive(Module, Debug)]
struct AttentionPooling {
    positional_embedding: Param<Tensor<2>>,
    k_proj: Linear,
    q_proj: Linear,
    v_proj: Linear,
    heads: usize,
}

impl AttentionPooling {
    /// `[rows, tokens, width]` to `[rows, width]`; the mean is the first of the tokens that it attends to.
    fn forward(&self, text: Tensor<3>) -> Tensor<2> {
        let place: Tensor<3> = self.positional_embedding.val().unsqueeze();
        let mean = text.clone().mean_dim(1) + place; // [rows, 1, width]
        let tokens = Tensor::cat(vec![mean.clone(), text], 1); // [rows, 1 + tokens, width]
        let heads = |layer: &Linear, of| split_heads(ops::linear(layer, of), self.heads);
        let context = KeyValue {
            key: heads(&self.k_proj, tokens.clone()),
            value: heads(&self.v_proj, tokens),
        };
        let query = heads(&self.q_proj, mean);
        merge_heads(scaled_dot_product(query, context, Precision::Operands)).squeeze_dim(1)
    }
}

/// Norm, pooling, projection, norm.
#[derive(Module, Debug)]
pub struct TextTimeEmbedding {
    norm1: LayerNorm,
    pool: AttentionPooling,
    proj: Linear,
    norm2: LayerNorm,
}

impl TextTimeEmbedding {
    /// From text states of `width`, in so many heads, to `time_width` features; weights stay lazy until loaded.
    pub fn new(width: usize, heads: usize, time_width: usize, device: &Device) -> Self {
        let linear = || LinearConfig::new(width, width).init(device);
        Self {
            norm1: LayerNorm::new(width, EPSILON, device),
            pool: AttentionPooling {
                positional_embedding: Initializer::Zeros.init([1, width], device),
                k_proj: linear(),
                q_proj: linear(),
                v_proj: linear(),
                heads,
            },
            proj: LinearConfig::new(width, time_width).init(device),
            norm2: LayerNorm::new(time_width, EPSILON, device),
        }
    }

    /// `[rows, tokens, width]` to `[rows, time_width]`, f32.
    pub fn forward(&self, text: Tensor<3>) -> Tensor<2> {
        let text = text.cast(ops::dtype(self.proj.bias.as_ref()));
        let pooled = self.pool.forward(self.norm1.forward(text)); // [rows, width]
        let projected = ops::linear(&self.proj, pooled);
        self.norm2.forward(projected).cast(FloatDType::F32)
    }
}
