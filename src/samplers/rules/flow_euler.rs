//! Euler's method along a flow: `x' = x + (σ' - σ)·v`; its stochastic form goes to the clean sample and back with fresh noise:
//! `x' = (1 - σ')·(x - σ·v) + σ'·z`.
//!
//! Source: Liu et al., Rectified Flow (arXiv 2209.03003, algorithm 1); Esser et al. (2403.03206) for sigmas. Behaviour as diffusers'
//! `FlowMatchEulerDiscreteScheduler`.

use burn::tensor::Tensor;

use super::euler::Euler;
use crate::Error;
use crate::error::ConfigError;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    flow::{reversed_trajectory, sigmas, trajectory},
    json::Key,
    settings::{Defaults, Settings},
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["FlowMatchEulerDiscreteScheduler"],
    words: &[Word::plain("flow-euler")],
    knows: &[
        Key::Sigmas,
        Key::FlowSigmas,
        Key::DynamicShift,
        Key::ShiftTerminal,
    ],
    defaults: Defaults::PLAIN,
    build,
};

/// To the clean sample and back with fresh noise.
#[derive(Debug)]
struct Stochastic {
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let mut sigmas = sigmas(settings, steps.total)?;
    let reversed = settings.json.invert_sigmas.unwrap_or(false);
    let stochastic = settings.json.stochastic_sampling.unwrap_or(false);
    let trajectory = if reversed {
        sigmas = sigmas.iter().map(|sigma| 1.0 - sigma).collect();
        reversed_trajectory(settings, &sigmas)?
    } else {
        trajectory(settings, &sigmas)?
    };
    let trajectory = trajectory.joined_after(steps.skipped);
    sigmas.push(if reversed { 1.0 } else { 0.0 });
    match (stochastic, reversed) {
        (false, _) => Ok(Box::new(Run {
            trajectory,
            rule: Euler::over(&sigmas),
        })),
        (true, false) => Ok(Box::new(Run {
            trajectory,
            rule: Stochastic::over(&sigmas),
        })),
        (true, true) => {
            let hint = "sigmas of a stochastic run fall (`invert_sigmas` is false)";
            Err(ConfigError::unsupported("stochastic_sampling", true, hint).into())
        }
    }
}

impl Stochastic {
    /// From each of `sigmas` to the next.
    fn over(sigmas: &[f64]) -> Self {
        let updates = sigmas[1..].iter().map(|next| Update {
            sample: 0.0,
            outputs: vec![1.0 - next],
            noise: *next,
        });
        Self {
            updates: updates.collect(),
        }
    }
}

impl Rule for Stochastic {
    fn draws_noise(&self, _evaluation: usize) -> bool {
        true
    }

    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        let data = trajectory.data(&input);
        self.updates[input.evaluation].apply(input.sample, &[data], input.noise)
    }
}
