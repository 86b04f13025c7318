//! Runs whose sampler gets the reference's predictions in place of the model's own: latents and history are the reference's at every step.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

use afterimage::cache::Session;
use afterimage::conditioning::Conditioning;
use afterimage::denoise::{Denoise, Noise, Observer, Progress};
use afterimage::denoiser::{Evaluation, Rows, StagedDenoiser};
use afterimage::noise::NoiseLevel;
use afterimage::sampler::{History, Sampler};
use burn::tensor::Tensor;
use serde_json::Value;

use super::{Comparison, Part};
use crate::fixture::{Fixture, Reference};
use crate::tested;

/// The first steps of a case as the reference made them.
pub(crate) struct Steps {
    /// After guidance, `[steps, items, channels, height, width]`; of a batch perhaps the first items alone.
    pub(crate) predictions: Reference,
    /// In front of every step and after the last, or of the first step alone; of the same shape.
    pub(crate) samples: Option<Reference>,
    /// What went into the denoiser beside the latents and the fixture does not have as it was here, by name: `channels`, `prompt_embeds`.
    pub(crate) inputs: BTreeMap<&'static str, Reference>,
    /// Whether the case's own latents are of the same run; else they are of one on another machine.
    pub(crate) of_the_case: bool,
}

/// What a run is made of beside the denoiser and its condition.
pub(crate) struct Followed<'a> {
    /// Its sampler is the case's.
    pub(crate) denoise: Denoise<'a>,
    pub(crate) rows: Rows,
    /// What stochastic samplers draw, after the noise that the run starts from.
    pub(crate) noise: &'a mut dyn Noise,
    pub(crate) steps: &'a Steps,
}

impl Steps {
    fn count(&self) -> usize {
        self.predictions.shape[0]
    }

    /// Where the run starts: kept by itself where a picture was encoded, else the case's noise at the sampler's scale.
    fn start(&self, fixture: &Fixture, case: &Value, sampler: &dyn Sampler) -> Tensor<4> {
        let device = tested::device();
        if let Some(samples) = &self.samples {
            return samples.row(0).on(&device);
        }
        if let Some(scaled) = fixture.of(case, "initial_latents") {
            return scaled.on(&device);
        }
        let draw = |index: usize| {
            let name = case["tensors"]["draws"][index].as_str().unwrap();
            fixture.tensor(name).on::<4>(&device)
        };
        let noise = match (fixture.of(case, "initial_noise"), &case["call"]["seed"]) {
            // A draw for every item.
            (_, Value::Array(seeds)) => Tensor::cat((0..seeds.len()).map(draw).collect(), 0),
            (Some(noise), _) => noise.on(&device),
            (None, _) => draw(0),
        };
        noise * sampler.initial_noise_scale()
    }
}

impl Followed<'_> {
    /// Runs the steps there are, and compares every prediction, and the latents that the case has behind a step.
    pub(crate) fn check<D: StagedDenoiser + ?Sized>(
        self,
        denoiser: &D,
        condition: &Conditioning,
        fixture: &Fixture,
        case: &Value,
        comparison: &mut Comparison<'_>,
    ) -> Result<(), String> {
        let start = self.steps.start(fixture, case, self.denoise.sampler);
        let (count, of_the_case) = (self.steps.count(), self.steps.of_the_case);
        let found = self.run(denoiser, condition, start)?;
        assert!(found.len() >= count, "{} of {count} steps", found.len());
        for (index, step) in found.iter().take(count).enumerate() {
            let (golden, found) = shared_part(&step.reference, step.prediction.clone());
            let name = format!("prediction.{index}");
            comparison.check(Part::Predictions, name, &golden, found)?;
        }
        let golden = fixture.latents(case, "latents");
        let Some(golden) = golden.filter(|_| of_the_case) else {
            return Ok(());
        };
        for (row, kept) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
            let kept = kept.as_u64().unwrap() as usize;
            if kept < count {
                let (golden, found) = shared_part(&golden.row(row), found[kept].latents.clone());
                comparison.check(Part::Latents, format!("latents.{kept}"), &golden, found)?;
            }
        }
        Ok(())
    }

    fn run<D: StagedDenoiser + ?Sized>(
        self,
        denoiser: &D,
        condition: &Conditioning,
        start: Tensor<4>,
    ) -> Result<Vec<Step>, String> {
        let sampler = Taught {
            sampler: self.denoise.sampler,
            steps: self.steps,
            found: Mutex::default(),
        };
        let plan = self.denoise.plan;
        let run = denoiser.start(condition, sampler.evaluations());
        let mut session = Session::new(denoiser, &run, plan, self.rows);
        let denoise = Denoise {
            sampler: &sampler,
            ..self.denoise
        };
        let mut until = Until(self.steps.count());
        match denoise.run(&mut session, start, self.noise, &mut until) {
            Err(error) if !error.is_cancelled() => return Err(error.to_string()),
            _ => assert_eq!(session.account().fallbacks, 0),
        }
        drop(session);
        Ok(sampler.found.into_inner().unwrap())
    }
}

/// Both cut to the items and channels that they share: a reference may keep the first item, or both halves of guidance.
fn shared_part(golden: &Reference, found: Tensor<4>) -> (Reference, Tensor<4>) {
    let [items, channels, _, _] = found.dims();
    let items = items.min(golden.shape[0]);
    let found = found.narrow(0, 0, items);
    let channels = channels.min(golden.shape[1]);
    (golden.first(items), found.narrow(1, 0, channels))
}

/// Ends a run behind so many evaluations.
struct Until(usize);

impl Observer for Until {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        if progress.evaluation.index + 1 < self.0 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

#[derive(Debug)]
struct Step {
    prediction: Tensor<4>,
    reference: Reference,
    /// Behind the step, made of the reference's prediction.
    latents: Tensor<4>,
}

/// A sampler that goes on with the reference's predictions, and remembers the model's.
struct Taught<'a> {
    sampler: &'a dyn Sampler,
    steps: &'a Steps,
    found: Mutex<Vec<Step>>,
}

impl std::fmt::Debug for Taught<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sampler.fmt(formatter)
    }
}

impl Sampler for Taught<'_> {
    fn evaluations(&self) -> &[Evaluation] {
        self.sampler.evaluations()
    }

    fn solver_step(&self, evaluation: usize) -> usize {
        self.sampler.solver_step(evaluation)
    }

    fn noise_level(&self, evaluation: usize) -> NoiseLevel {
        self.sampler.noise_level(evaluation)
    }

    fn clean(&self, sample: Tensor<4>, prediction: Tensor<4>, evaluation: usize) -> Tensor<4> {
        self.sampler.clean(sample, prediction, evaluation)
    }

    fn initial_noise_scale(&self) -> f64 {
        self.sampler.initial_noise_scale()
    }

    fn scale_input(&self, sample: Tensor<4>, evaluation: usize) -> Tensor<4> {
        self.sampler.scale_input(sample, evaluation)
    }

    fn draws_noise(&self, evaluation: usize) -> bool {
        self.sampler.draws_noise(evaluation)
    }

    fn step(
        &self,
        history: &mut History,
        prediction: Tensor<4>,
        evaluation: usize,
        sample: Tensor<4>,
        noise: Option<Tensor<4>>,
    ) -> Tensor<4> {
        if evaluation >= self.steps.count() {
            return self
                .sampler
                .step(history, prediction, evaluation, sample, noise);
        }
        let reference = self.steps.predictions.row(evaluation);
        let taught = in_place(&reference, prediction.clone());
        let latents = self
            .sampler
            .step(history, taught, evaluation, sample, noise);
        self.found.lock().unwrap().push(Step {
            prediction,
            reference,
            latents: latents.clone(),
        });
        match &self.steps.samples {
            Some(samples) if samples.shape[0] > evaluation + 1 => {
                in_place(&samples.row(evaluation + 1), latents)
            }
            _ => latents,
        }
    }
}

/// The reference in place of the items that it has.
fn in_place(reference: &Reference, own: Tensor<4>) -> Tensor<4> {
    let all = own.dims()[0];
    let known = reference.first(all.min(reference.shape[0]));
    let [items, channels] = [known.shape[0], known.shape[1]];
    let known = known.on(&own.device());
    if items == all {
        return known;
    }
    let rest = own.narrow(0, items, all - items).narrow(1, 0, channels);
    Tensor::cat(vec![known, rest], 0)
}
