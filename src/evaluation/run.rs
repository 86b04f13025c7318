//! Making the pictures.

use std::iter::zip;
use std::time::Duration;

use super::method::Method;
use super::store::{Batch, Cost, Record, Store, fingerprint};
use super::study::{Sample, Shard};
use super::timing::turns;
use crate::denoise::Observer;
use crate::error::Error;
use crate::image_io::Picture;
use crate::metrics::{Asked, float_error};
use crate::pipeline::{Pipeline, Request, Seeds, Subject};

/// Pictures of a batch and what they took.
#[derive(Debug)]
pub struct Made {
    /// One a sample; of films all frames, those of a film one after the other.
    pub pictures: Vec<Picture>,
    /// Their values in 0 to 1 before they were rounded to bytes, picture by picture.
    pub values: Vec<f32>,
    /// The denoising loop.
    pub denoising: Duration,
    /// From what is asked for to the pixels.
    pub whole: Duration,
    /// Cells that ran, over all evaluations.
    pub cells: usize,
}

/// What makes pictures.
pub trait Maker {
    /// Makes a picture of each sample.
    ///
    /// # Errors
    ///
    /// If the method does not fit the model, the run is cancelled, or the device fails.
    fn make(&mut self, method: &Method, samples: &[Sample<'_>]) -> Result<Made, Error>;

    /// Where the pictures are made.
    fn device(&self) -> String;

    /// Whether it has made pictures before: kernels are compiled and tuned by the first.
    fn is_warm(&self) -> bool {
        false
    }
}

/// How far a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Batches that are there.
    pub done: usize,
    /// Batches of the shard.
    pub total: usize,
}

/// Makes the batches of a shard that are not there yet, and tells `progress` about each.
///
/// # Errors
///
/// As [`Maker::make`], and if a batch cannot be written. What was made before stays.
pub fn fill(
    store: &Store,
    shard: Shard,
    maker: &mut dyn Maker,
    mut progress: impl FnMut(Tally),
) -> Result<Tally, Error> {
    let batches: Vec<_> = shard.batches(store.study().batches()).collect();
    let missing: Vec<_> = batches
        .iter()
        .copied()
        .filter(|&batch| !store.has(batch))
        .collect();
    for (path, reason) in missing.iter().filter_map(|&batch| store.damage(batch)) {
        tracing::warn!(
            "a batch is damaged, and made anew: {reason}\nfile: {}",
            path.display()
        );
    }
    let mut tally = Tally {
        done: batches.len() - missing.len(),
        total: batches.len(),
    };
    progress(tally);
    for (round, batch) in missing.into_iter().enumerate() {
        // Another process over the same folder may have made it meanwhile.
        if !store.has(batch) {
            let warm = round > 0 || maker.is_warm();
            let made = make(store, batch, warm, maker)?;
            store.write(&made)?;
        }
        tally.done += 1;
        progress(tally);
    }
    Ok(tally)
}

/// One batch by every method, each batch beginning with another of them.
fn make(store: &Store, batch: usize, warm: bool, maker: &mut dyn Maker) -> Result<Batch, Error> {
    let study = store.study();
    let samples = study.samples_of(batch);
    let mut made: Vec<Option<Made>> = study.methods.iter().map(|_| None).collect();
    for method in turns(study.methods.len(), batch) {
        made[method] = Some(maker.make(&study.methods[method], &samples)?);
    }
    let made: Vec<Made> = made.into_iter().flatten().collect();
    let cost = |made: &Made| Cost {
        denoising: made.denoising.as_secs_f64(),
        whole: made.whole.as_secs_f64(),
        cells: made.cells,
    };
    let errors_to = |reference: &Made| -> Vec<_> {
        let errors = made.iter().map(|own| float_errors(reference, own));
        errors.collect()
    };
    Ok(Batch {
        record: Record {
            batch,
            study: fingerprint(study),
            device: maker.device(),
            warm,
            costs: made.iter().map(cost).collect(),
            float_errors: errors_to(&made[0]),
            converged_errors: study
                .converged()
                .map_or_else(Vec::new, |converged| errors_to(&made[converged])),
        },
        pictures: made.into_iter().map(|made| made.pictures).collect(),
    })
}

/// By picture, how far `own` is from `reference`.
fn float_errors(reference: &Made, own: &Made) -> Vec<f64> {
    let size = (reference.values.len() / reference.pictures.len().max(1)).max(1);
    let pairs = zip(reference.values.chunks(size), own.values.chunks(size));
    pairs.map(|(a, b)| float_error(a, b)).collect()
}

/// A loaded model as the maker of an evaluation.
#[derive(Debug)]
pub struct PipelineMaker<'a, O> {
    /// The model.
    pub pipeline: &'a Pipeline,
    /// The run, but for steps, rule, seeds and subjects.
    pub request: Request,
    /// What devices are called.
    pub device: String,
    /// Whether it has made pictures before.
    pub warm: bool,
    /// Watches every run, and can stop it.
    pub observer: O,
}

impl<O: Observer> Maker for PipelineMaker<'_, O> {
    fn make(&mut self, method: &Method, samples: &[Sample<'_>]) -> Result<Made, Error> {
        let mut request = Request {
            steps: Some(method.steps),
            cache: method.rule.parse()?,
            seeds: Seeds::Each(samples.iter().map(|sample| sample.seed).collect()),
            sampler: match &method.sampler {
                Some(sampler) => Some(sampler.parse()?),
                None => self.request.sampler,
            },
            ..self.request.clone()
        };
        ask(&mut request, samples);
        let generated = self.pipeline.generate(&request, &mut self.observer)?;
        let report = &generated.report;
        Ok(Made {
            denoising: report.denoising,
            whole: report.text + report.denoising + report.decoding,
            cells: report.account.cells.iter().sum(),
            values: generated.values()?,
            pictures: generated.pictures()?,
        })
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn is_warm(&self) -> bool {
        self.warm
    }
}

/// Puts what the samples show into a request.
fn ask(request: &mut Request, samples: &[Sample<'_>]) {
    let (mut prompts, mut labels) = (Vec::new(), Vec::new());
    for sample in samples {
        match sample.asked {
            Asked::Text(prompt) => prompts.push(prompt.to_owned()),
            Asked::Class(label, _) => labels.push(label),
            Asked::Nothing => {}
        }
    }
    (request.subject, request.batch) = match (prompts.is_empty(), labels.is_empty()) {
        (false, _) => (Subject::Prompts(prompts), 1),
        (true, false) => (Subject::Classes(labels), 1),
        (true, true) => (Subject::Nothing, samples.len()),
    };
}
