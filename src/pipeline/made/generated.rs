//! What a run has made, and how it came about.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use super::output::Output;
use super::rescue::{self, KeptLatents};
use crate::cache::{Account, Forecast};
use crate::device;
use crate::error::{DeviceError, Error};
use crate::image_io::Picture;
use crate::pipeline::request::Rescue;
use crate::weights::BlocksRead;

/// Pictures and how they came about.
#[derive(Debug)]
pub struct Generated {
    /// `[items · frames, 3, height, width]`, 0 to 1.
    pub images: Tensor<4>,
    /// Frames of each item; 1 for pictures.
    pub frames: usize,
    /// What was decoded, `[items · frames, channels, height, width]`, in the denoiser's units.
    pub latents: Tensor<4>,
    /// Text states, or of a film of a picture what stands for the picture, `[rows, tokens, width]`, `[uncond; cond]` when guided; `None`
    /// for models that read neither.
    pub prompt_embeds: Option<Tensor<3>>,
    /// Each whole text as one vector, `[rows, projection]`, for models that read one (SDXL).
    pub pooled_prompt_embeds: Option<Tensor<2>>,
    /// Times and counts.
    pub report: Report,
    /// The latents in a file, where something made keeping them advisable ([`Request::rescue`](crate::pipeline::Request::rescue)); until this is dropped.
    pub kept: Option<KeptLatents>,
}

impl Generated {
    /// The pictures' values in 0 to 1, not rounded to bytes, one picture after the other.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn values(&self) -> Result<Vec<f32>, Error> {
        values(&self.images)
    }

    /// `error`, for which the pictures could not be written, and where the latents are: those kept, or else written to `rescue` now, if
    /// that can be done.
    #[must_use]
    pub fn unwritten(self, error: Error, rescue: Option<&Rescue>) -> Error {
        rescue::unwritten(&self.latents, self.kept, rescue, error)
    }

    /// What was made, read back from the device.
    ///
    /// # Errors
    ///
    /// As [`pictures`](Self::pictures).
    pub fn output(&self) -> Result<Output, Error> {
        Ok(Output::of(self.pictures()?, self.frames))
    }

    /// The pictures, read back from the device; of films, all their frames one after the other.
    ///
    /// # Errors
    ///
    /// A device error if the device failed, or if a value is not a number.
    pub fn pictures(&self) -> Result<Vec<Picture>, Error> {
        Picture::from_batch(self.images.clone())
    }
}

/// Where the time went and what the cache spared.
#[derive(Debug, Clone)]
pub struct Report {
    /// Encoding the prompts.
    pub text: Duration,
    /// The denoising loop.
    pub denoising: Duration,
    /// Decoding the latents.
    pub decoding: Duration,
    /// What was really computed.
    pub account: Account,
    /// What the plan forecast.
    pub forecast: Forecast,
    /// What was read of blocks of the denoiser while it ran, where they are streamed.
    pub blocks_read: BlocksRead,
    /// The most bytes that the device's memory pool held, asked behind the denoising loop and behind decoding; pages kept for later count,
    /// so that little of a peak between is missed. `None` on the CPU, which has no pool.
    pub device_memory: Option<u64>,
}

/// Latents that nothing has decoded yet: what the first of two models leaves.
#[derive(Debug)]
pub struct Begun {
    /// `[items, channels, height, width]`, in the denoiser's units, at the noise and the scale where the sampler stopped.
    pub latents: Tensor<4>,
    /// Frames of each item; 1 for pictures.
    pub frames: usize,
    /// Times and counts.
    pub report: Report,
}

impl Begun {
    /// The pictures of latents that are denoised to the end, `decode` making them.
    pub(in crate::pipeline) fn decoded(
        self,
        decode: impl FnOnce(Tensor<4>) -> Result<(Tensor<4>, Option<KeptLatents>), Error>,
    ) -> Result<Generated, Error> {
        let Self {
            latents,
            frames,
            mut report,
        } = self;
        let ((images, kept), decoding) = timed(|| decode(latents.clone()))?;
        report.decoding = decoding;
        report.device_memory = report
            .device_memory
            .max(device::pool_bytes(&latents.device()));
        Ok(Generated {
            images,
            frames,
            latents,
            prompt_embeds: None,
            pooled_prompt_embeds: None,
            report,
            kept,
        })
    }
}

/// Numbers of pictures, read back from the device.
pub(in crate::pipeline) fn values(images: &Tensor<4>) -> Result<Vec<f32>, Error> {
    let data = images.clone().try_into_data();
    let data = data.map_err(|cause| DeviceError::execution("reading pictures back", &cause))?;
    Ok(data.iter::<f32>().collect())
}

/// A result and how long it took.
pub(in crate::pipeline) fn timed<T>(
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<(T, Duration), Error> {
    let start = Instant::now();
    work().map(|result| (result, start.elapsed()))
}
