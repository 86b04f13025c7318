//! Latent consistency models: a jump to the clean sample, noise up to the next level, another jump:
//! `x' = √ᾱ'·(c_skip·x + c_out·x0) + √(1 - ᾱ')·z`; the last jump stays where it arrives.
//!
//! Source: Luo et al., Latent Consistency Models (arXiv 2310.04378, algorithm 3 and section 4.3: the skipped timesteps; appendix: the
//! boundary condition, after Song et al., 2303.01469, appendix C). Behaviour as diffusers' `LCMScheduler`.

use burn::tensor::Tensor;

use crate::Error;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    discrete::{distilled_timesteps, trajectory},
    json::Key,
    settings::{Defaults, Settings},
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["LCMScheduler"],
    words: &[Word::plain("lcm")],
    knows: &[Key::ZeroSnr, Key::ClipSample, Key::Thresholding],
    defaults: Defaults::LATENT,
    build,
};

/// Standard deviation of the data in the boundary condition.
const DATA: f64 = 0.5;

#[derive(Debug)]
struct Lcm {
    /// Over the clean sample.
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let schedule = settings.schedule()?;
    let timesteps = distilled_timesteps(settings, steps.total)?;
    let scaling = settings.json.timestep_scaling.unwrap_or(10.0);
    let next = timesteps.iter().skip(1);
    let next = next.map(|next| NoiseLevel::from_alpha_bar(schedule.alpha_bars()[*next]));
    let arrival = NoiseLevel {
        alpha: 1.0,
        sigma: 0.0,
    };
    let jumps = timesteps.iter().zip(next.chain([arrival]));
    let updates = jumps.map(|(timestep, to)| jump(*timestep as f64 * scaling, to));
    let updates = updates.collect();
    let trajectory = trajectory(settings, &schedule, &timesteps, settings.clip()?)?;
    let trajectory = trajectory.joined_after(steps.skipped);
    let rule = Lcm { updates };
    Ok(Box::new(Run { trajectory, rule }))
}

/// The jump from a scaled timestep, and the noise of `to`.
fn jump(timestep: f64, to: NoiseLevel) -> Update {
    let spread = timestep.hypot(DATA);
    let (skip, output) = ((DATA / spread).powi(2), timestep / spread);
    Update {
        sample: to.alpha * skip,
        outputs: vec![to.alpha * output],
        noise: to.sigma,
    }
}

impl Rule for Lcm {
    fn draws_noise(&self, evaluation: usize) -> bool {
        evaluation + 1 < self.updates.len()
    }

    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        let data = trajectory.data(&input);
        self.updates[input.evaluation].apply(input.sample, &[data], input.noise)
    }
}
