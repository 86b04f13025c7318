//! The small picture of an upscaler, beside what it denoises.
//!
//! Source and behaviour: [`LowPicture`](crate::pipeline::LowPicture), and diffusers' `StableDiffusionUpscalePipeline` and
//! `IFSuperResolutionPipeline`, in the order they draw in.

use burn::tensor::Tensor;

use super::steps::Run;
use crate::blend::noised;
use crate::conditioning::Conditioning;
use crate::denoise::Noise as _;
use crate::error::{Error, RequestError};
use crate::nn::stretch::stretched;
use crate::pipeline::config::UpscaleConfig;
use crate::pipeline::request::SeededNoise;

impl Run<'_> {
    /// Puts the small picture of a model that makes it larger into `conditioning`, under the next normals of `noise`, and says how much of
    /// them there are: after the run's own normals where the picture is stretched, else before them.
    pub(in crate::pipeline) fn enlarge(
        &self,
        upscale: Option<&UpscaleConfig>,
        after: bool,
        noise: &mut SeededNoise,
        conditioning: &mut Conditioning,
    ) -> Result<(), Error> {
        let Some(upscale) = upscale.filter(|upscale| upscale.stretched == after) else {
            return Ok(());
        };
        let resolved = self.resolved;
        let [items, _, height, width] = resolved.latent_shape;
        let level = upscale.level(self.request.noise_level)?;
        let low = self.request.low.as_ref();
        let low = low.ok_or(RequestError::NothingToEnlarge)?;
        let low = if upscale.stretched {
            stretched(low.on(self.device, items), [height, width])
        } else {
            low.on(self.device, noise.streams())
        };
        let drawn = noise.draw(low.dims());
        let copies = items / low.dims()[0];
        let low: Tensor<4> = noised(low, drawn, upscale.noise(level)?).repeat_dim(0, copies);
        conditioning.channels = Some(resolved.guidance.expand(low));
        conditioning.labels = vec![level; resolved.rows.total()];
        Ok(())
    }
}
