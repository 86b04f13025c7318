//! Several models for one picture, one after the other: each takes over what the one before has left, with a plan and a store of its own.
//!
//! Source: Podell et al., SDXL (arXiv 2307.01952, section 2.5); behaviour as diffusers' `denoising_end` and `denoising_start`. Ho et al.,
//! "Cascaded Diffusion Models" (2106.15282), for pictures that are made larger.

use super::{Generated, LowPicture, ModelConfig, Pipeline, Report, Request, Resolved, Stage};
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

    /// In the order they run.
    pub fn links(&self) -> impl Iterator<Item = &Link<M>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Runs one model after the other as `load` gives them; each is dropped before the next is read.
    ///
    /// # Errors
    ///
    /// If a model cannot be loaded, the observer cancels, or the device fails.
    pub fn generate(
        &mut self,
        mut load: impl FnMut(&M) -> Result<Pipeline, Error>,
        observer: &mut dyn Observer,
    ) -> Result<Cascaded, Error> {
        let mut reports = Vec::new();
        let mut link = &mut self.first;
        for next in &mut self.others {
            let pipeline = load(&link.model)?;
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
        let generated = load(&link.model)?.generate(&link.request, observer)?;
        reports.push(generated.report.clone());
        Ok(Cascaded { generated, reports })
    }
}
