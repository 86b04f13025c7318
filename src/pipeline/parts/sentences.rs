//! The prompt side of models that read through T5.
//!
//! Source: Saharia et al., "Imagen" (arXiv 2205.11487, section 2.1); behaviour as diffusers' `IFPipeline`, which reads prompts in small
//! letters.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::held::Held;
use super::prompts::repeat_each;
use super::source::{Asked, Origin, Source};
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::Error;
use crate::models::t5::T5EncoderModel;
use crate::pipeline::config::{SENTENCE_ENCODER, SentenceConfig};
use crate::pipeline::request::SeededNoise;
use crate::text::{SentenceEncoder as _, T5Tokenizer};
use crate::weights::load_strict;

/// The encoder: loaded, or released until the next prompt.
#[derive(Debug)]
pub(super) struct Sentences {
    config: SentenceConfig,
    origin: Origin,
    tokenizer: T5Tokenizer,
    encoder: Held<T5EncoderModel>,
}

impl Origin {
    /// Reads the encoder's weights.
    fn sentence_encoder(&self, config: &SentenceConfig) -> Result<T5EncoderModel, Error> {
        let model = T5EncoderModel::new(&config.t5, &self.device);
        let weights = self.folder.weights(SENTENCE_ENCODER)?;
        load_strict(model, &weights, SENTENCE_ENCODER, self.storage()?)
    }
}

impl Sentences {
    /// Reads the encoder's weights and its tokenizer.
    pub(super) fn load(config: &SentenceConfig, origin: Origin) -> Result<Self, Error> {
        let tokenizer = origin.folder.t5_tokenizer("tokenizer", config.tokens)?;
        tokenizer.check_rows(config.t5.vocabulary)?;
        let encoder = origin.sentence_encoder(config)?;
        Ok(Self {
            config: config.clone(),
            origin,
            tokenizer,
            encoder: Held::new(Some(encoder)),
        })
    }

    /// The encoder, read again if it was released.
    fn encoder(&self) -> Result<Arc<T5EncoderModel>, Error> {
        let load = || self.origin.sentence_encoder(&self.config);
        self.encoder.get_or(load)
    }

    /// States of `texts`, `[texts, tokens, width]`.
    fn states(&self, texts: &[&str], observer: &mut dyn Observer) -> Result<Tensor<3>, Error> {
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for text in texts {
            let tokens = self.tokenizer.encode(text.to_lowercase().trim())?;
            if let Some(cut) = &tokens.cut {
                let read = self.config.tokens;
                observer.warn(&format!(
                    "the model reads {read} tokens of a prompt; cut off was `{cut}`"
                ));
            }
            ids.push(tokens.ids);
            ends.push(tokens.end);
        }
        Ok(self.encoder()?.states(&ids, &ends))
    }
}

impl Source for Sentences {
    fn conditioning(
        &self,
        asked: &Asked<'_>,
        _noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error> {
        let (request, resolved) = (asked.request, asked.resolved);
        let prompts: Vec<_> = request
            .subject
            .prompts()
            .iter()
            .map(String::as_str)
            .collect();
        let negative = request.one_each(&request.negative_prompts);
        let halves = resolved.guidance.pair(vec![prompts], vec![negative]);
        let states = halves
            .iter()
            .map(|texts| Ok(repeat_each(self.states(texts, observer)?, request.batch)));
        let states = states.collect::<Result<Vec<_>, Error>>()?;
        Ok(Conditioning {
            rows: resolved.rows,
            ..Conditioning::of_context(Tensor::cat(states, 0))
        })
    }

    fn holds(&self) -> bool {
        self.encoder.get().is_some()
    }

    fn release(&self) -> bool {
        self.encoder.release(&self.origin.device)
    }
}
