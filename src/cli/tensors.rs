//! The tensors of a run's trace, in a file.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};

use crate::{
    engine::{Made, Stage},
    error::Error,
    pipeline::{self, Trace, write_tensors},
};

/// Writes a run's tensors as f32, the evaluations that computed everything (`refreshed`), and how far forecasts of those at `verified`
/// were off (`forecast_error`); of films, `initial_latents` are the normals in the shape they were drawn in, `[items, frames, channels,
/// height, width]` or `[items, channels, frames, height, width]`.
///
/// # Errors
///
/// A device error if a tensor cannot be read back, a file error if the folder does not take the file.
pub(super) fn write_trace(
    path: &Path,
    trace: &Trace<'_>,
    stage: &Stage,
    made: &Made,
) -> Result<(), Error> {
    let account = made.computed();
    let made = &made.generated;
    let mut tensors = vec![
        (
            "timesteps".to_owned(),
            numbers(trace.timesteps.iter().copied()),
        ),
        ("image".to_owned(), read_back(&made.images)?),
    ];
    if let Some(states) = &made.prompt_embeds {
        tensors.push(("prompt_embeds".to_owned(), read_back(states)?));
    }
    if let Some(pooled) = &made.pooled_prompt_embeds {
        tensors.push(("pooled_prompt_embeds".to_owned(), read_back(pooled)?));
    }
    if account.refreshes < trace.timesteps.len() {
        let refreshed = account.refreshed.iter().map(|&at| at as f64);
        tensors.push(("refreshed".to_owned(), numbers(refreshed)));
    }
    if !account.verified.is_empty() {
        let errors = account.verified.iter().map(|one| one.error);
        let places = account.verified.iter().map(|one| one.evaluation as f64);
        tensors.push(("verified".to_owned(), numbers(places)));
        tensors.push(("forecast_error".to_owned(), numbers(errors)));
    }
    if let Some(initial) = trace.initial_latents.clone() {
        let resolved = &stage.resolved;
        let initial = if resolved.rows.frames == 1 || resolved.motion.is_some() {
            read_back(&initial)?
        } else {
            read_back(&resolved.drawn(initial))?
        };
        tensors.push(("initial_latents".to_owned(), initial));
    }
    for (name, steps) in [
        ("prediction", &trace.predictions),
        ("latents", &trace.latents),
    ] {
        for (index, tensor) in steps.iter().enumerate() {
            tensors.push((format!("{name}.{index}"), read_back(tensor)?));
        }
    }
    write_tensors(path, "the trace", tensors)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "times, places and shares: all of few digits"
)]
fn numbers(numbers: impl Iterator<Item = f64>) -> TensorData {
    let numbers: Vec<f32> = numbers.map(|number| number as f32).collect();
    let count = numbers.len();
    TensorData::new(numbers, [count])
}

fn read_back<const D: usize>(tensor: &Tensor<D>) -> Result<TensorData, Error> {
    pipeline::read_back(tensor, "reading the trace back")
}
