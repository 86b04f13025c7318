//! `transformer/config.json`, resolved once.

use serde::Deserialize;

use crate::error::ConfigError;
use crate::models::json::{self, Neutral};
use crate::nn::embed::Sinusoid;

/// Width of the sinusoids that timesteps become, whatever the network's.
const FREQUENCIES: usize = 256;

/// A `DiT`'s shape: every default filled in, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct DiTConfig {
    /// Channels of the latents that go in.
    pub in_channels: usize,
    /// Channels of the prediction: twice `in_channels` with a learned variance.
    pub out_channels: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; divide `width`.
    pub heads: usize,
    /// Width of the tokens.
    pub width: usize,
    /// Side of a patch, in latent positions.
    pub patch: usize,
    /// Side of the latents the model was trained on.
    pub sample_size: usize,
    /// Classes. The label of this number is the null class, which stands for none of them.
    pub classes: usize,
    /// Epsilon of the norm in front of the feed-forward layers.
    pub feed_forward_epsilon: f64,
    /// Attention scores in f32 whatever the weights' type.
    pub upcast_attention: bool,
    /// How timesteps become vectors.
    pub sinusoid: Sinusoid,
}

/// The keys as they stand in the file; nothing decided.
#[derive(Debug, Deserialize)]
struct DiTJson {
    num_attention_heads: Option<usize>,
    attention_head_dim: Option<usize>,
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    num_layers: Option<usize>,
    sample_size: Option<usize>,
    patch_size: Option<usize>,
    num_embeds_ada_norm: Option<usize>,
    norm_eps: Option<f64>,
    upcast_attention: Option<bool>,
    /// Not of diffusers, which fixes it to 1: the original program has 0, and checkpoints in its layout are trained with that.
    time_freq_shift: Option<f64>,
}

/// Keys that change the network in ways not built here, with the values that leave it as it is.
const NEUTRAL: &[Neutral] = &[
    ("activation_fn", &["\"gelu-approximate\""]),
    ("attention_bias", &["true"]),
    ("caption_channels", &["null"]),
    ("cross_attention_dim", &["null"]),
    ("norm_elementwise_affine", &["false"]),
    ("norm_type", &["\"ada_norm_zero\""]),
    ("num_vector_embeds", &["null"]),
    ("only_cross_attention", &["false"]),
];

impl DiTConfig {
    /// Reads the text of a `transformer/config.json`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or asks for something that is not built; the message names the key.
    pub fn from_json(text: &str) -> Result<Self, crate::Error> {
        let json: DiTJson = json::parse(text, "transformer", "DiT", NEUTRAL)?;
        let config = json.resolve();
        config.check()?;
        Ok(config)
    }

    /// The label that stands for no class.
    pub fn null_label(&self) -> usize {
        self.classes
    }

    /// Whether the prediction carries a variance in its second half.
    pub fn learns_variance(&self) -> bool {
        self.out_channels == 2 * self.in_channels
    }

    /// Patches along a side of `positions` latent positions.
    pub(super) fn patches(&self, positions: usize) -> usize {
        positions / self.patch
    }

    fn check(&self) -> Result<(), ConfigError> {
        json::all_positive(&[
            ("num_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("attention_head_dim", self.width),
            ("patch_size", self.patch),
            ("in_channels", self.in_channels),
            ("num_embeds_ada_norm", self.classes),
            ("sample_size", self.sample_size),
        ])?;
        if !self.width.is_multiple_of(4) {
            let hint = "heads times head width must be a multiple of 4, for the position embedding";
            return Err(ConfigError::unsupported(
                "attention_head_dim",
                self.width / self.heads,
                hint,
            ));
        }
        if !self.sample_size.is_multiple_of(self.patch) {
            let hint = format!("it must be a multiple of `patch_size` = {}", self.patch);
            return Err(ConfigError::unsupported(
                "sample_size",
                self.sample_size,
                hint,
            ));
        }
        if self.out_channels != self.in_channels && !self.learns_variance() {
            let hint = format!("it is `in_channels` = {}, or twice that", self.in_channels);
            return Err(ConfigError::unsupported(
                "out_channels",
                self.out_channels,
                hint,
            ));
        }
        Ok(())
    }
}

impl DiTJson {
    /// Defaults are those of diffusers' class.
    fn resolve(self) -> DiTConfig {
        let in_channels = self.in_channels.unwrap_or(4);
        let heads = self.num_attention_heads.unwrap_or(16);
        DiTConfig {
            in_channels,
            out_channels: self.out_channels.unwrap_or(in_channels),
            layers: self.num_layers.unwrap_or(28),
            heads,
            width: heads * self.attention_head_dim.unwrap_or(72),
            patch: self.patch_size.unwrap_or(2),
            sample_size: self.sample_size.unwrap_or(32),
            classes: self.num_embeds_ada_norm.unwrap_or(1000),
            feed_forward_epsilon: self.norm_eps.unwrap_or(1e-5),
            upcast_attention: self.upcast_attention.unwrap_or(false),
            sinusoid: Sinusoid {
                width: FREQUENCIES,
                flip_sin_to_cos: true,
                freq_shift: self.time_freq_shift.unwrap_or(1.0),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_means_xl_2() {
        let config = DiTConfig::from_json("{}").unwrap();
        assert_eq!((config.layers, config.width, config.heads), (28, 1152, 16));
        assert_eq!((config.null_label(), config.patches(32)), (1000, 16));
        assert!(!config.learns_variance());
    }

    #[test]
    fn unsupported_values_name_their_key() {
        for (json, key) in [
            (r#"{"norm_type":"ada_norm_single"}"#, "`norm_type`"),
            (r#"{"num_layers":0}"#, "`num_layers`"),
            (r#"{"sample_size":33}"#, "`sample_size`"),
            (r#"{"out_channels":5}"#, "`out_channels`"),
            (
                r#"{"attention_head_dim":1,"num_attention_heads":3}"#,
                "`attention_head_dim`",
            ),
        ] {
            let error = DiTConfig::from_json(json).unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(key),
                "{error}"
            );
        }
    }
}
