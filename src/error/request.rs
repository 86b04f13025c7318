//! What a caller asked for.

#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("`steps` is 0\nhint: ask for at least one step")]
    ZeroSteps,
    #[error("size {width}x{height} is not a multiple of {multiple}\nhint: try {}x{}", nearest(*width, *multiple), nearest(*height, *multiple))]
    Size {
        width: usize,
        height: usize,
        multiple: usize,
    },
    #[error("there is no model `{name}`\nhint: name a folder, a checkpoint file, `bundled`, a Hub id `owner/name` or a card ({})", cards.join(", "))]
    Model {
        name: String,
        cards: Vec<&'static str>,
    },
    #[error("this build carries no model\nhint: build with the `bundled` feature, or name a model")]
    NoBundledModel,
}

/// The multiple of `multiple` nearest to `side`, at least one of it.
fn nearest(side: usize, multiple: usize) -> usize {
    ((side + multiple / 2) / multiple).max(1) * multiple
}
