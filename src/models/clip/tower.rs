//! The layers that both halves of CLIP have.

use std::ops::Range;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor};

use crate::error::ConfigError;
use crate::models::json;
use crate::nn::attention::{merge_heads, split_heads};
use crate::nn::layer_norm::LayerNorm;
use crate::ops::{self, Gelu};

/// What the layers of either half of CLIP are built from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::models) struct Tower {
    pub(in crate::models) width: usize,
    pub(in crate::models) inner: usize,
    pub(in crate::models) layers: usize,
    pub(in crate::models) heads: usize,
    pub(in crate::models) quick_gelu: bool,
    pub(in crate::models) epsilon: f64,
}

impl Tower {
    pub(in crate::models) fn norm(&self, device: &Device) -> LayerNorm {
        LayerNorm::new(self.width, self.epsilon, device)
    }

    /// Refuses sizes that are 0, and heads that do not divide the width.
    pub(in crate::models) fn check(&self) -> Result<(), ConfigError> {
        json::all_positive(&[
            ("hidden_size", self.width),
            ("intermediate_size", self.inner),
            ("num_hidden_layers", self.layers),
        ])?;
        let (heads, width) = (self.heads, self.width);
        if heads > 0 && width.is_multiple_of(heads) {
            return Ok(());
        }
        let hint = format!("it must divide `hidden_size`, {width}");
        Err(ConfigError::unsupported("num_attention_heads", heads, hint))
    }
}

/// Whether the feed-forward layers take `x · sigmoid(1.702 x)` in place of GELU.
pub(in crate::models) fn is_quick_gelu(activation: &str) -> Result<bool, ConfigError> {
    match activation {
        "quick_gelu" => Ok(true),
        "gelu" => Ok(false),
        other => {
            let hint = "known are `quick_gelu` and `gelu`";
            Err(ConfigError::unsupported("hidden_act", other, hint))
        }
    }
}

#[derive(Module, Debug)]
struct ClipAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl ClipAttention {
    fn new(config: &Tower, device: &Device) -> Self {
        let linear = || LinearConfig::new(config.width, config.width).init(device);
        Self {
            q_proj: linear(),
            k_proj: linear(),
            v_proj: linear(),
            out_proj: linear(),
            heads: config.heads,
        }
    }

    /// Scores are written out: tensor-core flash kernels would round these f32 states to f16, and 77 tokens are few.
    fn forward(&self, hidden: Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        let heads =
            |projection: &Linear, hidden| split_heads(ops::linear(projection, hidden), self.heads);
        let query = heads(&self.q_proj, hidden.clone()); // [rows, heads, tokens, head_width]
        let key = heads(&self.k_proj, hidden.clone());
        let value = heads(&self.v_proj, hidden);
        let scale = (query.dims()[3] as f64).powf(-0.5);
        let scores = (query * scale).matmul(key.transpose()); // [rows, heads, tokens, tokens]
        let scores = match mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        let mixed = softmax(scores, 3).matmul(value);
        ops::linear(&self.out_proj, merge_heads(mixed)) // [rows, tokens, width]
    }
}

#[derive(Module, Debug)]
struct ClipMlp {
    fc1: Linear,
    fc2: Linear,
    quick_gelu: bool,
}

impl ClipMlp {
    fn new(config: &Tower, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(config.width, config.inner).init(device),
            fc2: LinearConfig::new(config.inner, config.width).init(device),
            quick_gelu: config.quick_gelu,
        }
    }

    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let inner = ops::linear(&self.fc1, hidden); // [rows, tokens, inner]
        let inner = if self.quick_gelu {
            inner.clone() * sigmoid(inner * 1.702)
        } else {
            ops::gelu(inner, Gelu::Exact)
        };
        ops::linear(&self.fc2, inner) // [rows, tokens, width]
    }
}

#[derive(Module, Debug)]
struct ClipLayer {
    self_attn: ClipAttention,
    layer_norm1: LayerNorm,
    mlp: ClipMlp,
    layer_norm2: LayerNorm,
}

impl ClipLayer {
    fn new(config: &Tower, device: &Device) -> Self {
        Self {
            self_attn: ClipAttention::new(config, device),
            layer_norm1: config.norm(device),
            mlp: ClipMlp::new(config, device),
            layer_norm2: config.norm(device),
        }
    }

    fn forward(&self, hidden: Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        let normed = self.layer_norm1.forward(hidden.clone());
        let hidden = hidden + self.self_attn.forward(normed, mask);
        let normed = self.layer_norm2.forward(hidden.clone());
        hidden + self.mlp.forward(normed)
    }
}

/// The layers of either half.
#[derive(Module, Debug)]
pub(in crate::models) struct ClipLayers {
    layers: Vec<ClipLayer>,
}

impl ClipLayers {
    pub(in crate::models) fn new(tower: &Tower, device: &Device) -> Self {
        Self {
            layers: (0..tower.layers)
                .map(|_| ClipLayer::new(tower, device))
                .collect(),
        }
    }

    /// Some of the layers, `[rows, tokens, width]` to the same; `mask` is added to the scores.
    pub(in crate::models) fn through(
        &self,
        layers: Range<usize>,
        hidden: Tensor<3>,
        mask: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        let layers = self.layers[layers].iter();
        layers.fold(hidden, |hidden, layer| layer.forward(hidden, mask))
    }

    pub(in crate::models) fn len(&self) -> usize {
        self.layers.len()
    }
}
