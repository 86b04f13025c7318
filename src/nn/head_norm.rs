//! A norm of queries and keys, head by head.
//!
//! **Source**: Zhang and Sennrich (arXiv 1910.07467); for queries and keys as Esser et al. (arXiv 2403.03206, section 5.3.2) have it.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, FloatDType, Tensor};

/// Every token of every head to a mean square of 1, then a learned scale; no mean is taken off.
#[derive(Module, Debug)]
pub struct HeadNorm {
    weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl HeadNorm {
    /// For heads of `width`; weights stay lazy until loaded.
    pub fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([width], device),
            epsilon,
        }
    }

    /// `[rows, heads, tokens, width]` to the same, with statistics in f32.
    pub fn forward(&self, heads: Tensor<4>) -> Tensor<4> {
        let dtype = heads.dtype();
        let heads = heads.cast(FloatDType::F32);
        let square = heads.clone().square().mean_dim(3); // [rows, heads, tokens, 1]
        let weight = self.weight.val().cast(FloatDType::F32);
        (heads / (square + self.epsilon).sqrt() * weight.unsqueeze()).cast(dtype)
    }
}
