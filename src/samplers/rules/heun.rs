//! Heun's method in sigma: an Euler step, then the mean of the derivatives at both of its ends:
//! `x' = x + (σ' - σ)·(ε + ε')/2`.
//!
//! Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (arXiv 2206.00364, algorithm 1).

use burn::tensor::Tensor;

use crate::Error;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    json::Key,
    settings::{Defaults, Settings},
    sigmas::{SigmaTable, exploding},
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["HeunDiscreteScheduler"],
    words: &[Word::plain("heun")],
    knows: &[Key::Spacing, Key::ClipSample, Key::Sigmas, Key::SigmaEnds],
    defaults: Defaults::LATENT_ENDS,
    build,
};

#[derive(Debug)]
pub(super) struct Heun {
    /// By evaluation: predictors (one derivative) and correctors (two, from the sample before the predictor) in turn; the last
    /// step, onto sigma 0, has a predictor alone.
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let table = exploding(settings, steps.total)?;
    let rule = Heun::over(&table.sigmas);
    let trajectory = doubled(&table)
        .trajectory(settings, NoiseLevel::exploding)?
        .joined_after(2 * steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

impl Heun {
    /// From each of `sigmas` to the next, the last with a predictor alone.
    pub(super) fn over(sigmas: &[f64]) -> Self {
        let evaluations = 2 * (sigmas.len() - 1) - 1;
        let update = |evaluation: usize| {
            let step = evaluation / 2;
            let stride = sigmas[step + 1] - sigmas[step];
            Update {
                sample: 1.0,
                outputs: if is_corrector(evaluation) {
                    vec![stride / 2.0; 2]
                } else {
                    vec![stride]
                },
                noise: 0.0,
            }
        };
        Self {
            updates: (0..evaluations).map(update).collect(),
        }
    }
}

/// Every point but the first is evaluated twice: at the end of a step and at the start of the next.
pub(super) fn twice(values: &[f64]) -> Vec<f64> {
    let repeated = values.iter().flat_map(|value| [*value; 2]);
    repeated.skip(1).collect()
}

fn doubled(table: &SigmaTable) -> SigmaTable {
    SigmaTable {
        timesteps: twice(&table.timesteps),
        sigmas: twice(&table.sigmas),
        initial: table.initial,
    }
}

fn is_corrector(evaluation: usize) -> bool {
    evaluation % 2 == 1
}

impl Rule for Heun {
    fn solver_step(&self, evaluation: usize) -> usize {
        evaluation / 2
    }

    fn step(&self, trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4> {
        history.remember(trajectory.derivative(&input), 2);
        let start = history
            .sample
            .take()
            .filter(|_| is_corrector(input.evaluation));
        let start = start.unwrap_or(input.sample);
        let next = self.updates[input.evaluation].apply(start.clone(), &history.outputs, None);
        if !is_corrector(input.evaluation) {
            history.sample = Some(start);
        }
        next
    }
}
