//! What samplers share that look whole timesteps up in the schedule.

use super::parameterisation::Parameterisation;
use super::settings::Settings;
use super::trajectory::{Clip, Trajectory};
use crate::Error;
use crate::error::{ConfigError, RequestError};
use crate::noise::{NoiseLevel, NoiseSchedule};

/// Steps of the schedule that models are distilled on, where the configuration is silent.
const DISTILLED: usize = 50;

/// One evaluation at each of `timesteps`.
pub(in crate::samplers) fn trajectory(
    settings: &Settings,
    schedule: &NoiseSchedule,
    timesteps: &[usize],
    clip: Clip,
) -> Result<Trajectory, Error> {
    let level = |timestep: &usize| NoiseLevel::from_alpha_bar(schedule.alpha_bars()[*timestep]);
    let levels: Vec<NoiseLevel> = timesteps.iter().map(level).collect();
    let calls: Vec<f64> = timesteps.iter().map(|timestep| *timestep as f64).collect();
    let prediction = settings.prediction_at(&levels)?;
    let reading = Parameterisation::Plain(prediction);
    Ok(Trajectory::new(&calls, levels, reading, clip))
}

/// The timesteps of samplers that look whole ones up in the schedule.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a closed grid lies within the schedule"
)]
pub(in crate::samplers) fn whole_timesteps(
    settings: &Settings,
    steps: usize,
) -> Result<Vec<usize>, Error> {
    let timesteps = settings.grid()?.closed(steps)?.into_iter();
    Ok(timesteps
        .map(|timestep| timestep.round_ties_even() as usize)
        .collect())
}

/// Timesteps of distilled models: evenly spaced ones of those they were distilled on, whose strides end at the noisiest timestep
/// (Luo et al., arXiv 2310.04378, section 4.3). Spacing and offset of a configuration do not count. A run of one step begins where `first_timestep` says
/// (a key of ours; `timesteps=[800]` of Hyper-SD's card).
pub(in crate::samplers) fn distilled_timesteps(
    settings: &Settings,
    steps: usize,
) -> Result<Vec<usize>, Error> {
    let trained = settings.train_timesteps();
    if let (1, Some(first)) = (steps, settings.json.first_timestep) {
        if first >= trained {
            let hint = format!("a schedule of {trained} timesteps begins below that");
            return Err(ConfigError::unsupported("first_timestep", first, hint).into());
        }
        return Ok(vec![first]);
    }
    let original = settings.json.original_inference_steps.unwrap_or(DISTILLED);
    if original == 0 || original > trained {
        let hint = format!("a schedule of {trained} timesteps has 1 to as many");
        return Err(ConfigError::unsupported("original_inference_steps", original, hint).into());
    }
    if steps > original {
        return Err(RequestError::TooManySteps {
            steps,
            train_timesteps: original,
            places: "steps the model was distilled on",
            most: Some(original),
        }
        .into());
    }
    let stride = trained / original;
    let part = original as f64 / steps as f64;
    let place = |index: usize| (original - (index as f64 * part) as usize) * stride - 1;
    Ok((0..steps).map(place).collect())
}

/// `alpha_bar` one whole stride below `timestep`; below 0 that of a clean sample, or of timestep 0 (`set_alpha_to_one`).
pub(in crate::samplers) fn previous_alpha_bar(
    settings: &Settings,
    schedule: &NoiseSchedule,
    timestep: usize,
    steps: usize,
    ends_clean: bool,
) -> f64 {
    let bars = schedule.alpha_bars();
    match timestep.checked_sub(schedule.train_timesteps() / steps) {
        Some(previous) => bars[previous],
        None if settings.json.set_alpha_to_one.unwrap_or(ends_clean) => 1.0,
        None => bars[0],
    }
}
