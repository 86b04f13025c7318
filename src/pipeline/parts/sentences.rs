//! The prompt side of models that read through T5.
//!
//! Source: Saharia et al., "Imagen" (arXiv 2205.11487, section 2.1); behaviour as diffusers' `IFPipeline` and `PixArtSigmaPipeline`, which
//! read prompts in small letters.

use std::iter::repeat_n;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::caption;
use super::held::Held;
use super::prompts::repeat_each;
use super::source::{Asked, Origin, Source};
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::{Error, RequestError, shortened};
use crate::models::t5::{T5Config, T5EncoderModel};
use crate::pipeline::config::{SENTENCE_ENCODER, SentenceConfig};
use crate::pipeline::request::{PromptEmbeds, Request, SeededNoise};
use crate::text::{SentenceEncoder as _, T5Tokenizer};
use crate::weights::{BlockReader, load_merged, load_streamed};

/// How prompts are read: through an encoder of the model's own, or not here.
#[derive(Debug)]
pub(super) struct Sentences {
    reader: Option<Reader>,
    told_sizes: bool,
}

/// The encoder, which is read when the first prompt comes and released until the next.
#[derive(Debug)]
pub(super) struct Reader {
    t5: T5Config,
    tokens: usize,
    place: Place,
    origin: Origin,
    tokenizer: T5Tokenizer,
    encoder: Held<T5EncoderModel>,
}

/// Where an encoder stands, and how texts go into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Its folder.
    pub(super) part: &'static str,
    /// That of its tokenizer.
    pub(super) tokenizer: &'static str,
    /// Texts are not put into small letters, and padding is read like text.
    pub(super) as_it_stands: bool,
}

impl Sentences {
    /// Reads the tokenizer; the encoder waits for the first prompt. And gives what the user should know of adapters.
    pub(super) fn load(
        config: &SentenceConfig,
        origin: Origin,
    ) -> Result<(Self, Vec<String>), Error> {
        let (told_sizes, notes) = (config.told_sizes, unlearned(&origin));
        let place = Place {
            part: SENTENCE_ENCODER,
            tokenizer: "tokenizer",
            as_it_stands: false,
        };
        let t5 = config.t5.clone();
        let reader = t5.map(|t5| Reader::new(t5, config.tokens, place, origin));
        let reader = reader.transpose()?;
        Ok((Self { reader, told_sizes }, notes))
    }

    /// What one half says, one row a prompt: those that were encoded before, or what the encoder makes of its texts.
    fn states(
        &self,
        half: Half,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<States, Error> {
        if let Some(embeds) = request.prompt_embeds.clone() {
            return Ok(match half {
                Half::Prompts => States {
                    states: embeds.prompts,
                    lengths: embeds.prompt_lengths,
                },
                Half::Negative => States {
                    states: embeds.negative,
                    lengths: embeds.negative_lengths,
                },
            });
        }
        let prompts = request.subject.prompts();
        let texts = match half {
            Half::Prompts => prompts.iter().map(String::as_str).collect(),
            Half::Negative => request.one_each(&request.negative_prompts),
        };
        let reader = self.reader.as_ref().ok_or(RequestError::NoTextEncoder)?;
        let tokens = request.text_length.unwrap_or(reader.tokens);
        reader.states(&texts, tokens, observer)
    }
}

impl Reader {
    /// Reads the tokenizer; the encoder waits for the first prompt.
    pub(super) fn new(
        t5: T5Config,
        tokens: usize,
        place: Place,
        origin: Origin,
    ) -> Result<Self, Error> {
        let tokenizer = origin.folder.t5_tokenizer(place.tokenizer, tokens)?;
        tokenizer.check_rows(t5.vocabulary)?;
        Ok(Self {
            t5,
            tokens,
            place,
            origin,
            tokenizer,
            encoder: Held::new(None),
        })
    }

    /// Whether the encoder is in memory.
    pub(super) fn holds(&self) -> bool {
        self.encoder.get().is_some()
    }

    /// Gives its memory back; whether there was any.
    pub(super) fn release(&self) -> bool {
        self.encoder.release(&self.origin.device)
    }

    /// The encoder, read if it is not there.
    fn encoder(&self) -> Result<Arc<T5EncoderModel>, Error> {
        self.encoder.get_or(|| {
            let model = T5EncoderModel::new(&self.t5, &self.origin.device);
            let part = self.place.part;
            let (weights, storage) = (self.origin.folder.weights(part)?, self.origin.storage()?);
            let patches = self.origin.merge.of(part);
            if self.origin.arrangement.streams_texts {
                load_streamed(model, &weights, part, storage, &patches)
            } else {
                load_merged(model, &weights, part, storage, &patches)
            }
        })
    }

    /// States of `texts`, of which as many `tokens` are read.
    pub(super) fn states(
        &self,
        texts: &[&str],
        read: usize,
        observer: &mut dyn Observer,
    ) -> Result<States, Error> {
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for text in texts {
            let tokens = if self.place.as_it_stands {
                self.tokenizer.encode_to(read, text)?
            } else {
                if let Some(told) = caption::uncleaned(text) {
                    observer.warn(&told);
                }
                let text = text.to_lowercase();
                self.tokenizer.encode_to(read, text.trim())?
            };
            if let Some(cut) = &tokens.cut {
                observer.warn(&format!(
                    "the model reads {read} tokens of a prompt; cut off was `{}`",
                    shortened(cut)
                ));
            }
            let last = tokens.ids.len() - 1;
            ends.push(if self.place.as_it_stands {
                last
            } else {
                tokens.end
            });
            ids.push(tokens.ids);
        }
        let encoder = self.encoder()?;
        let states = encoder.states(&ids, &ends);
        encoder.reader().map_or(Ok(()), BlockReader::check)?;
        Ok(States {
            states,
            lengths: ends.iter().map(|end| end + 1).collect(),
        })
    }
}

/// What texts say.
pub(super) struct States {
    /// `[texts, tokens, width]`
    pub(super) states: Tensor<3>,
    /// Tokens of each that are no padding.
    lengths: Vec<usize>,
}

impl States {
    /// Every row `count` times in a row.
    fn repeated(self, count: usize) -> Self {
        let lengths = self.lengths.iter();
        Self {
            lengths: lengths
                .flat_map(|&length| repeat_n(length, count))
                .collect(),
            states: repeat_each(self.states, count),
        }
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
            Ok(states.repeated(request.batch))
        });
        let states = states.collect::<Result<Vec<_>, Error>>()?;
        let lengths = states.iter().flat_map(|half| half.lengths.iter().copied());
        let mut conditioning = Conditioning {
            rows: resolved.rows,
            lengths: lengths.collect(),
            ..Conditioning::of_context(Tensor::cat(
                states.into_iter().map(|half| half.states).collect(),
                0,
            ))
        };
        if self.told_sizes {
            let [height, width] = asked.size.map(|side| side as f64);
            conditioning.numbers = vec![vec![height, width, height / width]; resolved.rows.total()];
        }
        Ok(conditioning)
    }

    fn embeds(
        &self,
        request: &Request,
        _guided: bool,
        observer: &mut dyn Observer,
    ) -> Result<Option<PromptEmbeds>, Error> {
        let prompts = self.states(Half::Prompts, request, observer)?;
        let negative = self.states(Half::Negative, request, observer)?;
        Ok(Some(PromptEmbeds {
            prompts: prompts.states,
            negative: negative.states,
            pooled: None,
            prompt_lengths: prompts.lengths,
            negative_lengths: negative.lengths,
        }))
    }

    fn holds(&self) -> bool {
        let reader = self.reader.as_ref();
        reader.is_some_and(Reader::holds)
    }

    fn release(&self) -> bool {
        let reader = self.reader.as_ref();
        reader.is_some_and(Reader::release)
    }

    fn exchanged(&self, origin: Origin) -> Result<(Box<dyn Source>, Vec<String>), Error> {
        let notes = unlearned(&origin);
        let reader = self.reader.as_ref().map(|reader| {
            let Reader {
                t5, tokens, place, ..
            } = reader;
            Reader::new(t5.clone(), *tokens, *place, origin)
        });
        let exchanged = Self {
            reader: reader.transpose()?,
            told_sizes: self.told_sizes,
        };
        Ok((Box::new(exchanged), notes))
    }
}

/// Words that adapters bring: T5's pieces have no place for them.
fn unlearned(origin: &Origin) -> Vec<String> {
    let words = origin.embeddings.iter();
    let told = words.map(|word| {
        let (word, file) = (word.token(), word.origin());
        format!("the embedding `{word}` is left out: T5 takes no words\nfile: {file}")
    });
    told.collect()
}
