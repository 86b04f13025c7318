//! Euler's method in sigma: `x' = x + (σ' - σ)·ε`.
//!
//! Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (arXiv 2206.00364, algorithm 2
//! without churn: the derivative of the exploding sample by sigma is the predicted noise).

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
    names: &["EulerDiscreteScheduler"],
    words: &[Word::plain("euler")],
    knows: &[
        Key::Spacing,
        Key::ZeroSnr,
        Key::Sigmas,
        Key::SigmaEnds,
        Key::FinalSigmas,
        Key::TimestepType,
    ],
    defaults: Defaults::PLAIN,
    build,
};

#[derive(Debug)]
pub(super) struct Euler {
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let table = exploding(settings, steps.total)?;
    let rule = Euler::over(&table.sigmas);
    let trajectory = table
        .trajectory(settings, NoiseLevel::exploding)?
        .joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

impl Euler {
    /// From each of `sigmas` to the next.
    pub(super) fn over(sigmas: &[f64]) -> Self {
        let updates = sigmas.windows(2).map(|pair| Update {
            sample: 1.0,
            outputs: vec![pair[1] - pair[0]],
            noise: 0.0,
        });
        Self {
            updates: updates.collect(),
        }
    }
}

impl Rule for Euler {
    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        let derivative = trajectory.derivative(&input);
        self.updates[input.evaluation].apply(input.sample, &[derivative], None)
    }
}
