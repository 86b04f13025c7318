//! The models of a run in their order: one, or a base model and its refiner; and those that make the picture larger.

use std::{
    borrow::Borrow,
    time::{Duration, Instant},
};

use super::{
    cancel::Cancel,
    facts::Facts,
    listener::Listener,
    machine::Machine,
    model::{self, Model, Reading},
};
use crate::{
    cache::Account,
    catalog::Overrides,
    denoise::Observer,
    device::Workload,
    error::{Error, RequestError},
    pipeline::{self, Cascade, Generated, Link, Pipeline, Report, Request, check_refiner},
};

/// Share of the noise that a base model takes away where the user is silent: what SDXL's authors use.
const REFINER_FROM: f64 = 0.8;

/// A share of the noise is named for no refiner.
pub(crate) fn no_refiner() -> RequestError {
    RequestError::Without {
        option: "--refiner-from",
        what: "a refiner",
        needed: "--refiner",
    }
}

/// A model with its part of the request.
pub(crate) type Stage = Link<Model>;

/// The models after the first, by their names.
pub(crate) struct Others<'a> {
    pub(crate) refiner: Option<&'a str>,
    /// The user's word on [`REFINER_FROM`].
    pub(crate) refiner_from: Option<f64>,
    /// Each with the level of its noise; a silent one is the model's own.
    pub(crate) upscalers: Vec<(&'a str, Option<usize>)>,
}

/// All models of a run, never none.
#[derive(Debug)]
pub(crate) struct Stages {
    cascade: Cascade<Model>,
    from: f64,
}

impl Stages {
    /// Opens the others, and checks everything that needs no weights.
    pub(crate) fn new(
        model: Model,
        request: Request,
        others: &Others<'_>,
        reading: Reading,
        listener: &mut dyn Listener,
    ) -> Result<Self, Error> {
        if model.config.shares_texts() {
            return Err(RequestError::NoTextEncoder.into());
        }
        let shown = request.clone();
        let mut stages = Self::refined(model, request, others, reading, listener)?;
        for &(name, level) in &others.upscalers {
            let said = Overrides::default();
            let model = Model::open(Some(name), said, reading, listener)?;
            stages = stages.enlarged(&shown, model, level, listener)?;
        }
        Ok(stages)
    }

    /// With a model that makes larger what the last one makes of `shown`.
    fn enlarged(
        self,
        shown: &Request,
        mut model: Model,
        level: Option<usize>,
        listener: &mut dyn Listener,
    ) -> Result<Self, Error> {
        if self.first().resolved.rows.frames > 1 {
            return Err(RequestError::NotOfFilms { option: "upscaler" }.into());
        }
        let first = &self.first().model;
        let read = (&first.config, &first.folder);
        model.config.share_texts(&model.folder, read)?;
        let [height, width] = self.size();
        let request = shown.enlarged(&model.config, (width, height), level)?;
        let cascade = self.cascade.followed_by(link(model, request, listener)?);
        Ok(Self { cascade, ..self })
    }

    /// Height and width in pixels of what the last model makes.
    pub(crate) fn size(&self) -> [usize; 2] {
        let last = self.iter().last().unwrap_or(self.first());
        last.resolved.size
    }

    /// The base model, and its refiner if one is named.
    fn refined(
        model: Model,
        request: Request,
        others: &Others<'_>,
        reading: Reading,
        listener: &mut dyn Listener,
    ) -> Result<Self, Error> {
        let from = others.refiner_from.unwrap_or(REFINER_FROM);
        let Some(name) = others.refiner else {
            if others.refiner_from.is_some() {
                return Err(no_refiner().into());
            }
            let cascade = Cascade::new(link(model, request, listener)?);
            return Ok(Self { cascade, from });
        };
        let [begin, finish] = request.handed_over(from, &model.config)?;
        // The refiner makes the pictures of the latents; what it predicts is its own affair.
        let said = Overrides {
            prediction: None,
            ..model.said.clone()
        };
        let mut refiner = Model::open(Some(name), said, reading, listener)?;
        check_refiner(&model.config, &refiner.config)?;
        refiner.config.sampler = model.config.sampler.clone();
        // Learned words are in the prompt of both; weights of the base model fit no refiner.
        let words = &model.adapters.embeddings;
        refiner.adapters.embeddings.clone_from(words);
        let begin = link(model, begin, listener)?;
        let cascade = Cascade::new(begin).followed_by(link(refiner, finish, listener)?);
        Ok(Self { cascade, from })
    }

    /// Picks what of every model is to be in memory at a time.
    pub(crate) fn arrange(
        &mut self,
        machine: &Machine,
        listener: &mut dyn Listener,
    ) -> Result<(), Error> {
        machine.check_streaming(self.iter().map(|stage| &stage.model.config), listener);
        for stage in self.cascade.links_mut() {
            let run = (&stage.request, &stage.resolved);
            stage.model.arrange(machine, run, listener)?;
        }
        Ok(())
    }

    /// The model that begins.
    pub(crate) fn first(&self) -> &Stage {
        self.cascade.first()
    }

    /// The model that begins, its request open to changes.
    pub(crate) fn first_mut(&mut self) -> &mut Stage {
        self.cascade.first_mut()
    }

    /// Has finished latents that are kept keep `texts` beside them: what their pictures would.
    #[cfg(feature = "cli")]
    pub(crate) fn keep_texts(&mut self, texts: &[(String, String)]) {
        let links = self.cascade.links_mut();
        for rescue in links.filter_map(|link| link.request.rescue.as_mut()) {
            rescue.texts = texts.to_vec();
        }
    }

    /// Share of the noise that the first model takes away before a refiner.
    pub(crate) fn handed_over_at(&self) -> f64 {
        self.from
    }

    /// In the order they run.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stage> {
        self.cascade.links()
    }

    /// What is known of the run before its device is chosen.
    pub(crate) fn workload(&self) -> Workload {
        let parts = self.iter().map(|stage| {
            let Stage {
                model,
                request,
                resolved,
                ..
            } = stage;
            model::workload(model, request, resolved)
        });
        let joined = parts.reduce(|one, other| Workload {
            name: format!("{}; {}", one.name, other.name),
            macs: one.macs.saturating_add(other.macs),
        });
        joined.expect("a run has at least one model")
    }

    /// What the run is called by.
    pub(crate) fn facts(&self) -> Facts {
        let Stage {
            model,
            request,
            resolved,
            ..
        } = self.cascade.first();
        let facts = Facts::new(model, request, resolved);
        let others = self.iter().skip(1);
        others.fold(facts, |facts, link| {
            let evaluations = link.resolved.evaluations();
            match link.request.stage {
                pipeline::Stage::Finish { .. } => {
                    facts.refined(&link.model, evaluations, self.from)
                }
                _ => facts.enlarged(&link.model, evaluations, &link.resolved),
            }
        })
    }

    /// Runs one model after the other as `load` gives them; a model is dropped before the next is read.
    pub(crate) fn generate<P: Borrow<Pipeline>>(
        &mut self,
        machine: &Machine,
        cancel: &Cancel,
        mut load: impl FnMut(&Model) -> Result<P, Error>,
        observer: &mut dyn Observer,
    ) -> Result<Made, Error> {
        let mut loading = Duration::ZERO;
        let read = |model: &Model, request: &Request| {
            timed(&mut loading, cancel, || {
                model.read_texts(machine, request, observer)
            })
        };
        self.cascade.read_texts(read)?;
        let load = |model: &Model| timed(&mut loading, cancel, || load(model));
        let made = self.cascade.generate(load, observer)?;
        Ok(Made {
            generated: made.generated,
            reports: made.reports,
            loading,
        })
    }
}

fn link(model: Model, request: Request, listener: &mut dyn Listener) -> Result<Stage, Error> {
    let config = model.config.clone();
    let (request, picked) = request.settled(&config)?;
    if let Some(picked) = &picked {
        listener.note(picked);
    }
    Link::new(model, &config, request.into_owned())
}

/// Pictures, and how each model came to its part.
pub(crate) struct Made {
    pub(crate) generated: Generated,
    /// One a model.
    pub(crate) reports: Vec<Report>,
    /// Reading all weights.
    pub(crate) loading: Duration,
}

impl Made {
    /// What was computed, evaluations counted over all models.
    pub(crate) fn computed(&self) -> Account {
        let accounts = self.reports.iter().map(|report| &report.account);
        accounts.fold(Account::default(), Account::followed_by)
    }
}

/// Adds to `total` what `load` takes.
fn timed<T>(
    total: &mut Duration,
    cancel: &Cancel,
    load: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let start = Instant::now();
    let loaded = load()?;
    *total += start.elapsed();
    cancel.check()?;
    Ok(loaded)
}
