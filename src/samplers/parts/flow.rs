//! The sigmas of flow matching, whose samples are `(1 - sigma)·x0 + sigma·noise`: equal parts from pure noise down, shifted towards it by
//! `sigma' = s·sigma / (1 + (s - 1)·sigma)`.
//!
//! Source: Liu et al., Rectified Flow (arXiv 2209.03003) and Lipman et al., Flow Matching (2210.02747) for the path; Esser et al.,
//! Scaling Rectified Flow Transformers (2403.03206, section 5.3.2: the shift, which grows with the picture).

#![allow(
    clippy::cast_possible_truncation,
    reason = "the published tables are f32"
)]

use super::parameterisation::Parameterisation;
use super::settings::{Settings, choose};
use super::sigmas::{Layout, SigmaTable};
use super::trajectory::{Clip, Trajectory};
use crate::Error;
use crate::error::ConfigError;
use crate::noise::{NoiseLevel, Prediction};

/// How near to pure noise solvers in lambda, which is infinite there, begin.
const NEARLY_NOISE: f64 = 1e-6;

/// `count` equal parts from `from` to `to`, both included. Steps are added to the start, as in the published tables: timesteps that are cut
/// to whole ones see the difference.
fn equal_parts(from: f64, to: f64, count: usize) -> Vec<f64> {
    let step = (to - from) / (count.max(2) - 1) as f64;
    (0..count).map(|index| from + index as f64 * step).collect()
}

fn shifted(shift: f64, sigma: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

/// How far sigmas are shifted, and whether that goes by the size of the sample.
#[derive(Debug, Clone, Copy)]
struct Shift {
    factor: f64,
    dynamic: bool,
}

impl Shift {
    fn of(settings: &Settings, fixed: Option<f64>) -> Result<Self, ConfigError> {
        let dynamic = settings.json.use_dynamic_shifting.unwrap_or(false);
        if dynamic {
            let factor = dynamic_shift(settings)?;
            return Ok(Self { factor, dynamic });
        }
        let factor = fixed.unwrap_or(1.0);
        if factor.is_finite() && factor > 0.0 {
            return Ok(Self { factor, dynamic });
        }
        let hint = "it is above 0, and 1 shifts nothing";
        Err(ConfigError::unsupported("shift", factor, hint))
    }
}

/// The shift of a sample of so many tokens: `mu`, on a straight line through two sizes, or its exponential.
fn dynamic_shift(settings: &Settings) -> Result<f64, ConfigError> {
    let json = &settings.json;
    let Some(tokens) = settings.flow.tokens else {
        let hint = "the shift goes by the size of the sample, which is not known here";
        return Err(ConfigError::unsupported("use_dynamic_shifting", true, hint));
    };
    let base = json.base_shift.unwrap_or(0.5);
    let most = json.max_shift.unwrap_or(settings.flow.max_shift);
    let few = json.base_image_seq_len.unwrap_or(256);
    let many = json.max_image_seq_len.unwrap_or(4096);
    if few == many {
        let hint =
            "the shift is a straight line through it and `base_image_seq_len`, which is the same";
        return Err(ConfigError::unsupported("max_image_seq_len", many, hint));
    }
    let slope = (most - base) / (many as f64 - few as f64);
    let mu = base + slope * (tokens as f64 - few as f64);
    let kind = json.time_shift_type.as_deref().unwrap_or("exponential");
    let exponential = choose(
        "time_shift_type",
        kind,
        &[("exponential", true), ("linear", false)],
    )?;
    let shift = if exponential { mu.exp() } else { mu };
    if shift.is_finite() && shift > 0.0 {
        return Ok(shift);
    }
    let hint = format!(
        "with `base_shift` {base} the shift of {tokens} tokens is {shift}, and it is above 0"
    );
    Err(ConfigError::unsupported("max_shift", most, hint))
}

/// The least sigma that is trained.
fn least(settings: &Settings) -> f64 {
    1.0 / settings.train_timesteps().max(1) as f64
}

/// The sigmas that Euler's and Heun's methods visit, noisy to clean, without the clean end.
///
/// # Errors
///
/// If the configuration asks for a shift that there is not.
pub(in crate::samplers) fn sigmas(settings: &Settings, steps: usize) -> Result<Vec<f64>, Error> {
    let shift = Shift::of(settings, settings.json.shift)?;
    let end = if settings.flow.trailing {
        1.0 / steps as f64
    } else if shift.dynamic {
        least(settings)
    } else {
        // The least one was shifted in training, and is so again here, as published runs were made.
        shifted(shift.factor, least(settings))
    };
    let parts = equal_parts(1.0, end, steps).into_iter();
    let sigmas = parts.map(|sigma| shifted(shift.factor, sigma)).collect();
    let sigmas = stretched(sigmas, settings)?;
    let laid_out = Layout::of(settings).sigmas(sigmas[0], sigmas[steps - 1], steps);
    Ok(laid_out.unwrap_or(sigmas))
}

/// Stretched so that the last one is `shift_terminal`. A single one is pure noise, and stays.
fn stretched(sigmas: Vec<f64>, settings: &Settings) -> Result<Vec<f64>, ConfigError> {
    let terminal = settings.json.shift_terminal.unwrap_or(0.0);
    if !(0.0..1.0).contains(&terminal) {
        let hint = "the last noise level that is visited is at least 0 and below 1";
        return Err(ConfigError::unsupported("shift_terminal", terminal, hint));
    }
    let cleaned = sigmas.last().map_or(0.0, |last| 1.0 - last);
    if terminal == 0.0 || cleaned == 0.0 {
        return Ok(sigmas);
    }
    let scale = cleaned / (1.0 - terminal);
    let stretch = |sigma: f64| 1.0 - (1.0 - sigma) / scale;
    Ok(sigmas.into_iter().map(stretch).collect())
}

/// One evaluation at each of `sigmas`, which fall from pure noise; the network is told their parts of the trained timesteps.
///
/// # Errors
///
/// If the model does not predict a flow.
pub(in crate::samplers) fn trajectory(
    settings: &Settings,
    sigmas: &[f64],
) -> Result<Trajectory, Error> {
    check_flow(settings)?;
    let reading = Parameterisation::Plain(Prediction::Flow);
    Ok(placed(settings, sigmas, NoiseLevel::flow, reading))
}

/// The same counted from the clean end: sigmas rise.
///
/// # Errors
///
/// If the model does not predict a flow.
pub(in crate::samplers) fn reversed_trajectory(
    settings: &Settings,
    sigmas: &[f64],
) -> Result<Trajectory, Error> {
    check_flow(settings)?;
    let level = |sigma| NoiseLevel::flow(1.0 - sigma);
    Ok(placed(settings, sigmas, level, Parameterisation::Reversed))
}

fn placed(
    settings: &Settings,
    sigmas: &[f64],
    level: fn(f64) -> NoiseLevel,
    reading: Parameterisation,
) -> Trajectory {
    let trained = settings.train_timesteps() as f64;
    let timesteps: Vec<f64> = sigmas.iter().map(|sigma| sigma * trained).collect();
    let levels = sigmas.iter().copied().map(level).collect();
    Trajectory::new(&timesteps, levels, reading, Clip::Off)
}

fn check_flow(settings: &Settings) -> Result<(), Error> {
    if settings.flows()? {
        return Ok(());
    }
    let said = settings.json.prediction_type.as_deref();
    let hint = "flow-euler and flow-heun sample models that predict a flow: flow_prediction";
    Err(ConfigError::unsupported("prediction_type", said.unwrap_or("epsilon"), hint).into())
}

/// The noise level of a sigma.
pub(in crate::samplers) type Level = fn(f64) -> NoiseLevel;

/// What a solver in lambda makes of the ends of its sigmas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::samplers) enum Ends {
    /// Parts between no noise and the most but one that is trained; the clean end is left out.
    Open,
    /// Parts from pure noise, or nearly, to the least that is trained; that is left out.
    Noise,
}

/// The table of solvers in lambda on a flow: sigmas have f32 values, for their distance to pure noise counts, and timesteps are cut to
/// whole ones.
///
/// # Errors
///
/// If the configuration asks for a shift or for other sigmas that there are not, or does not ask for those of a flow.
pub(in crate::samplers) fn in_lambda(
    settings: &Settings,
    steps: usize,
    ends: Ends,
) -> Result<SigmaTable, Error> {
    let json = &settings.json;
    if json.use_flow_sigmas == Some(false) {
        let hint = "a model that predicts a flow has no others";
        return Err(ConfigError::unsupported("use_flow_sigmas", false, hint).into());
    }
    if let Some(key) = Layout::of(settings).key() {
        let hint = "this sampler lays the sigmas of a flow out by their shift alone";
        return Err(ConfigError::unsupported(key, true, hint).into());
    }
    let shift = Shift::of(settings, json.flow_shift.map(|shift| shift.0))?.factor;
    let mut parts = equal_parts(1.0, least(settings), steps + 1);
    if ends == Ends::Open {
        parts = parts.iter().rev().map(|signal| 1.0 - signal).collect();
    }
    parts.truncate(steps);
    let shifted = parts.into_iter().map(|sigma| shifted(shift, sigma));
    let mut sigmas = stretched(shifted.collect(), settings)?;
    if ends == Ends::Noise && 1.0 - sigmas[0] < NEARLY_NOISE {
        sigmas[0] -= NEARLY_NOISE;
    }
    let trained = settings.train_timesteps() as f64;
    let timesteps = sigmas
        .iter()
        .map(|sigma| (sigma * trained).trunc())
        .collect();
    sigmas.push(match (settings.ends_at_zero()?, ends) {
        (true, _) => 0.0,
        (false, Ends::Open) => settings.schedule()?.sigmas()[0],
        (false, Ends::Noise) => sigmas[steps - 1],
    });
    let rounded = sigmas.iter().map(|sigma| f64::from(*sigma as f32));
    Ok(SigmaTable {
        timesteps,
        sigmas: rounded.collect(),
        initial: 1.0,
    })
}
