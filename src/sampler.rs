//! The sampler contract: tables made once, and a pure step.
//!
//! A sampler never calls the model. The driver asks it which evaluations a run makes, scales the input of each, and hands every
//! prediction back in order. That is what allows several evaluations to be decoded in one batch.

use burn::tensor::Tensor;

use crate::denoiser::Evaluation;
use crate::noise::NoiseLevel;

/// What multistep solvers remember between steps. One value a run; a sampler reads and writes only what it needs.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Predictions of earlier evaluations in the form the sampler works with, newest last.
    pub outputs: Vec<Tensor<4>>,
    /// The sample an earlier evaluation started from.
    pub sample: Option<Tensor<4>>,
}

impl History {
    /// Adds `output` and forgets all but the newest `keep`.
    pub fn remember(&mut self, output: Tensor<4>, keep: usize) {
        self.outputs.push(output);
        let surplus = self.outputs.len().saturating_sub(keep);
        self.outputs.drain(..surplus);
    }
}

/// An update rule over a run's evaluations. Tensors are f32, `[items, channels, height, width]`.
pub trait Sampler: std::fmt::Debug + Send + Sync {
    /// The model calls of the run, in order.
    fn evaluations(&self) -> &[Evaluation];

    /// For each evaluation, which solver step it belongs to (Heun: two evaluations a step).
    fn solver_step(&self, evaluation: usize) -> usize {
        evaluation
    }

    /// Signal and noise in the sample that an evaluation starts from: a clean picture `x0` joins the run there as
    /// `alpha·x0 + sigma·noise`.
    fn noise_level(&self, evaluation: usize) -> NoiseLevel;

    /// The clean sample that the prediction of an evaluation speaks of, made from `sample`: where a run would end if the network were right.
    fn clean(&self, sample: Tensor<4>, prediction: Tensor<4>, evaluation: usize) -> Tensor<4>;

    /// Standard deviation of the latents a run starts from.
    fn initial_noise_scale(&self) -> f64;

    /// Brings a sample to the scale the model was trained on.
    fn scale_input(&self, sample: Tensor<4>, evaluation: usize) -> Tensor<4>;

    /// Whether `step` wants standard normal noise at this evaluation. It is drawn in step order, one tensor an evaluation.
    fn draws_noise(&self, _evaluation: usize) -> bool {
        false
    }

    /// Moves `sample` on by one evaluation. A `prediction` of twice the sample's channels carries a learned variance in its
    /// second half; samplers that do not use it drop it.
    ///
    /// # Panics
    ///
    /// If `noise` is absent although [`draws_noise`](Self::draws_noise) asked for it.
    fn step(
        &self,
        history: &mut History,
        prediction: Tensor<4>,
        evaluation: usize,
        sample: Tensor<4>,
        noise: Option<Tensor<4>>,
    ) -> Tensor<4>;
}
