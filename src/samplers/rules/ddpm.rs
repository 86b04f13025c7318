//! Ancestral sampling of DDPM: `x' = √ᾱ'·β/(1 - ᾱ)·x0 + √α·(1 - ᾱ')/(1 - ᾱ)·x + s·z`, with `α = ᾱ/ᾱ'`, `β = 1 - α` and the variance
//! `s²` fixed or learned.
//!
//! Source: Ho et al., Denoising Diffusion Probabilistic Models (arXiv 2006.11239, equations 6 and 7, variances of section 3.2);
//! Nichol and Dhariwal, Improved DDPM (2102.09672, equation 15: learned variance, and section 4: strided timesteps).

use burn::tensor::Tensor;

use crate::Error;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    discrete::{trajectory, whole_timesteps},
    json::Key,
    settings::{Defaults, Settings, choose},
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["DDPMScheduler", "DDPMParallelScheduler"],
    words: &[Word::plain("ddpm")],
    knows: &[
        Key::Spacing,
        Key::ZeroSnr,
        Key::ClipSample,
        Key::Thresholding,
    ],
    defaults: Defaults::PIXELS,
    build,
};

/// Smallest variance whose logarithm is taken.
const SMALLEST_VARIANCE: f64 = 1e-20;

/// The variance of the fresh noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variance {
    /// Of the posterior given a fixed picture.
    Small,
    /// Beta.
    Large,
    /// Between the two, in logarithms, as the network says.
    LearnedRange,
}

#[derive(Debug)]
struct Ddpm {
    variance: Variance,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    /// Over the clean sample; its noise weight is that of a fixed variance.
    update: Update,
    draws: bool,
    /// Logarithms of the posterior variance and of beta.
    log_range: (f64, f64),
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let schedule = settings.schedule()?;
    let variance = variance(settings)?;
    let timesteps = whole_timesteps(settings, steps.total)?;
    let bar = |timestep: &usize| schedule.alpha_bars()[*timestep];
    let bars: Vec<f64> = timesteps.iter().map(bar).collect();
    let previous = bars.iter().skip(1).copied().chain([1.0]);
    let places = timesteps.iter().zip(&bars).zip(previous);
    let places = places
        .map(|((timestep, bar), previous)| Step::new(*bar, previous, *timestep > 0, variance));
    let rule = Ddpm {
        variance,
        steps: places.collect(),
    };
    let trajectory = trajectory(settings, &schedule, &timesteps, settings.clip()?)?;
    let trajectory = trajectory.joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

fn variance(settings: &Settings) -> Result<Variance, Error> {
    let value = settings
        .json
        .variance_type
        .as_deref()
        .unwrap_or("fixed_small");
    let choices = [
        ("fixed_small", Variance::Small),
        ("fixed_small_log", Variance::Small),
        ("fixed_large", Variance::Large),
        ("learned_range", Variance::LearnedRange),
    ];
    Ok(choose("variance_type", value, &choices)?)
}

impl Step {
    fn new(bar: f64, previous: f64, draws: bool, variance: Variance) -> Self {
        let alpha = bar / previous;
        let beta = 1.0 - alpha;
        let small = ((1.0 - previous) / (1.0 - bar) * beta).max(SMALLEST_VARIANCE);
        let fixed = match variance {
            Variance::Large => beta,
            Variance::Small | Variance::LearnedRange => small,
        };
        Self {
            update: Update {
                sample: alpha.sqrt() * (1.0 - previous) / (1.0 - bar),
                outputs: vec![previous.sqrt() * beta / (1.0 - bar)],
                noise: if draws { fixed.sqrt() } else { 0.0 },
            },
            draws,
            log_range: (small.ln(), beta.ln()),
        }
    }

    /// Standard normal noise, scaled so that the update's fixed deviation makes it the learned one.
    fn shape_noise(&self, noise: Tensor<4>, learned: Tensor<4>) -> Tensor<4> {
        let (small, large) = self.log_range;
        // 2102.09672, equation 15, with the network's output in [-1, 1]; halved for the deviation.
        let above_small = (learned + 1.0).mul_scalar((large - small) / 4.0);
        noise * above_small.exp()
    }
}

impl Rule for Ddpm {
    fn draws_noise(&self, evaluation: usize) -> bool {
        self.steps[evaluation].draws
    }

    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        let step = &self.steps[input.evaluation];
        let data = trajectory.data(&input);
        let learned = input
            .learned_variance()
            .filter(|_| self.variance == Variance::LearnedRange);
        let noise = match (input.noise, learned) {
            (Some(noise), Some(learned)) => Some(step.shape_noise(noise, learned)),
            (noise, _) => noise,
        };
        step.update.apply(input.sample, &[data], noise)
    }
}
