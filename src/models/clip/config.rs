//! The shape of the text half.

use serde::Deserialize;

use super::{Tower, is_quick_gelu};
use crate::error::Error;
use crate::models::{encoded_bytes, json};

/// `text_encoder/config.json` as it stands.
#[derive(Debug, Clone, Deserialize)]
pub struct ClipTextJson {
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    max_position_embeddings: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    projection_dim: Option<usize>,
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    /// The text half, in the configuration of a whole CLIP.
    text_config: Option<Box<Self>>,
}

impl ClipTextJson {
    /// The same as a model of this class, which its folder's index names; `None` leaves the class to the file.
    #[must_use]
    pub fn of_class(mut self, class: Option<&str>) -> Self {
        if let Some(class) = class {
            self.architectures = Some(vec![class.to_owned()]);
        }
        self
    }
}

/// The class whose files hold the projection of a whole text.
const WITH_PROJECTION: &str = "CLIPTextModelWithProjection";

/// What transformers takes where `projection_dim` is silent.
const DEFAULT_PROJECTION: usize = 512;

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
    /// Checks what the checkpoint asks for; what it leaves out has the default of transformers' `CLIPTextConfig`.
    ///
    /// # Errors
    ///
    /// If it is that of another kind of encoder, the activation is unknown, a size is 0 or the heads do not divide the width.
    pub fn new(json: &ClipTextJson) -> Result<Self, Error> {
        json::check_kin(json.model_type.as_deref(), "clip")?;
        let architectures = json.architectures.as_deref().unwrap_or_default();
        let projected = architectures.iter().any(|name| name == WITH_PROJECTION);
        let json = json.text_config.as_deref().unwrap_or(json);
        let quick_gelu = is_quick_gelu(json.hidden_act.as_deref().unwrap_or("quick_gelu"))?;
        let config = Self {
            vocabulary: json.vocab_size.unwrap_or(49408),
            width: json.hidden_size.unwrap_or(512),
            inner: json.intermediate_size.unwrap_or(2048),
            layers: json.num_hidden_layers.unwrap_or(12),
            heads: json.num_attention_heads.unwrap_or(8),
            positions: json.max_position_embeddings.unwrap_or(77),
            quick_gelu,
            epsilon: json.layer_norm_eps.unwrap_or(1e-5),
            projection: projected.then(|| json.projection_dim.unwrap_or(DEFAULT_PROJECTION)),
        };
        config.tower().check()?;
        json::all_positive(&[
            ("max_position_embeddings", config.positions),
            ("projection_dim", config.projection.unwrap_or(1)),
        ])?;
        Ok(config)
    }

    /// Bytes alive at the peak of encoding `rows` prompts, in f32: the states, what a feed-forward layer makes of them, the scores.
    pub fn encode_bytes(&self, rows: usize) -> u64 {
        let sizes = [self.width, self.inner, self.heads];
        encoded_bytes([rows, self.positions], sizes, [3, 0])
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
    fn other_encoders_are_named() {
        let error = ClipTextConfig::new(&json("model_type", "t5".into())).unwrap_err();
        assert!(
            error.to_string().contains("`model_type` is `t5`"),
            "{error}"
        );
        assert!(ClipTextConfig::new(&json("model_type", "clip_text_model".into())).is_ok());
    }

    #[test]
    fn unknown_activations_are_named() {
        let error = ClipTextConfig::new(&json("hidden_act", "relu".into())).unwrap_err();
        assert!(error.is_config());
        assert!(error.to_string().contains("`hidden_act` is `relu`"));
    }

    #[test]
    fn whole_configurations_and_silent_ones_are_read() {
        let read = |text: &str| ClipTextConfig::new(&serde_json::from_str(text).unwrap()).unwrap();
        let whole = r#"{"architectures": null, "text_config": {"hidden_size": 16, "num_attention_heads": 2}}"#;
        let (whole, silent) = (read(whole), read("{}"));
        assert_eq!((whole.width, whole.heads, whole.layers), (16, 2, 12));
        assert_eq!(
            (silent.width, silent.positions, silent.projection),
            (512, 77, None)
        );
        let json: ClipTextJson = serde_json::from_str("{}").unwrap();
        let projected = ClipTextConfig::new(&json.of_class(Some(WITH_PROJECTION))).unwrap();
        assert_eq!(projected.projection, Some(DEFAULT_PROJECTION));
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
    fn sizes_of_nothing_are_named() {
        let keys = [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "max_position_embeddings",
        ];
        for key in keys {
            let error = ClipTextConfig::new(&json(key, 0.into())).unwrap_err();
            let said = format!("`{key}` is `0`");
            assert!(error.to_string().starts_with(&said), "{error}");
        }
        let json = json("projection_dim", 0.into()).of_class(Some(WITH_PROJECTION));
        let error = ClipTextConfig::new(&json).unwrap_err();
        assert!(error.to_string().starts_with("`projection_dim` is `0`"));
    }

    #[test]
    fn activations_are_told_apart() {
        let quick = |name: &str| ClipTextConfig::new(&json("hidden_act", name.into())).unwrap();
        assert!(quick("quick_gelu").quick_gelu && !quick("gelu").quick_gelu);
    }
}
