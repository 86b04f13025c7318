//! Which models of a chain read their prompts through one encoder.

use super::model::ModelConfig;
use super::sentences::{SENTENCE_ENCODER, SentenceConfig};
use super::source::SourceConfig;
use crate::catalog::ModelFolder;
use crate::error::{Error, RequestError};

impl ModelConfig {
    /// How it reads prompts, where that is through T5.
    pub(in crate::pipeline) fn sentences(&self) -> Option<&SentenceConfig> {
        match &self.source {
            SourceConfig::Sentences(sentences) => Some(sentences),
            _ => None,
        }
    }

    /// The most tokens that a request may have it read of a prompt, where it may say so.
    pub(in crate::pipeline) fn longest_text(&self) -> Option<usize> {
        match &self.source {
            SourceConfig::Joint(texts) => Some(texts.longest),
            SourceConfig::Sentences(sentences) => sentences.longest,
            _ => None,
        }
    }

    /// Whether it reads prompts through an encoder of its own that is large enough to be read alone, before the denoiser is: T5's.
    pub fn reads_texts_first(&self) -> bool {
        self.sentences().is_some_and(|one| one.t5.is_some())
    }

    /// Whether the states of its prompts come from the encoder of another model.
    pub fn shares_texts(&self) -> bool {
        self.sentences().is_some_and(|one| one.t5.is_none())
    }

    /// The same without the encoder that [`reads_texts_first`](Self::reads_texts_first): what is left when the texts have been read.
    #[must_use]
    pub fn with_texts_read(mut self) -> Self {
        if let SourceConfig::Sentences(sentences) = &mut self.source {
            sentences.t5 = None;
        }
        self
    }

    /// Has the model go on from texts that the one of `first` reads, where that reads them alike: this one's folder has no encoder, or the
    /// same. `folder` is the one that it was read from.
    ///
    /// # Errors
    ///
    /// If this model has no encoder and cannot read what the first one's gives, or a file cannot be read.
    pub fn share_texts(
        &mut self,
        folder: &ModelFolder,
        first: (&Self, &ModelFolder),
    ) -> Result<(), Error> {
        let (Some(own), Some(theirs)) = (self.sentences(), first.0.sentences()) else {
            if self.shares_texts() {
                return Err(RequestError::NoTextEncoder.into());
            }
            return Ok(());
        };
        if own.t5.is_none() {
            return Ok(own.check_width("encoder_hid_dim", theirs.width)?);
        }
        if own == theirs && folder.same_part(first.1, SENTENCE_ENCODER)? {
            *self = self.clone().with_texts_read();
        }
        Ok(())
    }
}
