//! `unet/config.json`, resolved once into per-level values.

use serde::Deserialize;

use super::block_types::{DOWN, UP};
use crate::error::ConfigError;
use crate::models::json::{self, Neutral, Sides};
use crate::nn::embed::Sinusoid;
use crate::nn::resnet::TimeShift;

/// One resolution of the `UNet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Channels of the level's hidden tensor.
    pub channels: usize,
    /// Residual blocks in the encoder half; the decoder half has one more.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Attention behind each residual block of the encoder half: 0 for none, else the blocks of a transformer.
    pub encoder_depth: usize,
    /// The same for the decoder half.
    pub decoder_depth: usize,
}

/// What attends, where anything does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionKind {
    /// Transformers, which read the context.
    Transformer,
    /// Positions attend to each other and to nothing else.
    Map,
}

/// How levels are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// Convolutions padded evenly: odd sides round up.
    Even,
    /// Convolutions padded below and to the right on the way down: odd sides round down.
    Asymmetric,
    /// Residual blocks that average on the way down and repeat on the way up: odd sides round down.
    Resnet,
}

impl Resampling {
    /// The side one level down.
    pub fn halved(self, side: usize) -> usize {
        match self {
            Self::Even => side.div_ceil(2),
            Self::Asymmetric | Self::Resnet => side / 2,
        }
    }
}

/// A `UNet`'s shape: every default filled in, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct UNetConfig {
    /// Channels of the latents that go in (9 for inpainting checkpoints).
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Outermost level first.
    pub levels: Vec<Level>,
    /// Attention of the middle, counted as in a [`Level`].
    pub mid_depth: usize,
    /// What attends where a depth is not 0.
    pub attention: AttentionKind,
    /// How levels are joined.
    pub resampling: Resampling,
    /// What the time embedding does to residual blocks.
    pub time_shift: TimeShift,
    /// Width of the text states; 0 where nothing reads any.
    pub context_width: usize,
    /// Groups of every group norm.
    pub groups: usize,
    /// Epsilon of the residual blocks' norms.
    pub epsilon: f64,
    /// Attention scores in f32 whatever the weights' type.
    pub upcast_attention: bool,
    /// How timesteps become vectors.
    pub sinusoid: Sinusoid,
    /// Width of the time embedding.
    pub time_width: usize,
    /// What is added to the time embedding besides the timestep, if anything (SDXL).
    pub added: Option<AddedConfig>,
    /// Width of the vector that says what a row shows, and is added to the time embedding through a network of its own; if any.
    pub label_width: Option<usize>,
    /// Height and width of the latents the model was trained on.
    pub sample_size: [usize; 2],
}

/// Pooled text and a list of numbers (sizes, crops, scores) that are added to the time embedding.
///
/// Source: Podell et al., SDXL (arXiv 2307.01952, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AddedConfig {
    /// How each number becomes a vector.
    pub sinusoid: Sinusoid,
    /// Width of the pooled text and of all the numbers' vectors together.
    pub width: usize,
}

impl AddedConfig {
    /// How many numbers a row go beside a pooled text of this width; `None` if none do.
    pub fn numbers(&self, pooled: usize) -> Option<usize> {
        let rest = self.width.checked_sub(pooled)?;
        let whole = self.sinusoid.width > 0 && rest.is_multiple_of(self.sinusoid.width);
        (whole && rest > 0).then(|| rest / self.sinusoid.width)
    }
}

/// The keys as they stand in the file; nothing decided.
#[derive(Debug, Deserialize)]
struct UNetJson {
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    block_out_channels: Option<Vec<usize>>,
    layers_per_block: Option<PerLevel>,
    attention_head_dim: Option<PerLevel>,
    num_attention_heads: Option<PerLevel>,
    transformer_layers_per_block: Option<PerLevel>,
    down_block_types: Option<Vec<String>>,
    up_block_types: Option<Vec<String>>,
    mid_block_type: Option<String>,
    cross_attention_dim: Option<PerLevel>,
    norm_num_groups: Option<usize>,
    norm_eps: Option<f64>,
    upcast_attention: Option<bool>,
    flip_sin_to_cos: Option<bool>,
    freq_shift: Option<f64>,
    time_embedding_dim: Option<usize>,
    addition_embed_type: Option<String>,
    addition_time_embed_dim: Option<usize>,
    projection_class_embeddings_input_dim: Option<usize>,
    sample_size: Option<Sides>,
}

/// A number for all levels, or one for each.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::models) enum PerLevel {
    All(usize),
    Each(Vec<usize>),
}

impl PerLevel {
    pub(in crate::models) fn resolve(
        &self,
        key: &str,
        levels: usize,
    ) -> Result<Vec<usize>, ConfigError> {
        match self {
            Self::All(value) => Ok(vec![*value; levels]),
            Self::Each(values) if values.len() == levels => Ok(values.clone()),
            Self::Each(values) => Err(ConfigError::unsupported(
                key,
                format!("{values:?}"),
                format!("the UNet has {levels} levels; give one value, or one a level"),
            )),
        }
    }

    /// The value that all levels have.
    pub(in crate::models) fn agreed(&self, key: &str) -> Result<usize, ConfigError> {
        match self {
            Self::All(value) => Ok(*value),
            Self::Each(values) => match values.split_first() {
                Some((first, rest)) if rest.iter().all(|one| one == first) => Ok(*first),
                _ => Err(ConfigError::unsupported(
                    key,
                    format!("{values:?}"),
                    "built is one width for all levels",
                )),
            },
        }
    }
}

/// Channels of each level where the file has no word on them.
const CHANNELS: [usize; 4] = [320, 640, 1280, 1280];

/// Keys that change the network in ways not built here, with the values that leave it as it is.
const NEUTRAL: &[Neutral] = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("addition_embed_type", &["null", "\"text_time\""]),
    ("attention_type", &["\"default\""]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &["null"]),
    ("class_embeddings_concat", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &["null"]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &["null"]),
    ("encoder_hid_dim_type", &["null"]),
    ("mid_block_only_cross_attention", &["null", "false"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("num_class_embeds", &["null"]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &["null"]),
    ("time_cond_proj_dim", &["null"]),
    ("time_embedding_act_fn", &["null"]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &["null"]),
];

impl UNetConfig {
    /// Reads the text of a `unet/config.json`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or asks for something that is not built; the message names the key.
    pub fn from_json(text: &str) -> Result<Self, crate::Error> {
        let json: UNetJson = json::parse(text, "unet", "UNet", NEUTRAL)?;
        Ok(json.resolve()?)
    }

    /// Number of skips, and of cells in each half.
    pub fn skips(&self) -> usize {
        self.levels.iter().map(|level| level.layers + 1).sum()
    }
}

impl UNetJson {
    fn resolve(self) -> Result<UNetConfig, ConfigError> {
        let silent = CHANNELS.to_vec();
        let channels = self.block_out_channels.as_ref().unwrap_or(&silent);
        if channels.is_empty() {
            let hint = "name the channels of each level";
            return Err(ConfigError::unsupported("block_out_channels", "[]", hint));
        }
        let groups = self.norm_num_groups.unwrap_or(32);
        check_divisible(
            "block_out_channels",
            channels,
            "norm_num_groups",
            &vec![groups; channels.len()],
        )?;
        let levels = self.levels(channels)?;
        let sinusoid = self.sinusoid(channels[0]);
        Ok(UNetConfig {
            in_channels: self.in_channels.unwrap_or(4),
            out_channels: self.out_channels.unwrap_or(4),
            mid_depth: self.mid_depth(channels.len())?,
            attention: AttentionKind::Transformer,
            resampling: Resampling::Even,
            time_shift: TimeShift::Add,
            levels,
            context_width: self.context_width()?,
            groups,
            epsilon: self.norm_eps.unwrap_or(1e-5),
            upcast_attention: self.upcast_attention.unwrap_or(false),
            sinusoid,
            added: self.added()?,
            label_width: None,
            time_width: self.time_embedding_dim.unwrap_or(4 * channels[0]),
            sample_size: self.sample_size.unwrap_or(Sides::Square(64)).resolve(),
        })
    }

    fn sinusoid(&self, width: usize) -> Sinusoid {
        Sinusoid {
            width,
            flip_sin_to_cos: self.flip_sin_to_cos.unwrap_or(true),
            freq_shift: self.freq_shift.unwrap_or(0.0),
        }
    }

    fn added(&self) -> Result<Option<AddedConfig>, ConfigError> {
        if self.addition_embed_type.is_none() {
            return Ok(None);
        }
        let part = "unet/config.json";
        let needed = |key, value: Option<usize>| value.ok_or(ConfigError::Missing { key, part });
        let each = needed("addition_time_embed_dim", self.addition_time_embed_dim)?;
        let width = needed(
            "projection_class_embeddings_input_dim",
            self.projection_class_embeddings_input_dim,
        )?;
        Ok(Some(AddedConfig {
            sinusoid: self.sinusoid(each),
            width,
        }))
    }

    fn levels(&self, channels: &[usize]) -> Result<Vec<Level>, ConfigError> {
        let count = channels.len();
        let layers = self.layers_per_block.as_ref().unwrap_or(&PerLevel::All(2));
        let layers = layers.resolve("layers_per_block", count)?;
        let heads = self.heads(count)?;
        check_divisible("block_out_channels", channels, "attention_head_dim", &heads)?;
        let depths = self.depths(count)?;
        let down = DOWN.attends(self.down_block_types.as_deref(), count)?;
        let mut up = UP.attends(self.up_block_types.as_deref(), count)?;
        up.reverse();
        Ok((0..count)
            .map(|level| Level {
                channels: channels[level],
                layers: layers[level],
                heads: heads[level],
                encoder_depth: if down[level] { depths[level] } else { 0 },
                decoder_depth: if up[level] { depths[level] } else { 0 },
            })
            .collect())
    }

    /// What checkpoints call `attention_head_dim` is the number of heads (diffusers kept the wrong name).
    fn heads(&self, levels: usize) -> Result<Vec<usize>, ConfigError> {
        let (key, heads) = match (&self.num_attention_heads, &self.attention_head_dim) {
            (Some(heads), _) => ("num_attention_heads", heads),
            (None, Some(heads)) => ("attention_head_dim", heads),
            (None, None) => ("attention_head_dim", &PerLevel::All(8)),
        };
        heads.resolve(key, levels)
    }

    fn depths(&self, levels: usize) -> Result<Vec<usize>, ConfigError> {
        let depths = self
            .transformer_layers_per_block
            .as_ref()
            .unwrap_or(&PerLevel::All(1));
        depths.resolve("transformer_layers_per_block", levels)
    }

    fn mid_depth(&self, levels: usize) -> Result<usize, ConfigError> {
        match self
            .mid_block_type
            .as_deref()
            .unwrap_or("UNetMidBlock2DCrossAttn")
        {
            "UNetMidBlock2DCrossAttn" => Ok(self.depths(levels)?[levels - 1]),
            other => Err(ConfigError::unsupported(
                "mid_block_type",
                other,
                "built is `UNetMidBlock2DCrossAttn`",
            )),
        }
    }

    fn context_width(&self) -> Result<usize, ConfigError> {
        let widths = self.cross_attention_dim.as_ref();
        widths.map_or(Ok(1280), |widths| widths.agreed("cross_attention_dim"))
    }
}

pub(in crate::models) fn check_divisible(
    key: &str,
    values: &[usize],
    divisor_key: &str,
    divisors: &[usize],
) -> Result<(), ConfigError> {
    let uneven = values
        .iter()
        .zip(divisors)
        .find(|(value, divisor)| **divisor == 0 || **value % **divisor != 0);
    match uneven {
        None => Ok(()),
        Some((value, divisor)) => Err(ConfigError::unsupported(
            key,
            value,
            format!("it must be a multiple of `{divisor_key}` = {divisor}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str) -> Result<UNetConfig, crate::Error> {
        UNetConfig::from_json(&format!(
            r#"{{"block_out_channels":[320,640],"down_block_types":["CrossAttnDownBlock2D","DownBlock2D"],
            "up_block_types":["UpBlock2D","CrossAttnUpBlock2D"],"cross_attention_dim":768{extra}}}"#
        ))
    }

    #[test]
    fn levels_are_resolved_outermost_first() {
        let config = config(r#","attention_head_dim":[5,10],"ignored_key":1"#).unwrap();
        assert_eq!(config.skips(), 6);
        let outer = config.levels[0];
        assert_eq!(
            (outer.heads, outer.encoder_depth, outer.decoder_depth),
            (5, 1, 1)
        );
        assert_eq!(config.levels[1].decoder_depth, 0);
        assert_eq!(config.time_width, 1280);
    }

    fn depths(config: &UNetConfig) -> Vec<(usize, usize)> {
        let depths = |level: &Level| (level.encoder_depth, level.decoder_depth);
        config.levels.iter().map(depths).collect()
    }

    #[test]
    fn old_and_silent_files_are_read() {
        let silent = UNetConfig::from_json("{}").unwrap();
        let channels: Vec<_> = silent.levels.iter().map(|level| level.channels).collect();
        assert_eq!(channels, CHANNELS);
        assert_eq!(depths(&silent), [(1, 1), (1, 1), (1, 1), (0, 0)]);
        assert_eq!(silent.sample_size, [64, 64]);
        let old = UNetConfig::from_json(
            r#"{"block_out_channels":[320,640],"down_block_types":["UNetResCrossAttnDownBlock2D","UNetResDownBlock2D"],
            "up_block_types":["UpBlock2D","CrossAttnUpBlock2D"],"cross_attention_dim":[8,8],"sample_size":[60,80],
            "only_cross_attention":[false,false]}"#,
        )
        .unwrap();
        assert_eq!((old.sample_size, old.context_width), ([60, 80], 8));
        assert_eq!(depths(&old), [(1, 1), (0, 0)]);
    }

    #[test]
    fn unsupported_values_name_their_key() {
        for (extra, key) in [
            (r#","class_embed_type":"timestep""#, "`class_embed_type`"),
            (r#","norm_num_groups":33"#, "`norm_num_groups`"),
            (r#","layers_per_block":[2,2,2]"#, "`layers_per_block`"),
            (r#","mid_block_type":null,"act_fn":"gelu""#, "`act_fn`"),
        ] {
            let error = config(extra).unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(key),
                "{error}"
            );
        }
    }
}
