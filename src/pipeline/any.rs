//! A model of any family.

use burn::tensor::{DType, Device, Tensor};

use super::config::{Family, ModelConfig};
use super::request::Request;
use super::run::Generated;
use super::text_to_image::TextToImage;
use super::unconditional::Unconditional;
use crate::catalog::{ModelFolder, ModelPart};
use crate::denoise::Observer;
use crate::error::{Error, RequestError};
use crate::models::vae::Tiling;
use crate::samplers::SamplerConfig;

/// A loaded model, whatever it makes its pictures from.
#[derive(Debug)]
pub enum Pipeline {
    /// A text.
    TextToImage(Box<TextToImage>),
    /// Nothing but noise.
    Unconditional(Box<Unconditional>),
}

impl Pipeline {
    /// Reads a model's weights onto `device`: the denoiser in `dtype`, all else in f32.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the weights do not fit the configuration.
    pub fn load(
        folder: &ModelFolder,
        device: &Device,
        dtype: impl Into<DType>,
    ) -> Result<Self, Error> {
        let config = ModelConfig::read(folder)?;
        match &config.family {
            Family::TextToImage(_) => TextToImage::load(folder, device, dtype)
                .map(Box::new)
                .map(Self::TextToImage),
            Family::Unconditional(parts) => {
                let parts = parts.clone();
                Unconditional::load(folder, config, &parts, device, dtype.into())
                    .map(Box::new)
                    .map(Self::Unconditional)
            }
        }
    }

    /// What the model says of itself.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::TextToImage(model) => model.config(),
            Self::Unconditional(model) => model.config(),
        }
    }

    /// Puts another update rule in place of the model's own.
    pub fn set_sampler(&mut self, sampler: SamplerConfig) {
        match self {
            Self::TextToImage(model) => model.set_sampler(sampler),
            Self::Unconditional(model) => model.set_sampler(sampler),
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
            Self::Unconditional(_) => Err(RequestError::NoControl.into()),
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
            Self::Unconditional(model) => model.generate(request, observer),
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
            Self::Unconditional(_) => Unconditional::decode(latents),
        }
    }
}
