//! What both kinds of blocks share.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::nn::rotary::Rotary;

/// Epsilon of all norms.
pub(super) const EPSILON: f64 = 1e-6;

/// A norm without weights of its own; what it is shifted and scaled by, and how its branch is gated, comes from the conditioning.
#[derive(Module, Debug)]
pub(super) struct AdaNorm {
    pub(super) linear: Linear,
}

impl AdaNorm {
    pub(super) fn new(width: usize, parts: usize, device: &Device) -> Self {
        Self {
            linear: LinearConfig::new(width, parts * width).init(device),
        }
    }
}

/// What every block reads beside its tokens.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// Timestep, guidance and text as one activated vector a row, `[rows, width]`.
    pub(super) conditioning: &'a Tensor<2>,
    /// Where the tokens stand.
    pub(super) rotary: &'a Rotary,
    /// How many of them are text.
    pub(super) text: usize,
}

/// `[rows, tokens, width]` as the text's tokens and the image's.
pub(super) fn streams(tokens: Tensor<3>, text: usize) -> [Tensor<3>; 2] {
    let image = tokens.dims()[1] - text;
    [
        tokens.clone().narrow(1, 0, text),
        tokens.narrow(1, text, image),
    ]
}

/// Both streams as one, `[rows, tokens, width]`.
pub(super) fn joined(streams: [Tensor<3>; 2]) -> Tensor<3> {
    Tensor::cat(streams.into(), 1)
}
