//! Euler's method with ancestral noise: every step goes below its sigma and comes back up with fresh noise:
//! `x' = x + (σ_down - σ)·ε + σ_up·z`, with `σ_up = σ'·√(σ² - σ'²)/σ` and `σ_down = √(σ'² - σ_up²)`.
//!
//! Source: Karras et al. (arXiv 2206.00364, section 4) for the deterministic part; the split of a step into `down` and `up` is
//! the posterior of DDPM (2006.11239, equation 7) written in sigmas, known from k-diffusion's `sample_euler_ancestral`.

use burn::tensor::Tensor;

use crate::Error;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    json::Key,
    settings::{Defaults, Settings},
    sigmas::exploding,
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["EulerAncestralDiscreteScheduler"],
    words: &[Word::plain("euler-a")],
    knows: &[Key::Spacing, Key::ZeroSnr],
    defaults: Defaults::PLAIN,
    build,
};

#[derive(Debug)]
struct EulerAncestral {
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let table = exploding(settings, steps.total)?;
    let updates = table.sigmas.windows(2).map(|pair| update(pair[0], pair[1]));
    let rule = EulerAncestral {
        updates: updates.collect(),
    };
    let trajectory = table
        .trajectory(settings, NoiseLevel::exploding)?
        .joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

/// How far a step goes down by the derivative, and the weight of the noise that brings it back up.
pub(super) fn split(from: f64, to: f64) -> (f64, f64) {
    let up = to * (from * from - to * to).max(0.0).sqrt() / from;
    let down = (to * to - up * up).max(0.0).sqrt();
    (down, up)
}

fn update(from: f64, to: f64) -> Update {
    let (down, up) = split(from, to);
    Update {
        sample: 1.0,
        outputs: vec![down - from],
        noise: up,
    }
}

impl Rule for EulerAncestral {
    fn draws_noise(&self, _evaluation: usize) -> bool {
        // The last step has no use for it; the stream goes on as in diffusers.
        true
    }

    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        let derivative = trajectory.noise(&input);
        self.updates[input.evaluation].apply(input.sample, &[derivative], input.noise)
    }
}
