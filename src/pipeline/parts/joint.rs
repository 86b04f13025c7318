//! The prompt side of models that read prompts through CLIP and through T5.
//!
//! Source: Esser et al. (arXiv 2403.03206, section 4); behaviour as diffusers' `StableDiffusion3Pipeline`: texts are read as they stand,
//! padding is read too, and without an encoder of T5 its states are zeros.

use burn::tensor::{Device, Tensor};

use super::prompts::{Beside, Prompts, Worded, repeat_each};
use super::sentences::{Place, Reader};
use super::source::{Asked, Origin, Source};
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::Error;
use crate::pipeline::config::JointTextConfig;
use crate::pipeline::request::{PromptEmbeds, Request, SeededNoise};

/// Encoders of CLIP, in memory or not, and that of T5, which is read when the first prompt comes.
#[derive(Debug)]
pub(super) struct JointTexts {
    config: JointTextConfig,
    clip: Prompts,
    t5: Option<Reader>,
    device: Device,
    /// Whether T5 makes way for CLIP.
    apart: bool,
}

/// What one half of a guided condition is to say: texts of the first, second and third encoder. One without texts reads the first's.
struct Said<'t> {
    texts: [Vec<&'t str>; 3],
    clip_skip: usize,
}

/// One half of a guided condition, one row a prompt.
struct Half {
    /// `[prompts, tokens, width]`
    states: Tensor<3>,
    /// `[prompts, pooled width]`
    pooled: Tensor<2>,
}

impl Half {
    /// Both halves, from texts that were read before.
    fn read_before(embeds: PromptEmbeds) -> (Self, Option<Self>) {
        let [prompts, negative] = embeds.pooled.expect("such embeds are checked to have them");
        let half = |states, pooled| Self { states, pooled };
        let other = half(embeds.negative, negative);
        (half(embeds.prompts, prompts), Some(other))
    }
}

/// What is known of the encoders before weights are read: the words of CLIP, and how T5 cuts texts up.
pub(super) struct JointWorded {
    config: JointTextConfig,
    clip: Worded,
    t5: Option<Reader>,
    device: Device,
    apart: bool,
}

impl JointWorded {
    pub(super) fn read(config: &JointTextConfig, origin: Origin) -> Result<Self, Error> {
        Ok(Self {
            config: config.clone(),
            t5: reader(config, &origin)?,
            device: origin.device.clone(),
            apart: origin.arrangement.texts_first,
            clip: Worded::read(&config.clip, origin)?,
        })
    }

    /// Reads what CLIP needs; and gives what the user should know of adapters.
    pub(super) fn load(self) -> Result<(JointTexts, Vec<String>), Error> {
        let (clip, notes) = self.clip.load()?;
        let loaded = JointTexts {
            config: self.config,
            clip,
            t5: self.t5,
            device: self.device,
            apart: self.apart,
        };
        Ok((loaded, notes))
    }
}

impl JointTexts {
    /// What the encoders make of each half.
    fn halves(
        &self,
        halves: &[Said<'_>],
        length: Option<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Half>, Error> {
        let last = self.config.clip.encoders.len();
        // The larger encoder first: it may be given up before CLIP is read.
        let sentences = halves.iter().map(|half| {
            self.sentences(half.of(last), length, observer) // [prompts, tokens, width]
        });
        let sentences = sentences.collect::<Result<Vec<_>, Error>>()?;
        if let Some(t5) = self.t5.as_ref().filter(|_| self.apart) {
            t5.release();
        }
        let halves = halves.iter().zip(sentences);
        let halves = halves.map(|(half, sentences)| self.joined(half, sentences, observer));
        halves.collect()
    }

    /// Both halves of a request, or the one that is guided towards where nothing is guided away from.
    fn read(
        &self,
        request: &Request,
        guided: bool,
        observer: &mut dyn Observer,
    ) -> Result<(Half, Option<Half>), Error> {
        self.clip.warn(request, observer)?;
        let mut asked = vec![Said {
            texts: shown(request),
            clip_skip: request.clip_skip,
        }];
        // As in diffusers, negative prompts keep all layers.
        asked.extend(guided.then(|| Said {
            texts: avoided(request),
            clip_skip: 0,
        }));
        let halves = self.halves(&asked, request.text_length, observer)?;
        let mut halves = halves.into_iter();
        let conditioned = halves.next().expect("as many halves as were asked for");
        Ok((conditioned, halves.next()))
    }

    /// One half, of which T5 gave the `sentences`.
    fn joined(
        &self,
        half: &Said<'_>,
        sentences: Tensor<3>,
        observer: &mut dyn Observer,
    ) -> Result<Half, Error> {
        let encoders = 0..self.config.clip.encoders.len();
        let own: Vec<&[&str]> = encoders.map(|encoder| half.of(encoder)).collect();
        let beside = match self.t5 {
            Some(_) => Beside::Sentences,
            None => Beside::Nothing,
        };
        let read = self
            .clip
            .summaries(&own, half.clip_skip, beside, observer)?;
        let states = if self.config.joined {
            Tensor::cat(vec![widened(read.states, self.config.width), sentences], 1)
        } else {
            sentences
        };
        Ok(Half {
            states,
            pooled: read.pooled,
        })
    }

    fn sentences(
        &self,
        texts: &[&str],
        asked: Option<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Tensor<3>, Error> {
        let tokens = asked.unwrap_or(self.config.tokens);
        match &self.t5 {
            Some(reader) => Ok(reader.states(texts, tokens, observer)?.states),
            None => Ok(Tensor::zeros(
                [texts.len(), tokens, self.config.width],
                &self.device,
            )),
        }
    }
}

/// T5, where the model has it.
fn reader(config: &JointTextConfig, origin: &Origin) -> Result<Option<Reader>, Error> {
    let [part, tokenizer] = config.parts;
    let place = Place {
        part,
        tokenizer,
        as_it_stands: true,
    };
    let t5 = config.t5.clone();
    t5.map(|t5| Reader::new(t5, config.tokens, place, origin.clone()))
        .transpose()
}

impl<'t> Said<'t> {
    /// The texts of an encoder: its own, or where it has none those of the first. A single text that is empty is none, as in diffusers.
    fn of(&self, encoder: usize) -> &[&'t str] {
        match &self.texts[encoder][..] {
            [] | [""] => &self.texts[0],
            own => own,
        }
    }
}

/// `[rows, tokens, less]` filled up with zeros to `[rows, tokens, width]`.
fn widened(states: Tensor<3>, width: usize) -> Tensor<3> {
    let [rows, tokens, own] = states.dims();
    if own == width {
        return states;
    }
    let zeros = Tensor::zeros([rows, tokens, width - own], &states.device());
    Tensor::cat(vec![states, zeros], 2)
}

/// Texts of the three encoders that the pictures show.
fn shown(request: &Request) -> [Vec<&str>; 3] {
    let texts = [
        request.subject.prompts(),
        &request.added.second_prompts,
        &request.added.third_prompts,
    ];
    texts.map(|texts| texts.iter().map(String::as_str).collect())
}

/// Texts of the three encoders that they avoid.
fn avoided(request: &Request) -> [Vec<&str>; 3] {
    let added = &request.added;
    [
        request.one_each(&request.negative_prompts),
        each_said(request, &added.second_negative_prompts),
        each_said(request, &added.third_negative_prompts),
    ]
}

/// The text of every prompt among `texts`, if there are any.
fn each_said<'r>(request: &Request, texts: &'r [String]) -> Vec<&'r str> {
    if texts.is_empty() {
        return Vec::new();
    }
    request.one_each(texts)
}

impl Source for JointTexts {
    fn conditioning(
        &self,
        asked: &Asked<'_>,
        _noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error> {
        let (request, resolved) = (asked.request, asked.resolved);
        let guided = resolved.guidance.is_on();
        let (conditioned, other) = match request.prompt_embeds.clone() {
            Some(embeds) => Half::read_before(embeds),
            None => self.read(request, guided, observer)?,
        };
        let halves = match other.filter(|_| guided) {
            Some(other) => resolved.guidance.pair(vec![conditioned], vec![other]),
            None => vec![conditioned],
        };
        let (mut states, mut pooled) = (Vec::new(), Vec::new());
        for half in halves {
            states.push(repeat_each(half.states, request.batch));
            pooled.push(repeat_each(half.pooled, request.batch));
        }
        Ok(Conditioning {
            rows: resolved.rows,
            pooled: Some(Tensor::cat(pooled, 0)),
            ..Conditioning::of_context(Tensor::cat(states, 0))
        })
    }

    fn embeds(
        &self,
        request: &Request,
        guided: bool,
        observer: &mut dyn Observer,
    ) -> Result<Option<PromptEmbeds>, Error> {
        let (prompts, negative) = self.read(request, guided, observer)?;
        let negative = negative.unwrap_or_else(|| Half {
            states: prompts.states.zeros_like(),
            pooled: prompts.pooled.zeros_like(),
        });
        Ok(Some(PromptEmbeds {
            prompts: prompts.states,
            negative: negative.states,
            pooled: Some([prompts.pooled, negative.pooled]),
            prompt_lengths: Vec::new(),
            negative_lengths: Vec::new(),
        }))
    }

    fn holds(&self) -> bool {
        let t5 = self.t5.as_ref().is_some_and(Reader::holds);
        t5 || self.clip.holds()
    }

    fn release(&self) -> bool {
        let t5 = self.t5.as_ref().is_some_and(Reader::release);
        let clip = self.clip.release();
        t5 || clip
    }

    fn exchanged(&self, origin: Origin) -> Result<(Box<dyn Source>, Vec<String>), Error> {
        let t5 = reader(&self.config, &origin)?;
        let (clip, notes) = self.clip.with(origin)?;
        let exchanged = Self {
            config: self.config.clone(),
            clip,
            t5,
            device: self.device.clone(),
            apart: self.apart,
        };
        Ok((Box::new(exchanged), notes))
    }
}
