//! The models of a run in their order: one, or a base model and its refiner.

use std::time::{Duration, Instant};

use super::{
    args, cancel,
    job::{self, Facts, Machine, Model},
};
use crate::{
    catalog::Overrides,
    denoise::Observer,
    device::Workload,
    error::Error,
    pipeline::{Generated, Report, Request, Resolved, check_refiner},
};

/// Share of the noise that a base model takes away where the user is silent: what SDXL's authors use.
const REFINER_FROM: f64 = 0.8;

/// A model with its part of the request.
pub(super) struct Stage {
    pub(super) model: Model,
    pub(super) request: Request,
    pub(super) resolved: Resolved,
}

impl Stage {
    fn new(model: Model, request: Request) -> Result<Self, Error> {
        let resolved = request.resolve(&model.config)?;
        Ok(Self {
            model,
            request,
            resolved,
        })
    }
}

/// All models of a run, never none.
pub(super) struct Stages {
    first: Stage,
    refiner: Option<Stage>,
    from: f64,
}

impl Stages {
    /// Opens the refiner with `open`, if one is named, and checks everything that needs no weights.
    pub(super) fn new(
        model: Model,
        request: Request,
        asked: &args::Refiner,
        open: fn(Option<&str>, Overrides) -> Result<Model, Error>,
    ) -> Result<Self, Error> {
        let from = asked.refiner_from.unwrap_or(REFINER_FROM);
        let Some(name) = &asked.refiner else {
            let (first, refiner) = (Stage::new(model, request)?, None);
            return Ok(Self {
                first,
                refiner,
                from,
            });
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
        Ok(Self {
            first: Stage::new(model, begin)?,
            refiner: Some(Stage::new(refiner, finish)?),
            from,
        })
    }

    /// The model that begins, its request open to changes.
    pub(super) fn first_mut(&mut self) -> &mut Stage {
        &mut self.first
    }

    /// In the order they run.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stage> {
        std::iter::once(&self.first).chain(&self.refiner)
    }

    /// What is known of the run before its device is chosen.
    pub(super) fn workload(&self) -> Workload {
        let parts = self.iter().map(|stage| {
            let Stage {
                model,
                request,
                resolved,
            } = stage;
            job::workload(model, request, resolved)
        });
        let joined = parts.reduce(|one, other| Workload {
            name: format!("{}; {}", one.name, other.name),
            macs: one.macs + other.macs,
        });
        joined.expect("a run has at least one model")
    }

    /// What the run is called by.
    pub(super) fn facts(&self) -> Facts {
        let Stage {
            model,
            request,
            resolved,
        } = &self.first;
        let facts = Facts::new(model, request, resolved);
        match &self.refiner {
            Some(Stage {
                model, resolved, ..
            }) => facts.refined(model, resolved.plan.evaluations(), self.from),
            None => facts,
        }
    }

    /// Loads and runs one model after the other; a model is dropped before the next is read.
    pub(super) fn generate(
        &mut self,
        machine: &Machine,
        observer: &mut dyn Observer,
    ) -> Result<Made, Error> {
        let mut loading = Duration::ZERO;
        let mut reports = Vec::new();
        let last = match &mut self.refiner {
            Some(refiner) => {
                let pipeline = timed(&mut loading, || self.first.model.load(machine))?;
                let begun = pipeline.begin(&self.first.request, observer)?;
                reports.push(begun.report);
                refiner.request.initial_latents = Some(begun.latents);
                refiner
            }
            None => &mut self.first,
        };
        let pipeline = timed(&mut loading, || last.model.load(machine))?;
        let generated = pipeline.generate(&last.request, observer)?;
        reports.push(generated.report.clone());
        Ok(Made {
            generated,
            reports,
            loading,
        })
    }
}

/// Pictures, and how each model came to its part.
pub(super) struct Made {
    pub(super) generated: Generated,
    /// One a model.
    pub(super) reports: Vec<Report>,
    /// Reading all weights.
    pub(super) loading: Duration,
}

/// Adds to `total` what `load` takes.
fn timed<T>(total: &mut Duration, load: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let start = Instant::now();
    let loaded = load()?;
    *total += start.elapsed();
    cancel::check()?;
    Ok(loaded)
}
