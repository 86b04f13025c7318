//! Several models for one picture, one after the other: each takes over what the one before has left, with a plan and a store of its own.
//!
//! Source: Podell et al., SDXL (arXiv 2307.01952, section 2.5); behaviour as diffusers' `denoising_end` and `denoising_start`. Ho et al.,
//! "Cascaded Diffusion Models" (2106.15282), for pictures that are made larger.

use std::borrow::Borrow;

use super::parts::is_guided;
use super::{
    Generated, LowPicture, ModelConfig, Pipeline, PromptEmbeds, Report, Request, Resolved, Stage,
};
use crate::denoise::Observer;
use crate::error::Error;

/// A model of a cascade, and its part of the request.
#[derive(Debug)]
pub struct Link<M> {
    /// What the caller loads it from.
    pub model: M,
    /// What it is asked for.
    pub request: Request,
    /// What that means for it.
    pub resolved: Resolved,
    /// Whether its prompts are read by the first model of the chain.
    shares_texts: bool,
}

impl<M> Link<M> {
    /// `model`, whose configuration is `config`, with its part of the request.
    ///
    /// # Errors
    ///
    /// If the request does not fit it.
    pub fn new(model: M, config: &ModelConfig, request: Request) -> Result<Self, Error> {
        let resolved = request.resolve(config)?;
        Ok(Self {
            model,
            request,
            resolved,
            shares_texts: config.shares_texts(),
        })
    }
}

/// Models that make a picture one after the other, never none. What one leaves to the next are latents, at the share of the noise that
/// [`Request::handed_over`] says; or its picture, to an upscaler whose request is [`Request::enlarged`].
#[derive(Debug)]
pub struct Cascade<M> {
    first: Link<M>,
    others: Vec<Link<M>>,
}

/// What a cascade has made.
#[derive(Debug)]
pub struct Cascaded {
    /// By the last model.
    pub generated: Generated,
    /// One a model.
    pub reports: Vec<Report>,
}

impl Pipeline {
    /// What the prompts of `request` say, where that can be read before a run ([`Request::prompt_embeds`]): those it has, or what the text
    /// encoder makes of its texts.
    ///
    /// # Errors
    ///
    /// If the encoder's weights cannot be read.
    pub fn prompt_embeds(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Option<PromptEmbeds>, Error> {
        let guided = is_guided(request, &self.config);
        self.source.embeds(request, guided, observer)
    }
}

impl<M> Cascade<M> {
    /// A single model.
    pub fn new(first: Link<M>) -> Self {
        Self {
            first,
            others: Vec::new(),
        }
    }

    /// With a model that goes on where the last one stops.
    #[must_use]
    pub fn followed_by(mut self, link: Link<M>) -> Self {
        self.others.push(link);
        self
    }

    /// The model that begins.
    pub fn first(&self) -> &Link<M> {
        &self.first
    }

    /// The same, its request open to changes.
    pub fn first_mut(&mut self) -> &mut Link<M> {
        &mut self.first
    }

    /// Has `read` encode the prompts of every model but of those that share the first one's, before any denoiser is in memory; it gives
    /// `None` for models that are to read texts in their runs.
    ///
    /// # Errors
    ///
    /// If `read` fails.
    pub fn read_texts(
        &mut self,
        mut read: impl FnMut(&M, &Request) -> Result<Option<PromptEmbeds>, Error>,
    ) -> Result<(), Error> {
        for link in self.links_mut().filter(|link| !link.shares_texts) {
            link.request.prompt_embeds = read(&link.model, &link.request)?;
        }
        Ok(())
    }

    /// In the order they run.
    pub fn links(&self) -> impl Iterator<Item = &Link<M>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The same, open to changes.
    pub fn links_mut(&mut self) -> impl Iterator<Item = &mut Link<M>> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Runs one model after the other as `load` gives them; each is dropped before the next is read. Prompts that several of them read alike
    /// are read once.
    ///
    /// # Errors
    ///
    /// If a model cannot be loaded, the observer cancels, or the device fails.
    pub fn generate<P: Borrow<Pipeline>>(
        &mut self,
        mut load: impl FnMut(&M) -> Result<P, Error>,
        observer: &mut dyn Observer,
    ) -> Result<Cascaded, Error> {
        let mut reports = Vec::new();
        let shared = self.others.iter().any(|link| link.shares_texts);
        let mut texts = None;
        let mut link = &mut self.first;
        for next in &mut self.others {
            let loaded = load(&link.model)?;
            let pipeline = loaded.borrow();
            if shared && texts.is_none() {
                texts = pipeline.prompt_embeds(&link.request, observer)?;
                link.request.prompt_embeds.clone_from(&texts);
            }
            if next.shares_texts {
                next.request.prompt_embeds.clone_from(&texts);
            }
            if matches!(next.request.stage, Stage::Finish { .. }) {
                let begun = pipeline.begin(&link.request, observer)?;
                reports.push(begun.report);
                next.request.initial_latents = Some(begun.latents);
            } else {
                let made = pipeline.generate(&link.request, observer)?;
                reports.push(made.report);
                next.request.low = Some(LowPicture::new(made.images)?);
            }
            link = next;
        }
        let last = load(&link.model)?;
        let generated = last.borrow().generate(&link.request, observer)?;
        reports.push(generated.report.clone());
        Ok(Cascaded { generated, reports })
    }
}
