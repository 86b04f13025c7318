//! The small picture of an upscaler, beside what it denoises.
//!
//! Source and behaviour: [`LowPicture`](crate::pipeline::LowPicture), and diffusers' `StableDiffusionUpscalePipeline` and
//! `IFSuperResolutionPipeline`, in the order they draw in.

use burn::tensor::Tensor;

use super::start::Start;
use super::steps::Run;
use crate::blend::noised;
use crate::denoise::Noise as _;
use crate::error::{Error, RequestError};
use crate::nn::stretch::stretched;
use crate::pipeline::config::UpscaleConfig;
use crate::pipeline::request::SeededNoise;

impl Run<'_> {
    /// Where a run starts that makes a picture larger: as `start` says, with the small picture beside it. What `start` draws comes first
    /// where that picture is stretched, else after the noise on it.
    pub(in crate::pipeline) fn start_enlarging(
        &self,
        upscale: &UpscaleConfig,
        noise: &mut SeededNoise,
        start: impl FnOnce(&mut SeededNoise) -> Result<Start, Error>,
    ) -> Result<Start, Error> {
        let level = upscale.level(self.request.noise_level)?;
        let (low, start) = if upscale.stretched {
            let start = start(noise)?;
            (self.low(upscale, level, noise)?, start)
        } else {
            (self.low(upscale, level, noise)?, start(noise)?)
        };
        Ok(Start {
            channels: Some(low),
            level: Some(level),
            ..start
        })
    }

    /// The small picture under noise, `[items, 3, height, width]`.
    fn low(
        &self,
        upscale: &UpscaleConfig,
        level: usize,
        noise: &mut SeededNoise,
    ) -> Result<Tensor<4>, Error> {
        let [items, _, height, width] = self.resolved.latent_shape;
        let low = self.request.low.as_ref();
        let low = low.ok_or(RequestError::NothingToEnlarge)?;
        let low = if upscale.stretched {
            stretched(low.on(self.device, items), [height, width])
        } else {
            low.on(self.device, noise.streams())
        };
        let drawn = noise.draw(low.dims());
        let copies = items / low.dims()[0];
        Ok(noised(low, drawn, upscale.noise(level)?).repeat_dim(0, copies))
    }
}
