//! The tensors of a run's trace, in a file.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};

use crate::{
    engine::Stage,
    error::Error,
    pipeline::{self, Generated, Trace, write_tensors},
};

/// Writes a run's tensors as f32; of films, `initial_latents` are the normals in the shape they were drawn in, `[items, frames, channels,
/// height, width]` or `[items, channels, frames, height, width]`.
///
/// # Errors
///
/// A device error if a tensor cannot be read back, a file error if the folder does not take the file.
pub(super) fn write_trace(
    path: &Path,
    trace: &Trace<'_>,
    stage: &Stage,
    made: &Generated,
) -> Result<(), Error> {
    let mut tensors = vec![
        ("timesteps".to_owned(), timesteps(trace)),
        ("image".to_owned(), read_back(&made.images)?),
    ];
    if let Some(states) = &made.prompt_embeds {
        tensors.push(("prompt_embeds".to_owned(), read_back(states)?));
    }
    if let Some(pooled) = &made.pooled_prompt_embeds {
        tensors.push(("pooled_prompt_embeds".to_owned(), read_back(pooled)?));
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
    reason = "timesteps are at most 1000"
)]
fn timesteps(trace: &Trace<'_>) -> TensorData {
    let timesteps: Vec<f32> = trace.timesteps.iter().map(|&step| step as f32).collect();
    let count = timesteps.len();
    TensorData::new(timesteps, [count])
}

fn read_back<const D: usize>(tensor: &Tensor<D>) -> Result<TensorData, Error> {
    pipeline::read_back(tensor, "reading the trace back")
}
