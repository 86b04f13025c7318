//! `unet/config.json` of a `UNet2DModel`, resolved into the same values as that of a conditional `UNet`.

#![allow(
    clippy::option_option,
    reason = "an absent key and a null mean different things"
)]

use serde::Deserialize;

use super::config::{
    AttentionKind, Labels, Level, Resampling, TextReading, UNetConfig, check_divisible,
};
use crate::error::ConfigError;
use crate::models::json::{self, Neutral, Sides, current_block};
use crate::nn::activation::Activation;
use crate::nn::embed::Sinusoid;
use crate::nn::resnet::{ResnetForm, TimeShift};

/// The file, as errors name it.
const FILE: &str = "unet/config.json";

/// Width of an attention head where the file has no word on it.
const HEAD_WIDTH: usize = 8;

/// Keys that change the network in ways not built here, with the values that leave it as it is.
const NEUTRAL: &[Neutral] = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("center_input_sample", &["false"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("mid_block_type", &["\"UNetMidBlock2D\"", "null"]),
    ("num_class_embeds", &["null"]),
    ("time_embedding_type", &["\"positional\""]),
];

/// The keys as they stand in the file; nothing decided.
#[derive(Debug, Deserialize)]
struct UNet2dJson {
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    sample_size: Option<Sides>,
    block_out_channels: Option<Vec<usize>>,
    layers_per_block: Option<usize>,
    down_block_types: Option<Vec<String>>,
    up_block_types: Option<Vec<String>>,
    downsample_type: Option<String>,
    upsample_type: Option<String>,
    downsample_padding: Option<usize>,
    /// `Some(None)` is an explicit null: one head.
    #[serde(default, deserialize_with = "json::present")]
    attention_head_dim: Option<Option<usize>>,
    add_attention: Option<bool>,
    /// `Some(None)` is an explicit null: there is no middle.
    #[serde(default, deserialize_with = "json::present")]
    mid_block_type: Option<Option<String>>,
    norm_num_groups: Option<usize>,
    attn_norm_num_groups: Option<usize>,
    norm_eps: Option<f64>,
    resnet_time_scale_shift: Option<String>,
    flip_sin_to_cos: Option<bool>,
    freq_shift: Option<f64>,
    time_embedding_dim: Option<usize>,
    class_embed_type: Option<String>,
    projection_class_embeddings_input_dim: Option<usize>,
}

/// What one entry of `down_block_types` or `up_block_types` says.
#[derive(Debug, Clone, Copy)]
struct Block {
    attends: bool,
    /// Whether a residual block joins it to the next, where the entry says so.
    resnet: Option<bool>,
}

/// The names of a half's blocks.
const DOWN: [(&str, Block); 3] =
    blocks(["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"]);
const UP: [(&str, Block); 3] = blocks(["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"]);

const fn blocks([plain, attending, resnet]: [&'static str; 3]) -> [(&'static str, Block); 3] {
    let block = Block {
        attends: false,
        resnet: Some(false),
    };
    let (attends, joined) = (true, Some(true));
    [
        (plain, block),
        (
            attending,
            Block {
                attends,
                resnet: None,
            },
        ),
        (
            resnet,
            Block {
                resnet: joined,
                ..block
            },
        ),
    ]
}

impl UNetConfig {
    /// Reads the text of the `unet/config.json` of a `UNet2DModel`.
    ///
    /// # Errors
    ///
    /// As [`from_json`](Self::from_json).
    pub fn from_json_2d(text: &str) -> Result<Self, crate::Error> {
        let json: UNet2dJson = json::parse(text, "unet", "UNet", NEUTRAL)?;
        Ok(json.resolve()?)
    }
}

impl UNet2dJson {
    fn resolve(self) -> Result<UNetConfig, ConfigError> {
        let channels = self.channels()?;
        json::each_positive("block_out_channels", channels)?;
        let groups = self.groups(channels)?;
        let has_mid = self.mid_block_type != Some(None);
        let (down, up) = (
            self.half("down_block_types", self.down_block_types.as_deref(), DOWN)?,
            self.half("up_block_types", self.up_block_types.as_deref(), UP)?,
        );
        let config = UNetConfig {
            in_channels: self.in_channels.unwrap_or(3),
            out_channels: self.out_channels.unwrap_or(3),
            levels: self.levels(channels, &down, &up)?,
            mid_depth: usize::from(self.add_attention.unwrap_or(true) && has_mid),
            mid_resnets: if has_mid { 2 } else { 0 },
            attention: AttentionKind::Map,
            resampling: self.resampling(&down, &up)?,
            resnets: ResnetForm {
                shift: self.time_shift()?,
                ..ResnetForm::default()
            },
            mid_divisor: None,
            text: TextReading::default(),
            context_width: 0,
            groups,
            epsilon: self.norm_eps.unwrap_or(1e-5),
            upcast_attention: false,
            sinusoid: Sinusoid {
                width: channels[0],
                flip_sin_to_cos: self.flip_sin_to_cos.unwrap_or(true),
                freq_shift: self.freq_shift.unwrap_or(0.0),
            },
            time_width: self.time_embedding_dim.unwrap_or(4 * channels[0]),
            guidance_width: None,
            added: None,
            labels: self.label_width()?.map(Labels::Vectors),
            time_activations: vec![Activation::Silu],
            sample_size: self.sample_size.unwrap_or(Sides::Square(32)).resolve(),
        };
        config.check_sizes()?;
        Ok(config)
    }

    fn channels(&self) -> Result<&[usize], ConfigError> {
        let channels = self.block_out_channels.as_deref();
        let missing = ConfigError::Missing {
            key: "block_out_channels",
            part: FILE,
        };
        channels
            .filter(|channels| !channels.is_empty())
            .ok_or(missing)
    }

    fn groups(&self, channels: &[usize]) -> Result<usize, ConfigError> {
        let groups = self.norm_num_groups.unwrap_or(32);
        let each = vec![groups; channels.len()];
        check_divisible("block_out_channels", channels, "norm_num_groups", &each)?;
        // As in diffusers: under scale and shift, null means that the middle's attention goes without a norm.
        let shifts = self.resnet_time_scale_shift.as_deref() == Some("scale_shift");
        let attention = self.attn_norm_num_groups.or((!shifts).then_some(groups));
        if attention == Some(groups) {
            return Ok(groups);
        }
        let found = attention.map_or("null".to_owned(), |other| other.to_string());
        let hint = format!("built is `norm_num_groups` = {groups} everywhere");
        Err(ConfigError::unsupported(
            "attn_norm_num_groups",
            found,
            hint,
        ))
    }

    /// The blocks of one half, as listed.
    fn half(
        &self,
        key: &str,
        types: Option<&[String]>,
        known: [(&'static str, Block); 3],
    ) -> Result<Vec<Block>, ConfigError> {
        let levels = self.channels()?.len();
        let types = types.unwrap_or_default();
        if types.len() != levels {
            let hint = format!("the UNet has {levels} levels; name one block type a level");
            return Err(ConfigError::unsupported(key, format!("{types:?}"), hint));
        }
        let parse = |(index, name): (usize, &String)| {
            let found = known
                .iter()
                .find(|(known, _)| *known == current_block(name));
            let names = known.map(|(name, _)| format!("`{name}`")).join(", ");
            found.map(|(_, block)| *block).ok_or_else(|| {
                ConfigError::unsupported(
                    format!("{key}[{index}]"),
                    name,
                    format!("built are {names}"),
                )
            })
        };
        types.iter().enumerate().map(parse).collect()
    }

    fn levels(
        &self,
        channels: &[usize],
        down: &[Block],
        up: &[Block],
    ) -> Result<Vec<Level>, ConfigError> {
        let widths: Vec<usize> = channels
            .iter()
            .map(|width| self.head_width(*width))
            .collect();
        check_divisible(
            "block_out_channels",
            channels,
            "attention_head_dim",
            &widths,
        )?;
        let blocks = down.iter().zip(up.iter().rev());
        let levels = channels.iter().zip(widths).zip(blocks);
        let layers = self.layers_per_block.unwrap_or(2);
        Ok(levels
            .map(|((channels, width), (down, up))| Level {
                channels: *channels,
                layers,
                heads: channels / width,
                encoder_depths: vec![1; if down.attends { layers } else { 0 }],
                decoder_depths: vec![1; if up.attends { layers + 1 } else { 0 }],
                only_text: false,
            })
            .collect())
    }

    /// Width of a head in a map of `channels`. Here the key means what it says, unlike in conditional `UNets`.
    fn head_width(&self, channels: usize) -> usize {
        self.attention_head_dim
            .unwrap_or(Some(HEAD_WIDTH))
            .unwrap_or(channels)
    }

    /// How levels are joined; all in one manner. What a half's last block says joins it to nothing.
    fn resampling(&self, down: &[Block], up: &[Block]) -> Result<Resampling, ConfigError> {
        let shrinking = resnet("downsample_type", self.downsample_type.as_deref())?;
        let growing = resnet("upsample_type", self.upsample_type.as_deref())?;
        let joins = down.len() - 1;
        let shrinks = down[..joins]
            .iter()
            .map(|block| block.resnet.unwrap_or(shrinking));
        let grows = up[..joins]
            .iter()
            .map(|block| block.resnet.unwrap_or(growing));
        let joined: Vec<bool> = shrinks.chain(grows).collect();
        let first = joined.first().copied().unwrap_or(false);
        if joined.iter().any(|resnet| *resnet != first) {
            let hint = "built are convolutions between all levels, or residual blocks between all";
            return Err(ConfigError::unsupported("downsample_type", "mixed", hint));
        }
        match self.downsample_padding.unwrap_or(1) {
            _ if first => Ok(Resampling::Resnet),
            0 => Ok(Resampling::Asymmetric),
            1 => Ok(Resampling::Even),
            other => {
                let hint = "built are 0 and 1";
                Err(ConfigError::unsupported("downsample_padding", other, hint))
            }
        }
    }

    fn label_width(&self) -> Result<Option<usize>, ConfigError> {
        match self.class_embed_type.as_deref() {
            None => Ok(None),
            Some("projection") => {
                let missing = ConfigError::Missing {
                    key: "projection_class_embeddings_input_dim",
                    part: FILE,
                };
                let width = self.projection_class_embeddings_input_dim;
                width.map(Some).ok_or(missing)
            }
            Some(other) => {
                let hint = "built are null and `projection`";
                Err(ConfigError::unsupported("class_embed_type", other, hint))
            }
        }
    }

    fn time_shift(&self) -> Result<TimeShift, ConfigError> {
        let key = "resnet_time_scale_shift";
        match self.resnet_time_scale_shift.as_deref().unwrap_or("default") {
            "default" => Ok(TimeShift::Add),
            "scale_shift" => Ok(TimeShift::ScaleShift),
            other => Err(ConfigError::unsupported(
                key,
                other,
                "built are `default` and `scale_shift`",
            )),
        }
    }
}

/// Whether `key` asks for residual blocks between levels.
fn resnet(key: &str, value: Option<&str>) -> Result<bool, ConfigError> {
    match value.unwrap_or("conv") {
        "conv" => Ok(false),
        "resnet" => Ok(true),
        other => Err(ConfigError::unsupported(
            key,
            other,
            "built are `conv` and `resnet`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str) -> Result<UNetConfig, crate::Error> {
        UNetConfig::from_json_2d(&format!(
            r#"{{"block_out_channels":[64,128],"down_block_types":["DownBlock2D","AttnDownBlock2D"],
            "up_block_types":["AttnUpBlock2D","AttnUpBlock2D"]{extra}}}"#
        ))
    }

    #[test]
    fn halves_may_attend_at_different_levels() {
        let config = config(r#","downsample_padding":0"#).unwrap();
        assert_eq!(config.resampling, Resampling::Asymmetric);
        let depths = |level: Level| (level.encoder_depths, level.decoder_depths, level.heads);
        let depths: Vec<_> = config.levels.into_iter().map(depths).collect();
        assert_eq!(
            depths,
            [(vec![], vec![1; 3], 8), (vec![1; 2], vec![1; 3], 16)]
        );
    }

    #[test]
    fn a_null_head_width_is_one_head() {
        let config = config(r#","attention_head_dim":null"#).unwrap();
        assert!(config.levels.iter().all(|level| level.heads == 1));
        assert_eq!(config.resampling.halved(5), 3);
    }

    #[test]
    fn unsupported_values_name_their_key() {
        for (extra, key) in [
            (r#","downsample_padding":2"#, "`downsample_padding`"),
            (r#","downsample_type":"fir""#, "`downsample_type`"),
            (r#","upsample_type":"resnet""#, "`downsample_type`"),
            (r#","num_class_embeds":10"#, "`num_class_embeds`"),
            (r#","attention_head_dim":48"#, "`block_out_channels`"),
            (r#","layers_per_block":0"#, "`layers_per_block` is `[0, 0]`"),
            (r#","time_embedding_dim":0"#, "`time_embedding_dim` is `0`"),
            (r#","out_channels":0"#, "`out_channels` is `0`"),
            (r#","sample_size":0"#, "`sample_size` is `[0, 0]`"),
            (r#","attn_norm_num_groups":16"#, "`attn_norm_num_groups`"),
            (
                r#","resnet_time_scale_shift":"scale_shift""#,
                "`attn_norm_num_groups`",
            ),
            (
                r#","time_embedding_type":"fourier""#,
                "`time_embedding_type`",
            ),
        ] {
            let error = config(extra).unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(key),
                "{error}"
            );
        }
    }
}
