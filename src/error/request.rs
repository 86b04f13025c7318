//! What a caller asked for.

#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("`steps` is 0\nhint: ask for at least one step")]
    ZeroSteps,
    #[error(
        "{steps} steps do not fit the {train_timesteps} timesteps the model was trained on\nhint: ask for fewer steps"
    )]
    TooManySteps {
        steps: usize,
        train_timesteps: usize,
    },
    #[error("`eta` is {eta}, which is not between 0 and 1")]
    Eta { eta: f64 },
    #[error("there is no sampler `{name}`\nhint: choose one of {known}")]
    UnknownSampler { name: String, known: String },
    #[error("size {width}x{height} is not a multiple of {multiple}\nhint: try {}x{}", nearest(*width, *multiple), nearest(*height, *multiple))]
    Size {
        width: usize,
        height: usize,
        multiple: usize,
    },
}

/// The multiple of `multiple` nearest to `side`, at least one of it.
fn nearest(side: usize, multiple: usize) -> usize {
    ((side + multiple / 2) / multiple).max(1) * multiple
}
