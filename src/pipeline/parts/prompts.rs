//! The prompt side of text-to-image models: prompts in, the denoiser's condition out.
//!
//! Source: Radford et al. (arXiv 2103.00020); Podell et al., SDXL (arXiv 2307.01952, section 2.1) for two encoders; behaviour as
//! diffusers' `StableDiffusionPipeline` and `StableDiffusionXLPipeline`.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use super::adapters::{Exchange, left_out};
use super::held::Held;
use super::source::{Asked, Origin, Source};
use super::wording::{self, Vocabulary};
use crate::catalog::ModelFolder;
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::{ConfigError, Error, FileError, shortened};
use crate::models::clip::ClipTextModel;
use crate::pipeline::config::{AddedInputs, EncoderConfig, TextConfig};
use crate::pipeline::request::{Request, SeededNoise};
use crate::text::{ClipTokenizer, Embedding, PromptEncoder};
use crate::weights::{Storage, load_merged, reload};

type Encoders = Vec<PromptEncoder<ClipTextModel>>;

/// The text encoders of a model: loaded, or released until the next prompt.
#[derive(Debug)]
pub(super) struct Prompts {
    config: TextConfig,
    origin: Origin,
    encoders: Held<Encoders>,
}

impl Origin {
    /// How encoders keep their weights.
    pub(super) fn storage(&self) -> Result<Storage, Error> {
        Storage::of(&self.device, self.format.of_encoders())
    }

    /// Reads the encoders' weights, and joins them with their words.
    fn load(&self, config: &TextConfig, words: Vec<Words>) -> Result<Encoders, Error> {
        let storage = self.storage()?;
        let encoders = config.encoders.iter().zip(words).map(|(encoder, words)| {
            let EncoderConfig { part, clip, .. } = encoder;
            let model = ClipTextModel::new(clip, &self.device);
            let (source, patches) = (self.folder.weights(part)?, self.merge.of(part));
            let model = load_merged(model, &source, part, storage, &patches)?;
            Ok(words.joined(model, clip.vocabulary))
        });
        encoders.collect()
    }
}

/// What is known of the text encoders before weights are read: their words, and what the user should know of these.
pub(super) struct Worded {
    config: TextConfig,
    origin: Origin,
    words: Vec<Words>,
    notes: Vec<String>,
}

impl Worded {
    pub(super) fn read(config: &TextConfig, origin: Origin) -> Result<Self, Error> {
        let config = config.fitted(&origin.folder)?;
        let (words, notes) = words(&origin.folder, &config, &origin.embeddings)?;
        Ok(Self {
            config,
            origin,
            words,
            notes,
        })
    }

    /// Reads the encoders' weights, unless they wait for the first prompt.
    pub(super) fn load(self) -> Result<(Prompts, Vec<String>), Error> {
        let encoders = if self.origin.arrangement.texts_first {
            None
        } else {
            Some(self.origin.load(&self.config, self.words)?)
        };
        let prompts = Prompts::new(&self.config, self.origin, encoders);
        Ok((prompts, self.notes))
    }
}

/// One half of a guided condition, one row a prompt.
struct Half {
    /// `[prompts, tokens, width]`
    states: Tensor<3>,
    /// `[prompts, projection]`
    pooled: Option<Tensor<2>>,
}

/// What else reads the texts of a run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beside {
    Nothing,
    /// T5, which reads on where CLIP ends.
    Sentences,
}

/// What all encoders make of texts, side by side.
pub(super) struct Summaries {
    /// `[prompts, tokens, width of all]`
    pub(super) states: Tensor<3>,
    /// `[prompts, width of all]`
    pub(super) pooled: Tensor<2>,
}

impl Prompts {
    fn new(config: &TextConfig, origin: Origin, encoders: Option<Encoders>) -> Self {
        Self {
            config: config.clone(),
            origin,
            encoders: Held::new(encoders),
        }
    }

    /// The encoders, read again if they were released.
    fn encoders(&self) -> Result<Arc<Encoders>, Error> {
        let load = || {
            let Origin {
                folder, embeddings, ..
            } = &self.origin;
            let (words, _) = words(folder, &self.config, embeddings)?;
            self.origin.load(&self.config, words)
        };
        self.encoders.get_or(load)
    }

    /// Says what of the prompts is not read as it was meant.
    pub(super) fn warn(&self, request: &Request, observer: &mut dyn Observer) -> Result<(), Error> {
        let added = &request.added;
        let texts = [
            strings(request.subject.prompts()),
            strings(&request.negative_prompts),
            strings(&added.second_prompts),
            strings(&added.second_negative_prompts),
            strings(&added.third_prompts),
            strings(&added.third_negative_prompts),
        ]
        .concat();
        let vocabulary = Vocabulary::read(&self.origin.folder)?;
        for warning in wording::warnings(&texts, &self.origin.embeddings, &vocabulary) {
            observer.warn(&warning);
        }
        Ok(())
    }

    /// The half that guidance leads away from. As in diffusers, the negative prompt keeps all layers.
    fn unconditioned(
        &self,
        encoders: &Encoders,
        request: &Request,
        conditioned: &Half,
        observer: &mut dyn Observer,
    ) -> Result<Half, Error> {
        let zeros = self
            .config
            .added
            .is_some_and(|added| added.zeros_for_no_negative);
        let second = &request.added.second_negative_prompts;
        if zeros && request.negative_prompts.is_empty() && second.is_empty() {
            return Ok(Half {
                states: conditioned.states.zeros_like(),
                pooled: conditioned.pooled.as_ref().map(Tensor::zeros_like),
            });
        }
        let texts = [
            request.one_each(&request.negative_prompts),
            if second.is_empty() {
                Vec::new()
            } else {
                request.one_each(second)
            },
        ];
        self.half(encoders, &texts, 0, observer)
    }

    /// States of all encoders side by side, and the last one's pooled text. An encoder without texts of its own reads the first's.
    fn half(
        &self,
        encoders: &Encoders,
        texts: &[Vec<&str>; 2],
        clip_skip: usize,
        observer: &mut dyn Observer,
    ) -> Result<Half, Error> {
        let mut states = Vec::new();
        let mut pooled = None;
        for (encoder, own) in encoders.iter().zip(texts) {
            let own = if own.is_empty() { &texts[0] } else { own };
            let context = match self.config.added {
                Some(_) => encoder.encode_pooled(own, clip_skip)?,
                None => encoder.encode(own, clip_skip)?,
            };
            self.report(&context.cut, Beside::Nothing, observer);
            states.push(context.states);
            pooled = context.pooled;
        }
        Ok(Half {
            states: Tensor::cat(states, 2),
            pooled,
        })
    }

    /// What every encoder makes of its own texts, side by side.
    ///
    /// # Panics
    ///
    /// If there are fewer texts than encoders, or an encoder that makes no vector of a whole text.
    pub(super) fn summaries(
        &self,
        texts: &[&[&str]],
        clip_skip: usize,
        beside: Beside,
        observer: &mut dyn Observer,
    ) -> Result<Summaries, Error> {
        let (mut states, mut pooled) = (Vec::new(), Vec::new());
        for (encoder, own) in self.encoders()?.iter().zip(texts) {
            let context = encoder.encode_pooled(own, clip_skip)?;
            self.report(&context.cut, beside, observer);
            states.push(context.states);
            pooled.extend(context.pooled);
        }
        Ok(Summaries {
            states: Tensor::cat(states, 2),
            pooled: Tensor::cat(pooled, 1),
        })
    }

    fn report(&self, cut: &[Option<String>], beside: Beside, observer: &mut dyn Observer) {
        let tokens = self.config.tokens();
        for cut in cut.iter().flatten() {
            let cut = shortened(cut);
            observer.warn(&match beside {
                Beside::Nothing => {
                    format!("the model reads {tokens} tokens of a prompt; cut off was `{cut}`")
                }
                Beside::Sentences => format!(
                    "CLIP reads {tokens} tokens of a prompt, which T5 reads as well; cut off for CLIP alone was `{cut}`"
                ),
            });
        }
    }
}

impl Source for Prompts {
    fn conditioning(
        &self,
        asked: &Asked<'_>,
        _noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error> {
        let Asked {
            request, resolved, ..
        } = *asked;
        self.warn(request, observer)?;
        let texts = [
            strings(request.subject.prompts()),
            strings(&request.added.second_prompts),
        ];
        let encoders = self.encoders()?;
        let conditioned = self.half(&encoders, &texts, request.clip_skip, observer)?;
        let halves = if resolved.guidance.is_on() {
            vec![
                self.unconditioned(&encoders, request, &conditioned, observer)?,
                conditioned,
            ]
        } else {
            vec![conditioned]
        };
        let states = halves
            .iter()
            .map(|half| repeat_each(half.states.clone(), request.batch));
        let mut conditioning = Conditioning {
            rows: resolved.rows,
            ..Conditioning::of_context(Tensor::cat(states.collect(), 0))
        };
        if let Some(inputs) = self.config.added {
            conditioning.pooled = pooled(&halves, request.batch);
            conditioning.numbers = numbers(&halves, request, inputs, asked.size);
        }
        Ok(conditioning)
    }

    fn holds(&self) -> bool {
        self.encoders.get().is_some()
    }

    fn release(&self) -> bool {
        self.encoders.release(&self.origin.device)
    }

    fn exchanged(&self, origin: Origin) -> Result<(Box<dyn Source>, Vec<String>), Error> {
        let (exchanged, notes) = self.with(origin)?;
        Ok((Box::new(exchanged), notes))
    }
}

impl Prompts {
    /// The same with other adapters, and what the user should know of them.
    pub(super) fn with(&self, origin: Origin) -> Result<(Self, Vec<String>), Error> {
        let (words, notes) = words(&origin.folder, &self.config, &origin.embeddings)?;
        let Some(loaded) = self.encoders.get() else {
            return Ok((Self::new(&self.config, origin, None), notes));
        };
        let storage = origin.storage()?;
        let encoders = self.config.encoders.iter().zip(loaded.iter()).zip(words);
        let encoders = encoders.map(|((encoder, loaded), words)| {
            let EncoderConfig { part, clip, .. } = encoder;
            let exchange = Exchange::of(part, &self.origin.merge, &origin.merge);
            let model = loaded.encoder().clone().with_learned(clip.vocabulary, &[]);
            let source = origin.folder.weights(part)?;
            let (new, names) = (&exchange.new, exchange.names());
            let model = reload(model, &source, part, storage, new, &names)?;
            Ok(words.joined(model, clip.vocabulary))
        });
        let encoders = encoders.collect::<Result<_, Error>>()?;
        Ok((Self::new(&self.config, origin, Some(encoders)), notes))
    }
}

/// The words of one text encoder: a tokenizer, and the vectors of what was learned.
struct Words {
    tokenizer: ClipTokenizer,
    rows: Vec<f32>,
}

impl Words {
    fn joined(self, model: ClipTextModel, vocabulary: usize) -> PromptEncoder<ClipTextModel> {
        PromptEncoder::new(self.tokenizer, model.with_learned(vocabulary, &self.rows))
    }
}

/// The words of all encoders, in their order; and what the user should know of those that are left out.
fn words(
    folder: &ModelFolder,
    config: &TextConfig,
    embeddings: &[Embedding],
) -> Result<(Vec<Words>, Vec<String>), Error> {
    let encoders = config.encoders.iter();
    let words = encoders.map(|encoder| {
        let files = folder.tokenizer_files(encoder.tokenizer)?;
        if let Some(file) = files.missing() {
            let (file, model) = (
                format!("{}/{file}", encoder.tokenizer),
                folder.name().to_owned(),
            );
            return Err(FileError::Missing { file, model }.into());
        }
        let mut tokenizer = ClipTokenizer::from_files(files.borrowed())?;
        tokenizer.check_rows(encoder.clip.vocabulary)?;
        tokenizer.fit_positions(encoder.clip.positions)?;
        let rows = Vec::new();
        Ok(Words { tokenizer, rows })
    });
    let mut words = words.collect::<Result<Vec<_>, Error>>()?;
    check_lengths(&words)?;
    let mut notes = Vec::new();
    for embedding in embeddings {
        match learn(config, embedding, &mut words) {
            Err(error) if embedding.is_bundled() => notes.push(left_out(embedding.token(), &error)),
            learned => learned?,
        }
    }
    Ok((words, notes))
}

/// States are joined token by token.
fn check_lengths(words: &[Words]) -> Result<(), ConfigError> {
    let lengths = words.iter().map(|words| words.tokenizer.length());
    let first = lengths.clone().next();
    match lengths.clone().find(|length| Some(*length) != first) {
        None => Ok(()),
        Some(other) => {
            let first = first.unwrap_or_default();
            let hint =
                format!("the other tokenizer's is {first}, and states are joined token by token");
            let key = "model_max_length";
            Err(ConfigError::unsupported(key, other, hint))
        }
    }
}

/// Has all encoders learn a word, or none.
fn learn(config: &TextConfig, embedding: &Embedding, words: &mut [Words]) -> Result<(), Error> {
    let encoders = config.encoders.iter();
    let count = encoders.len();
    let rows = encoders.map(|one| embedding.rows(one.part, count, one.clip.width));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    for words in words.iter() {
        words.tokenizer.check_new(embedding)?;
    }
    for ((words, rows), encoder) in words.iter_mut().zip(rows).zip(&config.encoders) {
        let learned = words.rows.len() / encoder.clip.width;
        let first = u32::try_from(encoder.clip.vocabulary + learned).unwrap_or(u32::MAX);
        let ids = first..first.saturating_add(rows.count() as u32);
        words.tokenizer.learn(embedding, ids)?;
        words.rows.extend(&rows.values);
    }
    Ok(())
}

/// Pooled texts of `halves`, `[rows, projection]`.
fn pooled(halves: &[Half], batch: usize) -> Option<Tensor<2>> {
    let pooled = halves
        .iter()
        .map(|half| Some(repeat_each(half.pooled.clone()?, batch)));
    Some(Tensor::cat(pooled.collect::<Option<Vec<_>>>()?, 0))
}

/// The numbers of `halves`, one entry a row.
fn numbers(
    halves: &[Half],
    request: &Request,
    inputs: AddedInputs,
    size: [usize; 2],
) -> Vec<Vec<f64>> {
    let numbers = request.added.halves(inputs.numbers, size);
    let (_, kept) = numbers.split_at(numbers.len() - halves.len());
    kept.iter()
        .flat_map(|row| std::iter::repeat_n(row.clone(), request.items()))
        .collect()
}

fn strings(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Every row `count` times in a row: a prompt's pictures stand together.
pub(super) fn repeat_each<const D: usize>(rows: Tensor<D>, count: usize) -> Tensor<D> {
    if count == 1 {
        return rows;
    }
    let last = i32::try_from(rows.dims()[0]).expect("rows of one batch");
    let sources = (0..last).flat_map(|row| std::iter::repeat_n(row, count));
    let sources = sources.collect::<Vec<i32>>();
    let sources = Tensor::<1, Int>::from_ints(sources.as_slice(), &rows.device());
    rows.select(0, sources)
}
