//! `transformer/config.json`, resolved once.

use serde::Deserialize;

use super::attention::HeadsConfig;
use crate::error::ConfigError;
use crate::models::json;
use crate::nn::embed::Sinusoid;

/// A network's shape: every default filled in, every value checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MmditConfig {
    /// Channels of the latents that go in.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; divide `width`.
    pub heads: usize,
    /// Width of the tokens of both streams.
    pub width: usize,
    /// Side of a patch, in latent positions.
    pub patch: usize,
    /// Side of the latents where nothing is asked for.
    pub sample_size: usize,
    /// Width of the text states that go in.
    pub text_width: usize,
    /// Width of the pooled text.
    pub pooled_width: usize,
    /// Patches a side that there are positions for.
    pub positions: usize,
    /// Blocks with a second attention of the picture alone.
    pub dual: Vec<usize>,
    /// Whether queries and keys are normed.
    pub normed: bool,
}

/// The keys as they stand in the file; nothing decided.
#[derive(Debug, Deserialize)]
struct MmditJson {
    sample_size: Option<usize>,
    patch_size: Option<usize>,
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    num_layers: Option<usize>,
    attention_head_dim: Option<usize>,
    num_attention_heads: Option<usize>,
    joint_attention_dim: Option<usize>,
    caption_projection_dim: Option<usize>,
    pooled_projection_dim: Option<usize>,
    pos_embed_max_size: Option<usize>,
    dual_attention_layers: Option<Vec<usize>>,
    qk_norm: Option<String>,
}

impl MmditConfig {
    /// How timesteps become vectors.
    pub const SINUSOID: Sinusoid = Sinusoid {
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
        let json: MmditJson = json::parse(text, "transformer", "transformer", &[])?;
        json::only("qk_norm", json.qk_norm.clone(), &["rms_norm"])?;
        let projected = json.caption_projection_dim.unwrap_or(1152);
        let config = json.resolve();
        config.check(projected)?;
        Ok(config)
    }

    /// Whether a block has a second attention of the picture alone.
    pub fn is_dual(&self, block: usize) -> bool {
        self.dual.contains(&block)
    }

    /// Whether the text goes on after a block: it ends in the last one's attention.
    pub fn text_goes_on(&self, block: usize) -> bool {
        block + 1 < self.layers
    }

    /// What attention is built from.
    pub(super) fn attention(&self) -> HeadsConfig {
        HeadsConfig {
            width: self.width,
            heads: self.heads,
            normed: self.normed,
        }
    }

    /// Patches along a side of `positions` latent positions.
    pub(super) fn patches(&self, positions: usize) -> usize {
        positions / self.patch
    }

    fn check(&self, projected: usize) -> Result<(), ConfigError> {
        json::all_positive(&[
            ("num_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("attention_head_dim", self.width),
            ("patch_size", self.patch),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("sample_size", self.sample_size),
            ("joint_attention_dim", self.text_width),
            ("pooled_projection_dim", self.pooled_width),
            ("pos_embed_max_size", self.positions),
        ])?;
        if projected != self.width {
            let hint = format!(
                "the text joins tokens of heads times head width, {}",
                self.width
            );
            return Err(ConfigError::unsupported(
                "caption_projection_dim",
                projected,
                hint,
            ));
        }
        let (sides, most) = (self.sample_size, self.positions);
        if !sides.is_multiple_of(self.patch) || self.patches(sides) > most {
            let hint = format!(
                "it must be a multiple of `patch_size`, {}, and no more than `pos_embed_max_size`, {most}, of those",
                self.patch
            );
            return Err(ConfigError::unsupported("sample_size", sides, hint));
        }
        match self.dual.iter().find(|&&block| block >= self.layers) {
            Some(block) => {
                let hint = format!("there are {} blocks, counted from 0", self.layers);
                Err(ConfigError::unsupported(
                    "dual_attention_layers",
                    block,
                    hint,
                ))
            }
            None => Ok(()),
        }
    }
}

impl MmditJson {
    /// Defaults are those of diffusers' class.
    fn resolve(self) -> MmditConfig {
        let in_channels = self.in_channels.unwrap_or(16);
        let heads = self.num_attention_heads.unwrap_or(18);
        MmditConfig {
            in_channels,
            out_channels: self.out_channels.unwrap_or(in_channels),
            layers: self.num_layers.unwrap_or(18),
            heads,
            width: heads * self.attention_head_dim.unwrap_or(64),
            patch: self.patch_size.unwrap_or(2),
            sample_size: self.sample_size.unwrap_or(128),
            text_width: self.joint_attention_dim.unwrap_or(4096),
            pooled_width: self.pooled_projection_dim.unwrap_or(2048),
            positions: self.pos_embed_max_size.unwrap_or(96),
            dual: self.dual_attention_layers.unwrap_or_default(),
            normed: self.qk_norm.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_means_the_class_of_diffusers() {
        let config = MmditConfig::from_json("{}").unwrap();
        assert_eq!((config.layers, config.width, config.heads), (18, 1152, 18));
        assert!(!config.normed && config.dual.is_empty());
        assert!(config.text_goes_on(16) && !config.text_goes_on(17));
    }

    #[test]
    fn unsupported_values_name_their_key() {
        for (json, key) in [
            (r#"{"qk_norm":"layer_norm"}"#, "`qk_norm`"),
            (r#"{"num_layers":0}"#, "`num_layers`"),
            (r#"{"sample_size":33}"#, "`sample_size`"),
            (r#"{"sample_size":194}"#, "`sample_size`"),
            (
                r#"{"caption_projection_dim":1536}"#,
                "`caption_projection_dim`",
            ),
            (
                r#"{"dual_attention_layers":[0,18]}"#,
                "`dual_attention_layers` is `18`",
            ),
        ] {
            let error = MmditConfig::from_json(json).unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(key),
                "{error}"
            );
        }
    }
}
