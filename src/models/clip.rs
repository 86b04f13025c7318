//! The text half of CLIP, which conditions Stable Diffusion.
//!
//! Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020, section 2.4):
//! a causal transformer with a layer norm in front of each branch.

use std::ops::Range;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;

use crate::error::{ConfigError, Error};
use crate::nn::attention::{merge_heads, split_heads};
use crate::nn::layer_norm::LayerNorm;
use crate::ops::{self, Gelu};
use crate::text::{PooledTextEncoder, Summary, TextEncoder};

/// Added to the scores of later tokens: far below any score, and finite, as GPU compilers may assume no infinity.
const MASKED: f32 = -1e9;

/// `text_encoder/config.json` as it stands.
#[derive(Debug, Clone, Deserialize)]
pub struct ClipTextJson {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_epsilon")]
    layer_norm_eps: f64,
    projection_dim: Option<usize>,
    #[serde(default)]
    architectures: Vec<String>,
}

/// The class whose files hold the projection of a whole text.
const WITH_PROJECTION: &str = "CLIPTextModelWithProjection";

fn default_activation() -> String {
    "quick_gelu".to_owned()
}

/// What transformers takes where `projection_dim` is silent.
const DEFAULT_PROJECTION: usize = 512;

fn default_epsilon() -> f64 {
    1e-5
}

/// The shape of a CLIP text encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipTextConfig {
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Width of the states.
    pub width: usize,
    /// Width inside the feed-forward layers.
    pub inner: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// The most tokens it reads.
    pub positions: usize,
    /// Whether the feed-forward layers take `x · sigmoid(1.702 x)` (`OpenAI`'s weights) in place of GELU (`OpenCLIP`'s).
    pub quick_gelu: bool,
    /// Epsilon of the layer norms.
    pub epsilon: f64,
    /// Width of the whole text as one vector, for encoders that make one.
    pub projection: Option<usize>,
}

impl ClipTextConfig {
    /// Checks what the checkpoint asks for.
    ///
    /// # Errors
    ///
    /// If the activation is unknown or the heads do not divide the width.
    pub fn new(json: &ClipTextJson) -> Result<Self, Error> {
        let quick_gelu = is_quick_gelu(&json.hidden_act)?;
        let (width, heads) = (json.hidden_size, json.num_attention_heads);
        check_heads(heads, width)?;
        let projected = json
            .architectures
            .iter()
            .any(|name| name == WITH_PROJECTION);
        Ok(Self {
            vocabulary: json.vocab_size,
            width,
            inner: json.intermediate_size,
            layers: json.num_hidden_layers,
            heads,
            positions: json.max_position_embeddings,
            quick_gelu,
            epsilon: json.layer_norm_eps,
            projection: projected.then(|| json.projection_dim.unwrap_or(DEFAULT_PROJECTION)),
        })
    }

    /// Bytes alive at the peak of encoding `rows` prompts, in f32: the states, what a feed-forward layer makes of them, the scores.
    pub fn encode_bytes(&self, rows: usize) -> u64 {
        let tokens = self.positions * (4 * self.width + 3 * self.inner);
        let scores = 3 * self.heads * self.positions * self.positions;
        (rows * (tokens + scores) * size_of::<f32>()) as u64
    }

    fn tower(&self) -> Tower {
        Tower {
            width: self.width,
            inner: self.inner,
            layers: self.layers,
            heads: self.heads,
            quick_gelu: self.quick_gelu,
            epsilon: self.epsilon,
        }
    }
}

/// What the layers of either half of CLIP are built from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tower {
    pub(super) width: usize,
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) quick_gelu: bool,
    pub(super) epsilon: f64,
}

impl Tower {
    pub(super) fn norm(&self, device: &Device) -> LayerNorm {
        LayerNorm::new(self.width, self.epsilon, device)
    }
}

/// Whether the feed-forward layers take `x · sigmoid(1.702 x)` in place of GELU.
pub(super) fn is_quick_gelu(activation: &str) -> Result<bool, ConfigError> {
    match activation {
        "quick_gelu" => Ok(true),
        "gelu" => Ok(false),
        other => {
            let hint = "known are `quick_gelu` and `gelu`";
            Err(ConfigError::unsupported("hidden_act", other, hint))
        }
    }
}

/// Heads must divide the width.
pub(super) fn check_heads(heads: usize, width: usize) -> Result<(), ConfigError> {
    if heads > 0 && width.is_multiple_of(heads) {
        return Ok(());
    }
    let hint = format!("it must divide `hidden_size`, {width}");
    Err(ConfigError::unsupported("num_attention_heads", heads, hint))
}

#[derive(Module, Debug)]
struct ClipEmbeddings {
    token_embedding: Embedding,
    position_embedding: Embedding,
}

impl ClipEmbeddings {
    fn new(config: &ClipTextConfig, device: &Device) -> Self {
        let embedding = |entries| EmbeddingConfig::new(entries, config.width).init(device);
        Self {
            token_embedding: embedding(config.vocabulary),
            position_embedding: embedding(config.positions),
        }
    }

    /// `[rows, tokens]` to `[rows, tokens, width]`.
    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let positions = self.position_embedding.weight.val().narrow(0, 0, tokens); // [tokens, width]
        self.token_embedding.forward(ids) + positions.unsqueeze()
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
pub(super) struct ClipLayers {
    layers: Vec<ClipLayer>,
}

impl ClipLayers {
    pub(super) fn new(tower: &Tower, device: &Device) -> Self {
        Self {
            layers: (0..tower.layers)
                .map(|_| ClipLayer::new(tower, device))
                .collect(),
        }
    }

    /// Some of the layers, `[rows, tokens, width]` to the same; `mask` is added to the scores.
    pub(super) fn through(
        &self,
        layers: Range<usize>,
        hidden: Tensor<3>,
        mask: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        let layers = self.layers[layers].iter();
        layers.fold(hidden, |hidden, layer| layer.forward(hidden, mask))
    }

    pub(super) fn len(&self) -> usize {
        self.layers.len()
    }
}

#[derive(Module, Debug)]
struct ClipTextTransformer {
    embeddings: ClipEmbeddings,
    encoder: ClipLayers,
    final_layer_norm: LayerNorm,
}

/// The text encoder. Its weights are loaded as f32, whatever the file holds.
#[derive(Module, Debug)]
pub struct ClipTextModel {
    text_model: ClipTextTransformer,
    text_projection: Option<Linear>,
}

impl ClipTextModel {
    /// Builds the encoder; weights stay lazy until loaded.
    pub fn new(config: &ClipTextConfig, device: &Device) -> Self {
        let tower = config.tower();
        let text_model = ClipTextTransformer {
            embeddings: ClipEmbeddings::new(config, device),
            encoder: ClipLayers::new(&tower, device),
            final_layer_norm: tower.norm(device),
        };
        let projection = |width| LinearConfig::new(config.width, width).with_bias(false);
        Self {
            text_model,
            text_projection: config
                .projection
                .map(|width| projection(width).init(device)),
        }
    }

    /// States after all layers but the last `clip_skip`, through the final layer norm.
    ///
    /// # Shapes
    ///
    /// - ids: `[rows, tokens]`
    /// - output: `[rows, tokens, width]`
    ///
    /// # Panics
    ///
    /// If `clip_skip` is more than the number of layers.
    pub fn encode(&self, ids: Tensor<2, Int>, clip_skip: usize) -> Tensor<3> {
        let layers = self.layers();
        assert!(clip_skip <= layers, "`clip_skip` exceeds the layers");
        let mask = causal_mask(ids.dims()[1], &ids.device());
        let hidden = self.text_model.embeddings.forward(ids);
        let hidden = self.through(0..layers - clip_skip, hidden, &mask);
        self.text_model.final_layer_norm.forward(hidden)
    }

    /// States after all layers but the last `1 + clip_skip`, without the final norm; and each whole text as one vector: the state of
    /// its end, at the place that `ends` names, behind all layers, the norm and the projection.
    ///
    /// # Shapes
    ///
    /// - ids: `[rows, tokens]`
    /// - states: `[rows, tokens, width]`
    /// - pooled: `[rows, projection]`
    ///
    /// # Panics
    ///
    /// If `clip_skip` is not less than the number of layers.
    pub fn summarise(&self, ids: Tensor<2, Int>, ends: &[usize], clip_skip: usize) -> Summary {
        let layers = self.layers();
        assert!(clip_skip < layers, "`clip_skip` exceeds the layers");
        let mask = causal_mask(ids.dims()[1], &ids.device());
        let depth = layers - 1 - clip_skip;
        let hidden = self.text_model.embeddings.forward(ids);
        let states = self.through(0..depth, hidden, &mask);
        let pooled = self.text_projection.as_ref().map(|projection| {
            let last = self.through(depth..layers, states.clone(), &mask);
            let last = self.text_model.final_layer_norm.forward(last);
            ops::linear(projection, at_ends(&last, ends)) // [rows, projection]
        });
        Summary { states, pooled }
    }

    /// The table of tokens cut to the `vocabulary` of the configuration, with `rows` of learned words, row-major, behind it.
    #[must_use]
    pub fn with_learned(mut self, vocabulary: usize, rows: &[f32]) -> Self {
        let table = &mut self.text_model.embeddings.token_embedding;
        table.weight = table.weight.clone().map(|table| {
            let ([entries, width], device) = (table.dims(), table.device());
            let table = if entries == vocabulary {
                table
            } else {
                table.narrow(0, 0, vocabulary) // [vocabulary, width]
            };
            if rows.is_empty() {
                return table;
            }
            let data = TensorData::new(rows.to_vec(), [rows.len() / width, width]);
            Tensor::cat(vec![table, Tensor::from_data(data, &device)], 0)
        });
        self
    }

    fn layers(&self) -> usize {
        self.text_model.encoder.len()
    }

    fn through(&self, layers: Range<usize>, hidden: Tensor<3>, mask: &Tensor<4>) -> Tensor<3> {
        self.text_model.encoder.through(layers, hidden, Some(mask))
    }

    /// `[rows, tokens]`
    fn ids(&self, ids: &[Vec<u32>]) -> Tensor<2, Int> {
        let (rows, tokens) = (ids.len(), ids.first().map_or(0, Vec::len));
        let flat = ids.iter().flatten().map(|&id| id.cast_signed());
        let data = TensorData::new(flat.collect::<Vec<i32>>(), [rows, tokens]);
        Tensor::from_data(data, &self.device())
    }

    fn device(&self) -> Device {
        self.text_model.final_layer_norm.gamma.val().device()
    }
}

impl TextEncoder for ClipTextModel {
    fn max_clip_skip(&self) -> usize {
        self.layers()
    }

    fn states(&self, ids: &[Vec<u32>], clip_skip: usize) -> Tensor<3> {
        self.encode(self.ids(ids), clip_skip)
    }
}

impl PooledTextEncoder for ClipTextModel {
    fn summary(&self, ids: &[Vec<u32>], ends: &[usize], clip_skip: usize) -> Summary {
        self.summarise(self.ids(ids), ends, clip_skip)
    }
}

/// Each row's state at its end: `[rows, tokens, width]` to `[rows, width]`.
fn at_ends(states: &Tensor<3>, ends: &[usize]) -> Tensor<2> {
    let row = |(row, &end): (usize, &usize)| {
        let state = states.clone().narrow(0, row, 1).narrow(1, end, 1); // [1, 1, width]
        state.squeeze_dim(1)
    };
    Tensor::cat(ends.iter().enumerate().map(row).collect(), 0)
}

/// `[1, 1, tokens, tokens]`: a row's token sees itself and what came before.
fn causal_mask(tokens: usize, device: &Device) -> Tensor<4> {
    let seen = |query, key| if key <= query { 0.0 } else { MASKED };
    let mask = (0..tokens)
        .flat_map(|query| (0..tokens).map(move |key| seen(query, key)))
        .collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(mask, [1, 1, tokens, tokens]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(change: &str, value: serde_json::Value) -> ClipTextJson {
        let mut json = serde_json::json!({
            "vocab_size": 10, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 4, "hidden_act": "gelu",
        });
        json[change] = value;
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn unknown_activations_are_named() {
        let error = ClipTextConfig::new(&json("hidden_act", "relu".into())).unwrap_err();
        assert!(error.is_config());
        assert!(error.to_string().contains("`hidden_act` is `relu`"));
    }

    #[test]
    fn heads_must_divide_the_width() {
        let error = ClipTextConfig::new(&json("num_attention_heads", 3.into())).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("it must divide `hidden_size`, 8")
        );
    }

    #[test]
    fn activations_are_told_apart() {
        let quick = |name: &str| ClipTextConfig::new(&json("hidden_act", name.into())).unwrap();
        assert!(quick("quick_gelu").quick_gelu && !quick("gelu").quick_gelu);
    }
}
