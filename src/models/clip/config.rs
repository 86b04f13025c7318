//! The shape of the text half.

use serde::Deserialize;

use super::{Tower, check_heads, is_quick_gelu};
use crate::error::Error;

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

    pub(super) fn tower(&self) -> Tower {
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
