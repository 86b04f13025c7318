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
    /// `text_encoder/config.json`
    pub t5: T5Config,
    /// Tokens read of a prompt.
    pub tokens: usize,
}

impl SentenceConfig {
    /// Reads the encoder that `folder` has and checks it against the denoiser.
    ///
    /// # Errors
    ///
    /// If there is none, it is malformed, or its states do not fit the denoiser.
    pub(super) fn read(folder: &ModelFolder, unet: &UNetConfig) -> Result<Self, Error> {
        match folder.index().class(SENTENCE_ENCODER) {
            Some(CLASS) | None => {}
            Some(other) => {
                let hint = format!("this pipeline reads prompts through a `{CLASS}`");
                return Err(ConfigError::unsupported(SENTENCE_ENCODER, other, hint).into());
            }
        }
        let text = folder.read_json(&format!("{SENTENCE_ENCODER}/config.json"))?;
        let t5 = T5Config::from_json(&text, SENTENCE_ENCODER)?;
        let (read, given) = (unet.text_width(), t5.width);
        if read != given {
            let hint = format!("the text encoder's `d_model` is {given}");
            return Err(ConfigError::unsupported("encoder_hid_dim", read, hint).into());
        }
        Ok(Self { t5, tokens: TOKENS })
    }

    /// Bytes alive at the peak of encoding `rows` prompts, in f32.
    pub(in crate::pipeline) fn encode_bytes(&self, rows: usize) -> u64 {
        self.t5.encode_bytes(rows, self.tokens)
    }
}
