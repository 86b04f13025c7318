//! The text side of models that read prompts through CLIP and through T5.

use super::encoders::TextConfig;
use super::sentences::LONGEST;
use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error, FileError};
use crate::models::flux::FluxConfig;
use crate::models::mmdit::MmditConfig;
use crate::models::t5::T5Config;

/// Tokens that T5 reads where the request does not say how many, as in diffusers.
const TOKENS: usize = 256;

/// Prompts through encoders of CLIP, which sum them up, and through that of T5.
#[derive(Debug, Clone)]
pub struct JointTextConfig {
    /// The encoders of CLIP. Each reads a text of its own where one is given.
    pub clip: TextConfig,
    /// The encoder of T5; `None` where the folder has none, and its states are zeros.
    pub t5: Option<T5Config>,
    /// Its folder, and that of its tokenizer.
    pub parts: [&'static str; 2],
    /// Tokens that T5 reads of a prompt, where the request does not say how many.
    pub tokens: usize,
    /// The most that a request may ask for.
    pub longest: usize,
    /// Width of a token's state.
    pub width: usize,
    /// Whether the states of CLIP stand in front of T5's, filled up with zeros; else only its summary is read.
    pub joined: bool,
}

impl JointTextConfig {
    /// Those of Stable Diffusion 3: the states of both encoders of CLIP side by side, those of T5 after them.
    ///
    /// Source: Esser et al. (arXiv 2403.03206, section 4).
    ///
    /// # Errors
    ///
    /// If an encoder of CLIP is missing, one is malformed, or they do not fit the denoiser.
    pub(super) fn of_mmdit(folder: &ModelFolder, mmdit: &MmditConfig) -> Result<Self, Error> {
        let clip = TextConfig::beside_t5(folder, 2)?;
        let parts = ["text_encoder_3", "tokenizer_3"];
        let config = Self {
            t5: third(folder, parts[0])?,
            clip,
            parts,
            tokens: TOKENS,
            longest: LONGEST,
            width: mmdit.text_width,
            joined: true,
        };
        config.check(mmdit.pooled_width)?;
        Ok(config)
    }

    /// Those of FLUX: CLIP sums a prompt up, T5 gives its states.
    ///
    /// # Errors
    ///
    /// If an encoder is missing or malformed, or they do not fit the denoiser.
    pub(super) fn of_flux(folder: &ModelFolder, flux: &FluxConfig) -> Result<Self, Error> {
        let clip = TextConfig::beside_t5(folder, 1)?;
        let parts = ["text_encoder_2", "tokenizer_2"];
        let Some(t5) = t5(folder, parts[0])? else {
            let (key, part) = (parts[0], "model_index.json");
            return Err(ConfigError::Missing { key, part }.into());
        };
        let config = Self {
            t5: Some(t5),
            clip,
            parts,
            tokens: LONGEST,
            longest: LONGEST,
            width: flux.text_width,
            joined: false,
        };
        config.check(flux.pooled_width)?;
        Ok(config)
    }

    /// Tokens that the denoiser reads of a prompt, of which T5 reads so many, or its own number.
    pub fn tokens(&self, asked: Option<usize>) -> usize {
        let joined = if self.joined { self.clip.tokens() } else { 0 };
        joined + asked.unwrap_or(self.tokens)
    }

    /// Numbers that CLIP sums a prompt up in.
    pub(in crate::pipeline) fn pooled(&self) -> usize {
        let encoders = self.clip.encoders.iter();
        let summaries =
            encoders.map(|encoder| encoder.clip.projection.unwrap_or(encoder.clip.width));
        summaries.sum()
    }

    /// Parts that do not fit each other would fail deep inside the first step.
    fn check(&self, pooled: usize) -> Result<(), ConfigError> {
        let given = self.t5.as_ref().map_or(self.width, |t5| t5.width);
        if given != self.width {
            let hint = format!("the `d_model` of the encoder of T5 is {given}");
            return Err(ConfigError::unsupported(
                "joint_attention_dim",
                self.width,
                hint,
            ));
        }
        let encoders = self.clip.encoders.iter();
        let widths: usize = encoders.map(|encoder| encoder.clip.width).sum();
        if self.joined && widths > self.width {
            let hint = format!("the text encoders' `hidden_size` are {widths} together");
            return Err(ConfigError::unsupported(
                "joint_attention_dim",
                self.width,
                hint,
            ));
        }
        let given = self.pooled();
        if given == pooled {
            return Ok(());
        }
        let hint = format!("the text encoders sum a prompt up in {given} numbers");
        Err(ConfigError::unsupported(
            "pooled_projection_dim",
            pooled,
            hint,
        ))
    }
}

/// The third encoder of Stable Diffusion 3, which it may go without: a folder whose index says so, and a file that was saved without it.
fn third(folder: &ModelFolder, part: &str) -> Result<Option<T5Config>, Error> {
    if folder.is_single_file() && !folder.has_weights(part) || folder.index().class(part).is_none()
    {
        return Ok(None);
    }
    match t5(folder, part)? {
        Some(found) => Ok(Some(found)),
        None => Err(FileError::MissingPart {
            part: part.to_owned(),
            model: folder.name().to_owned(),
        }
        .into()),
    }
}

/// The encoder of T5 that a folder has, if it has one.
fn t5(folder: &ModelFolder, part: &str) -> Result<Option<T5Config>, Error> {
    let path = format!("{part}/config.json");
    if !folder.has(&path) {
        return Ok(None);
    }
    Ok(Some(T5Config::from_json(&folder.read_json(&path)?, part)?))
}
