//! The second-order solver of k-diffusion: a step to the middle of the logarithm of sigma, and the whole step by the derivative
//! there: `x_m = x + (σ_m - σ)·ε`, `x' = x + (σ' - σ)·ε(x_m)`, with `σ_m = √(σ·σ')`.
//!
//! Source: Lu et al., DPM-Solver (arXiv 2206.00927, algorithm 1: DPM-Solver-2, whose middle lies halfway in lambda), written in the
//! sigmas of Karras et al. (2206.00364, algorithm 2); known from k-diffusion's `sample_dpm_2`. Behaviour as diffusers'
//! `KDPM2DiscreteScheduler`.

use burn::tensor::Tensor;

use crate::Error;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    json::Key,
    settings::{Defaults, Settings},
    sigmas::{SigmaTable, exploding, scheduled},
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) const KNOWS: &[Key] = &[Key::Spacing, Key::Sigmas, Key::SigmaEnds];

pub(super) static CLASS: Class = Class {
    names: &["KDPM2DiscreteScheduler"],
    words: &[Word::plain("dpm2")],
    knows: KNOWS,
    defaults: Defaults::LATENT_ENDS,
    build,
};

/// A step whose second evaluation lies in its middle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Halved {
    pub(super) from: f64,
    pub(super) middle: f64,
    /// Where the derivative leads.
    pub(super) to: f64,
    /// Weight of the noise added there.
    pub(super) noise: f64,
}

/// By evaluation: steps to the middle and whole steps, from the sample before the middle, in turn; the last step, onto sigma 0, has
/// one evaluation alone.
#[derive(Debug)]
pub(super) struct TwoStages {
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    two_stages(settings, steps, |from, to| Halved {
        from,
        middle: (from * to).sqrt(),
        to,
        noise: 0.0,
    })
}

/// The sampler whose steps `halve` describes.
pub(super) fn two_stages(
    settings: &Settings,
    steps: Steps,
    halve: fn(f64, f64) -> Halved,
) -> Result<Box<dyn Sampler>, Error> {
    let mut table = exploding(settings, steps.total)?;
    if settings.json.use_karras_sigmas == Some(true) {
        // Those of the middles stay fractional.
        let whole = |timestep: &mut f64| *timestep = timestep.round_ties_even();
        table.timesteps.iter_mut().for_each(whole);
    }
    let halves = table.sigmas.windows(2).map(|pair| halve(pair[0], pair[1]));
    let halves: Vec<Halved> = halves.collect();
    let rule = TwoStages::over(&halves);
    let middles: Vec<f64> = halves.iter().map(|step| step.middle).collect();
    let trajectory = interleaved(settings, &table, &middles[..steps.total - 1])?
        .trajectory(settings, NoiseLevel::exploding)?
        .joined_after(2 * steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

/// The points of the table with the middles between them.
fn interleaved(
    settings: &Settings,
    table: &SigmaTable,
    middles: &[f64],
) -> Result<SigmaTable, Error> {
    let between = scheduled(settings, middles)?;
    let mixed = |points: &[f64], middles: &[f64]| -> Vec<f64> {
        let (first, rest) = points.split_at(1);
        let pairs = middles
            .iter()
            .zip(rest)
            .flat_map(|(middle, point)| [*middle, *point]);
        first.iter().copied().chain(pairs).collect()
    };
    let (points, last) = table.sigmas.split_at(table.timesteps.len());
    let mut sigmas = mixed(points, middles);
    sigmas.extend(last);
    Ok(SigmaTable {
        timesteps: mixed(&table.timesteps, &between),
        sigmas,
        initial: table.initial,
    })
}

impl TwoStages {
    fn over(steps: &[Halved]) -> Self {
        let update = |stride: f64, noise: f64| Update {
            sample: 1.0,
            outputs: vec![stride],
            noise,
        };
        let stages = |step: &Halved| {
            [
                update(step.middle - step.from, 0.0),
                update(step.to - step.from, step.noise),
            ]
        };
        let mut updates: Vec<Update> = steps.iter().flat_map(stages).collect();
        // The middle of the last step is its end.
        updates.pop();
        Self { updates }
    }
}

fn is_second(evaluation: usize) -> bool {
    evaluation % 2 == 1
}

impl Rule for TwoStages {
    fn solver_step(&self, evaluation: usize) -> usize {
        evaluation / 2
    }

    fn draws_noise(&self, evaluation: usize) -> bool {
        self.updates[evaluation].noise != 0.0
    }

    fn step(&self, trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4> {
        let derivative = trajectory.noise(&input);
        let kept = history.sample.take();
        let kept = kept.filter(|_| is_second(input.evaluation));
        let start = kept.unwrap_or(input.sample);
        let update = &self.updates[input.evaluation];
        let next = update.apply(start.clone(), &[derivative], input.noise);
        if !is_second(input.evaluation) {
            history.sample = Some(start);
        }
        next
    }
}
