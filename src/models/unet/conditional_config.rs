//! `unet/config.json` of a `UNet` with conditions.

use serde::Deserialize;

use super::block_types::{BlockTypes, DOWN, DOWN_OF_TEXTS, UP, UP_OF_TEXTS};
use super::config::{
    AddedConfig, AttentionKind, Labels, Level, PerLevel, Resampling, TextReading, UNetConfig,
    check_divisible,
};
use super::depths::{BothDepths, Depths};
use crate::error::ConfigError;
use crate::models::json::{self, Neutral, Sides};
use crate::nn::activation::Activation;
use crate::nn::embed::Sinusoid;
use crate::nn::resnet::{ResnetForm, TimeShift};

/// The keys as they stand in the file; nothing decided.
#[expect(clippy::option_option, reason = "null and absence differ")]
#[derive(Debug, Deserialize)]
struct UNetJson {
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    block_out_channels: Option<Vec<usize>>,
    layers_per_block: Option<PerLevel>,
    attention_head_dim: Option<PerLevel>,
    num_attention_heads: Option<PerLevel>,
    transformer_layers_per_block: Option<Depths>,
    reverse_transformer_layers_per_block: Option<Depths>,
    down_block_types: Option<Vec<String>>,
    up_block_types: Option<Vec<String>>,
    /// `Some(None)` is an explicit null: there is no middle.
    #[serde(default, deserialize_with = "json::present")]
    mid_block_type: Option<Option<String>>,
    cross_attention_dim: Option<PerLevel>,
    cross_attention_norm: Option<String>,
    only_cross_attention: Option<Flags>,
    act_fn: Option<String>,
    class_embed_type: Option<String>,
    num_class_embeds: Option<usize>,
    encoder_hid_dim: Option<usize>,
    encoder_hid_dim_type: Option<String>,
    mid_block_scale_factor: Option<f64>,
    resnet_out_scale_factor: Option<f64>,
    resnet_skip_time_act: Option<bool>,
    resnet_time_scale_shift: Option<String>,
    time_embedding_act_fn: Option<String>,
    norm_num_groups: Option<usize>,
    norm_eps: Option<f64>,
    upcast_attention: Option<bool>,
    flip_sin_to_cos: Option<bool>,
    freq_shift: Option<f64>,
    time_embedding_dim: Option<usize>,
    time_cond_proj_dim: Option<usize>,
    addition_embed_type: Option<String>,
    addition_embed_type_num_heads: Option<usize>,
    addition_time_embed_dim: Option<usize>,
    projection_class_embeddings_input_dim: Option<usize>,
    sample_size: Option<Sides>,
}

/// A flag for all levels, or one for each.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected true or false, or one of them a level")]
enum Flags {
    All(bool),
    Each(Vec<bool>),
}

/// A middle of one residual block that nothing attends in.
const MID_ALONE: &str = "UNetMidBlock2D";

/// Channels of each level where the file has no word on them.
const CHANNELS: [usize; 4] = [320, 640, 1280, 1280];

/// Keys that change the network in ways not built here, with the values that leave it as it is.
const NEUTRAL: &[Neutral] = &[
    ("attention_type", &["\"default\""]),
    ("center_input_sample", &["false"]),
    ("class_embeddings_concat", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("mid_block_only_cross_attention", &["null", "false"]),
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
        Self::of_part("unet", text)
    }

    /// [`from_json`](Self::from_json) of the part that messages name.
    pub(in crate::models) fn of_part(part: &str, text: &str) -> Result<Self, crate::Error> {
        let json: UNetJson = json::parse(text, part, "UNet", NEUTRAL)?;
        Ok(json.resolve()?)
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
        json::each_positive("block_out_channels", channels)?;
        let groups = self.norm_num_groups.unwrap_or(32);
        check_divisible(
            "block_out_channels",
            channels,
            "norm_num_groups",
            &vec![groups; channels.len()],
        )?;
        let joined = self.reads_text_and_map();
        let attention = self.attention(joined)?;
        let levels = self.levels(channels, joined)?;
        let sinusoid = self.sinusoid(channels[0]);
        let resnets = self.resnets()?;
        let config = UNetConfig {
            in_channels: self.in_channels.unwrap_or(4),
            out_channels: self.out_channels.unwrap_or(4),
            mid_depth: self.mid_depth(channels.len(), joined)?,
            mid_resnets: self.mid_resnets(),
            attention,
            resampling: if joined {
                Resampling::Resnet
            } else {
                Resampling::Even
            },
            mid_divisor: divisor("mid_block_scale_factor", self.mid_block_scale_factor)?,
            levels,
            context_width: self.context_width()?,
            text: self.text()?,
            groups,
            epsilon: self.norm_eps.unwrap_or(1e-5),
            upcast_attention: self.upcast_attention.unwrap_or(false),
            sinusoid,
            guidance_width: self.time_cond_proj_dim.filter(|&width| width > 0),
            added: self.added()?,
            labels: self.labels()?,
            time_width: self.time_embedding_dim.unwrap_or(4 * channels[0]),
            time_activations: self.time_activations(resnets.activation)?,
            resnets,
            sample_size: self.sample_size.unwrap_or(Sides::Square(64)).resolve(),
        };
        config.check_sizes()?;
        Ok(config)
    }

    /// Whether blocks attend to text and map at once: `DeepFloyd` IF's, whose levels are joined by residual blocks.
    fn reads_text_and_map(&self) -> bool {
        let mut types = self.down_block_types.iter().flatten();
        types.any(|name| name.starts_with("SimpleCrossAttn") || name.starts_with("Resnet"))
    }

    fn attention(&self, joined: bool) -> Result<AttentionKind, ConfigError> {
        match self.cross_attention_norm.as_deref() {
            Some("group_norm") if joined => Ok(AttentionKind::TextAndMap { text_norm: true }),
            None if joined => Ok(AttentionKind::TextAndMap { text_norm: false }),
            None => Ok(AttentionKind::Transformer),
            Some(other) => {
                let hint = "built are null and, in `SimpleCrossAttn` blocks, `group_norm`";
                Err(ConfigError::unsupported(
                    "cross_attention_norm",
                    other,
                    hint,
                ))
            }
        }
    }

    fn resnets(&self) -> Result<ResnetForm, ConfigError> {
        let key = "resnet_time_scale_shift";
        let shift = match self.resnet_time_scale_shift.as_deref().unwrap_or("default") {
            "default" => TimeShift::Add,
            "scale_shift" => TimeShift::ScaleShift,
            other => {
                let hint = "built are `default` and `scale_shift`";
                return Err(ConfigError::unsupported(key, other, hint));
            }
        };
        let activation = self.act_fn.as_deref().unwrap_or("silu");
        Ok(ResnetForm {
            shift,
            activation: self::activation("act_fn", activation)?,
            divisor: divisor("resnet_out_scale_factor", self.resnet_out_scale_factor)?,
        })
    }

    /// What the whole embedding goes through, and what every residual block would do with it.
    fn time_activations(&self, of_resnets: Activation) -> Result<Vec<Activation>, ConfigError> {
        let key = "time_embedding_act_fn";
        let whole = self.time_embedding_act_fn.as_deref();
        let whole = whole.map(|name| activation(key, name)).transpose()?;
        let raw = self.resnet_skip_time_act.unwrap_or(false);
        Ok(whole
            .into_iter()
            .chain((!raw).then_some(of_resnets))
            .collect())
    }

    fn labels(&self) -> Result<Option<Labels>, ConfigError> {
        match self.class_embed_type.as_deref() {
            None => Ok(self.num_class_embeds.map(Labels::Table)),
            Some("timestep") => Ok(Some(Labels::Timesteps)),
            Some(other) => {
                let hint = "built are null and `timestep`";
                Err(ConfigError::unsupported("class_embed_type", other, hint))
            }
        }
    }

    fn text(&self) -> Result<TextReading, ConfigError> {
        let projected = match (self.encoder_hid_dim_type.as_deref(), self.encoder_hid_dim) {
            (None | Some("text_proj"), Some(width)) => Some(width),
            (None, None) => None,
            (Some("text_proj"), None) => return Err(missing("encoder_hid_dim")),
            (Some(other), _) => {
                let hint = "built are null and `text_proj`";
                return Err(ConfigError::unsupported(
                    "encoder_hid_dim_type",
                    other,
                    hint,
                ));
            }
        };
        let pooled = self.addition_embed_type.as_deref() == Some("text");
        let heads = self.addition_embed_type_num_heads.unwrap_or(64);
        let text = TextReading {
            projected,
            pooled_heads: pooled.then_some(heads),
        };
        let width = projected.map_or_else(|| self.context_width(), Ok)?;
        if pooled {
            let key = "addition_embed_type_num_heads";
            check_divisible("encoder_hid_dim", &[width], key, &[heads])?;
        }
        Ok(text)
    }

    fn sinusoid(&self, width: usize) -> Sinusoid {
        Sinusoid {
            width,
            flip_sin_to_cos: self.flip_sin_to_cos.unwrap_or(true),
            freq_shift: self.freq_shift.unwrap_or(0.0),
        }
    }

    fn added(&self) -> Result<Option<AddedConfig>, ConfigError> {
        match self.addition_embed_type.as_deref() {
            None | Some("text") => return Ok(None),
            Some("text_time") => {}
            Some(other) => {
                let hint = "built are null, `text` and `text_time`";
                return Err(ConfigError::unsupported("addition_embed_type", other, hint));
            }
        }
        let needed = |key, value: Option<usize>| value.ok_or_else(|| missing(key));
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

    fn levels(&self, channels: &[usize], joined: bool) -> Result<Vec<Level>, ConfigError> {
        let count = channels.len();
        let layers = self.layers_per_block.as_ref().unwrap_or(&PerLevel::All(2));
        let layers = layers.resolve("layers_per_block", count)?;
        let depths = self.depths(count, joined);
        let (down, up): (BlockTypes, BlockTypes) = if joined {
            (DOWN_OF_TEXTS, UP_OF_TEXTS)
        } else {
            (DOWN, UP)
        };
        let down = down.attends(self.down_block_types.as_deref(), count)?;
        let mut up = up.attends(self.up_block_types.as_deref(), count)?;
        up.reverse();
        let attends: Vec<_> = down
            .iter()
            .zip(&up)
            .map(|(down, up)| *down || *up)
            .collect();
        let heads = self.heads(channels, joined, &attends)?;
        let only_text = self.only_text(count, joined)?;
        let level = |level: usize| {
            let (encoder, decoder) = (layers[level], layers[level] + 1);
            Ok(Level {
                channels: channels[level],
                layers: layers[level],
                heads: heads[level],
                encoder_depths: depths.encoder(level, if down[level] { encoder } else { 0 })?,
                decoder_depths: depths.decoder(level, if up[level] { decoder } else { 0 })?,
                only_text: only_text[level],
            })
        };
        (0..count).map(level).collect()
    }

    /// For each level, whether nothing in its blocks looks at the map.
    fn only_text(&self, levels: usize, joined: bool) -> Result<Vec<bool>, ConfigError> {
        let flags = match &self.only_cross_attention {
            None => vec![false; levels],
            Some(Flags::All(flag)) => vec![*flag; levels],
            Some(Flags::Each(flags)) => flags.clone(),
        };
        // Without a list, diffusers has the middle follow, in which nothing is built so.
        let everywhere = matches!(self.only_cross_attention, Some(Flags::All(true)));
        let any = flags.contains(&true);
        if flags.len() != levels || everywhere || joined && any {
            let hint = format!(
                "built are false and, for `CrossAttn` blocks, one value a level, of which there are {levels}"
            );
            let found = format!("{flags:?}");
            return Err(ConfigError::unsupported(
                "only_cross_attention",
                found,
                hint,
            ));
        }
        Ok(flags)
    }

    /// What checkpoints call `attention_head_dim` is the number of heads (diffusers kept the wrong name), but for blocks that attend to
    /// text and map at once: there it is a head's width, and says nothing of levels that do not attend.
    fn heads(
        &self,
        channels: &[usize],
        joined: bool,
        attends: &[bool],
    ) -> Result<Vec<usize>, ConfigError> {
        let (key, heads) = match (&self.num_attention_heads, &self.attention_head_dim) {
            (Some(heads), _) => ("num_attention_heads", heads),
            (None, Some(heads)) => ("attention_head_dim", heads),
            (None, None) => ("attention_head_dim", &PerLevel::All(8)),
        };
        let mut heads = heads.resolve(key, channels.len())?;
        if joined {
            let levels = heads.iter_mut().zip(channels).zip(attends);
            let silent = levels.filter(|(_, attends)| !**attends);
            silent.for_each(|((width, channels), _)| *width = *channels);
        }
        check_divisible("block_out_channels", channels, key, &heads)?;
        if !joined {
            return Ok(heads);
        }
        let widths = channels.iter().zip(heads);
        Ok(widths.map(|(channels, width)| channels / width).collect())
    }

    /// What attends to text and map at once is no transformer, and has no depth.
    fn depths(&self, levels: usize, joined: bool) -> BothDepths<'_> {
        let down = self.transformer_layers_per_block.as_ref();
        let up = self.reverse_transformer_layers_per_block.as_ref();
        BothDepths {
            down: down.filter(|_| !joined),
            up: up.filter(|_| !joined),
            levels,
        }
    }

    fn mid_depth(&self, levels: usize, joined: bool) -> Result<usize, ConfigError> {
        let built = if joined {
            "UNetMidBlock2DSimpleCrossAttn"
        } else {
            "UNetMidBlock2DCrossAttn"
        };
        match self.mid_block_type.as_ref().map(Option::as_deref) {
            Some(Some(MID_ALONE)) if !joined => Ok(0),
            Some(None) => Ok(0),
            Some(Some(other)) if other != built => {
                let hint = format!("built here is `{built}`");
                Err(ConfigError::unsupported("mid_block_type", other, hint))
            }
            None if joined => Err(missing("mid_block_type")),
            _ if joined => Ok(1),
            _ => self.depths(levels, joined).middle(),
        }
    }

    /// Networks that were made smaller by taking their middle out say null, or are left with one block.
    fn mid_resnets(&self) -> usize {
        match self.mid_block_type.as_ref().map(Option::as_deref) {
            Some(None) => 0,
            Some(Some(MID_ALONE)) => 1,
            _ => 2,
        }
    }

    fn context_width(&self) -> Result<usize, ConfigError> {
        let widths = self.cross_attention_dim.as_ref();
        widths.map_or(Ok(1280), |widths| widths.agreed("cross_attention_dim"))
    }
}

/// What sums are divided by, where that changes them.
fn divisor(key: &str, factor: Option<f64>) -> Result<Option<f64>, ConfigError> {
    match factor.filter(|factor| (factor - 1.0).abs() > 0.0) {
        Some(factor) if !factor.is_normal() => {
            let hint = "sums are divided by it: it is a number that is not 0";
            Err(ConfigError::unsupported(key, factor, hint))
        }
        factor => Ok(factor),
    }
}

fn activation(key: &str, name: &str) -> Result<Activation, ConfigError> {
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        other => {
            let hint = "built are `silu` and `gelu`";
            Err(ConfigError::unsupported(key, other, hint))
        }
    }
}

fn missing(key: &'static str) -> ConfigError {
    let part = "unet/config.json";
    ConfigError::Missing { key, part }
}

#[cfg(test)]
mod tests;
