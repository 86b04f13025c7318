//! The encoder of T5 v1.1, which conditions `DeepFloyd` IF.
//!
//! Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (arXiv 1910.10683,
//! section 2.1); gated GELU from Shazeer, "GLU Variants Improve Transformer" (arXiv 2002.05202). Names are transformers'.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;

use crate::error::{ConfigError, Error};
use crate::nn::attention::{merge_heads, split_heads};
use crate::ops::{self, Gelu};

/// Added to the scores of padding: far below any score, and finite, as GPU compilers may assume no infinity.
const MASKED: f32 = -1e9;

/// `config.json` of the encoder as it stands.
#[derive(Debug, Clone, Deserialize)]
pub struct T5Json {
    vocab_size: Option<usize>,
    d_model: Option<usize>,
    d_kv: Option<usize>,
    d_ff: Option<usize>,
    num_layers: Option<usize>,
    num_heads: Option<usize>,
    relative_attention_num_buckets: Option<usize>,
    relative_attention_max_distance: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    feed_forward_proj: Option<String>,
}

/// The shape of a T5 encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct T5Config {
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Width of the states.
    pub width: usize,
    /// Width of a head; heads times this need not be `width`.
    pub head_width: usize,
    /// Width inside the feed-forward layers.
    pub inner: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Kinds of distance that the position bias tells apart, half of them for tokens behind.
    pub buckets: usize,
    /// Tokens farther away than this share a bucket.
    pub farthest: usize,
    /// Epsilon of the norms.
    pub epsilon: f64,
}

impl T5Config {
    /// Checks what the checkpoint asks for; what it leaves out has the default of transformers' `T5Config`.
    ///
    /// # Errors
    ///
    /// If the feed-forward layers are not those of v1.1, or there are fewer than four buckets or distances within them.
    pub fn new(json: &T5Json) -> Result<Self, Error> {
        let form = json.feed_forward_proj.as_deref().unwrap_or("relu");
        if form != "gated-gelu" {
            let hint = "T5 v1.1 has `gated-gelu`";
            return Err(ConfigError::unsupported("feed_forward_proj", form, hint).into());
        }
        let buckets = json.relative_attention_num_buckets.unwrap_or(32);
        if buckets < 4 {
            let hint = "at least 4 are needed";
            let key = "relative_attention_num_buckets";
            return Err(ConfigError::unsupported(key, buckets, hint).into());
        }
        let farthest = json.relative_attention_max_distance.unwrap_or(128);
        if farthest <= buckets / 4 {
            let hint = format!("it must exceed a quarter of the {buckets} buckets");
            let key = "relative_attention_max_distance";
            return Err(ConfigError::unsupported(key, farthest, hint).into());
        }
        Ok(Self {
            vocabulary: json.vocab_size.unwrap_or(32128),
            width: json.d_model.unwrap_or(512),
            head_width: json.d_kv.unwrap_or(64),
            inner: json.d_ff.unwrap_or(2048),
            layers: json.num_layers.unwrap_or(6),
            heads: json.num_heads.unwrap_or(8),
            buckets,
            farthest,
            epsilon: json.layer_norm_epsilon.unwrap_or(1e-6),
        })
    }

    fn linear(&self, input: usize, output: usize, device: &Device) -> Linear {
        LinearConfig::new(input, output)
            .with_bias(false)
            .init(device)
    }

    fn norm(&self, device: &Device) -> RmsNorm {
        RmsNorm {
            weight: Initializer::Ones.init([self.width], device),
            epsilon: self.epsilon,
        }
    }
}

/// Every token to a mean square of 1, then a learned scale; no mean is taken off.
#[derive(Module, Debug)]
struct RmsNorm {
    weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// `[rows, tokens, width]` to the same.
    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let square = (hidden.clone() * hidden.clone()).mean_dim(2); // [rows, tokens, 1]
        hidden / (square + self.epsilon).sqrt() * self.weight.val().unsqueeze()
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
        let into = || config.linear(config.width, inside, device);
        let bias = || EmbeddingConfig::new(config.buckets, config.heads).init(device);
        Self {
            q: into(),
            k: into(),
            v: into(),
            o: config.linear(inside, config.width, device),
            relative_attention_bias: first.then(bias),
            heads: config.heads,
        }
    }

    /// Scores are written out, as a bias is added to them.
    fn forward(&self, hidden: Tensor<3>, bias: &Tensor<4>) -> Tensor<3> {
        let heads =
            |projection: &Linear, hidden| split_heads(ops::linear(projection, hidden), self.heads);
        let query = heads(&self.q, hidden.clone()); // [rows, heads, tokens, head_width]
        let key = heads(&self.k, hidden.clone());
        let value = heads(&self.v, hidden);
        let scores = query.matmul(key.transpose()) + bias.clone(); // [rows, heads, tokens, tokens]
        ops::linear(&self.o, merge_heads(softmax(scores, 3).matmul(value)))
    }
}

#[derive(Module, Debug)]
#[allow(non_snake_case, reason = "named as in the checkpoint")]
struct T5AttentionLayer {
    SelfAttention: T5Attention,
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
    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let gate = ops::gelu(ops::linear(&self.wi_0, hidden.clone()), Gelu::Tanh);
        ops::linear(&self.wo, gate * ops::linear(&self.wi_1, hidden)) // [rows, tokens, width]
    }
}

#[derive(Module, Debug)]
#[allow(non_snake_case, reason = "named as in the checkpoint")]
struct T5FeedForwardLayer {
    DenseReluDense: T5FeedForward,
    layer_norm: RmsNorm,
}

#[derive(Module, Debug)]
struct T5Block {
    layer: (T5AttentionLayer, T5FeedForwardLayer),
}

impl T5Block {
    fn new(config: &T5Config, first: bool, device: &Device) -> Self {
        let attention = T5AttentionLayer {
            SelfAttention: T5Attention::new(config, first, device),
            layer_norm: config.norm(device),
        };
        let feed_forward = T5FeedForwardLayer {
            DenseReluDense: T5FeedForward {
                wi_0: config.linear(config.width, config.inner, device),
                wi_1: config.linear(config.width, config.inner, device),
                wo: config.linear(config.inner, config.width, device),
            },
            layer_norm: config.norm(device),
        };
        Self {
            layer: (attention, feed_forward),
        }
    }

    fn forward(&self, hidden: Tensor<3>, bias: &Tensor<4>) -> Tensor<3> {
        let (attention, feed_forward) = &self.layer;
        let normed = attention.layer_norm.forward(hidden.clone());
        let hidden = hidden + attention.SelfAttention.forward(normed, bias);
        let normed = feed_forward.layer_norm.forward(hidden.clone());
        hidden + feed_forward.DenseReluDense.forward(normed)
    }
}

#[derive(Module, Debug)]
struct T5Stack {
    block: Vec<T5Block>,
    final_layer_norm: RmsNorm,
}

/// The encoder. Its weights are loaded as f32, whatever the file holds: its states overflow f16.
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
        let (attention, _) = &self.encoder.block.first()?.layer;
        let table = attention.SelfAttention.relative_attention_bias.as_ref()?;
        let bucket = |query, key| bucket(query, key, self.buckets, self.farthest);
        let buckets = (0..tokens)
            .flat_map(|query| (0..tokens).map(move |key| bucket(query, key)))
            .collect::<Vec<i32>>();
        let buckets = TensorData::new(buckets, [tokens, tokens]);
        let bias = table.forward(Tensor::<2, Int>::from_data(buckets, device)); // [tokens, tokens, heads]
        Some(bias.permute([2, 0, 1]).unsqueeze())
    }

    /// States after all layers and the last norm; nothing looks at tokens whose `mask` is 0.
    ///
    /// # Shapes
    ///
    /// - ids: `[rows, tokens]`
    /// - mask: `[rows, tokens]`, 1 for text and 0 for padding
    /// - output: `[rows, tokens, width]`
    pub fn encode(&self, ids: Tensor<2, Int>, mask: Option<Tensor<2>>) -> Tensor<3> {
        let ([_, tokens], device) = (ids.dims(), ids.device());
        let mut hidden = self.shared.forward(ids);
        if let Some(bias) = self.position_bias(tokens, &device) {
            let bias = match mask {
                Some(mask) => {
                    let padding: Tensor<4> = ((mask - 1.0) * -MASKED).unsqueeze_dims(&[1, 1]);
                    bias + padding // [rows, heads, tokens, tokens]
                }
                None => bias,
            };
            let blocks = self.encoder.block.iter();
            hidden = blocks.fold(hidden, |hidden, block| block.forward(hidden, &bias));
        }
        self.encoder.final_layer_norm.forward(hidden)
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
    (side + within) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let json = serde_json::from_str(text).unwrap();
        T5Config::new(&json).unwrap_err().to_string()
    }

    #[test]
    fn near_tokens_have_their_own_bucket_and_far_ones_share() {
        let to = |key| bucket(200, key, 32, 128);
        assert_eq!([to(200), to(199), to(193), to(201)], [0, 1, 7, 17]);
        assert_eq!([to(192), to(191), to(0), to(400)], [8, 8, 15, 31]);
    }

    #[test]
    fn other_feed_forward_layers_and_few_buckets_are_refused() {
        assert!(refused("{}").contains("`feed_forward_proj` is `relu`"));
        let few = r#"{"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 2}"#;
        assert!(refused(few).contains("`relative_attention_num_buckets` is `2`"));
        let near = r#"{"feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 8}"#;
        assert!(refused(near).contains("`relative_attention_max_distance` is `8`"));
    }
}
