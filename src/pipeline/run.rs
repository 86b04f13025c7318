//! What every family does between its conditions and its decoder.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use burn::tensor::{DType, Device, Tensor};

use super::edit::Start;
use super::noise::SeededNoise;
use super::request::{Request, Resolved};
use super::rescue::{self, KeptLatents};
use super::stage::{Begun, Stage};
use crate::cache::{Account, Forecast, Session};
use crate::conditioning::Conditioning;
use crate::denoise::{Denoise, Noise as _, Observer};
use crate::denoiser::StagedDenoiser;
use crate::device;
use crate::error::{DeviceError, Error, RequestError};
use crate::image_io::Picture;

/// Pictures and how they came about.
#[derive(Debug)]
pub struct Generated {
    /// `[items, 3, height, width]`, 0 to 1.
    pub images: Tensor<4>,
    /// What was decoded, `[items, channels, height, width]`, in the denoiser's units.
    pub latents: Tensor<4>,
    /// Text states, `[rows, tokens, width]`, `[uncond; cond]` when guided; `None` for models that read no text.
    pub prompt_embeds: Option<Tensor<3>>,
    /// Each whole text as one vector, `[rows, projection]`, for models that read one (SDXL).
    pub pooled_prompt_embeds: Option<Tensor<2>>,
    /// Times and counts.
    pub report: Report,
    /// The latents in a file, where something made keeping them advisable ([`Request::rescue`]); until this is dropped.
    pub kept: Option<KeptLatents>,
}

impl Generated {
    /// `error`, for which the pictures could not be written, and where the latents are: those kept, or else written to `rescue` now, if
    /// that can be done.
    #[must_use]
    pub fn unwritten(self, error: Error, rescue: Option<&Path>) -> Error {
        rescue::unwritten(&self.latents, self.kept, rescue, error)
    }

    /// The pictures, read back from the device.
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
    /// The most bytes that the device's memory pool held, asked behind the denoising loop and behind decoding; pages kept for later count,
    /// so that little of a peak between is missed. `None` on the CPU, which has no pool.
    pub device_memory: Option<u64>,
}

/// A request on its way through the denoising loop.
pub(super) struct Run<'a> {
    pub(super) request: &'a Request,
    pub(super) resolved: &'a Resolved,
    pub(super) device: &'a Device,
    /// Of the denoiser.
    pub(super) dtype: DType,
}

impl Run<'_> {
    /// The seeds' noise, from its beginning.
    pub(super) fn noise(&self) -> SeededNoise {
        SeededNoise::new(&self.request.seeds, self.device)
    }

    /// From the seeds' noise, or the latents given, to clean latents.
    pub(super) fn denoise<D: StagedDenoiser + ?Sized>(
        &self,
        denoiser: &D,
        condition: &Conditioning,
        observer: &mut dyn Observer,
    ) -> Result<Begun, Error> {
        let mut noise = self.noise();
        let start = self.start_from_noise(&mut noise)?;
        self.denoise_from(start, denoiser, condition, &mut noise, observer)
    }

    /// A start from noise alone, or from what another model has left.
    pub(super) fn start_from_noise(&self, noise: &mut SeededNoise) -> Result<Start, Error> {
        if matches!(self.request.stage, Stage::Finish { .. }) {
            let left = self.given()?.ok_or(RequestError::NothingToFinish)?;
            return Ok(Start::from_noise(left));
        }
        let scale = self.resolved.sampler.initial_noise_scale();
        Ok(Start::from_noise(self.normals(noise)? * scale))
    }

    /// From `start` to clean latents; `noise` goes on where the start has left it.
    pub(super) fn denoise_from<D: StagedDenoiser + ?Sized>(
        &self,
        start: Start,
        denoiser: &D,
        condition: &Conditioning,
        noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Begun, Error> {
        let Self {
            request, resolved, ..
        } = self;
        for note in &resolved.notes {
            observer.warn(note);
        }
        for warning in &resolved.plan.warnings {
            observer.warn(&warning.to_string());
        }
        let run = denoiser.start(condition, resolved.sampler.evaluations());
        let mut session = Session::new(denoiser, &run, &resolved.plan, resolved.rows);
        if request.step_graphs {
            session = session.with_step_graphs();
        }
        let denoise = Denoise {
            sampler: resolved.sampler.as_ref(),
            plan: &resolved.plan,
            guidance: resolved.guidance,
            prior_noise: request.cache.noise,
            known: start.known.as_ref(),
        };
        let outcome = timed(|| denoise.run(&mut session, start.latents.clone(), noise, observer));
        let (latents, time) = outcome.map_err(|error| match self.dtype {
            DType::F32 => error.in_full_precision(),
            _ => error,
        })?;
        Ok(Begun {
            latents,
            report: Report {
                text: Duration::ZERO,
                denoising: time,
                decoding: Duration::ZERO,
                account: session.account(),
                forecast: resolved.forecast(self.dtype.size()),
                device_memory: device::pool_bytes(self.device),
            },
        })
    }

    /// Standard normals to start from, `[items, channels, height, width]`: the latents given, or the next of the noise.
    pub(super) fn normals(&self, noise: &mut SeededNoise) -> Result<Tensor<4>, Error> {
        let given = self.given()?;
        Ok(given.unwrap_or_else(|| noise.draw(self.resolved.latent_shape)))
    }

    /// The latents that came with the request.
    fn given(&self) -> Result<Option<Tensor<4>>, Error> {
        let expected = self.resolved.latent_shape;
        let Some(given) = &self.request.initial_latents else {
            return Ok(None);
        };
        let found = given.dims();
        if found != expected {
            return Err(RequestError::LatentShape { found, expected }.into());
        }
        Ok(Some(given.clone().to_device(self.device).cast(DType::F32)))
    }
}

impl Begun {
    /// The pictures of latents that are denoised to the end, `decode` making them.
    pub(super) fn decoded(
        self,
        decode: impl FnOnce(Tensor<4>) -> Result<(Tensor<4>, Option<KeptLatents>), Error>,
    ) -> Result<Generated, Error> {
        let Self {
            latents,
            mut report,
        } = self;
        let ((images, kept), decoding) = timed(|| decode(latents.clone()))?;
        report.decoding = decoding;
        report.device_memory = report
            .device_memory
            .max(device::pool_bytes(&latents.device()));
        Ok(Generated {
            images,
            latents,
            prompt_embeds: None,
            pooled_prompt_embeds: None,
            report,
            kept,
        })
    }
}

/// Pictures, 0 to 1, from pixels, -1 to 1, both `[items, 3, height, width]`; waits for the device, and reads a value back, as some
/// failures show nowhere else.
pub(super) fn finished(pixels: Tensor<4>) -> Result<Tensor<4>, Error> {
    const TASK: &str = "decoding the pictures";
    let images = (pixels / 2.0 + 0.5).clamp(0.0, 1.0);
    let done = images.device().sync();
    done.map_err(|error| DeviceError::execution(TASK, &error))?;
    let value = images.clone().slice([0..1, 0..1, 0..1, 0..1]);
    let value = value.try_into_data();
    value.map_err(|error| DeviceError::execution(TASK, &error))?;
    Ok(images)
}

/// A result and how long it took.
pub(super) fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<(T, Duration), Error> {
    let start = Instant::now();
    work().map(|result| (result, start.elapsed()))
}
