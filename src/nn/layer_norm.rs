//! Layer normalisation.
//!
//! Source: Ba, Kiros and Hinton, "Layer Normalization" (arXiv 1607.06450, section 3).

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::ops;

/// Every token to mean 0 and deviation 1, then a learned scale and shift. Named and stored as burn's own, so that it loads alike.
#[derive(Module, Debug)]
pub struct LayerNorm {
    pub(crate) gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Builds the layer for tokens of `width`; weights stay lazy until loaded.
    pub fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([width], device),
            beta: Initializer::Zeros.init([width], device),
            epsilon,
        }
    }

    /// `[…, width]` to the same.
    pub fn forward<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        ops::layer_norm(hidden, self.gamma.val(), self.beta.val(), self.epsilon)
    }
}
