//! The models of a run in their order: one, or a base model and its refiner; and those that make the picture larger.

use std::time::{Duration, Instant};

use super::{
    cancel, console,
    job::{self, Facts, Machine, Model},
};
use crate::{
    cache::Account,
    catalog::Overrides,
    denoise::Observer,
    device::Workload,
    error::{Error, RequestError},
    pipeline::{self, Cascade, Generated, Link, Report, Request, check_refiner},
};

/// Share of the noise that a base model takes away where the user is silent: what SDXL's authors use.
const REFINER_FROM: f64 = 0.8;

/// A share of the noise is named for no refiner.
pub(super) fn no_refiner() -> RequestError {
    RequestError::Without {
        option: "--refiner-from",
        what: "a refiner",
        needed: "--refiner",
    }
}

/// A model with its part of the request.
pub(super) type Stage = Link<Model>;

/// Opens the models after the first.
type Open = fn(Option<&str>, Overrides) -> Result<Model, Error>;

/// The models after the first, by their names.
pub(super) struct Others<'a> {
    pub(super) refiner: Option<&'a str>,
    /// The user's word on [`REFINER_FROM`].
    pub(super) refiner_from: Option<f64>,
    /// Each with the level of its noise; a silent one is the model's own.
    pub(super) upscalers: Vec<(&'a str, Option<usize>)>,
}

/// All models of a run, never none.
pub(super) struct Stages {
    cascade: Cascade<Model>,
    from: f64,
}

impl Stages {
    /// Opens the others with `open`, and checks everything that needs no weights.
    pub(super) fn new(
        model: Model,
        request: Request,
        others: &Others<'_>,
        open: Open,
    ) -> Result<Self, Error> {
        if model.config.shares_texts() {
            return Err(RequestError::NoTextEncoder.into());
        }
        let shown = request.clone();
        let mut stages = Self::refined(model, request, others, open)?;
        for &(name, level) in &others.upscalers {
            stages = stages.enlarged(&shown, open(Some(name), Overrides::default())?, level)?;
        }
        Ok(stages)
    }

    /// With a model that makes larger what the last one makes of `shown`.
    fn enlarged(
        self,
        shown: &Request,
        mut model: Model,
        level: Option<usize>,
    ) -> Result<Self, Error> {
        if self.first().resolved.rows.frames > 1 {
            return Err(RequestError::NotOfFilms { option: "upscaler" }.into());
        }
        let first = &self.first().model;
        let read = (&first.config, &first.folder);
        model.config.share_texts(&model.folder, read)?;
        let request = shown.enlarged(&model.config, self.size(), level)?;
        let cascade = self.cascade.followed_by(link(model, request)?);
        Ok(Self { cascade, ..self })
    }

    /// Width and height of what the last model makes.
    fn size(&self) -> (usize, usize) {
        let last = self.iter().last().unwrap_or(self.first());
        let [height, width] = last.resolved.size;
        (width, height)
    }

    /// The base model, and its refiner if one is named.
    fn refined(
        model: Model,
        request: Request,
        others: &Others<'_>,
        open: Open,
    ) -> Result<Self, Error> {
        let from = others.refiner_from.unwrap_or(REFINER_FROM);
        let Some(name) = others.refiner else {
            if others.refiner_from.is_some() {
                return Err(no_refiner().into());
            }
            let cascade = Cascade::new(link(model, request)?);
            return Ok(Self { cascade, from });
        };
        let [begin, finish] = request.handed_over(from, &model.config)?;
        // The refiner makes the pictures of the latents; what it predicts is its own affair.
        let said = Overrides {
            prediction: None,
            ..model.said.clone()
        };
        let mut refiner = open(Some(name), said)?;
        check_refiner(&model.config, &refiner.config)?;
        refiner.config.sampler = model.config.sampler.clone();
        // Learned words are in the prompt of both; weights of the base model fit no refiner.
        let words = &model.adapters.embeddings;
        refiner.adapters.embeddings.clone_from(words);
        let cascade = Cascade::new(link(model, begin)?).followed_by(link(refiner, finish)?);
        Ok(Self { cascade, from })
    }

    /// The model that begins.
    pub(super) fn first(&self) -> &Stage {
        self.cascade.first()
    }

    /// The model that begins, its request open to changes.
    pub(super) fn first_mut(&mut self) -> &mut Stage {
        self.cascade.first_mut()
    }

    /// Share of the noise that the first model takes away before a refiner.
    pub(super) fn handed_over_at(&self) -> f64 {
        self.from
    }

    /// In the order they run.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stage> {
        self.cascade.links()
    }

    /// What is known of the run before its device is chosen.
    pub(super) fn workload(&self) -> Workload {
        let parts = self.iter().map(|stage| {
            let Stage {
                model,
                request,
                resolved,
                ..
            } = stage;
            job::workload(model, request, resolved)
        });
        let joined = parts.reduce(|one, other| Workload {
            name: format!("{}; {}", one.name, other.name),
            macs: one.macs.saturating_add(other.macs),
        });
        joined.expect("a run has at least one model")
    }

    /// What the run is called by.
    pub(super) fn facts(&self) -> Facts {
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

    /// Loads and runs one model after the other; a model is dropped before the next is read.
    pub(super) fn generate(
        &mut self,
        machine: &Machine,
        observer: &mut dyn Observer,
    ) -> Result<Made, Error> {
        let mut loading = Duration::ZERO;
        let read = |model: &Model, request: &Request| {
            timed(&mut loading, || {
                model.read_texts(machine, request, observer)
            })
        };
        self.cascade.read_texts(read)?;
        let load = |model: &Model| timed(&mut loading, || model.load(machine));
        let made = self.cascade.generate(load, observer)?;
        Ok(Made {
            generated: made.generated,
            reports: made.reports,
            loading,
        })
    }
}

fn link(model: Model, request: Request) -> Result<Stage, Error> {
    let config = model.config.clone();
    let (request, picked) = request.settled(&config)?;
    if let Some(picked) = &picked {
        console::note(picked);
    }
    Link::new(model, &config, request.into_owned())
}

/// Pictures, and how each model came to its part.
pub(super) struct Made {
    pub(super) generated: Generated,
    /// One a model.
    pub(super) reports: Vec<Report>,
    /// Reading all weights.
    pub(super) loading: Duration,
}

impl Made {
    /// What was computed, evaluations counted over all models.
    pub(super) fn computed(&self) -> Account {
        let accounts = self.reports.iter().map(|report| &report.account);
        accounts.fold(Account::default(), Account::followed_by)
    }
}

/// Adds to `total` what `load` takes.
fn timed<T>(total: &mut Duration, load: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let start = Instant::now();
    let loaded = load()?;
    *total += start.elapsed();
    cancel::check()?;
    Ok(loaded)
}
