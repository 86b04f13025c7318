//! What every model does between its conditions and its pictures.

use std::time::Duration;

use burn::tensor::{DType, Device, Tensor};

use super::start::Start;
use crate::cache::{Account, Session};
use crate::conditioning::{Conditioning, Hint};
use crate::denoise::{Denoise, Noise as _, Observer};
use crate::denoiser::{Denoiser, StagedDenoiser};
use crate::device;
use crate::error::{Error, RequestError};
use crate::image_io::Picture;
use crate::motion::{Motion, ZeroShotFilm};
use crate::noise::NoiseSchedule;
use crate::pipeline::made::{Begun, Report, timed};
use crate::pipeline::request::{Draws, Request, Resolved, SeededNoise, Stage};
use crate::weights::BlocksRead;

/// Says that forecasts were off by more than their rule allows.
fn observe_drift(account: &Account, observer: &mut dyn Observer) {
    if let Some(drift) = account.drift() {
        observer.warn(&drift.to_string());
    }
}

/// A request on its way through the denoising loop.
pub(in crate::pipeline) struct Run<'a> {
    pub(in crate::pipeline) request: &'a Request,
    pub(in crate::pipeline) resolved: &'a Resolved,
    pub(in crate::pipeline) device: &'a Device,
    /// Of the denoiser.
    pub(in crate::pipeline) dtype: DType,
}

impl Run<'_> {
    /// The seeds' noise, from its beginning.
    pub(in crate::pipeline) fn noise(&self) -> SeededNoise {
        SeededNoise::new(&self.request.seeds, self.device)
    }

    /// From the seeds' noise, or the latents given, to clean latents.
    pub(in crate::pipeline) fn denoise<D: StagedDenoiser + ?Sized>(
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
    pub(in crate::pipeline) fn start_from_noise(
        &self,
        noise: &mut SeededNoise,
    ) -> Result<Start, Error> {
        if matches!(self.request.stage, Stage::Finish { .. }) {
            let left = self.given()?.ok_or(RequestError::NothingToFinish)?;
            return Ok(Start::from_noise(left));
        }
        let scale = self.resolved.sampler.initial_noise_scale();
        Ok(Start::from_noise(self.normals(noise)? * scale))
    }

    /// A film that a model of pictures makes by moving its first frame from `start`; `noise` goes on where the start has left it.
    pub(in crate::pipeline) fn move_from(
        &self,
        start: Start,
        motion: Motion,
        (denoiser, schedule): (&dyn Denoiser, &NoiseSchedule),
        conditioning: &Conditioning,
        noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Begun, Error> {
        let Self {
            request, resolved, ..
        } = self;
        let film = ZeroShotFilm {
            denoiser,
            blueprint: &resolved.blueprint,
            sampler: resolved.sampler.as_ref(),
            schedule,
            rule: &request.cache,
            guidance: resolved.guidance,
            motion,
            frames: resolved.rows.frames,
        };
        let outcome = timed(|| film.run(conditioning, start.latents, noise, observer));
        let (filmed, time) = outcome.map_err(|error| self.told(error))?;
        let accounts = filmed.loops.iter().map(|(account, _)| account);
        let account = accounts.fold(Account::default(), Account::followed_by);
        observe_drift(&account, observer);
        Ok(self.begun(filmed.latents, time, account))
    }

    /// From `start` to clean latents; `noise` goes on where the start has left it.
    pub(in crate::pipeline) fn denoise_from<D: StagedDenoiser + ?Sized>(
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
        for warning in &resolved.plan.warnings {
            observer.warn(&warning.to_string());
        }
        let run = denoiser.start(condition, resolved.sampler.evaluations());
        let mut session = Session::new(denoiser, &run, &resolved.plan, resolved.rows);
        if resolved.guidance.apart {
            session = session.apart();
        }
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
        let (latents, time) = outcome.map_err(|error| self.told(error))?;
        let account = session.account();
        observe_drift(&account, observer);
        Ok(self.begun(latents, time, account))
    }

    /// What the nets of the run follow, at `size`, height and width in pixels.
    pub(in crate::pipeline) fn hints(&self, [height, width]: [usize; 2]) -> Vec<Hint> {
        let controls = self.request.controls.iter().zip(&self.resolved.windows);
        let of = |picture: &Picture| picture.resized(width, height).to_tensor(self.device);
        let hints = controls.map(|(control, window)| Hint {
            picture: Tensor::cat(control.pictures.iter().map(of).collect(), 0),
            scale: control.scale,
            evaluations: window.clone(),
            guess: control.guess,
        });
        hints.collect()
    }

    /// A device's failure, in the words that fit the type that it computes in.
    fn told(&self, error: Error) -> Error {
        match self.dtype {
            DType::F32 => error.in_full_precision(),
            _ => error,
        }
    }

    fn begun(&self, latents: Tensor<4>, denoising: Duration, account: Account) -> Begun {
        Begun {
            latents,
            frames: self.resolved.rows.frames,
            report: Report {
                text: Duration::ZERO,
                denoising,
                decoding: Duration::ZERO,
                account,
                forecast: self.resolved.forecast(self.dtype.size()),
                blocks_read: BlocksRead::default(),
                device_memory: device::pool_bytes(self.device),
            },
        }
    }

    /// Standard normals to start from, `[items · frames, channels, height, width]`, of one frame where the others are made from it: the
    /// latents given, or the next of the noise.
    pub(in crate::pipeline) fn normals(&self, noise: &mut SeededNoise) -> Result<Tensor<4>, Error> {
        let given = self.given()?;
        let normals = given.unwrap_or_else(|| self.drawn(noise));
        Ok(match self.resolved.draws {
            Draws::OneForAll => {
                let [items, channels, height, width] = normals.dims();
                let frames = self.resolved.rows.frames;
                normals
                    .unsqueeze_dim::<5>(1)
                    .repeat_dim(1, frames)
                    .reshape([items * frames, channels, height, width])
            }
            _ => normals,
        })
    }

    fn drawn(&self, noise: &mut SeededNoise) -> Tensor<4> {
        let shape = self.resolved.start_shape();
        if self.resolved.draws != Draws::ChannelByChannel {
            return noise.draw(shape);
        }
        let [rows, channels, height, width] = shape;
        let frames = self.resolved.rows.frames;
        let drawn = noise.draw([rows / frames, channels * frames, height, width]);
        drawn
            .reshape([rows / frames, channels, frames, height * width])
            .swap_dims(1, 2)
            .reshape(shape)
    }

    /// The latents that came with the request.
    fn given(&self) -> Result<Option<Tensor<4>>, Error> {
        let expected = self.resolved.start_shape();
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
