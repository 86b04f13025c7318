//! DEIS over the logarithm of rho, multistep, orders 1 to 3:
//! `x' = α'/α·x + α'·Σ (∫ Lagrange polynomial in ln ρ, by ρ over the step)·ε`, with `ρ = σ/α`.
//!
//! Source: Zhang and Chen, Fast Sampling of Diffusion Models with Exponential Integrator (arXiv 2204.13902, equations 14 and 15, and
//! the choice of log rho in section 3.3 and appendix B). Behaviour as diffusers' `DEISMultistepScheduler`.

use burn::tensor::Tensor;

use crate::Error;
use crate::error::ConfigError;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    json::Key,
    settings::{Defaults, Settings, choose},
    sigmas::preserving,
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["DEISMultistepScheduler"],
    words: &[Word {
        name: "deis",
        set: |json| json.algorithm_type = Some("deis".to_owned()),
        is: |_| true,
    }],
    knows: &[
        Key::Spacing,
        Key::Thresholding,
        Key::Sigmas,
        Key::SigmaEnds,
        Key::FlowSigmas,
    ],
    // The method integrates over ln rho, which has no sigma 0.
    defaults: Defaults {
        final_sigmas: "sigma_min",
        ..Defaults::PLAIN
    },
    build,
};

/// Below this many steps `lower_order_final` takes effect.
const FEW_STEPS: usize = 15;

#[derive(Debug)]
struct Deis {
    order: usize,
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let order = checked_order(settings)?;
    let lowers = settings.json.lower_order_final.unwrap_or(true) && steps.total < FEW_STEPS;
    let table = preserving(settings, steps.total, true)?.ending_where_laid_out(settings);
    let update = |step: usize| {
        // As many orders as steps are left, if few.
        let left = steps.total - step;
        let cap = if lowers { left.min(order) } else { order };
        let order = cap.min(steps.depth(step));
        update(&table.sigmas[step + 1 - order..=step + 1])
    };
    let rule = Deis {
        order,
        updates: (0..steps.total).map(update).collect(),
    };
    let trajectory = table
        .trajectory(settings, NoiseLevel::from_ratio)?
        .joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

fn checked_order(settings: &Settings) -> Result<usize, ConfigError> {
    let json = &settings.json;
    // Algorithms and solver types of DPM-Solver and UniPC become DEIS in diffusers.
    let algorithms = ["deis", "dpmsolver", "dpmsolver++"].map(|name| (name, ()));
    let algorithm = json.algorithm_type.as_deref().unwrap_or("deis");
    choose("algorithm_type", algorithm, &algorithms)?;
    let types = ["logrho", "midpoint", "heun", "bh1", "bh2"].map(|name| (name, ()));
    let kind = json.solver_type.as_deref().unwrap_or("logrho");
    choose("solver_type", kind, &types)?;
    match json.solver_order.unwrap_or(2) {
        order @ 1..=3 => Ok(order),
        order => Err(ConfigError::unsupported(
            "solver_order",
            order,
            "1, 2 and 3 are",
        )),
    }
}

/// The update onto the last of `rhos`; predictions were made at those before it, the newest last.
fn update(rhos: &[f64]) -> Update {
    let order = rhos.len() - 1;
    let (from, to) = (rhos[order - 1], rhos[order]);
    let level = NoiseLevel::from_ratio;
    // Logarithms are counted from that of the newest.
    let nodes: Vec<f64> = rhos[..order]
        .iter()
        .rev()
        .map(|rho| (rho / from).ln())
        .collect();
    let moments = moments((to / from).ln());
    let weight = |node: usize| {
        let polynomial = lagrange(&nodes, node);
        let terms = polynomial
            .iter()
            .zip(moments)
            .map(|(term, moment)| term * moment);
        level(to).alpha * from * terms.sum::<f64>()
    };
    Update {
        sample: level(to).alpha / level(from).alpha,
        outputs: (0..order).map(weight).collect(),
        noise: 0.0,
    }
}

/// `∫ v^k·e^v dv` from 0 to `end`, for k from 0 to 2.
fn moments(end: f64) -> [f64; 3] {
    let zeroth = end.exp_m1();
    let first = end * end.exp() - zeroth;
    [zeroth, first, end * end * end.exp() - 2.0 * first]
}

/// The polynomial, from the constant term up, that is 1 at one of `nodes` and 0 at the others.
fn lagrange(nodes: &[f64], node: usize) -> Vec<f64> {
    let others = nodes.iter().enumerate().filter(|(other, _)| *other != node);
    others.fold(vec![1.0], |polynomial, (_, zero)| {
        let scale = 1.0 / (nodes[node] - zero);
        let raised = std::iter::once(0.0).chain(polynomial.iter().copied());
        let lowered = polynomial.iter().copied().chain([0.0]);
        let terms = raised.zip(lowered);
        terms
            .map(|(raised, lowered)| scale * (raised - zero * lowered))
            .collect()
    })
}

impl Rule for Deis {
    fn step(&self, trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4> {
        history.remember(trajectory.noise(&input), self.order);
        self.updates[input.evaluation].apply(input.sample, &history.outputs, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights of order n are exact for predictions that are polynomials of degree n - 1 in ln rho.
    #[test]
    fn polynomials_are_integrated_exactly() {
        let rhos = [9.0, 4.0, 2.5, 1.0];
        let update = update(&rhos);
        let integral = |degree: i32| -> f64 {
            let parts = 200_000;
            let width = (rhos[3] - rhos[2]) / f64::from(parts);
            let middle = |part: i32| rhos[2] + (f64::from(part) + 0.5) * width;
            (0..parts)
                .map(|part| middle(part).ln().powi(degree) * width)
                .sum()
        };
        for degree in 0..3 {
            let newest_first = rhos[..3].iter().rev();
            let values = newest_first.map(|rho| rho.ln().powi(degree));
            let sum: f64 = update.outputs.iter().zip(values).map(|(w, v)| w * v).sum();
            let expected = NoiseLevel::from_ratio(1.0).alpha * integral(degree);
            assert!((sum - expected).abs() < 1e-8, "{degree}: {sum} {expected}");
        }
    }
}
