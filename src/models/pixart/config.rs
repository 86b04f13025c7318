//! `transformer/config.json`, resolved once.

use serde::Deserialize;

use crate::error::ConfigError;
use crate::models::json::{self, Neutral};
use crate::nn::embed::Sinusoid;

/// Width of the sinusoids that timesteps, sizes and ratios become, whatever the network's.
const FREQUENCIES: usize = 256;

/// Side of the latents whose models are told sizes where the file is silent.
const TOLD_SIZES: usize = 128;

/// A `PixArt` transformer's shape: every default filled in, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct PixArtConfig {
    /// Channels of the latents that go in.
    pub in_channels: usize,
    /// Channels that come out: twice `in_channels` with a learned variance, which no sampler reads.
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
    /// By what the places of patches are divided.
    pub interpolation: f64,
    /// Width of a token's state in the text.
    pub text_width: usize,
    /// Whether it is told the picture's size and its ratio beside the timestep.
    pub told_sizes: bool,
    /// Epsilon of the norms inside the blocks.
    pub norm_epsilon: f64,
    /// Attention scores in f32 whatever the weights' type.
    pub upcast_attention: bool,
}

/// The keys as they stand in the file; nothing decided.
#[derive(Debug, Deserialize)]
struct PixArtJson {
    num_attention_heads: Option<usize>,
    attention_head_dim: Option<usize>,
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    num_layers: Option<usize>,
    sample_size: Option<usize>,
    patch_size: Option<usize>,
    interpolation_scale: Option<f64>,
    caption_channels: Option<usize>,
    cross_attention_dim: Option<usize>,
    use_additional_conditions: Option<bool>,
    norm_eps: Option<f64>,
    upcast_attention: Option<bool>,
}

/// Keys that change the network in ways not built here, with the values that leave it as it is.
const NEUTRAL: &[Neutral] = &[
    ("activation_fn", &["\"gelu-approximate\""]),
    ("attention_bias", &["true"]),
    ("attention_type", &["\"default\""]),
    ("norm_elementwise_affine", &["false"]),
    ("norm_type", &["\"ada_norm_single\""]),
    ("num_vector_embeds", &["null"]),
    ("only_cross_attention", &["false"]),
    ("double_self_attention", &["false"]),
];

impl PixArtConfig {
    /// How timesteps, sizes and ratios become vectors.
    pub(super) const SINUSOID: Sinusoid = Sinusoid {
        width: FREQUENCIES,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
    };

    /// Reads the text of a `transformer/config.json`, of the present class or of before it, `Transformer2DModel`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or asks for something that is not built; the message names the key.
    pub fn from_json(text: &str) -> Result<Self, crate::Error> {
        let json: PixArtJson = json::parse(text, "transformer", "PixArt transformer", NEUTRAL)?;
        let (key, part) = ("caption_channels", "transformer/config.json");
        let text_width = json.caption_channels;
        let text_width = text_width.ok_or(ConfigError::Missing { key, part })?;
        let told = json.cross_attention_dim;
        let config = json.resolve(text_width);
        config.check(told)?;
        Ok(config)
    }

    /// Whether what comes out carries a variance in its second half.
    pub fn learns_variance(&self) -> bool {
        self.out_channels == 2 * self.in_channels
    }

    /// Patches along a side of `positions` latent positions.
    pub(super) fn patches(&self, positions: usize) -> usize {
        positions / self.patch
    }

    fn check(&self, cross_attention: Option<usize>) -> Result<(), ConfigError> {
        json::all_positive(&[
            ("num_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("attention_head_dim", self.width),
            ("patch_size", self.patch),
            ("in_channels", self.in_channels),
            ("caption_channels", self.text_width),
            ("sample_size", self.sample_size),
        ])?;
        let width = self.width;
        let refused =
            |key, value: usize, hint: String| Err(ConfigError::unsupported(key, value, hint));
        if !width.is_multiple_of(4) || self.told_sizes && !width.is_multiple_of(3) {
            let hint =
                "heads times head width must be a multiple of 4, and of 3 where sizes are told";
            return refused("attention_head_dim", width / self.heads, hint.into());
        }
        if !self.sample_size.is_multiple_of(self.patch) {
            let hint = format!("it must be a multiple of `patch_size` = {}", self.patch);
            return refused("sample_size", self.sample_size, hint);
        }
        if self.interpolation.is_nan() || self.interpolation <= 0.0 {
            let (key, hint) = ("interpolation_scale", "it must be positive");
            return Err(ConfigError::unsupported(key, self.interpolation, hint));
        }
        if self.out_channels != self.in_channels && !self.learns_variance() {
            let hint = format!("it is `in_channels` = {}, or twice that", self.in_channels);
            return refused("out_channels", self.out_channels, hint);
        }
        match cross_attention.filter(|&read| read != width) {
            Some(read) => refused(
                "cross_attention_dim",
                read,
                format!("the text is projected to {width}"),
            ),
            None => Ok(()),
        }
    }
}

impl PixArtJson {
    /// Defaults are those of diffusers' class.
    fn resolve(self, text_width: usize) -> PixArtConfig {
        let sample_size = self.sample_size.unwrap_or(128);
        let heads = self.num_attention_heads.unwrap_or(16);
        let told = self.use_additional_conditions;
        PixArtConfig {
            in_channels: self.in_channels.unwrap_or(4),
            out_channels: self.out_channels.unwrap_or(8),
            layers: self.num_layers.unwrap_or(28),
            heads,
            width: heads * self.attention_head_dim.unwrap_or(72),
            patch: self.patch_size.unwrap_or(2),
            sample_size,
            interpolation: self
                .interpolation_scale
                .unwrap_or((sample_size / 64).max(1) as f64),
            text_width,
            told_sizes: told.unwrap_or(sample_size == TOLD_SIZES),
            norm_epsilon: self.norm_eps.unwrap_or(1e-6),
            upcast_attention: self.upcast_attention.unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_means_xl_2_that_is_told_sizes() {
        let config = PixArtConfig::from_json(r#"{"caption_channels": 4096}"#).unwrap();
        assert_eq!((config.layers, config.width, config.heads), (28, 1152, 16));
        assert_eq!((config.interpolation, config.told_sizes), (2.0, true));
        assert!(config.learns_variance());
    }

    #[test]
    fn unsupported_values_name_their_key() {
        for (json, key) in [
            ("{}", "`caption_channels`"),
            (
                r#"{"caption_channels":8,"norm_type":"ada_norm_zero"}"#,
                "`norm_type`",
            ),
            (r#"{"caption_channels":8,"num_layers":0}"#, "`num_layers`"),
            (
                r#"{"caption_channels":8,"sample_size":33}"#,
                "`sample_size`",
            ),
            (
                r#"{"caption_channels":8,"out_channels":5}"#,
                "`out_channels`",
            ),
            (
                r#"{"caption_channels":8,"interpolation_scale":0}"#,
                "`interpolation_scale`",
            ),
            (
                r#"{"caption_channels":8,"cross_attention_dim":768}"#,
                "`cross_attention_dim`",
            ),
            (
                r#"{"caption_channels":8,"attention_head_dim":1,"num_attention_heads":4}"#,
                "`attention_head_dim`",
            ),
        ] {
            let error = PixArtConfig::from_json(json).unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(key),
                "{error}"
            );
        }
    }
}
