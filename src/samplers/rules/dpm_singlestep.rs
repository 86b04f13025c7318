//! DPM-Solver and DPM-Solver++, single step, orders 1 to 3: evaluations come in groups of the order, each of which steps anew from
//! where its group began: `x' = σ'/σ·x - α'·Σ weight·(derivatives of x0 by λ at the group's start)`.
//!
//! Source: Lu et al., DPM-Solver (arXiv 2206.00927, algorithms 1 and 2: single step; section 3.4: orders that add up to the number of
//! evaluations); DPM-Solver++ (2211.01095, algorithm 1). Behaviour as diffusers' `DPMSolverSinglestepScheduler`, which lays the points
//! within a group out like those between groups, and counts evaluations as steps.

use burn::tensor::Tensor;

use crate::Error;
use crate::error::ConfigError;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    dpm::{Algorithm, SecondOrder},
    json::Key,
    settings::{Defaults, Settings},
    sigmas::preserving,
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["DPMSolverSinglestepScheduler"],
    words: &[Word {
        name: "dpmsolver-singlestep",
        set: |json| json.algorithm_type = Some("dpmsolver++".to_owned()),
        is: |_| true,
    }],
    knows: &[
        Key::Thresholding,
        Key::Sigmas,
        Key::SigmaEnds,
        Key::FinalSigmas,
        Key::FlowSigmas,
        Key::ClippedLambda,
    ],
    defaults: Defaults::PLAIN,
    build,
};

#[derive(Debug, Clone, Copy)]
struct Solver {
    algorithm: Algorithm,
    order: usize,
    second_order: SecondOrder,
}

#[derive(Debug)]
struct SingleStep {
    solver: Solver,
    /// Over the predictions of the group, newest first, and the sample at its start.
    updates: Vec<Update>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let solver = Solver::new(settings)?;
    let lowers = settings.json.lower_order_final.unwrap_or(false);
    let ends_at_zero = settings.ends_at_zero()?;
    solver.algorithm.check_end(ends_at_zero)?;
    let table = preserving(settings, steps.total, true)?;
    let points = table.points(NoiseLevel::from_ratio);
    let update = |step: usize| {
        let order = solver.order_at(step, steps, lowers || ends_at_zero);
        solver.update(&points[step + 1 - order..=step + 1])
    };
    let rule = SingleStep {
        solver,
        updates: (0..steps.total).map(update).collect(),
    };
    let trajectory = table
        .trajectory(settings, NoiseLevel::from_ratio)?
        .joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

impl Solver {
    fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let words = ["dpmsolver", "dpmsolver++", "sde-dpmsolver++", "deis"];
        let order = settings.json.solver_order.unwrap_or(2);
        if !(1..=3).contains(&order) {
            return Err(ConfigError::unsupported(
                "solver_order",
                order,
                "1, 2 and 3 are",
            ));
        }
        Ok(Self {
            algorithm: Algorithm::of(settings, &words)?,
            order,
            second_order: SecondOrder::of(settings)?,
        })
    }

    /// The position in its group. A last group that is whole ends in a step of first order if `lowers_last`.
    fn order_at(&self, step: usize, steps: Steps, lowers_last: bool) -> usize {
        let last = step + 1 == steps.total;
        if last && lowers_last {
            return 1;
        }
        (step % self.order + 1).min(steps.depth(step))
    }

    /// The update from the first of `points` onto the last; predictions were made at all but the last.
    fn update(&self, points: &[NoiseLevel]) -> Update {
        let order = points.len() - 1;
        let (from, to) = (points[0], points[order]);
        let h = to.lambda() - from.lambda();
        if h == 0.0 {
            return Update::nothing();
        }
        let [value, slope, bend] = self.algorithm.taylor(to, h);
        // Where the predictions were made, in units of the stride.
        let place = |index: usize| (points[index].lambda() - from.lambda()) / h;
        let midpoint = self.second_order == SecondOrder::Midpoint;
        let outputs = match order {
            1 => vec![value],
            2 => {
                let share = if midpoint { value / 2.0 } else { slope } / place(1);
                vec![share, value - share]
            }
            _ if midpoint => {
                let share = slope / place(2);
                vec![share, 0.0, value - share]
            }
            _ => third_order([value, slope, bend], place(1), place(2)),
        };
        Update {
            sample: self.algorithm.decay(from, to, h),
            outputs,
            noise: self.algorithm.fresh_noise(to, h),
        }
    }
}

/// Taylor's series whose derivatives are those of the parabola through the predictions at 0, `near` and `far`; newest first.
fn third_order([value, slope, bend]: [f64; 3], near: f64, far: f64) -> Vec<f64> {
    // The second derivative as the series counts it: half of it is the parabola's coefficient.
    let through = |place: f64, other: f64| {
        let scale = 1.0 / (place * (place - other));
        (2.0 * bend - slope * other) * scale
    };
    let (newest, middle) = (through(far, near), through(near, far));
    vec![newest, middle, value - newest - middle]
}

impl Rule for SingleStep {
    fn draws_noise(&self, _evaluation: usize) -> bool {
        self.solver.algorithm.stochastic
    }

    fn step(&self, trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4> {
        let output = self.solver.algorithm.output(trajectory, &input);
        history.remember(output, self.solver.order);
        let update = &self.updates[input.evaluation];
        let starts = update.outputs.len() <= 1;
        let kept = history.sample.take().filter(|_| !starts);
        let start = kept.unwrap_or(input.sample);
        history.sample = Some(start.clone());
        update.apply(start, &history.outputs, input.noise)
    }
}
