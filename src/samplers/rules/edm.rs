//! Euler's method for preconditioned networks: `x' = x + (σ' - σ)·(x - x0)/σ`, with `x0 = c_skip·x + c_out·F`.
//!
//! Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (arXiv 2206.00364, table 1:
//! preconditioning and sigmas; algorithm 2 without churn). Behaviour as diffusers' `EDMEulerScheduler`.

use super::euler::Euler;
use crate::Error;
use crate::error::ConfigError;
use crate::noise::{NoiseLevel, Prediction, exponential_sigmas, karras_sigmas_of};
use crate::sampler::Sampler;
use crate::samplers::parts::{
    class::{Class, Word},
    json::Key,
    parameterisation::Parameterisation,
    settings::{Defaults, Settings, choose},
    steps::Steps,
    trajectory::{Clip, Run, Trajectory},
};

pub(super) static CLASS: Class = Class {
    names: &["EDMEulerScheduler"],
    words: &[Word::plain("edm-euler")],
    knows: &[Key::SigmaEnds, Key::FinalSigmas],
    defaults: Defaults::PLAIN,
    build,
};

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let mut sigmas = sigmas(settings, steps.total)?;
    let trajectory = trajectory(settings, &sigmas, Clip::Off)?.joined_after(steps.skipped);
    let last = sigmas[steps.total - 1];
    sigmas.push(if settings.ends_at_zero()? { 0.0 } else { last });
    let rule = Euler::over(&sigmas);
    Ok(Box::new(Run { trajectory, rule }))
}

/// The least and the most noise.
pub(super) fn ends(settings: &Settings) -> Result<(f64, f64), ConfigError> {
    settings.sigma_ends(0.002, 80.0)
}

/// The levels that are visited, noisy to clean.
pub(super) fn sigmas(settings: &Settings, steps: usize) -> Result<Vec<f64>, ConfigError> {
    let (min, max) = ends(settings)?;
    let layout = settings.json.sigma_schedule.as_deref().unwrap_or("karras");
    if choose(
        "sigma_schedule",
        layout,
        &[("karras", true), ("exponential", false)],
    )? {
        let rho = settings.json.rho.unwrap_or(7.0);
        return Ok(karras_sigmas_of(rho, max, min, steps));
    }
    // Laid out from the clean end: a single step is there.
    let mut rising = exponential_sigmas(min, max, steps);
    rising.reverse();
    Ok(rising)
}

/// One evaluation at each of `sigmas`, of which the network is told a quarter of the logarithm.
pub(super) fn trajectory(
    settings: &Settings,
    sigmas: &[f64],
    clip: Clip,
) -> Result<Trajectory, Error> {
    let sign = match settings.prediction()? {
        Prediction::Epsilon => 1.0,
        Prediction::Velocity => -1.0,
        Prediction::Sample | Prediction::Flow => {
            let hint = "preconditioned networks predict epsilon or v_prediction";
            let said = settings.json.prediction_type.clone().unwrap_or_default();
            return Err(ConfigError::unsupported("prediction_type", said, hint).into());
        }
    };
    let data = settings.json.sigma_data.map_or(0.5, |data| data.0);
    let timesteps: Vec<f64> = sigmas.iter().map(|sigma| 0.25 * sigma.ln()).collect();
    let levels = sigmas.iter().copied().map(NoiseLevel::exploding).collect();
    let reading = Parameterisation::Preconditioned { data, sign };
    let (_, max) = ends(settings)?;
    let trajectory = Trajectory::new(&timesteps, levels, reading, clip);
    Ok(trajectory.starting_from(max.hypot(1.0)))
}
