//! What a `UNet` is built from, resolved once into per-level values: the outcome of `unet/config.json`.

use serde::Deserialize;

use crate::error::ConfigError;
use crate::models::json;
use crate::nn::activation::Activation;
use crate::nn::embed::Sinusoid;
use crate::nn::resnet::ResnetForm;
use crate::nn::text_map_attention::TEXT_GROUPS;

/// One resolution of the `UNet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Channels of the level's hidden tensor.
    pub channels: usize,
    /// Residual blocks in the encoder half; the decoder half has one more.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks of the transformer behind each residual block of the encoder half; empty where nothing attends.
    pub encoder_depths: Vec<usize>,
    /// The same for the decoder half, in the order they run.
    pub decoder_depths: Vec<usize>,
    /// Whether both attentions of a transformer's block read the text, and none the map.
    pub only_text: bool,
}

/// What attends, where anything does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionKind {
    /// Transformers, which read the context.
    Transformer,
    /// Positions attend to each other and to nothing else.
    Map,
    /// Positions attend to the text and to each other at once.
    TextAndMap {
        /// Whether the text is normed before.
        text_norm: bool,
    },
}

/// What a row is told apart from its text, and that is added to the time embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// A vector of this width, through a network of its own.
    Vectors(usize),
    /// A level of noise, which becomes a vector as timesteps do, through a network of its own.
    Timesteps,
    /// One of so many classes or levels of noise, each with a vector in a table.
    Table(usize),
}

impl Labels {
    /// The key of a configuration that says so, and its value.
    fn said(self) -> (&'static str, String) {
        match self {
            Self::Vectors(_) => ("class_embed_type", "projection".into()),
            Self::Timesteps => ("class_embed_type", "timestep".into()),
            Self::Table(entries) => ("num_class_embeds", entries.to_string()),
        }
    }
}

/// How a `UNet` reads its text besides in its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextReading {
    /// Width of the text states, where they are projected to the width that blocks read.
    pub projected: Option<usize>,
    /// Heads of the attention that makes one vector of the text, which is added to the time embedding, if one does.
    pub pooled_heads: Option<usize>,
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
    /// Blocks of the middle's transformer; 0 where nothing attends there.
    pub mid_depth: usize,
    /// Residual blocks of the middle: 2; 0 where it was taken out of a network that was made smaller.
    pub mid_resnets: usize,
    /// What attends where there are depths.
    pub attention: AttentionKind,
    /// How levels are joined.
    pub resampling: Resampling,
    /// The residual blocks of both halves.
    pub resnets: ResnetForm,
    /// What the middle's divide the sum of both branches by, if by anything.
    pub mid_divisor: Option<f64>,
    /// Width of what blocks read of the text; 0 where nothing reads any.
    pub context_width: usize,
    /// How the text is read besides.
    pub text: TextReading,
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
    /// What the sum of all that is added to the time embedding goes through before blocks read it, in this order.
    pub time_activations: Vec<Activation>,
    /// Sinusoids that a guidance scale is read as, where the network was distilled to guide itself.
    pub guidance_width: Option<usize>,
    /// What is added to the time embedding besides the timestep, if anything (SDXL).
    pub added: Option<AddedConfig>,
    /// What rows are told apart from their text, if anything.
    pub labels: Option<Labels>,
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

impl UNetConfig {
    /// Number of skips, and of cells in each half.
    pub fn skips(&self) -> usize {
        self.levels.iter().map(|level| level.layers + 1).sum()
    }

    /// Refuses sizes that no network is built of, by the keys that all classes of `UNet` have for them.
    pub(in crate::models) fn check_sizes(&self) -> Result<(), ConfigError> {
        let each = |of: fn(&Level) -> usize| self.levels.iter().map(of).collect::<Vec<_>>();
        json::each_positive("block_out_channels", &each(|level| level.channels))?;
        json::each_positive("layers_per_block", &each(|level| level.layers))?;
        json::each_positive("sample_size", &self.sample_size)?;
        let reads_text = self.attention != AttentionKind::Map;
        let (labels, label_size) = match self.labels {
            Some(Labels::Table(entries)) => ("num_class_embeds", entries),
            Some(Labels::Vectors(width)) => ("projection_class_embeddings_input_dim", width),
            Some(Labels::Timesteps) | None => ("class_embed_type", 1),
        };
        json::all_positive(&[
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("time_embedding_dim", self.time_width),
            (
                "cross_attention_dim",
                if reads_text { self.context_width } else { 1 },
            ),
            ("encoder_hid_dim", self.text.projected.unwrap_or(1)),
            (labels, label_size),
        ])?;
        let normed = self.attention == AttentionKind::TextAndMap { text_norm: true };
        if normed && !self.context_width.is_multiple_of(TEXT_GROUPS) {
            let (key, found) = ("cross_attention_dim", self.context_width);
            let hint = format!(
                "it must be a multiple of {TEXT_GROUPS}, the groups of the norm over the text (`cross_attention_norm`)"
            );
            return Err(ConfigError::unsupported(key, found, hint));
        }
        Ok(())
    }

    /// Refuses what a caller has nothing for, who gives text states for transformers, and what SDXL adds to them.
    pub(crate) fn check_reads_text_alone(&self, hint: &str) -> Result<(), ConfigError> {
        let refuse = |key: &str, found: String| Err(ConfigError::unsupported(key, found, hint));
        if let Some(labels) = self.labels {
            let (key, found) = labels.said();
            return refuse(key, found);
        }
        if self.attention != AttentionKind::Transformer {
            return refuse("down_block_types", "SimpleCrossAttn".to_owned());
        }
        if let Some(width) = self.text.projected {
            return refuse("encoder_hid_dim", width.to_string());
        }
        if self.text.pooled_heads.is_some() {
            return refuse("addition_embed_type", "text".to_owned());
        }
        Ok(())
    }

    /// Width of the text states that go in.
    pub fn text_width(&self) -> usize {
        self.text.projected.unwrap_or(self.context_width)
    }
}

/// A number for all levels, or one for each.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a whole number, or one a level")]
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
