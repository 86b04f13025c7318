//! `unet/config.json` of a `UNetSpatioTemporalConditionModel`, resolved into the values of a `UNet` over pictures.

use serde::Deserialize;

use crate::error::ConfigError;
use crate::models::json::{self, Sides};
use crate::models::unet::{
    AddedConfig, AttentionKind, DOWN_OVER_FRAMES, Level, PerLevel, Resampling, TextReading,
    UNetConfig, UP_OVER_FRAMES, check_divisible,
};
use crate::nn::activation::Activation;
use crate::nn::embed::Sinusoid;
use crate::nn::resnet::ResnetForm;

/// Groups of every norm: the class has no key for them.
const GROUPS: usize = 32;

/// Numbers that the time embedding is told besides the time: frames a second, motion, noise.
const NUMBERS: usize = 3;

/// A `UNet` over frames: every default filled in, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct SpatioTemporalUNetConfig {
    /// What it is over each frame.
    pub spatial: UNetConfig,
    /// Frames of the films it was trained on.
    pub frames: usize,
}

/// The keys as they stand in the file; nothing decided.
#[derive(Debug, Deserialize)]
struct SpatioTemporalJson {
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    block_out_channels: Option<Vec<usize>>,
    layers_per_block: Option<PerLevel>,
    num_attention_heads: Option<PerLevel>,
    transformer_layers_per_block: Option<PerLevel>,
    down_block_types: Option<Vec<String>>,
    up_block_types: Option<Vec<String>>,
    cross_attention_dim: Option<PerLevel>,
    addition_time_embed_dim: Option<usize>,
    projection_class_embeddings_input_dim: Option<usize>,
    num_frames: Option<usize>,
    sample_size: Option<Sides>,
}

impl SpatioTemporalUNetConfig {
    /// Reads the text of a `unet/config.json`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or asks for something that is not built; the message names the key.
    pub fn from_json(text: &str) -> Result<Self, crate::Error> {
        let json: SpatioTemporalJson = json::parse(text, "unet", "UNet over frames", &[])?;
        Ok(json.resolve()?)
    }
}

impl SpatioTemporalJson {
    fn resolve(self) -> Result<SpatioTemporalUNetConfig, ConfigError> {
        let silent = vec![320, 640, 1280, 1280];
        let channels = self.block_out_channels.as_ref().unwrap_or(&silent);
        if channels.is_empty() {
            let hint = "name the channels of each level";
            return Err(ConfigError::unsupported("block_out_channels", "[]", hint));
        }
        let count = channels.len();
        if let Some(uneven) = channels.iter().find(|one| !one.is_multiple_of(GROUPS)) {
            let hint = format!("it must be a multiple of {GROUPS}, the groups of every norm");
            return Err(ConfigError::unsupported("block_out_channels", uneven, hint));
        }
        let depths = each(
            "transformer_layers_per_block",
            self.transformer_layers_per_block.as_ref(),
            &[1],
            count,
        )?;
        json::each_positive("transformer_layers_per_block", &depths)?;
        let context = self.cross_attention_dim.as_ref();
        let config = SpatioTemporalUNetConfig {
            spatial: UNetConfig {
                in_channels: self.in_channels.unwrap_or(8),
                out_channels: self.out_channels.unwrap_or(4),
                levels: self.levels(channels, &depths)?,
                mid_depth: depths[count - 1],
                mid_resnets: 2,
                attention: AttentionKind::Transformer,
                resampling: Resampling::Even,
                resnets: ResnetForm::default(),
                mid_divisor: None,
                text: TextReading::default(),
                context_width: context
                    .map_or(Ok(1024), |widths| widths.agreed("cross_attention_dim"))?,
                groups: GROUPS,
                epsilon: 1e-5,
                upcast_attention: false,
                sinusoid: sinusoid(channels[0]),
                time_width: 4 * channels[0],
                added: Some(self.added()?),
                guidance_width: None,
                labels: None,
                time_activations: vec![Activation::Silu],
                sample_size: self.sample_size.unwrap_or(Sides::Square(96)).resolve(),
            },
            frames: self.num_frames.unwrap_or(25),
        };
        json::all_positive(&[("num_frames", config.frames)])?;
        config.spatial.check_sizes()?;
        Ok(config)
    }

    fn levels(&self, channels: &[usize], depths: &[usize]) -> Result<Vec<Level>, ConfigError> {
        let count = channels.len();
        let layers = each(
            "layers_per_block",
            self.layers_per_block.as_ref(),
            &[2],
            count,
        )?;
        let key = "num_attention_heads";
        let heads = each(
            key,
            self.num_attention_heads.as_ref(),
            &[5, 10, 20, 20],
            count,
        )?;
        check_divisible("block_out_channels", channels, key, &heads)?;
        let down = DOWN_OVER_FRAMES.attends(self.down_block_types.as_deref(), count)?;
        let up = UP_OVER_FRAMES.attends(self.up_block_types.as_deref(), count)?;
        let level = |level: usize| Level {
            channels: channels[level],
            layers: layers[level],
            heads: heads[level],
            encoder_depths: vec![depths[level]; if down[level] { layers[level] } else { 0 }],
            only_text: false,
            decoder_depths: vec![
                depths[level];
                if up[count - 1 - level] {
                    layers[level] + 1
                } else {
                    0
                }
            ],
        };
        Ok((0..count).map(level).collect())
    }

    fn added(&self) -> Result<AddedConfig, ConfigError> {
        let key = "projection_class_embeddings_input_dim";
        let added = AddedConfig {
            sinusoid: sinusoid(self.addition_time_embed_dim.unwrap_or(256)),
            width: self.projection_class_embeddings_input_dim.unwrap_or(768),
        };
        match added.numbers(0) {
            Some(NUMBERS) => Ok(added),
            _ => Err(ConfigError::unsupported(
                key,
                added.width,
                format!(
                    "it must be {NUMBERS} times `addition_time_embed_dim` = {}",
                    added.sinusoid.width
                ),
            )),
        }
    }
}

/// One value a level: those of the file, or `silent`, of which one stands for all.
fn each(
    key: &str,
    value: Option<&PerLevel>,
    silent: &[usize],
    levels: usize,
) -> Result<Vec<usize>, ConfigError> {
    match (value, silent) {
        (Some(value), _) => value.resolve(key, levels),
        (None, [one]) => Ok(vec![*one; levels]),
        (None, _) if silent.len() == levels => Ok(silent.to_vec()),
        (None, _) => {
            let hint = format!("give one value, or one a level, there are {levels}");
            Err(ConfigError::unsupported(key, "null", hint))
        }
    }
}

fn sinusoid(width: usize) -> Sinusoid {
    Sinusoid {
        width,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_file_is_svd_xt() {
        let config = SpatioTemporalUNetConfig::from_json("{}").unwrap();
        let heads: Vec<_> = config.spatial.levels.iter().map(|one| one.heads).collect();
        assert_eq!((heads, config.frames), (vec![5, 10, 20, 20], 25));
        let [outer, .., inner] = &config.spatial.levels[..] else {
            panic!("four levels");
        };
        assert_eq!(outer.encoder_depths, [1; 2]);
        assert_eq!(outer.decoder_depths, [1; 3]);
        assert!(inner.encoder_depths.is_empty() && inner.decoder_depths.is_empty());
        assert_eq!(config.spatial.mid_depth, 1);
    }

    #[test]
    fn unsupported_values_name_their_key() {
        for (json, key) in [
            (r#"{"block_out_channels":[320,650]}"#, "block_out_channels"),
            (r#"{"num_attention_heads":[5,10]}"#, "num_attention_heads"),
            (r#"{"num_frames":0}"#, "num_frames"),
            (r#"{"layers_per_block":0}"#, "layers_per_block"),
            (
                r#"{"transformer_layers_per_block":[1,0,1,1]}"#,
                "transformer_layers_per_block",
            ),
            (
                r#"{"addition_time_embed_dim":128}"#,
                "projection_class_embeddings_input_dim",
            ),
            (
                r#"{"down_block_types":["DownBlock2D","DownBlock2D","DownBlock2D","DownBlock2D"]}"#,
                "down_block_types[0]",
            ),
        ] {
            let error = SpatioTemporalUNetConfig::from_json(json).unwrap_err();
            let named = error.to_string().contains(&format!("`{key}`"));
            assert!(error.is_config() && named, "{error}");
        }
    }
}
