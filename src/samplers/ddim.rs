//! DDIM.
//!
//! Source: Song et al., Denoising Diffusion Implicit Models (arXiv 2010.02502, equation 12; `eta` scales equation 16).

use burn::tensor::Tensor;

use super::config::SamplerConfig;
use super::steps::Steps;
use super::trajectory::{Input, Rule, Run, Trajectory};
use super::update::Update;
use crate::Error;
use crate::noise::{NoiseLevel, NoiseSchedule, Spacing};
use crate::sampler::{History, Sampler};

#[derive(Debug)]
struct Ddim {
    /// Over the clean sample (second newest output) and the noise (newest).
    updates: Vec<Update>,
}

pub(super) fn build(
    config: &SamplerConfig,
    steps: Steps,
    eta: f64,
) -> Result<Box<dyn Sampler>, Error> {
    let schedule = config.schedule()?;
    let timesteps = whole_timesteps(config, steps.total)?;
    let bars = schedule.alpha_bars();
    let listed = config.grid()?.spacing == Spacing::Quadratic;
    let previous = |index: usize| match timesteps.get(index + 1) {
        Some(next) if listed => bars[*next],
        // As in diffusers, whatever the next timestep is.
        _ => previous_alpha_bar(config, &schedule, timesteps[index], steps.total, true),
    };
    let updates = timesteps.iter().enumerate();
    let updates = updates.map(|(index, timestep)| update(bars[*timestep], previous(index), eta));
    let updates = updates.collect();
    let trajectory = trajectory(config, &schedule, &timesteps)?.joined_behind(steps.skipped);
    let rule = Ddim { updates };
    Ok(Box::new(Run { trajectory, rule }))
}

/// One evaluation at each of `timesteps`.
pub(super) fn trajectory(
    config: &SamplerConfig,
    schedule: &NoiseSchedule,
    timesteps: &[usize],
) -> Result<Trajectory, Error> {
    let level = |timestep: &usize| NoiseLevel::from_alpha_bar(schedule.alpha_bars()[*timestep]);
    let levels: Vec<NoiseLevel> = timesteps.iter().map(level).collect();
    let calls: Vec<f64> = timesteps.iter().map(|timestep| *timestep as f64).collect();
    let prediction = config.prediction_at(&levels)?;
    Ok(Trajectory::new(&calls, levels, prediction, config.clip()?))
}

/// The timesteps of samplers that look whole ones up in the schedule.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a closed grid lies within the schedule"
)]
pub(super) fn whole_timesteps(config: &SamplerConfig, steps: usize) -> Result<Vec<usize>, Error> {
    let timesteps = config.grid()?.closed(steps)?.into_iter();
    Ok(timesteps
        .map(|timestep| timestep.round_ties_even() as usize)
        .collect())
}

/// `alpha_bar` one whole stride below `timestep`; below 0 that of a clean sample, or of timestep 0 (`set_alpha_to_one`).
pub(super) fn previous_alpha_bar(
    config: &SamplerConfig,
    schedule: &NoiseSchedule,
    timestep: usize,
    steps: usize,
    ends_clean: bool,
) -> f64 {
    let bars = schedule.alpha_bars();
    match timestep.checked_sub(schedule.train_timesteps() / steps) {
        Some(previous) => bars[previous],
        None if config.json.set_alpha_to_one.unwrap_or(ends_clean) => 1.0,
        None => bars[0],
    }
}

fn update(bar: f64, previous: f64, eta: f64) -> Update {
    let variance = (1.0 - previous) / (1.0 - bar) * (1.0 - bar / previous);
    let deviation = eta * variance.sqrt();
    let direction = (1.0 - previous - deviation * deviation).max(0.0).sqrt();
    Update {
        sample: 0.0,
        outputs: vec![direction, previous.sqrt()],
        noise: deviation,
    }
}

impl Rule for Ddim {
    fn draws_noise(&self, _evaluation: usize) -> bool {
        // At every step or at none, also where the weight happens to be 0: the stream goes on as in diffusers.
        self.updates.iter().any(|update| update.noise > 0.0)
    }

    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        // The direction is the model's own noise even where clipping moves the clean sample.
        let outputs = [trajectory.data(&input), trajectory.raw_noise(&input)];
        self.updates[input.evaluation].apply(input.sample, &outputs, input.noise)
    }
}
