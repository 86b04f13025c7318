//! The text side of models that read prompts through T5.

use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error};
use crate::models::t5::T5Config;

/// The part that encodes prompts, and its class in diffusers.
pub(in crate::pipeline) const SENTENCE_ENCODER: &str = "text_encoder";
const CLASS: &str = "T5EncoderModel";

/// Tokens of the longest texts that T5 was trained on.
pub(super) const LONGEST: usize = 512;

/// Prompts through the encoder of T5.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceConfig {
    /// `text_encoder/config.json`; `None` where the states come from the encoder of another model.
    pub t5: Option<T5Config>,
    /// Tokens read of a prompt, where the request does not say how many.
    pub tokens: usize,
    /// The most that a request may ask for, where it may say so.
    pub longest: Option<usize>,
    /// Width of a token's state.
    pub width: usize,
    /// Whether the denoiser is told the picture's height, width and their ratio beside them.
    pub told_sizes: bool,
}

/// What a denoiser reads of sentences.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    /// Tokens of a prompt, whatever the tokenizer says.
    pub(super) tokens: usize,
    /// As [`SentenceConfig::longest`].
    pub(super) longest: Option<usize>,
    /// Width of a token's state, and the key that says it.
    pub(super) width: (&'static str, usize),
    /// As [`SentenceConfig::told_sizes`].
    pub(super) told_sizes: bool,
}

impl SentenceConfig {
    /// Reads the encoder that `folder` has and checks it against the denoiser.
    ///
    /// # Errors
    ///
    /// If it is malformed, or its states do not fit the denoiser.
    pub(super) fn read(folder: &ModelFolder, read: Read) -> Result<Self, Error> {
        match folder.index().class(SENTENCE_ENCODER) {
            Some(CLASS) | None => {}
            Some(other) => {
                let hint = format!("this pipeline reads prompts through a `{CLASS}`");
                return Err(ConfigError::unsupported(SENTENCE_ENCODER, other, hint).into());
            }
        }
        let mut config = Self {
            t5: None,
            tokens: read.tokens,
            longest: read.longest,
            width: read.width.1,
            told_sizes: read.told_sizes,
        };
        let path = format!("{SENTENCE_ENCODER}/config.json");
        if folder.has(&path) {
            let t5 = T5Config::from_json(&folder.read_json(&path)?, SENTENCE_ENCODER)?;
            config.check_width(read.width.0, t5.width)?;
            config.t5 = Some(t5);
        }
        Ok(config)
    }

    /// Refuses states of another width than the denoiser reads.
    pub(super) fn check_width(&self, key: &str, given: usize) -> Result<(), ConfigError> {
        if self.width == given {
            return Ok(());
        }
        let hint = format!("the text encoder's `d_model` is {given}");
        Err(ConfigError::unsupported(key, self.width, hint))
    }

    /// Bytes alive at the peak of encoding `rows` prompts of `tokens`, in f32.
    pub(in crate::pipeline) fn encode_bytes(&self, rows: usize, tokens: usize) -> u64 {
        let encoder = self.t5.as_ref();
        encoder.map_or(0, |encoder| encoder.encode_bytes(rows, tokens))
    }
}
