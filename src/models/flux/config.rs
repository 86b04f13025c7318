//! `transformer/config.json`, resolved once.

use serde::Deserialize;

use crate::error::ConfigError;
use crate::models::json::{self, Neutral};
use crate::nn::embed::Sinusoid;

/// Side of a patch, in latent positions.
pub(super) const PATCH: usize = 2;

/// Side of the latents where the request is silent: a megapixel, as in diffusers. Files have no word on it.
const SIDE: usize = 128;

/// A FLUX transformer's shape: every default filled in, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct FluxConfig {
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Blocks with two streams.
    pub double_layers: usize,
    /// Blocks with one stream, after them.
    pub single_layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the tokens: heads times their width.
    pub width: usize,
    /// Width of a token's state in the text.
    pub text_width: usize,
    /// Width of the text as one vector.
    pub pooled_width: usize,
    /// Whether it was distilled to read a guidance scale (dev).
    pub guided: bool,
    /// How many numbers of a head tell each axis of a token's place; together the width of a head.
    pub axes: [usize; 3],
}

/// The keys as they stand in the file; nothing decided.
#[derive(Debug, Deserialize)]
struct FluxJson {
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    num_layers: Option<usize>,
    num_single_layers: Option<usize>,
    attention_head_dim: Option<usize>,
    num_attention_heads: Option<usize>,
    joint_attention_dim: Option<usize>,
    pooled_projection_dim: Option<usize>,
    guidance_embeds: Option<bool>,
    axes_dims_rope: Option<[usize; 3]>,
}

/// Keys that change the network in ways not built here, with the values that leave it as it is.
const NEUTRAL: &[Neutral] = &[("patch_size", &["1"])];

impl FluxConfig {
    /// How timesteps and guidance scales become vectors.
    pub(super) const SINUSOID: Sinusoid = Sinusoid {
        width: 256,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
    };

    /// Reads the text of a `transformer/config.json`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or asks for something that is not built; the message names the key.
    pub fn from_json(text: &str) -> Result<Self, crate::Error> {
        let json: FluxJson = json::parse(text, "transformer", "FLUX transformer", NEUTRAL)?;
        let packed = json.in_channels.unwrap_or(64);
        let out = json.out_channels.unwrap_or(packed);
        let config = json.resolve(packed);
        config.check(packed, out)?;
        Ok(config)
    }

    /// Height and width of the latents where the request is silent.
    pub fn sides(&self) -> [usize; 2] {
        [SIDE; 2]
    }

    /// Side of a patch, in latent positions.
    pub fn patch(&self) -> usize {
        PATCH
    }

    /// Channels of a patch.
    pub fn packed_channels(&self) -> usize {
        PATCH * PATCH * self.latent_channels
    }

    /// Width of a head.
    pub(super) fn head_width(&self) -> usize {
        self.width / self.heads
    }

    fn check(&self, packed: usize, out: usize) -> Result<(), ConfigError> {
        json::all_positive(&[
            ("num_layers", self.double_layers),
            ("num_single_layers", self.single_layers),
            ("num_attention_heads", self.heads),
            ("attention_head_dim", self.width),
            ("joint_attention_dim", self.text_width),
            ("pooled_projection_dim", self.pooled_width),
            ("in_channels", packed),
        ])?;
        if !packed.is_multiple_of(PATCH * PATCH) {
            let hint = "it must be four times the channels of the latents";
            return Err(ConfigError::unsupported("in_channels", packed, hint));
        }
        if out != packed {
            let hint = format!("it is `in_channels` = {packed}");
            return Err(ConfigError::unsupported("out_channels", out, hint));
        }
        let axes = self.axes.iter().sum::<usize>();
        if axes != self.head_width() || self.axes.iter().any(|axis| !axis.is_multiple_of(2)) {
            let found = format!("{:?}", self.axes);
            let hint = format!("they must be even, and {} together", self.head_width());
            return Err(ConfigError::unsupported("axes_dims_rope", found, hint));
        }
        Ok(())
    }
}

impl FluxJson {
    /// Defaults are those of diffusers' class.
    fn resolve(self, packed: usize) -> FluxConfig {
        let heads = self.num_attention_heads.unwrap_or(24);
        FluxConfig {
            latent_channels: packed / (PATCH * PATCH),
            double_layers: self.num_layers.unwrap_or(19),
            single_layers: self.num_single_layers.unwrap_or(38),
            heads,
            width: heads * self.attention_head_dim.unwrap_or(128),
            text_width: self.joint_attention_dim.unwrap_or(4096),
            pooled_width: self.pooled_projection_dim.unwrap_or(768),
            guided: self.guidance_embeds.unwrap_or(false),
            axes: self.axes_dims_rope.unwrap_or([16, 56, 56]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_means_schnell() {
        let config = FluxConfig::from_json("{}").unwrap();
        assert_eq!((config.double_layers, config.single_layers), (19, 38));
        assert_eq!((config.width, config.head_width()), (3072, 128));
        assert_eq!((config.latent_channels, config.guided), (16, false));
    }

    #[test]
    fn unsupported_values_name_their_key() {
        for (json, key) in [
            (r#"{"patch_size":2}"#, "`patch_size`"),
            (r#"{"num_layers":0}"#, "`num_layers`"),
            (r#"{"in_channels":63}"#, "`in_channels`"),
            (r#"{"in_channels":384,"out_channels":64}"#, "`out_channels`"),
            (r#"{"axes_dims_rope":[16,56,57]}"#, "`axes_dims_rope`"),
        ] {
            let error = FluxConfig::from_json(json).unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(key),
                "{error}"
            );
        }
    }
}
