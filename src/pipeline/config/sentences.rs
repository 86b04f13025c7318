//! The text side of models that read prompts through T5.

use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error};
use crate::models::t5::T5Config;
use crate::models::unet::UNetConfig;

/// The part that encodes prompts, and its class in diffusers.
pub(in crate::pipeline) const SENTENCE_ENCODER: &str = "text_encoder";
const CLASS: &str = "T5EncoderModel";

/// Tokens that `DeepFloyd` IF was trained to read of a prompt, whatever its tokenizer says.
const TOKENS: usize = 77;

/// Prompts through the encoder of T5.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceConfig {
    /// `text_encoder/config.json`; `None` where the states come from the encoder of another model.
    pub t5: Option<T5Config>,
    /// Tokens read of a prompt.
    pub tokens: usize,
    /// Width of a token's state.
    pub width: usize,
}

impl SentenceConfig {
    /// Reads the encoder that `folder` has and checks it against the denoiser.
    ///
    /// # Errors
    ///
    /// If it is malformed, or its states do not fit the denoiser.
    pub(super) fn read(folder: &ModelFolder, unet: &UNetConfig) -> Result<Self, Error> {
        match folder.index().class(SENTENCE_ENCODER) {
            Some(CLASS) | None => {}
            Some(other) => {
                let hint = format!("this pipeline reads prompts through a `{CLASS}`");
                return Err(ConfigError::unsupported(SENTENCE_ENCODER, other, hint).into());
            }
        }
        let mut config = Self {
            t5: None,
            tokens: TOKENS,
            width: unet.text_width(),
        };
        let path = format!("{SENTENCE_ENCODER}/config.json");
        if folder.has(&path) {
            let t5 = T5Config::from_json(&folder.read_json(&path)?, SENTENCE_ENCODER)?;
            config.check_width(t5.width)?;
            config.t5 = Some(t5);
        }
        Ok(config)
    }

    /// Refuses states of another width than the denoiser reads.
    pub(super) fn check_width(&self, given: usize) -> Result<(), ConfigError> {
        if self.width == given {
            return Ok(());
        }
        let hint = format!("the text encoder's `d_model` is {given}");
        Err(ConfigError::unsupported(
            "encoder_hid_dim",
            self.width,
            hint,
        ))
    }

    /// Bytes alive at the peak of encoding `rows` prompts, in f32.
    pub(in crate::pipeline) fn encode_bytes(&self, rows: usize) -> u64 {
        let encoder = self.t5.as_ref();
        encoder.map_or(0, |encoder| encoder.encode_bytes(rows, self.tokens))
    }
}
