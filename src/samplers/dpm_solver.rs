//! DPM-Solver and DPM-Solver++, multistep, orders 1 to 3, and their stochastic forms.
//!
//! The linear part of the diffusion equation is solved exactly; the rest is a Taylor series in lambda (half the log
//! signal-to-noise ratio) whose derivatives come from earlier predictions.
//!
//! Source: Lu et al., DPM-Solver (arXiv 2206.00927, section 3) for noise predictions; DPM-Solver++ (2211.01095, section 4.2 and
//! algorithm 2, appendices A and B: multistep, third order, stochastic forms) for data predictions.

use burn::tensor::Tensor;

use super::config::{SamplerConfig, choose};
use super::sigmas::preserving;
use super::steps::Steps;
use super::trajectory::{Input, Rule, Run, Trajectory};
use super::update::Update;
use crate::Error;
use crate::error::ConfigError;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};

/// Below this many steps `lower_order_final` takes effect (2211.01095, appendix: stabilises few-step sampling).
const FEW_STEPS: usize = 15;

/// What is integrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Algorithm {
    /// Data predictions (the `++`) rather than noise predictions.
    data: bool,
    /// The stochastic equation rather than the ordinary one.
    stochastic: bool,
}

/// How a second-order step weighs its derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SecondOrder {
    Midpoint,
    /// By Taylor's series; diffusers calls it "heun".
    Taylor,
}

#[derive(Debug, Clone, Copy)]
struct Solver {
    algorithm: Algorithm,
    order: usize,
    second_order: SecondOrder,
    lower_order_final: bool,
    euler_at_final: bool,
    ends_at_zero: bool,
}

#[derive(Debug)]
struct DpmSolver {
    solver: Solver,
    updates: Vec<Update>,
}

pub(super) fn build(config: &SamplerConfig, steps: Steps) -> Result<Box<dyn Sampler>, Error> {
    let solver = Solver::new(config)?;
    let rounds = config.json.beta_schedule.as_deref() != Some("squaredcos_cap_v2");
    let table = preserving(config, steps.total, rounds)?;
    let points = table.points(NoiseLevel::from_ratio);
    let update = |step: usize| {
        let order = solver.order_at(step, steps);
        solver.update(&points[step + 1 - order..=step + 1])
    };
    let rule = DpmSolver {
        solver,
        updates: (0..steps.total).map(update).collect(),
    };
    let trajectory = table
        .trajectory(config, NoiseLevel::from_ratio)?
        .joined_behind(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

fn algorithm(config: &SamplerConfig) -> Result<Algorithm, ConfigError> {
    let value = config
        .json
        .algorithm_type
        .as_deref()
        .unwrap_or("dpmsolver++");
    let choice = |data, stochastic| Algorithm { data, stochastic };
    let choices = [
        ("dpmsolver", choice(false, false)),
        ("dpmsolver++", choice(true, false)),
        ("sde-dpmsolver", choice(false, true)),
        ("sde-dpmsolver++", choice(true, true)),
        // DEIS configurations become DPM-Solver++ in diffusers.
        ("deis", choice(true, false)),
    ];
    choose("algorithm_type", value, &choices)
}

impl Solver {
    fn new(config: &SamplerConfig) -> Result<Self, Error> {
        let json = &config.json;
        // Solver types of UniPC and DEIS become midpoint in diffusers.
        let midpoints =
            ["midpoint", "logrho", "bh1", "bh2"].map(|name| (name, SecondOrder::Midpoint));
        let types: Vec<_> = midpoints
            .into_iter()
            .chain([("heun", SecondOrder::Taylor)])
            .collect();
        let kind = json.solver_type.as_deref().unwrap_or("midpoint");
        let solver = Self {
            algorithm: algorithm(config)?,
            order: json.solver_order.unwrap_or(2),
            second_order: choose("solver_type", kind, &types)?,
            lower_order_final: json.lower_order_final.unwrap_or(true),
            euler_at_final: json.euler_at_final.unwrap_or(false),
            ends_at_zero: config.ends_at_zero()?,
        };
        Ok(solver.checked()?)
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let Algorithm { data, stochastic } = self.algorithm;
        if !(1..=3).contains(&self.order) {
            let hint = "1, 2 and 3 are";
            return Err(ConfigError::unsupported("solver_order", self.order, hint));
        }
        if stochastic && self.order == 3 {
            let hint = "the stochastic forms go up to order 2";
            return Err(ConfigError::unsupported("solver_order", self.order, hint));
        }
        if !data && self.ends_at_zero {
            let hint = "solvers of noise predictions need sigma_min";
            return Err(ConfigError::unsupported("final_sigmas_type", "zero", hint));
        }
        Ok(self)
    }

    /// Multistep warm-up, and lower orders at the clean end.
    fn order_at(&self, step: usize, steps: Steps) -> usize {
        let few = self.lower_order_final && steps.total < FEW_STEPS;
        let cap = match steps.total - 1 - step {
            0 if self.euler_at_final || few || self.ends_at_zero => 1,
            1 if few => 2,
            _ => self.order,
        };
        cap.min(self.order).min(steps.depth(step))
    }

    /// The update onto the last of `points`; those before it are where the predictions were made, the newest last.
    fn update(&self, points: &[NoiseLevel]) -> Update {
        let order = points.len() - 1;
        let (from, to) = (points[order - 1], points[order]);
        let h = to.lambda() - from.lambda();
        if h == 0.0 {
            return Update::nothing();
        }
        let mut taylor = self.taylor(to, h);
        if order == 2 && self.second_order == SecondOrder::Midpoint {
            taylor[1] = taylor[0] / 2.0;
        }
        let mut outputs = vec![0.0; order];
        for (weight, derivative) in taylor.iter().zip(derivatives(points, h)) {
            for (output, part) in outputs.iter_mut().zip(derivative) {
                *output += weight * part;
            }
        }
        Update {
            sample: self.decay(from, to, h),
            outputs,
            noise: self.fresh_noise(to, h),
        }
    }

    /// The exact solution of the linear part.
    fn decay(&self, from: NoiseLevel, to: NoiseLevel, h: f64) -> f64 {
        match (self.algorithm.data, self.algorithm.stochastic) {
            (true, false) => to.sigma / from.sigma,
            (true, true) => to.sigma / from.sigma * (-h).exp(),
            (false, _) => to.alpha / from.alpha,
        }
    }

    /// Weights of the prediction and of its first and second derivatives by lambda, in units of the stride `h`.
    fn taylor(&self, to: NoiseLevel, h: f64) -> [f64; 3] {
        // Data predictions fade with lambda, noise predictions grow; the stochastic equation doubles the prediction's share.
        let (scale, rate) = match (self.algorithm.data, self.algorithm.stochastic) {
            (true, false) => (to.alpha, -h),
            (true, true) => (to.alpha, -2.0 * h),
            (false, false) => (to.sigma, h),
            (false, true) => (2.0 * to.sigma, h),
        };
        let growth = rate.exp_m1();
        let first = growth / rate - 1.0;
        let second = first / rate - 0.5;
        [-scale * growth, -scale * first, -scale * second]
    }

    fn fresh_noise(&self, to: NoiseLevel, h: f64) -> f64 {
        let variance = match (self.algorithm.data, self.algorithm.stochastic) {
            (_, false) => return 0.0,
            (true, true) => -(-2.0 * h).exp_m1(),
            (false, true) => (2.0 * h).exp_m1(),
        };
        to.sigma * variance.sqrt()
    }
}

/// The newest prediction and its derivatives, as weights of the predictions, newest first (2211.01095, appendix B.3).
fn derivatives(points: &[NoiseLevel], h: f64) -> Vec<Vec<f64>> {
    let made_at: Vec<f64> = points
        .iter()
        .rev()
        .skip(1)
        .map(|point| point.lambda())
        .collect();
    // Slopes between neighbours, and how far apart those are, in units of the stride.
    let gap = |index: usize| (made_at[index] - made_at[index + 1]) / h;
    match made_at.len() {
        1 => vec![vec![1.0]],
        2 => vec![vec![1.0, 0.0], vec![1.0 / gap(0), -1.0 / gap(0)]],
        _ => {
            let (near, far) = (gap(0), gap(1));
            let newer = [1.0 / near, -1.0 / near, 0.0];
            let older = [0.0, 1.0 / far, -1.0 / far];
            let bend = |index: usize| (newer[index] - older[index]) / (near + far);
            let slope = |index: usize| newer[index] + near * bend(index);
            vec![
                vec![1.0, 0.0, 0.0],
                (0..3).map(slope).collect(),
                (0..3).map(bend).collect(),
            ]
        }
    }
}

impl Rule for DpmSolver {
    fn draws_noise(&self, _evaluation: usize) -> bool {
        self.solver.algorithm.stochastic
    }

    fn step(&self, trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4> {
        let output = if self.solver.algorithm.data {
            trajectory.data(&input)
        } else {
            trajectory.noise(&input)
        };
        history.remember(output, self.solver.order);
        self.updates[input.evaluation].apply(input.sample, &history.outputs, input.noise)
    }
}
