//! Trajectory consistency distillation: a jump along the trajectory to a cleaner timestep s than the next one, and noise back up:
//! `x' = √(ᾱ'/ᾱ_s)·(√ᾱ_s·x0 + √(1 - ᾱ_s)·ε) + √(1 - ᾱ'/ᾱ_s)·z`, with `s = ⌊(1 - γ)·t'⌋`; the last jump, to timestep 0, stays there.
//!
//! Source: Zheng et al., Trajectory Consistency Distillation (arXiv 2402.19159, algorithm 4: strategic stochastic sampling, section
//! 4.2). Gamma is `eta` here. Behaviour as diffusers' `TCDScheduler`, which clips nothing.

use burn::tensor::Tensor;

use crate::Error;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    discrete::{distilled_timesteps, trajectory},
    json::Key,
    settings::{Defaults, Settings},
    steps::Steps,
    trajectory::{Clip, Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["TCDScheduler"],
    words: &[Word::plain("tcd")],
    knows: &[Key::ZeroSnr],
    defaults: Defaults::LATENT,
    build,
};

#[derive(Debug)]
struct Tcd {
    stochastic: bool,
    /// Over the clean sample (second newest output) and the noise (newest).
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, gamma: f64) -> Result<Box<dyn Sampler>, Error> {
    let schedule = settings.schedule()?;
    let timesteps = distilled_timesteps(settings, steps.total)?;
    let bars = schedule.alpha_bars();
    let next = timesteps.iter().skip(1).map(|next| {
        // In f32, as in diffusers: the product can lie at a whole number.
        let between = ((1.0 - gamma) as f32 * *next as f32).floor() as usize;
        (bars[between], bars[*next])
    });
    let updates = next
        .chain([(bars[0], bars[0])])
        .map(|(between, next)| jump(between, next));
    let rule = Tcd {
        stochastic: gamma > 0.0,
        updates: updates.collect(),
    };
    let trajectory = trajectory(settings, &schedule, &timesteps, Clip::Off)?;
    let trajectory = trajectory.joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

/// To `alpha_bar` `between`, and back up to `next`.
fn jump(between: f64, next: f64) -> Update {
    let kept = next / between;
    Update {
        sample: 0.0,
        outputs: vec![(kept * (1.0 - between)).sqrt(), next.sqrt()],
        noise: (1.0 - kept).max(0.0).sqrt(),
    }
}

impl Rule for Tcd {
    fn draws_noise(&self, evaluation: usize) -> bool {
        self.stochastic && evaluation + 1 < self.updates.len()
    }

    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        let outputs = [trajectory.data(&input), trajectory.noise(&input)];
        self.updates[input.evaluation].apply(input.sample, &outputs, input.noise)
    }
}
