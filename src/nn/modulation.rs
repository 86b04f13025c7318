//! Norms whose shift and scale come from the conditioning, and the plain feed-forward layer of transformers that have them.
//!
//! **Source**: Peebles and Xie (arXiv 2212.09748, section 3.2, "adaLN").

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::ops::{self, Gelu};

/// Width of the feed-forward layer over that of the tokens.
const EXPANSION: usize = 4;

/// `PARTS` vectors a row, `[rows, 1, width]` each, from the activated conditioning, `[rows, width]`.
pub fn modulation<const PARTS: usize>(
    linear: &Linear,
    conditioning: &Tensor<2>,
) -> [Tensor<3>; PARTS] {
    parts(ops::linear(linear, conditioning.clone()).unsqueeze_dim(1)) // [rows, 1, PARTS · width]
}

/// `[rows, 1, PARTS · width]` as so many vectors a row, `[rows, 1, width]` each.
pub fn parts<const PARTS: usize>(all: Tensor<3>) -> [Tensor<3>; PARTS] {
    let width = all.dims()[2] / PARTS;
    std::array::from_fn(|part| all.clone().narrow(2, part * width, width))
}

/// `[rows, tokens, width]` scaled by one more than `scale`, and shifted: `[rows, 1, width]` both.
pub fn modulate(normed: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    normed * (scale + 1.0) + shift
}

/// `out(gelu(proj(x)))`, with the tanh form of GELU.
#[derive(Module, Debug)]
pub struct PlainFeedForward {
    proj: Linear,
    out: Linear,
}

impl PlainFeedForward {
    /// Builds the layer for tokens of `width`; weights stay lazy until loaded.
    pub fn new(width: usize, device: &Device) -> Self {
        Self {
            proj: LinearConfig::new(width, EXPANSION * width).init(device),
            out: LinearConfig::new(EXPANSION * width, width).init(device),
        }
    }

    /// `[rows, tokens, width]` to the same.
    pub fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let inner = ops::gelu(ops::linear(&self.proj, hidden), Gelu::Tanh); // [rows, tokens, 4 · width]
        ops::linear(&self.out, inner)
    }
}
