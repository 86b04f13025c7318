//! The curves between layers.

use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use crate::ops::{self, Gelu};

/// What a network applies to every value between its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    #[default]
    Silu,
    /// `x · Φ(x)`, with the normal distribution itself (arXiv 1606.08415).
    Gelu,
}

impl Activation {
    /// Of every value.
    pub fn of<const D: usize>(self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => silu(input),
            Self::Gelu => ops::gelu(input, Gelu::Exact),
        }
    }

    /// Of every value of `input`, `[rows, channels, height, width]`, after `norm`.
    pub fn after(self, norm: &GroupNorm, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Silu => ops::group_norm_silu(norm, input),
            Self::Gelu => self.of(ops::group_norm(norm, input)),
        }
    }

    /// `layer` over [`after`](Self::after).
    pub fn convolved(self, norm: &GroupNorm, layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Silu => ops::group_norm_silu_conv2d(norm, layer, input),
            Self::Gelu => ops::conv2d(layer, self.after(norm, input)),
        }
    }

    /// [`convolved`](Self::convolved), added to `onto`.
    pub fn convolved_onto(
        self,
        norm: &GroupNorm,
        layer: &Conv2d,
        input: Tensor<4>,
        onto: Tensor<4>,
    ) -> Tensor<4> {
        match self {
            Self::Silu => ops::group_norm_silu_conv2d_onto(norm, layer, input, onto),
            Self::Gelu => ops::add(onto, self.convolved(norm, layer, input)),
        }
    }
}
