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
    #[error(
        "`clip_skip` is {clip_skip}, the text encoder has {layers} layers\nhint: 1 leaves out the last layer"
    )]
    ClipSkip { clip_skip: usize, layers: usize },
}

/// The multiple of `multiple` nearest to `side`, at least one of it.
fn nearest(side: usize, multiple: usize) -> usize {
    ((side + multiple / 2) / multiple).max(1) * multiple
}
