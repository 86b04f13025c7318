//! `UniPC`: a multistep predictor of any order, and a corrector that raises the order without another evaluation:
//! `x' = σ'/σ·x - α'·(e^-h - 1)·x0 - α'·B(h)·Σ weight/ratio·(x0 at the ratio - x0)`, of data predictions.
//!
//! The corrector runs when the next prediction has come in: it first mends the sample the predictor had left, then the
//! predictor goes on from the mended one.
//!
//! Source: Zhao et al., `UniPC`: A Unified Predictor-Corrector Framework (arXiv 2302.04867, algorithms 1 and 2, theorem 3.1 for
//! the system of weights, section 3.3 for `B(h)`).

use burn::tensor::Tensor;

use crate::Error;
use crate::error::ConfigError;
use crate::noise::NoiseLevel;
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    flow::{Ends, Level, in_lambda},
    json::Key,
    settings::{Defaults, Settings, choose},
    sigmas::{SigmaTable, preserving},
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::{Update, solve},
};

pub(super) static CLASS: Class = Class {
    names: &["UniPCMultistepScheduler"],
    words: &[Word::plain("unipc")],
    knows: &[
        Key::Spacing,
        Key::ZeroSnr,
        Key::Thresholding,
        Key::Sigmas,
        Key::SigmaEnds,
        Key::FinalSigmas,
        Key::FlowSigmas,
        Key::DynamicShift,
        Key::ShiftTerminal,
    ],
    defaults: Defaults::PLAIN,
    build,
};

#[derive(Debug, Clone)]
struct Solver {
    order: usize,
    /// Data predictions rather than noise predictions.
    data: bool,
    /// `B(h) = e^h - 1` (bh2) rather than `B(h) = h` (bh1).
    exponential: bool,
    lower_order_final: bool,
    /// Steps whose result is not mended.
    uncorrected: Vec<usize>,
}

#[derive(Debug)]
struct UniPc {
    solver: Solver,
    predictors: Vec<Update>,
    /// Over the sample the last predictor started from; the newest output is the one that has just come in.
    correctors: Vec<Option<Update>>,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let solver = Solver::new(settings)?;
    let (table, level) = table(settings, steps.total)?;
    let points = table.points(level);
    let order = |step: usize| solver.order_at(step, steps);
    let predictor = |step: usize| solver.predictor(&points[step + 1 - order(step)..=step + 1]);
    let corrector = |step: usize| {
        let before = step
            .checked_sub(1)
            .filter(|before| *before >= steps.skipped)?;
        let corrects = !solver.uncorrected.contains(&before);
        corrects.then(|| solver.corrector(&points[step - order(before)..=step]))
    };
    let rule = UniPc {
        predictors: (0..steps.total).map(predictor).collect(),
        correctors: (0..steps.total).map(corrector).collect(),
        solver: solver.clone(),
    };
    let trajectory = table
        .trajectory(settings, level)?
        .joined_after(steps.skipped);
    Ok(Box::new(Run { trajectory, rule }))
}

/// The sigmas, and the noise levels that they are.
fn table(settings: &Settings, steps: usize) -> Result<(SigmaTable, Level), Error> {
    if settings.flows()? {
        let table = in_lambda(settings, steps, Ends::Noise)?;
        return Ok((table, NoiseLevel::flow));
    }
    let table = preserving(settings, steps, true)?;
    let table = if settings.ends_at_zero()? {
        table
    } else {
        table.ending_where_laid_out(settings)
    };
    Ok((table, NoiseLevel::from_ratio))
}

impl Solver {
    fn new(settings: &Settings) -> Result<Self, Error> {
        let json = &settings.json;
        // Solver types of DPM-Solver and DEIS become bh2 in diffusers.
        let others = ["bh2", "midpoint", "heun", "logrho"].map(|name| (name, true));
        let types: Vec<_> = others.into_iter().chain([("bh1", false)]).collect();
        let kind = json.solver_type.as_deref().unwrap_or("bh2");
        let solver = Self {
            order: json.solver_order.unwrap_or(2),
            data: json.predict_x0.unwrap_or(true),
            exponential: choose("solver_type", kind, &types)?,
            lower_order_final: json.lower_order_final.unwrap_or(true),
            uncorrected: json.disable_corrector.clone().unwrap_or_default(),
        };
        let other_predictor = json.solver_p.as_ref().is_some_and(|value| !value.is_null());
        Ok(solver.checked(other_predictor, settings.ends_at_zero()?)?)
    }

    fn checked(self, other_predictor: bool, ends_at_zero: bool) -> Result<Self, ConfigError> {
        if other_predictor {
            let hint = "only the predictor of the paper is";
            return Err(ConfigError::unsupported(
                "solver_p",
                "another sampler",
                hint,
            ));
        }
        if self.order == 0 {
            return Err(ConfigError::unsupported(
                "solver_order",
                0,
                "1 and more are",
            ));
        }
        if ends_at_zero && !self.lower_order_final && self.order > 1 {
            let hint = "a step onto sigma 0 is of first order";
            return Err(ConfigError::unsupported("lower_order_final", false, hint));
        }
        Ok(self)
    }

    /// Multistep warm-up, and lower orders at the clean end.
    fn order_at(&self, step: usize, steps: Steps) -> usize {
        let cap = if self.lower_order_final {
            steps.total - step
        } else {
            self.order
        };
        cap.min(self.order).min(steps.depth(step))
    }

    /// The update onto the last of `points`; those before it are where the predictions were made, the newest last.
    fn predictor(&self, points: &[NoiseLevel]) -> Update {
        let stride = Stride::new(self, points);
        if stride.rate == 0.0 {
            return Update::nothing();
        }
        let (mut update, scale) = stride.first_order(self);
        let weights = match stride.ratios.len() {
            0 => Vec::new(),
            // The paper's choice for second order: exact for either B(h) in the limit.
            1 => vec![0.5],
            order => stride.weights(self, order),
        };
        stride.add_differences(&mut update.outputs, &weights, scale);
        update
    }

    /// The same step again with the prediction at its end, which is the newest output.
    fn corrector(&self, points: &[NoiseLevel]) -> Update {
        let mut stride = Stride::new(self, points);
        let (mut update, scale) = stride.first_order(self);
        stride.ratios.push(1.0);
        let weights = match stride.ratios.len() {
            1 => vec![0.5],
            order => stride.weights(self, order),
        };
        update.outputs.push(0.0);
        stride.add_differences(&mut update.outputs, &weights, scale);
        // The end of the step came last as a point and first as an output.
        update.outputs.rotate_right(1);
        update
    }
}

/// A step in lambda.
struct Stride {
    from: NoiseLevel,
    to: NoiseLevel,
    /// Of the exponential: minus or plus the stride.
    rate: f64,
    /// Where the older predictions lie, newest first: 0 is the start of the step, 1 its end.
    ratios: Vec<f64>,
}

impl Stride {
    fn new(solver: &Solver, points: &[NoiseLevel]) -> Self {
        let order = points.len() - 1;
        let (from, to) = (points[order - 1], points[order]);
        let h = to.lambda() - from.lambda();
        let older = points[..order - 1].iter().rev();
        Self {
            from,
            to,
            rate: if solver.data { -h } else { h },
            ratios: older
                .map(|point| (point.lambda() - from.lambda()) / h)
                .collect(),
        }
    }

    /// The first-order step, with room for the older outputs, and the factor of the differences.
    fn first_order(&self, solver: &Solver) -> (Update, f64) {
        let (from, to) = (self.from, self.to);
        let (decay, newest) = if solver.data {
            (to.sigma / from.sigma, -to.alpha * self.rate.exp_m1())
        } else {
            // `sigma·(e^h - 1)`, in the form that stays finite on a step onto sigma 0.
            let grown = to.alpha * from.sigma / from.alpha;
            (to.alpha / from.alpha, to.sigma - grown)
        };
        let mut outputs = vec![0.0; self.ratios.len() + 1];
        outputs[0] = newest;
        let update = Update {
            sample: decay,
            outputs,
            noise: 0.0,
        };
        let scale = if solver.data { to.alpha } else { to.sigma };
        (update, -scale * self.base(solver))
    }

    /// `B(h)`.
    fn base(&self, solver: &Solver) -> f64 {
        if solver.exponential {
            self.rate.exp_m1()
        } else {
            self.rate
        }
    }

    /// Weights of the first `order` differences (2302.04867, theorem 3.1): `Σ weight·ratio^(k-1) = k!·phi_(k+1) / B(h)`.
    fn weights(&self, solver: &Solver, order: usize) -> Vec<f64> {
        let base = self.base(solver);
        let mut phi = self.rate.exp_m1() / self.rate - 1.0;
        let mut factorial = 1.0;
        let (mut rows, mut right) = (Vec::new(), Vec::new());
        let mut powers = vec![1.0; self.ratios.len()];
        for power in 0..order {
            rows.push(powers.clone());
            right.push(phi * factorial / base);
            for (power, ratio) in powers.iter_mut().zip(&self.ratios) {
                *power *= ratio;
            }
            factorial *= power as f64 + 2.0;
            phi = phi / self.rate - 1.0 / factorial;
        }
        solve(rows, right)
    }

    /// Adds `scale·Σ weight·(output - newest) / ratio`.
    fn add_differences(&self, outputs: &mut [f64], weights: &[f64], scale: f64) {
        for (index, (weight, ratio)) in weights.iter().zip(&self.ratios).enumerate() {
            let share = scale * weight / ratio;
            outputs[index + 1] += share;
            outputs[0] -= share;
        }
    }
}

impl Rule for UniPc {
    fn step(&self, trajectory: &Trajectory, history: &mut History, mut input: Input) -> Tensor<4> {
        let output = if self.solver.data {
            trajectory.data(&input)
        } else {
            trajectory.noise(&input)
        };
        // The corrector also reads the oldest output of the step before.
        history.remember(output, self.solver.order + 1);
        let corrector = self.correctors[input.evaluation].as_ref();
        if let (Some(corrector), Some(start)) = (corrector, history.sample.take()) {
            input.sample = corrector.apply(start, &history.outputs, None);
        }
        history.sample = Some(input.sample.clone());
        self.predictors[input.evaluation].apply(input.sample, &history.outputs, None)
    }
}
