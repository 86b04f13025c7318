//! Linear multistep in sigma: Adams and Bashforth's method for unequal strides, fourth order:
//! `x' = x + Σ (∫ Lagrange polynomial over the step)·ε`.
//!
//! Source: Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, section III.5 (variable step size); as a
//! diffusion sampler known from k-diffusion's `sample_lms`. The derivative is that of Karras et al. (arXiv 2206.00364).

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
    names: &["LMSDiscreteScheduler"],
    words: &[Word::plain("lms")],
    knows: &[Key::Spacing, Key::Sigmas],
    defaults: Defaults::PLAIN,
    build,
};

/// Derivatives a step looks back on.
const ORDER: usize = 4;

#[derive(Debug)]
struct Lms {
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let table = exploding(settings, steps.total)?;
    let update = |step: usize| Update {
        sample: 1.0,
        outputs: adams_bashforth(&table.sigmas, step, ORDER.min(steps.depth(step))),
        noise: 0.0,
    };
    let rule = Lms {
        updates: (0..steps.total).map(update).collect(),
    };
    let trajectory = table
        .trajectory(settings, NoiseLevel::exploding)?
        .joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

/// Weights of the newest `order` derivatives, newest first: integrals over the step of their Lagrange polynomials.
fn adams_bashforth(sigmas: &[f64], step: usize, order: usize) -> Vec<f64> {
    let node = |back: usize| sigmas[step - back];
    let lagrange = |back: usize, at: f64| -> f64 {
        let others = (0..order).filter(|other| *other != back);
        others
            .map(|other| (at - node(other)) / (node(back) - node(other)))
            .product()
    };
    (0..order)
        .map(|back| integrate(|at| lagrange(back, at), sigmas[step], sigmas[step + 1]))
        .collect()
}

/// Gauss and Legendre's two-point rule, exact for the cubics at hand.
fn integrate(function: impl Fn(f64) -> f64, from: f64, to: f64) -> f64 {
    let (middle, half) = (f64::midpoint(from, to), (to - from) / 2.0);
    let offset = half / 3.0_f64.sqrt();
    half * (function(middle - offset) + function(middle + offset))
}

impl Rule for Lms {
    fn step(&self, trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4> {
        history.remember(trajectory.noise(&input), ORDER);
        self.updates[input.evaluation].apply(input.sample, &history.outputs, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strides_give_the_textbook_weights() {
        let weights = adams_bashforth(&[5.0, 4.0, 3.0, 2.0, 1.0], 3, 4);
        for (weight, expected) in weights.iter().zip([55.0, -59.0, 37.0, -9.0]) {
            assert!((weight + expected / 24.0).abs() < 1e-12, "{weights:?}");
        }
    }
}
