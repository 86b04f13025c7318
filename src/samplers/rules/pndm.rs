//! PNDM: pseudo numerical methods, which move along the curve of DDIM instead of a straight line:
//! `x' = √(ᾱ'/ᾱ)·x - (ᾱ' - ᾱ) / (ᾱ·√(1 - ᾱ') + √(ᾱ·(1 - ᾱ)·ᾱ'))·Σ weight·ε`.
//!
//! PLMS (`skip_prk_steps`, what latent diffusion uses) is linear multistep; its first step is evaluated twice, at both ends.
//! Full PNDM warms up with three pseudo Runge-Kutta steps of four evaluations each.
//!
//! Source: Liu et al., Pseudo Numerical Methods for Diffusion Models on Manifolds (arXiv 2202.09778, equation 11: the transfer;
//! equations 12 and 13: the gradients; algorithm 2; appendix A.4 for the second-order start of PLMS).

use burn::tensor::Tensor;

use crate::Error;
use crate::error::ConfigError;
use crate::noise::{NoiseLevel, NoiseSchedule, Prediction};
use crate::sampler::{History, Sampler};
use crate::samplers::parts::{
    class::{Class, Word},
    discrete::{previous_alpha_bar, trajectory, whole_timesteps},
    json::Key,
    settings::{Defaults, Settings},
    steps::Steps,
    trajectory::{Input, Rule, Run, Trajectory},
    update::Update,
};

pub(super) static CLASS: Class = Class {
    names: &["PNDMScheduler"],
    words: &[Word::plain("pndm")],
    knows: &[Key::Spacing, Key::SkipRungeKutta],
    defaults: Defaults {
        clips: false,
        ..Defaults::PIXELS
    },
    build,
};

/// Predictions a multistep gradient looks back on.
const ORDER: usize = 4;
/// Runge-Kutta steps of the warm-up.
const WARM_UP: usize = 3;

/// Gradient weights of linear multistep, newest prediction first, by number of predictions.
const MULTISTEP: [&[f64]; ORDER] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

/// Gradient weights of the four Runge-Kutta evaluations, newest prediction first.
const RUNGE_KUTTA: [&[f64]; 4] = [
    &[1.0],
    &[1.0],
    &[1.0],
    &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
];

#[derive(Debug)]
struct Pndm {
    stages: Vec<Stage>,
}

/// One evaluation.
#[derive(Debug)]
struct Stage {
    solver_step: usize,
    timestep: usize,
    /// Over raw predictions, including their conversion to noise.
    update: Update,
    /// Evaluations made before from the same sample; it is held for those that start from it again.
    within: usize,
    /// Predictions to forget afterwards, newest first: only a step's first one is of use to later steps.
    forget: usize,
}

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let schedule = settings.schedule()?;
    let timesteps = whole_timesteps(settings, steps.total)?;
    let tables = Tables {
        settings,
        schedule: &schedule,
        prediction: settings.prediction()?,
        stride: schedule.train_timesteps() / steps.total,
        steps: steps.total,
    };
    let stages = if settings.json.skip_prk_steps.unwrap_or(false) {
        tables.multistep(&twice_second(&timesteps)[steps.skipped..])
    } else if steps.skipped > 0 {
        let hint = "a run that starts from a picture needs it to be true";
        return Err(ConfigError::unsupported("skip_prk_steps", false, hint).into());
    } else {
        tables.with_warm_up(&timesteps)?
    };
    let visited: Vec<usize> = stages.iter().map(|stage| stage.timestep).collect();
    let trajectory = trajectory(settings, &schedule, &visited, settings.clip()?)?;
    let rule = Pndm { stages };
    Ok(Box::new(Run { trajectory, rule }))
}

/// The timesteps that PLMS visits: the second one twice.
fn twice_second(timesteps: &[usize]) -> Vec<usize> {
    let again = timesteps.get(1).copied();
    let (first, rest) = timesteps.split_at(timesteps.len().min(1));
    first
        .iter()
        .copied()
        .chain(again)
        .chain(rest.iter().copied())
        .collect()
}

/// What the steps are reckoned from.
struct Tables<'a> {
    settings: &'a Settings,
    schedule: &'a NoiseSchedule,
    prediction: Prediction,
    /// Training timesteps from one step to the next.
    stride: usize,
    steps: usize,
}

impl Tables<'_> {
    /// PLMS over the timesteps visited: the first step is an Euler step and a second evaluation at its end.
    ///
    /// A run that joins the schedule late does not visit the end of its first step twice, but goes on with the timestep after
    /// it, from the sample it has; so does diffusers.
    fn multistep(&self, visited: &[usize]) -> Vec<Stage> {
        let stage = |(position, &timestep): (usize, &usize)| {
            if position == 1 {
                return self.second_evaluation(timestep);
            }
            let known = position.saturating_sub(1).min(ORDER - 1);
            let to = self.below(timestep);
            // Every evaluation counts as a step, the second one too: so do the published caching schedules for PLMS.
            self.stage(position, timestep, (timestep, to), MULTISTEP[known])
        };
        visited.iter().enumerate().map(stage).collect()
    }

    /// The first step again, from where it started, with the mean of the predictions at both of its ends.
    fn second_evaluation(&self, timestep: usize) -> Stage {
        let from = (timestep + self.stride).min(self.schedule.train_timesteps() - 1);
        let to = self.schedule.alpha_bars()[timestep];
        Stage {
            within: 1,
            forget: 1,
            ..self.stage(1, timestep, (from, to), &[0.5, 0.5])
        }
    }

    /// Full PNDM: three Runge-Kutta steps, then linear multistep of full order.
    fn with_warm_up(&self, timesteps: &[usize]) -> Result<Vec<Stage>, ConfigError> {
        if timesteps.len() <= WARM_UP {
            let hint = "ask for at least 4 steps, or set it to true";
            return Err(ConfigError::unsupported("skip_prk_steps", false, hint));
        }
        let warm_up = (0..WARM_UP).flat_map(|index| self.runge_kutta(index, timesteps));
        let rest = timesteps.iter().enumerate().skip(WARM_UP);
        let rest = rest.map(|(index, timestep)| {
            let to = self.below(*timestep);
            self.stage(index, *timestep, (*timestep, to), MULTISTEP[ORDER - 1])
        });
        Ok(warm_up.chain(rest).collect())
    }

    /// The step from `timesteps[index]` to the next one: evaluations at its start, twice halfway, and at its end.
    fn runge_kutta(&self, index: usize, timesteps: &[usize]) -> Vec<Stage> {
        let (start, end) = (timesteps[index], timesteps[index + 1]);
        // Where timesteps are dense at the clean end, half a stride is farther than the next one.
        let halfway = (end + self.stride / 2).min(self.schedule.train_timesteps() - 1);
        let evaluated = [start, halfway, halfway, end];
        let targets = [start.saturating_sub(self.stride / 2), halfway, end, end];
        (0..RUNGE_KUTTA.len())
            .map(|within| {
                let to = self.schedule.alpha_bars()[targets[within]];
                let mut stage =
                    self.stage(index, evaluated[within], (start, to), RUNGE_KUTTA[within]);
                stage.within = within;
                stage.forget = if within == RUNGE_KUTTA.len() - 1 {
                    within
                } else {
                    0
                };
                stage
            })
            .collect()
    }

    fn below(&self, timestep: usize) -> f64 {
        previous_alpha_bar(self.settings, self.schedule, timestep, self.steps, false)
    }

    /// The pseudo transfer of 2202.09778, equation 11, from timestep `from` to `alpha_bar` `to`.
    fn stage(
        &self,
        solver_step: usize,
        timestep: usize,
        (from, to): (usize, f64),
        gradient: &[f64],
    ) -> Stage {
        let bar = self.schedule.alpha_bars()[from];
        let slope = -(to - bar) / (bar * (1.0 - to).sqrt() + (bar * (1.0 - bar) * to).sqrt());
        let noise = self.prediction.noise(NoiseLevel::from_alpha_bar(bar));
        let update = Update {
            sample: (to / bar).sqrt() + slope * noise.sample,
            outputs: gradient
                .iter()
                .map(|weight| weight * slope * noise.prediction)
                .collect(),
            noise: 0.0,
        };
        Stage {
            solver_step,
            timestep,
            update,
            within: 0,
            forget: 0,
        }
    }
}

impl Rule for Pndm {
    fn solver_step(&self, evaluation: usize) -> usize {
        self.stages[evaluation].solver_step
    }

    fn step(&self, _trajectory: &Trajectory, history: &mut History, input: Input) -> Tensor<4> {
        let stage = &self.stages[input.evaluation];
        // Room for the predictions within a step beside those of earlier steps.
        history.remember(input.mean(), ORDER + stage.within);
        if stage.within == 0 {
            history.sample = Some(input.sample.clone());
        }
        let start = history.sample.clone().unwrap_or(input.sample);
        let next = stage.update.apply(start, &history.outputs, None);
        history
            .outputs
            .truncate(history.outputs.len() - stage.forget);
        next
    }
}
