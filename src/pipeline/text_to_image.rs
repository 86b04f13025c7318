//! Stable Diffusion 1.x, 2.x and XL: text to pictures.
//!
//! Source: Rombach et al. (arXiv 2112.10752), Podell et al. (arXiv 2307.01952); behaviour as diffusers' `StableDiffusionPipeline` and
//! `StableDiffusionXLPipeline`.

use std::time::Duration;

use burn::tensor::{DType, Device, Tensor};

use super::config::ModelConfig;
use super::prompts::Prompts;
use super::request::Request;
use super::run::{Generated, Report, Run, finished, timed};
use super::stage::Begun;
use crate::catalog::ModelFolder;
use crate::denoise::Observer;
use crate::error::Error;
use crate::models::unet::{UNet, UNet2DConditionModel, UNetCondition};
use crate::models::vae::{AutoencoderKl, Tiling};
use crate::samplers::SamplerConfig;
use crate::weights::load_strict;

/// A loaded model.
#[derive(Debug)]
pub struct TextToImage {
    config: ModelConfig,
    prompts: Prompts,
    unet: UNet,
    vae: AutoencoderKl,
    device: Device,
    dtype: DType,
}

impl TextToImage {
    /// Reads a model's weights onto `device`: the denoiser in `dtype`, text encoders and autoencoder in f32.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the weights do not fit the configuration.
    pub fn load(
        folder: &ModelFolder,
        device: &Device,
        dtype: impl Into<DType>,
    ) -> Result<Self, Error> {
        let dtype = dtype.into();
        let config = ModelConfig::read(folder)?;
        let parts = config.text_to_image()?;
        let unet = UNet2DConditionModel::new(&parts.unet, device);
        let unet = load_strict(unet, &folder.weights("unet")?, "unet", dtype)?;
        let vae = AutoencoderKl::new(parts.vae.clone(), device);
        let vae = load_strict(vae, &folder.weights("vae")?, "vae", DType::F32)?;
        Ok(Self {
            unet: UNet::new(parts.unet.clone(), unet),
            prompts: Prompts::load(folder, &parts.text, device)?,
            vae,
            config,
            device: device.clone(),
            dtype,
        })
    }

    /// What the model says of itself.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Puts another update rule in place of the model's own.
    pub fn set_sampler(&mut self, sampler: SamplerConfig) {
        self.config.sampler = sampler;
    }

    /// The denoiser.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// Makes the pictures.
    ///
    /// # Errors
    ///
    /// If the request does not fit the model, the observer cancels, or the device fails.
    pub fn generate(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Generated, Error> {
        let (condition, begun) = self.denoise(request, observer)?;
        let Begun {
            latents,
            mut report,
        } = begun;
        let (images, decoding) = timed(|| self.decode(latents.clone(), request.tiling))?;
        report.decoding = decoding;
        Ok(Generated {
            images,
            latents,
            prompt_embeds: Some(condition.context),
            pooled_prompt_embeds: condition.added.map(|added| added.pooled),
            report,
        })
    }

    /// Makes the first part of the pictures ([`Stage::Begin`](super::Stage::Begin)), which another model finishes.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate).
    pub fn begin(&self, request: &Request, observer: &mut dyn Observer) -> Result<Begun, Error> {
        self.denoise(request, observer).map(|(_, begun)| begun)
    }

    /// Everything but the decoding.
    fn denoise(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<(UNetCondition, Begun), Error> {
        let resolved = request.resolve(&self.config)?;
        for warning in &resolved.plan.warnings {
            observer.warn(&warning.to_string());
        }
        let [_, _, height, width] = resolved.latent_shape;
        let size = [height, width].map(|side| side * self.vae.config().factor());
        let (condition, text) =
            timed(|| self.prompts.condition(request, &resolved, size, observer))?;
        let run = Run {
            request,
            resolved: &resolved,
            device: &self.device,
        };
        let denoised = run.denoise(&self.unet, &condition, observer)?;
        let begun = Begun {
            latents: denoised.latents,
            report: Report {
                text,
                denoising: denoised.time,
                decoding: Duration::ZERO,
                account: denoised.account,
                forecast: resolved.forecast(self.dtype.size()),
            },
        };
        Ok((condition, begun))
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from latents in the denoiser's units, `[items, channels, height, width]`: for
    /// previews of a run that goes on, and for latents that were kept.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(&self, latents: Tensor<4>, tiling: Tiling) -> Result<Tensor<4>, Error> {
        finished(self.vae.decode(self.vae.from_denoiser(latents), tiling))
    }
}
