//! The prompt side of models that read through T5.
//!
//! Source: Saharia et al., "Imagen" (arXiv 2205.11487, section 2.1); behaviour as diffusers' `IFPipeline`, which reads prompts in small
//! letters.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::held::Held;
use super::prompts::repeat_each;
use super::source::{Asked, Origin, Source};
use crate::catalog::ModelFolder;
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::{Error, RequestError};
use crate::models::t5::{T5Config, T5EncoderModel};
use crate::pipeline::config::{ModelConfig, SENTENCE_ENCODER, SentenceConfig};
use crate::pipeline::request::{PromptEmbeds, Request, SeededNoise};
use crate::text::{SentenceEncoder as _, T5Tokenizer};
use crate::weights::adapt::Merge;
use crate::weights::{Format, load_strict};

/// How prompts are read: through an encoder of the model's own, or not here.
#[derive(Debug)]
pub(super) struct Sentences(Option<Reader>);

/// The encoder, which is read when the first prompt comes and released until the next.
#[derive(Debug)]
struct Reader {
    t5: T5Config,
    tokens: usize,
    origin: Origin,
    tokenizer: T5Tokenizer,
    encoder: Held<T5EncoderModel>,
}

impl Sentences {
    /// Reads the tokenizer; the encoder waits for the first prompt.
    pub(super) fn load(config: &SentenceConfig, origin: Origin) -> Result<Self, Error> {
        let Some(t5) = config.t5.clone() else {
            return Ok(Self(None));
        };
        let tokenizer = origin.folder.t5_tokenizer("tokenizer", config.tokens)?;
        tokenizer.check_rows(t5.vocabulary)?;
        Ok(Self(Some(Reader {
            t5,
            tokens: config.tokens,
            origin,
            tokenizer,
            encoder: Held::new(None),
        })))
    }

    /// States of one half, one row a prompt: those that were encoded before, or what the encoder makes of its texts.
    fn states(
        &self,
        half: Half,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Tensor<3>, Error> {
        if let Some(embeds) = &request.prompt_embeds {
            return Ok(match half {
                Half::Prompts => embeds.prompts.clone(),
                Half::Negative => embeds.negative.clone(),
            });
        }
        let prompts = request.subject.prompts();
        let texts = match half {
            Half::Prompts => prompts.iter().map(String::as_str).collect(),
            Half::Negative => request.one_each(&request.negative_prompts),
        };
        let reader = self.0.as_ref().ok_or(RequestError::NoTextEncoder)?;
        reader.states(&texts, observer)
    }
}

impl Reader {
    /// The encoder, read if it is not there.
    fn encoder(&self) -> Result<Arc<T5EncoderModel>, Error> {
        self.encoder.get_or(|| {
            let model = T5EncoderModel::new(&self.t5, &self.origin.device);
            let weights = self.origin.folder.weights(SENTENCE_ENCODER)?;
            load_strict(model, &weights, SENTENCE_ENCODER, self.origin.storage()?)
        })
    }

    /// States of `texts`, `[texts, tokens, width]`.
    fn states(&self, texts: &[&str], observer: &mut dyn Observer) -> Result<Tensor<3>, Error> {
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for text in texts {
            let tokens = self.tokenizer.encode(text.to_lowercase().trim())?;
            if let Some(cut) = &tokens.cut {
                let read = self.tokens;
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

/// A half of guidance.
#[derive(Clone, Copy)]
enum Half {
    Prompts,
    Negative,
}

impl Source for Sentences {
    fn conditioning(
        &self,
        asked: &Asked<'_>,
        _noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error> {
        let (request, resolved) = (asked.request, asked.resolved);
        let halves = resolved
            .guidance
            .pair(vec![Half::Prompts], vec![Half::Negative]);
        let states = halves.into_iter().map(|half| {
            let states = self.states(half, request, observer)?;
            Ok(repeat_each(states, request.batch))
        });
        let states = states.collect::<Result<Vec<_>, Error>>()?;
        Ok(Conditioning {
            rows: resolved.rows,
            ..Conditioning::of_context(Tensor::cat(states, 0))
        })
    }

    fn embeds(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Option<PromptEmbeds>, Error> {
        Ok(Some(PromptEmbeds {
            prompts: self.states(Half::Prompts, request, observer)?,
            negative: self.states(Half::Negative, request, observer)?,
        }))
    }

    fn holds(&self) -> bool {
        let reader = self.0.as_ref();
        reader.is_some_and(|reader| reader.encoder.get().is_some())
    }

    fn release(&self) -> bool {
        let reader = self.0.as_ref();
        reader.is_some_and(|reader| reader.encoder.release(&reader.origin.device))
    }
}

impl PromptEmbeds {
    /// Reads the prompts of `request` through the encoder of the model in `folder`, alone: it is in memory before the denoiser is, and no
    /// longer. `None` where texts and denoiser are read together.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the device fails.
    pub fn read(
        folder: &ModelFolder,
        config: &ModelConfig,
        device: &Device,
        format: impl Into<Format>,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>, Error> {
        let Some(sentences) = config.sentences().filter(|_| config.reads_texts_first()) else {
            return Ok(None);
        };
        let origin = Origin {
            folder: folder.clone(),
            device: device.clone(),
            format: format.into(),
            merge: Merge::default(),
            embeddings: Vec::new(),
        };
        let source = Sentences::load(sentences, origin)?;
        let embeds = source.embeds(request, observer)?;
        source.release();
        Ok(embeds)
    }
}
