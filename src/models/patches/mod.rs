//! Latents as patches, for transformers with one stream of tokens: in, between cells, and out again.
//!
//! **Source**: Dosovitskiy et al. (arXiv 2010.11929, section 3.1), Peebles and Xie (arXiv 2212.09748, section 3.2).

pub(super) mod positions;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use crate::denoiser::{Carry, join_rows, mean_magnitude, weighted_sum};
use crate::ops;

/// Latents to tokens.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    pub(super) proj: Conv2d,
}

impl PatchEmbed {
    /// Of patches of `side` by `side` positions of so many channels, to tokens of `width`; weights stay lazy until loaded.
    pub fn new(channels: usize, width: usize, side: usize, device: &Device) -> Self {
        let side = [side, side];
        let proj = Conv2dConfig::new([channels, width], side)
            .with_stride(side)
            .init(device);
        Self { proj }
    }

    /// `[rows, channels, height, width]` to `[rows, patches, width]`, without positions.
    pub fn forward(&self, sample: Tensor<4>) -> Tensor<3> {
        ops::to_tokens(ops::conv2d(&self.proj, sample)) // [rows, patches, width]
    }
}

/// Patches along each side of a sample, `[rows, channels, height, width]`.
///
/// # Panics
///
/// If a side is not a whole number of patches.
pub fn grid(sample: &Tensor<4>, patch: usize) -> [usize; 2] {
    let [_, _, height, width] = sample.dims();
    assert!(
        height.is_multiple_of(patch) && width.is_multiple_of(patch),
        "`sample` has sides {height}x{width}, which are no whole patches of {patch}"
    );
    [height / patch, width / patch]
}

/// Patches, `[rows, patches, patch · patch · channels]`, put together: `[rows, channels, height, width]`.
pub fn unpatched(patches: Tensor<3>, grid: [usize; 2], patch: usize) -> Tensor<4> {
    let [rows, _, values] = patches.dims();
    let channels = values / (patch * patch);
    patches
        .reshape([rows, grid[0], grid[1], patch, patch, channels])
        .permute([0, 5, 1, 3, 2, 4]) // [rows, channels, grid rows, patch, grid columns, patch]
        .reshape([rows, channels, grid[0] * patch, grid[1] * patch])
}

/// Tokens, and how many patches the latents have along each side.
#[derive(Debug, Clone)]
pub struct PatchCarry {
    pub(super) hidden: Tensor<3>,
    pub(super) grid: [usize; 2],
}

impl PatchCarry {
    /// Tokens, `[rows, patches, width]`.
    pub fn hidden(&self) -> &Tensor<3> {
        &self.hidden
    }
}

impl Carry for PatchCarry {
    fn graft_deep(&mut self, from: &Self) {
        self.hidden = from.hidden.clone();
    }

    fn without_skips(self) -> Self {
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        let (first, _) = parts.first().expect("a carry to mix");
        Self {
            hidden: weighted_sum(parts, Self::hidden),
            grid: first.grid,
        }
    }

    fn join(steps: Vec<Self>) -> Self {
        let first = steps.first().expect("a carry to join");
        Self {
            hidden: join_rows(&steps, Self::hidden),
            grid: first.grid,
        }
    }

    fn magnitude(&self) -> Tensor<1> {
        mean_magnitude(&self.hidden)
    }

    fn bytes(&self) -> usize {
        self.hidden.dims().iter().product::<usize>() * self.hidden.dtype().size()
    }
}
