//! A model of any family.

use burn::tensor::{Device, Tensor};

use super::adapters::Adapters;
use super::class_to_image::ClassToImage;
use super::config::{Family, ModelConfig};
use super::request::Request;
use super::residency::Residency;
use super::run::Generated;
use super::stage::Begun;
use super::text_to_image::TextToImage;
use super::unconditional::Unconditional;
use crate::cache::Router;
use crate::catalog::{ModelFolder, ModelPart};
use crate::denoise::Observer;
use crate::error::{Error, RequestError};
use crate::models::vae::Tiling;
use crate::samplers::SamplerConfig;
use crate::weights::Format;

/// A loaded model, whatever it makes its pictures from.
#[derive(Debug)]
pub enum Pipeline {
    /// A text.
    TextToImage(Box<TextToImage>),
    /// A class.
    ClassToImage(Box<ClassToImage>),
    /// Nothing but noise.
    Unconditional(Box<Unconditional>),
}

impl Pipeline {
    /// Reads a model's weights onto `device`: the denoiser in `format`, a data type or that and how weights are kept; all else computes in
    /// f32.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, the weights do not fit the configuration, or the device has no such format.
    pub fn load(
        folder: &ModelFolder,
        device: &Device,
        format: impl Into<Format>,
    ) -> Result<Self, Error> {
        Self::load_with(folder, device, format, &Adapters::default())
    }

    /// [`load`](Self::load), with `adapters` merged into the weights, see [`TextToImage::load_with`].
    ///
    /// # Errors
    ///
    /// As there, and if there are adapters and the model is of another family.
    pub fn load_with(
        folder: &ModelFolder,
        device: &Device,
        format: impl Into<Format>,
        adapters: &Adapters,
    ) -> Result<Self, Error> {
        let config = ModelConfig::read(folder)?;
        if !config.reads_text() {
            adapters.check_none()?;
        }
        match config.family.clone() {
            Family::ClassToImage(parts) => {
                ClassToImage::load(folder, config, &parts, device, format.into())
                    .map(Box::new)
                    .map(Self::ClassToImage)
            }
            Family::TextToImage(_) => TextToImage::load_with(folder, device, format, adapters)
                .map(Box::new)
                .map(Self::TextToImage),
            Family::Unconditional(parts) => {
                let parts = parts.clone();
                Unconditional::load(folder, config, &parts, device, format.into())
                    .map(Box::new)
                    .map(Self::Unconditional)
            }
        }
    }

    /// What the model says of itself.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::TextToImage(model) => model.config(),
            Self::ClassToImage(model) => model.config(),
            Self::Unconditional(model) => model.config(),
        }
    }

    /// Puts another update rule in place of the model's own.
    pub fn set_sampler(&mut self, sampler: SamplerConfig) {
        match self {
            Self::TextToImage(model) => model.set_sampler(sampler),
            Self::ClassToImage(model) => model.set_sampler(sampler),
            Self::Unconditional(model) => model.set_sampler(sampler),
        }
    }

    /// Says whether text encoders stay in memory while the denoiser runs; models without them have nothing to say to it.
    pub fn set_residency(&mut self, residency: Residency) {
        if let Self::TextToImage(model) = self {
            model.set_residency(residency);
        }
    }

    /// Puts `adapters` in place of the present ones, see [`TextToImage::set_adapters`].
    ///
    /// # Errors
    ///
    /// As there, and if there are adapters and the model is of another family.
    pub fn set_adapters(&mut self, folder: &ModelFolder, adapters: &Adapters) -> Result<(), Error> {
        match self {
            Self::TextToImage(model) => model.set_adapters(folder, adapters),
            Self::ClassToImage(_) | Self::Unconditional(_) => Ok(adapters.check_none()?),
        }
    }

    /// Puts a `ControlNet` beside the model and gives its number, for [`Control::net`](super::Control::net).
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the net is for another model family.
    pub fn add_control(&mut self, part: &ModelPart) -> Result<usize, Error> {
        match self {
            Self::TextToImage(model) => model.add_control(part),
            Self::ClassToImage(_) | Self::Unconditional(_) => Err(RequestError::NoControl.into()),
        }
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
        match self {
            Self::TextToImage(model) => model.generate(request, observer),
            Self::ClassToImage(model) => model.generate(request, observer),
            Self::Unconditional(model) => model.generate(request, observer),
        }
    }

    /// A router of Learning-to-Cache, see [`ClassToImage::calibrate`].
    ///
    /// # Errors
    ///
    /// As there, and for models of other families.
    pub fn calibrate(
        &self,
        request: &Request,
        seeds: &[u64],
        observer: &mut dyn Observer,
    ) -> Result<Router, Error> {
        match self {
            Self::ClassToImage(model) => model.calibrate(request, seeds, observer),
            Self::TextToImage(_) | Self::Unconditional(_) => Err(RequestError::NoRouter.into()),
        }
    }

    /// Makes the first part of the pictures, which another model finishes.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate).
    pub fn begin(&self, request: &Request, observer: &mut dyn Observer) -> Result<Begun, Error> {
        match self {
            Self::TextToImage(model) => model.begin(request, observer),
            Self::ClassToImage(_) | Self::Unconditional(_) => {
                Err(RequestError::NotSdxl { role: "model" }.into())
            }
        }
    }

    /// Pictures, `[items, 3, height, width]` in 0 to 1, from latents in the denoiser's units, `[items, channels, height, width]`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn decode(&self, latents: Tensor<4>, tiling: Tiling) -> Result<Tensor<4>, Error> {
        match self {
            Self::TextToImage(model) => model.decode(latents, tiling),
            Self::ClassToImage(model) => model.decode(latents, tiling),
            Self::Unconditional(_) => Unconditional::decode(latents),
        }
    }
}
