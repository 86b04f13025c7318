//! Where a run starts.

use burn::tensor::Tensor;

use crate::blend::Known;

/// Where a run starts.
#[derive(Debug)]
pub(in crate::pipeline) struct Start {
    /// At the scale of the sampler's first evaluation, `[items, channels, height, width]`.
    pub(in crate::pipeline) latents: Tensor<4>,
    /// What stands beside the latents: mask and masked picture for a model that fills masks, `[items, 1 + channels, height, width]`; the
    /// small picture for one that makes it larger, `[items, 3, height, width]`.
    pub(in crate::pipeline) channels: Option<Tensor<4>>,
    /// The level of the noise on that small picture.
    pub(in crate::pipeline) level: Option<usize>,
    /// What is put back after every step, for a model that does not.
    pub(in crate::pipeline) known: Option<Known>,
}

impl Start {
    /// From `latents` that are noise alone, at the scale of the sampler's first evaluation.
    pub(in crate::pipeline) fn from_noise(latents: Tensor<4>) -> Self {
        Self {
            latents,
            channels: None,
            level: None,
            known: None,
        }
    }
}
