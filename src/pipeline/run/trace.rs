//! Every step of a run, kept for comparison with other engines.

use std::ops::ControlFlow;

use burn::tensor::Tensor;

use crate::denoise::{Observer, Progress};

/// An observer that keeps predictions and latents and passes everything on to another.
pub struct Trace<'a> {
    inner: &'a mut dyn Observer,
    /// Where the run started, `[items, channels, height, width]`.
    pub initial_latents: Option<Tensor<4>>,
    /// Training timestep of every evaluation.
    pub timesteps: Vec<f64>,
    /// After guidance, one an evaluation.
    pub predictions: Vec<Tensor<4>>,
    /// Behind every evaluation.
    pub latents: Vec<Tensor<4>>,
}

impl std::fmt::Debug for Trace<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Trace")
            .field("timesteps", &self.timesteps)
            .finish_non_exhaustive()
    }
}

impl<'a> Trace<'a> {
    /// Wraps `inner`.
    pub fn new(inner: &'a mut dyn Observer) -> Self {
        Self {
            inner,
            initial_latents: None,
            timesteps: Vec::new(),
            predictions: Vec::new(),
            latents: Vec::new(),
        }
    }
}

impl Observer for Trace<'_> {
    fn begin(&mut self, initial_latents: &Tensor<4>) {
        // A refiner begins where the base model stopped.
        self.initial_latents.get_or_insert(initial_latents.clone());
        self.inner.begin(initial_latents);
    }

    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.timesteps.push(progress.evaluation.timestep);
        self.predictions.push(progress.prediction.clone());
        self.latents.push(progress.latents.clone());
        self.inner.progress(progress)
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        self.inner.wants_preview(progress)
    }

    fn previews_decoded(&self) -> bool {
        self.inner.previews_decoded()
    }

    fn preview(&mut self, images: Tensor<4>) {
        self.inner.preview(images);
    }

    fn warn(&mut self, message: &str) {
        self.inner.warn(message);
    }
}
