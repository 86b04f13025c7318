//! DPM-Solver and DPM-Solver++, multistep, orders 1 to 3, and their stochastic forms:
//! `x' = σ'/σ·x - α'·Σ weight·(derivatives of x0 by λ)`, whose derivatives come from earlier predictions.
//!
//! Source: Lu et al., DPM-Solver (arXiv 2206.00927, section 3) for noise predictions; DPM-Solver++ (2211.01095, section 4.2 and
//! algorithm 2, appendices A and B: multistep, third order, stochastic forms) for data predictions.

use burn::tensor::Tensor;

use crate::Error;
use crate::error::ConfigError;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    dpm::{Algorithm, SecondOrder},
    flow::{Ends, Level, in_lambda},
    json::Key,
    settings::{Defaults, Settings},
    sigmas::preserving,
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["DPMSolverMultistepScheduler"],
    words: &[
        Word {
            name: "dpmsolver",
            set: |json| {
                json.algorithm_type = Some("dpmsolver".to_owned());
                // The noise form cannot step onto sigma 0.
                json.final_sigmas_type = Some("sigma_min".to_owned());
            },
            is: |json| json.algorithm_type.as_deref() == Some("dpmsolver"),
        },
        Word {
            name: "dpmsolver++",
            set: |json| json.algorithm_type = Some("dpmsolver++".to_owned()),
            is: |json| json.algorithm_type.as_deref() != Some("sde-dpmsolver++"),
        },
        Word {
            name: "dpmsolver++-sde",
            set: |json| json.algorithm_type = Some("sde-dpmsolver++".to_owned()),
            is: |_| true,
        },
    ],
    knows: &[
        Key::Spacing,
        Key::ZeroSnr,
        Key::Thresholding,
        Key::Sigmas,
        Key::SigmaEnds,
        Key::FinalSigmas,
        Key::FlowSigmas,
        Key::DynamicShift,
        Key::LuLambdas,
        Key::ClippedLambda,
    ],
    defaults: Defaults::PLAIN,
    build,
};

/// Below this many steps `lower_order_final` takes effect (2211.01095, appendix: stabilises few-step sampling).
const FEW_STEPS: usize = 15;

/// The multistep solver, whatever the levels it steps over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Solver {
    algorithm: Algorithm,
    order: usize,
    second_order: SecondOrder,
    lower_order_final: bool,
    euler_at_final: bool,
    ends_at_zero: bool,
}

/// Updates over the newest predictions.
#[derive(Debug)]
pub(super) struct Multistep {
    solver: Solver,
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let words = [
        "dpmsolver",
        "dpmsolver++",
        "sde-dpmsolver",
        "sde-dpmsolver++",
        "deis",
    ];
    let solver = Solver::new(settings, Algorithm::of(settings, &words)?)?;
    let rounds = settings.json.beta_schedule.as_deref() != Some("squaredcos_cap_v2");
    let (table, level) = if settings.flows()? {
        let table = in_lambda(settings, steps.total, Ends::Open)?;
        (table, NoiseLevel::flow as Level)
    } else {
        let table = preserving(settings, steps.total, rounds)?;
        (table, NoiseLevel::from_ratio as Level)
    };
    let rule = solver.over(&table.points(level), steps);
    let trajectory = table
        .trajectory(settings, level)?
        .joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

impl Solver {
    pub(super) fn new(settings: &Settings, algorithm: Algorithm) -> Result<Self, ConfigError> {
        let json = &settings.json;
        let solver = Self {
            algorithm,
            order: json.solver_order.unwrap_or(2),
            second_order: SecondOrder::of(settings)?,
            lower_order_final: json.lower_order_final.unwrap_or(true),
            euler_at_final: json.euler_at_final.unwrap_or(false),
            ends_at_zero: settings.ends_at_zero()?,
        };
        if !(1..=3).contains(&solver.order) {
            let hint = "1, 2 and 3 are";
            return Err(ConfigError::unsupported("solver_order", solver.order, hint));
        }
        if algorithm.stochastic && solver.order == 3 {
            let hint = "the stochastic forms go up to order 2";
            return Err(ConfigError::unsupported("solver_order", solver.order, hint));
        }
        algorithm.check_end(solver.ends_at_zero)?;
        Ok(solver)
    }

    /// The rule that goes from each of `points` to the next.
    pub(super) fn over(self, points: &[NoiseLevel], steps: Steps) -> Multistep {
        let update = |step: usize| {
            let order = self.order_at(step, steps);
            self.update(&points[step + 1 - order..=step + 1])
        };
        Multistep {
            solver: self,
            updates: (0..steps.total).map(update).collect(),
        }
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
        let mut taylor = self.algorithm.taylor(to, h);
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
            sample: self.algorithm.decay(from, to, h),
            outputs,
            noise: self.algorithm.fresh_noise(to, h),
        }
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

impl Rule for Multistep {
    fn draws_noise(&self, _evaluation: usize) -> bool {
        self.solver.algorithm.stochastic
    }

    fn step(&self, trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4> {
        let output = self.solver.algorithm.output(trajectory, &input);
        history.remember(output, self.solver.order);
        self.updates[input.evaluation].apply(input.sample, &history.outputs, input.noise)
    }
}
