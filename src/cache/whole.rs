//! Whole evaluations: what is stored is the prediction itself, so that nothing runs where it is not computed.

use burn::tensor::Tensor;

use crate::denoiser::{Carry, join_rows, mean_magnitude, weighted_sum};

/// The prediction of an evaluation, `[rows, channels, height, width]`, f32, before guidance.
#[derive(Debug, Clone)]
pub(super) struct Predicted(pub(super) Tensor<4>);

impl Carry for Predicted {
    fn graft_deep(&mut self, from: &Self) {
        self.clone_from(from);
    }

    fn without_skips(self) -> Self {
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        Self(weighted_sum(parts, |part| &part.0))
    }

    fn join(steps: Vec<Self>) -> Self {
        Self(join_rows(&steps, |step| &step.0))
    }

    fn magnitude(&self) -> Tensor<1> {
        mean_magnitude(&self.0)
    }

    fn bytes(&self) -> usize {
        self.0.dims().iter().product::<usize>() * self.0.dtype().size()
    }
}
