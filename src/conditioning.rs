//! What a run is conditioned on, whatever the model: made by the source of a pipeline, read by its trunk.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::denoiser::Rows;

/// Everything that a denoiser can be told beside the latents and the timestep. A trunk reads what its configuration asks for; the rest is
/// empty. Whatever has rows has them in the order half, item, frame.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// Rows of one evaluation.
    pub rows: Rows,
    /// What cross-attention reads: states of texts, classes or pictures, `[rows, tokens, width]`.
    pub context: Option<Tensor<3>>,
    /// How many of those tokens are text, one a row, for networks that look at no padding; none where all are read.
    pub lengths: Vec<usize>,
    /// Each row's text or picture as one vector, `[rows, width]`, added to the time embedding.
    pub pooled: Option<Tensor<2>>,
    /// Each row's numbers, added to the time embedding as sinusoids: sizes and crops in pixels, height first; scores; frame rates.
    pub numbers: Vec<Vec<f64>>,
    /// One label a row: a class, or a level of noise.
    pub labels: Vec<usize>,
    /// Labels that are vectors, `[rows, width]`.
    pub label_vectors: Option<Tensor<2>>,
    /// How strongly a network guides itself that was distilled to read it.
    pub guidance_scale: Option<f64>,
    /// Input channels beside the latents, `[rows, channels, height, width]`: a mask, a picture or its latents.
    pub channels: Option<Tensor<4>>,
    /// What steers beside the trunk, one entry a net.
    pub hints: Vec<Hint>,
}

/// What one `ControlNet` follows.
#[derive(Debug, Clone)]
pub struct Hint {
    /// The picture, 0 to 1, `[1, frames or items, hint channels, 8 · height, 8 · width]`.
    pub picture: Tensor<4>,
    /// How strongly.
    pub scale: f64,
    /// The evaluations at which it steers; at others its net does not run.
    pub evaluations: Range<usize>,
    /// Steers only the conditioned half of guidance, and the inner skips more than the outer ones.
    pub guess: bool,
}

impl Conditioning {
    /// Nothing but noise.
    pub fn none(rows: Rows) -> Self {
        Self {
            rows,
            context: None,
            lengths: Vec::new(),
            pooled: None,
            numbers: Vec::new(),
            labels: Vec::new(),
            label_vectors: None,
            guidance_scale: None,
            channels: None,
            hints: Vec::new(),
        }
    }

    /// States for cross-attention, `[rows, tokens, width]`, of one guidance half where `rows` is not said otherwise.
    pub fn of_context(states: Tensor<3>) -> Self {
        Self {
            context: Some(states.clone()),
            ..Self::none(Rows::single(states.dims()[0]))
        }
    }

    /// Labels, one a row, of one guidance half where `rows` is not said otherwise.
    pub fn of_labels(labels: Vec<usize>) -> Self {
        Self {
            rows: Rows::single(labels.len()),
            labels,
            ..Self::none(Rows::single(0))
        }
    }

    /// What cross-attention reads, `[rows, tokens, width]`.
    ///
    /// # Panics
    ///
    /// If there is nothing to read: a programmer's mistake, as sources are checked against the trunk when a model is loaded.
    pub fn states(&self) -> &Tensor<3> {
        let states = self.context.as_ref();
        states.expect("a trunk with cross-attention is given states")
    }
}
