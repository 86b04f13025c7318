//! Euler's method in sigma.
//!
//! Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (arXiv 2206.00364, algorithm 2
//! without churn: the derivative of the exploding sample by sigma is the predicted noise).

use burn::tensor::Tensor;

use super::config::SamplerConfig;
use super::sigmas::exploding;
use super::steps::Steps;
use super::trajectory::{Input, Rule, Run, Trajectory};
use super::update::Update;
use crate::Error;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};

#[derive(Debug)]
struct Euler {
    updates: Vec<Update>,
}

pub(super) fn build(config: &SamplerConfig, steps: Steps) -> Result<Box<dyn Sampler>, Error> {
    let table = exploding(config, steps.total)?;
    let updates = table.sigmas.windows(2).map(|pair| Update {
        sample: 1.0,
        outputs: vec![pair[1] - pair[0]],
        noise: 0.0,
    });
    let rule = Euler {
        updates: updates.collect(),
    };
    let trajectory = table
        .trajectory(config, NoiseLevel::exploding)?
        .joined_behind(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

impl Rule for Euler {
    fn step(&self, trajectory: &Trajectory, _history: &mut History, input: Input) -> Tensor<4> {
        let derivative = trajectory.noise(&input);
        self.updates[input.evaluation].apply(input.sample, &[derivative], None)
    }
}
