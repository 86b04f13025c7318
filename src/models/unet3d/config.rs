//! `unet/config.json` of a `UNet3DConditionModel`, resolved into the values of a `UNet` over pictures.

use serde::Deserialize;

use crate::error::ConfigError;
use crate::models::json::{self, Neutral, Sides};
use crate::models::unet::{
    AttentionKind, DOWN_OF_FILMS, Level, Resampling, TextReading, UNetConfig, UP_OF_FILMS,
    check_divisible,
};
use crate::nn::activation::Activation;
use crate::nn::embed::Sinusoid;
use crate::nn::resnet::ResnetForm;

/// A `UNet` over films: every default filled in, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct UNet3dConfig {
    /// What it is over each frame.
    pub spatial: UNetConfig,
    /// Width of an attention head, over positions and along frames.
    pub head_width: usize,
}

/// The keys as they stand in the file; nothing decided.
#[derive(Debug, Deserialize)]
struct UNet3dJson {
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    block_out_channels: Option<Vec<usize>>,
    layers_per_block: Option<usize>,
    attention_head_dim: Option<usize>,
    down_block_types: Option<Vec<String>>,
    up_block_types: Option<Vec<String>>,
    cross_attention_dim: Option<usize>,
    norm_num_groups: Option<usize>,
    norm_eps: Option<f64>,
    sample_size: Option<Sides>,
}

/// Channels of each level where the file has no word on them.
const CHANNELS: [usize; 4] = [320, 640, 1280, 1280];

/// Keys that change the network in ways not built here, with the values that leave it as it is.
const NEUTRAL: &[Neutral] = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("downsample_padding", &["1"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("num_attention_heads", &["null"]),
    ("time_cond_proj_dim", &["null"]),
];

impl UNet3dConfig {
    /// Heads of the transformer in the first cell, whatever the width of its map.
    pub(super) const FIRST_HEADS: usize = 8;

    /// Reads the text of a `unet/config.json`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or asks for something that is not built; the message names the key.
    pub fn from_json(text: &str) -> Result<Self, crate::Error> {
        let json: UNet3dJson = json::parse(text, "unet", "UNet over films", NEUTRAL)?;
        Ok(json.resolve()?)
    }
}

impl UNet3dJson {
    fn resolve(self) -> Result<UNet3dConfig, ConfigError> {
        let silent = CHANNELS.to_vec();
        let channels = self.block_out_channels.as_ref().unwrap_or(&silent);
        let Some(&outer) = channels.first() else {
            let hint = "name the channels of each level";
            return Err(ConfigError::unsupported("block_out_channels", "[]", hint));
        };
        let groups = self.norm_num_groups.unwrap_or(32);
        let head_width = self.attention_head_dim.unwrap_or(64);
        for (key, divisor) in [
            ("norm_num_groups", groups),
            ("attention_head_dim", head_width),
        ] {
            let divisors = vec![divisor; channels.len()];
            check_divisible("block_out_channels", channels, key, &divisors)?;
        }
        let levels = self.levels(channels, head_width)?;
        let spatial = UNetConfig {
            in_channels: self.in_channels.unwrap_or(4),
            out_channels: self.out_channels.unwrap_or(4),
            levels,
            mid_depth: 1,
            mid_resnets: 2,
            attention: AttentionKind::Transformer,
            resampling: Resampling::Even,
            resnets: ResnetForm::default(),
            mid_divisor: None,
            text: TextReading::default(),
            context_width: self.cross_attention_dim.unwrap_or(1024),
            groups,
            epsilon: self.norm_eps.unwrap_or(1e-5),
            upcast_attention: false,
            sinusoid: Sinusoid {
                width: outer,
                flip_sin_to_cos: true,
                freq_shift: 0.0,
            },
            time_width: 4 * outer,
            guidance_width: None,
            added: None,
            labels: None,
            time_activations: vec![Activation::Silu],
            sample_size: self.sample_size.unwrap_or(Sides::Square(32)).resolve(),
        };
        spatial.check_sizes()?;
        Ok(UNet3dConfig {
            spatial,
            head_width,
        })
    }

    fn levels(&self, channels: &[usize], head_width: usize) -> Result<Vec<Level>, ConfigError> {
        let count = channels.len();
        let down = DOWN_OF_FILMS.attends(self.down_block_types.as_deref(), count)?;
        let mut up = UP_OF_FILMS.attends(self.up_block_types.as_deref(), count)?;
        up.reverse();
        let layers = self.layers_per_block.unwrap_or(2);
        let level = |index: usize| Level {
            channels: channels[index],
            layers,
            heads: channels[index] / head_width,
            encoder_depths: vec![1; if down[index] { layers } else { 0 }],
            decoder_depths: vec![1; if up[index] { layers + 1 } else { 0 }],
            only_text: false,
        };
        Ok((0..count).map(level).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_file_is_the_released_model() {
        let config = UNet3dConfig::from_json("{}").unwrap();
        let heads: Vec<_> = config.spatial.levels.iter().map(|one| one.heads).collect();
        assert_eq!(heads, [5, 10, 20, 20]);
        assert_eq!(
            (config.head_width, config.spatial.context_width),
            (64, 1024)
        );
        assert!(config.spatial.levels[3].encoder_depths.is_empty());
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (json, key) in [
            (r#"{"num_attention_heads":8}"#, "`num_attention_heads`"),
            (r#"{"attention_head_dim":48}"#, "`attention_head_dim` = 48"),
            (r#"{"block_out_channels":[]}"#, "`block_out_channels`"),
            (r#"{"layers_per_block":0}"#, "`layers_per_block`"),
            (r#"{"cross_attention_dim":0}"#, "`cross_attention_dim`"),
            (
                r#"{"down_block_types":["DownBlock2D","DownBlock3D","DownBlock3D","DownBlock3D"]}"#,
                "`down_block_types[0]`",
            ),
        ] {
            let error = UNet3dConfig::from_json(json).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
