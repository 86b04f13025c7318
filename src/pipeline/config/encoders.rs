//! Which text encoders a model has, and what its denoiser reads of them.

use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error};
use crate::models::clip::{ClipTextConfig, ClipTextJson};
use crate::models::unet::{AddedConfig, UNetConfig};

/// Folders of encoders and their tokenizers, in the order in which states are joined.
const PARTS: [(&str, &str); 2] = [
    ("text_encoder", "tokenizer"),
    ("text_encoder_2", "tokenizer_2"),
];

/// The text encoders of a model.
#[derive(Debug, Clone)]
pub struct TextConfig {
    /// One, or two whose states are joined.
    pub encoders: Vec<EncoderConfig>,
    /// What else the denoiser is told (SDXL); `None` where it reads states alone.
    pub added: Option<AddedInputs>,
}

/// One text encoder.
#[derive(Debug, Clone)]
pub struct EncoderConfig {
    /// Its folder.
    pub part: &'static str,
    /// The folder of its tokenizer.
    pub tokenizer: &'static str,
    /// Its shape.
    pub clip: ClipTextConfig,
}

/// What a denoiser is told besides the states: the whole text as one vector, and numbers.
///
/// Source: Podell et al., SDXL (arXiv 2307.01952, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedInputs {
    /// Which numbers.
    pub numbers: Numbers,
    /// Without a negative prompt, the unconditioned half reads zeros in place of the empty text.
    pub zeros_for_no_negative: bool,
}

/// The numbers of [`AddedInputs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Original size, crop, target size.
    Sizes,
    /// Original size, crop, aesthetic score: a refiner.
    Score,
}

impl TextConfig {
    /// Reads the encoders that `folder` has and checks them against the denoiser.
    ///
    /// # Errors
    ///
    /// If there is none, one is malformed, or they do not fit the denoiser.
    pub(super) fn read(folder: &ModelFolder, unet: &UNetConfig) -> Result<Self, Error> {
        let encoders = encoders(folder, PARTS.len())?;
        check_tokens(&encoders)?;
        check_widths(&encoders, unet)?;
        let added = unet.added.map(|added| -> Result<AddedInputs, Error> {
            let zeros = folder.index().flag("force_zeros_for_empty_prompt");
            Ok(AddedInputs {
                numbers: numbers(&encoders, added)?,
                zeros_for_no_negative: zeros.unwrap_or(true),
            })
        });
        Ok(Self {
            encoders,
            added: added.transpose()?,
        })
    }

    /// The first `count` encoders of a model that has one of T5 besides.
    ///
    /// # Errors
    ///
    /// If one is missing or malformed, or they read different numbers of tokens.
    pub(super) fn beside_t5(folder: &ModelFolder, count: usize) -> Result<Self, Error> {
        let encoders = encoders(folder, count)?;
        check_tokens(&encoders)?;
        let found = encoders.len();
        if found == count {
            return Ok(Self {
                encoders,
                added: None,
            });
        }
        let (missing, _) = PARTS[found.min(PARTS.len() - 1)];
        let part = "model_index.json";
        Err(ConfigError::Missing { key: missing, part }.into())
    }

    /// Tokens that the encoders read of a prompt.
    pub fn tokens(&self) -> usize {
        self.encoders
            .first()
            .map_or(0, |encoder| encoder.clip.positions)
    }

    /// Whether the denoiser only finishes what another has begun.
    pub fn refines(&self) -> bool {
        self.added
            .is_some_and(|added| added.numbers == Numbers::Score)
    }
}

/// Those of the first `count` places.
fn encoders(folder: &ModelFolder, count: usize) -> Result<Vec<EncoderConfig>, Error> {
    let mut encoders = Vec::new();
    for (part, tokenizer) in PARTS.into_iter().take(count) {
        let path = format!("{part}/config.json");
        if folder.index().class(part).is_none() && !folder.has(&path) {
            continue;
        }
        let json = super::json::json::<ClipTextJson>(folder, part, &path)?;
        let clip = ClipTextConfig::new(&json.of_class(folder.index().class(part)))?;
        encoders.push(EncoderConfig {
            part,
            tokenizer,
            clip,
        });
    }
    if encoders.is_empty() {
        let (key, part) = ("text_encoder", "model_index.json");
        return Err(ConfigError::Missing { key, part }.into());
    }
    Ok(encoders)
}

/// States are joined token by token.
fn check_tokens(encoders: &[EncoderConfig]) -> Result<(), ConfigError> {
    let first = encoders[0].clip.positions;
    let other = encoders
        .iter()
        .find(|encoder| encoder.clip.positions != first);
    other.map_or(Ok(()), |other| {
        let hint = format!("the first text encoder reads {first} tokens");
        let positions = other.clip.positions;
        Err(ConfigError::unsupported(
            "max_position_embeddings",
            positions,
            hint,
        ))
    })
}

/// Parts that do not fit each other would fail deep inside the first step.
fn check_widths(encoders: &[EncoderConfig], unet: &UNetConfig) -> Result<(), ConfigError> {
    let (key, read) = match unet.text.projected {
        Some(width) => ("encoder_hid_dim", width),
        None => ("cross_attention_dim", unet.context_width),
    };
    let widths = encoders.iter().map(|encoder| encoder.clip.width);
    if widths.clone().sum::<usize>() == read {
        return Ok(());
    }
    let widths: Vec<_> = widths.map(|width| width.to_string()).collect();
    let hint = match widths.as_slice() {
        [one] => format!("the text encoder's `hidden_size` is {one}"),
        more => format!(
            "the text encoders' `hidden_size` are {} together",
            more.join(" and ")
        ),
    };
    Err(ConfigError::unsupported(key, read, hint))
}

/// Which numbers stand beside the last encoder's pooled text.
fn numbers(encoders: &[EncoderConfig], added: AddedConfig) -> Result<Numbers, ConfigError> {
    let pooled = encoders.last().and_then(|encoder| encoder.clip.projection);
    let Some(pooled) = pooled else {
        let hint = "the last text encoder must be a `CLIPTextModelWithProjection`";
        return Err(ConfigError::unsupported(
            "addition_embed_type",
            "text_time",
            hint,
        ));
    };
    match added.numbers(pooled) {
        Some(6) => Ok(Numbers::Sizes),
        Some(5) => Ok(Numbers::Score),
        _ => {
            let each = added.sinusoid.width;
            let hint = format!("it must be {pooled} for the pooled text and 6 or 5 times {each}");
            let key = "projection_class_embeddings_input_dim";
            Err(ConfigError::unsupported(key, added.width, hint))
        }
    }
}
