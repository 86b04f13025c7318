//! DDPM and its kin: pictures out of noise alone.
//!
//! Source: Ho et al. (arXiv 2006.11239); behaviour as diffusers' `DDPMPipeline` and `DDIMPipeline`.

use burn::tensor::{DType, Device, Tensor};

use super::config::{ModelConfig, UnconditionalConfig};
use super::fit::check_weights;
use super::request::Request;
use super::run::{Generated, Run, finished};
use crate::catalog::ModelFolder;
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::Error;
use crate::models::unet::{UNet, UNet2DConditionModel, UNet2d};
use crate::samplers::SamplerConfig;
use crate::weights::{Format, Storage, load_strict};

/// A loaded model. What it denoises are pictures themselves, -1 to 1, in grey or colour.
#[derive(Debug)]
pub struct Unconditional {
    config: ModelConfig,
    unet: UNet2d,
    device: Device,
    dtype: DType,
}

impl Unconditional {
    /// Reads the weights of a model with `parts` onto `device`, in `format`.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the weights do not fit the configuration.
    pub(super) fn load(
        folder: &ModelFolder,
        config: ModelConfig,
        parts: &UnconditionalConfig,
        device: &Device,
        format: Format,
    ) -> Result<Self, Error> {
        check_weights(folder, &config, device)?;
        let unet = UNet2DConditionModel::new(&parts.unet, device);
        let storage = Storage::of(device, format)?;
        let unet = load_strict(unet, &folder.weights("unet")?, "unet", storage)?;
        Ok(Self {
            unet: UNet2d::new(UNet::new(parts.unet.clone(), unet)),
            config,
            device: device.clone(),
            dtype: format.dtype,
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
    pub fn unet(&self) -> &UNet2d {
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
        let resolved = request.resolve(&self.config)?;
        let run = Run {
            request,
            resolved: &resolved,
            device: &self.device,
            dtype: self.dtype,
        };
        let condition = Conditioning::none(resolved.rows);
        let denoised = run.denoise(&self.unet, &condition, observer)?;
        denoised.decoded(|latents| Ok((Self::decode(latents)?, None)))
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from samples, `[items, channels, height, width]` in -1 to 1; grey ones get three
    /// equal channels.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(samples: Tensor<4>) -> Result<Tensor<4>, Error> {
        let copies = 3 / samples.dims()[1];
        finished(samples.repeat_dim(1, copies))
    }
}
