//! What the encoder is built from.

use serde::Deserialize;

use crate::error::{ConfigError, Error};
use crate::models::{encoded_bytes, json};

/// `config.json` of the encoder as it stands.
#[derive(Debug, Deserialize)]
struct T5Json {
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
    model_type: Option<String>,
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

/// The fewest kinds of distance: two on either side.
const FEWEST_BUCKETS: usize = 4;

impl T5Config {
    /// Reads the text of a `config.json`, which errors call that of `part`; what it leaves out has the default of transformers' `T5Config`.
    ///
    /// # Errors
    ///
    /// If it is not JSON or that of another kind of encoder, the feed-forward layers are not those of v1.1, a size is 0, there are fewer than four
    /// kinds of distance, or no distance is farther than those with a kind of their own.
    pub fn from_json(text: &str, part: &str) -> Result<Self, Error> {
        let json: T5Json = json::parse(text, part, "encoder", &[])?;
        Ok(json.resolve()?)
    }

    /// Bytes alive at the peak of encoding `rows` prompts of `tokens`, in f32: the states, the scores beside their bias, or what a feed-forward
    /// layer makes beside that.
    pub fn encode_bytes(&self, rows: usize, tokens: usize) -> u64 {
        let sizes = [self.width, self.inner, self.heads];
        encoded_bytes([rows, tokens], sizes, [2, 1])
    }

    fn check(&self) -> Result<(), ConfigError> {
        json::all_positive(&[
            ("d_model", self.width),
            ("d_kv", self.head_width),
            ("d_ff", self.inner),
            ("num_layers", self.layers),
            ("num_heads", self.heads),
        ])
    }
}

impl T5Json {
    fn resolve(self) -> Result<T5Config, ConfigError> {
        json::check_kin(self.model_type.as_deref(), "t5")?;
        let form = self.feed_forward_proj.as_deref().unwrap_or("relu");
        if form != "gated-gelu" {
            let hint = "T5 v1.1 has `gated-gelu`";
            return Err(ConfigError::unsupported("feed_forward_proj", form, hint));
        }
        let buckets = self.relative_attention_num_buckets.unwrap_or(32);
        if buckets < FEWEST_BUCKETS {
            let (key, hint) = ("relative_attention_num_buckets", "at least 4 are needed");
            return Err(ConfigError::unsupported(key, buckets, hint));
        }
        let farthest = self.relative_attention_max_distance.unwrap_or(128);
        if farthest <= buckets / FEWEST_BUCKETS {
            let hint = format!("it must exceed a quarter of the {buckets} buckets");
            let key = "relative_attention_max_distance";
            return Err(ConfigError::unsupported(key, farthest, hint));
        }
        let config = T5Config {
            vocabulary: self.vocab_size.unwrap_or(32128),
            width: self.d_model.unwrap_or(512),
            head_width: self.d_kv.unwrap_or(64),
            inner: self.d_ff.unwrap_or(2048),
            layers: self.num_layers.unwrap_or(6),
            heads: self.num_heads.unwrap_or(8),
            buckets,
            farthest,
            epsilon: self.layer_norm_epsilon.unwrap_or(1e-6),
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = T5Config::from_json(text, "text_encoder").unwrap_err();
        error.to_string()
    }

    #[test]
    fn other_feed_forward_layers_and_few_buckets_are_refused() {
        assert!(refused("{}").contains("`feed_forward_proj` is `relu`"));
        assert!(
            refused(r#"{"model_type": "clip_text_model"}"#)
                .contains("`model_type` is `clip_text_model`")
        );
        let few = r#"{"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 2}"#;
        assert!(refused(few).contains("`relative_attention_num_buckets` is `2`"));
        let near = r#"{"feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 8}"#;
        assert!(refused(near).contains("`relative_attention_max_distance` is `8`"));
    }

    #[test]
    fn widths_that_no_encoder_has_are_refused() {
        for key in ["d_model", "d_kv", "d_ff", "num_layers", "num_heads"] {
            let text = refused(&format!(
                r#"{{"feed_forward_proj": "gated-gelu", "{key}": 0}}"#
            ));
            assert!(text.starts_with(&format!("`{key}` is `0`")), "{text}");
        }
        for (key, most) in [("d_model", 1 << 14), ("d_kv", 1 << 12), ("d_ff", 1 << 17)] {
            let with = |width: usize| {
                let text = format!(r#"{{"feed_forward_proj": "gated-gelu", "{key}": {width}}}"#);
                T5Config::from_json(&text, "text_encoder")
            };
            assert!(with(most).is_ok(), "{key}");
            let said = with(most + 1).unwrap_err().to_string();
            assert!(
                said.contains(&format!("`{key}` is `{}`", most + 1)),
                "{said}"
            );
            assert!(said.contains(&format!("it is at most {most}")), "{said}");
        }
    }

    #[test]
    fn bytes_beyond_counting_are_the_most_there_are() {
        let text =
            r#"{"feed_forward_proj": "gated-gelu", "d_ff": 16, "num_heads": 2, "d_model": 8}"#;
        let mut config = T5Config::from_json(text, "text_encoder").unwrap();
        let (many, few) = (config.encode_bytes(2, 77), config.encode_bytes(2, 7));
        assert_eq!(many, 8 * (77 * 4 * 8 + 2 * 2 * 77 * 77));
        assert_eq!(few, 8 * (7 * 4 * 8 + 7 * 3 * 16 + 2 * 7 * 7));
        assert_eq!(config.encode_bytes(usize::MAX, 77), u64::MAX);
        config.width = usize::MAX / 4;
        assert_eq!(config.encode_bytes(1, 77), u64::MAX);
    }
}
