//! What a model folder says of itself, read without its weights.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::encoders::TextConfig;
use crate::catalog::ModelFolder;
use crate::denoiser::Blueprint;
use crate::error::{ConfigError, Error, RequestError};
use crate::models::control::ControlNetConfig;
use crate::models::unet::{Extent, UNetConfig};
use crate::models::vae::{VaeConfig, VaeJson};
use crate::samplers::SamplerConfig;

/// What a run uses where the request is silent.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Defaults {
    /// Solver steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance_scale: f64,
}

impl Default for Defaults {
    /// What diffusers' `StableDiffusionPipeline` uses.
    fn default() -> Self {
        Self {
            steps: 50,
            guidance_scale: 7.5,
        }
    }
}

impl Defaults {
    /// What diffusers' pipeline of the family uses.
    fn of(family: &Family) -> Self {
        match family {
            Family::TextToImage(parts) if parts.text.added.is_some() => Self {
                guidance_scale: 5.0,
                ..Self::default()
            },
            Family::TextToImage(_) => Self::default(),
        }
    }
}

/// The configuration of a model: what all families have, and the family's own parts.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The parts.
    pub family: Family,
    /// `scheduler/scheduler_config.json`
    pub sampler: SamplerConfig,
    /// `afterimage.json`, where the folder has one.
    pub defaults: Defaults,
    /// The `ControlNets` put beside the model, in the order they were.
    pub controls: Vec<ControlNetConfig>,
}

/// What a model makes its pictures from.
#[derive(Debug, Clone)]
pub enum Family {
    /// A text.
    TextToImage(TextToImageConfig),
}

/// The parts of a text-to-image model.
#[derive(Debug, Clone)]
pub struct TextToImageConfig {
    /// `unet/config.json`
    pub unet: UNetConfig,
    /// `vae/config.json`
    pub vae: VaeConfig,
    /// The text encoders.
    pub text: TextConfig,
}

/// What a denoiser works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    /// Channels of the latents.
    pub channels: usize,
    /// Side of the latents where the request is silent.
    pub side: usize,
    /// Pixels a side of a latent.
    pub factor: usize,
}

impl ModelConfig {
    /// Reads and checks all of them.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or asks for something that is not built.
    pub fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let scheduler = "scheduler/scheduler_config.json";
        let family = Family::TextToImage(TextToImageConfig::read(folder)?);
        Ok(Self {
            sampler: SamplerConfig::from_json(&folder.read_json(scheduler)?, scheduler.as_ref())?,
            defaults: if folder.has("afterimage.json") {
                json(folder, "afterimage.json", "afterimage.json")?
            } else {
                Defaults::of(&family)
            },
            controls: Vec::new(),
            family,
        })
    }

    /// Puts a `ControlNet` beside the model, and gives its number.
    ///
    /// # Errors
    ///
    /// If it is for another model family.
    pub fn add_control(&mut self, net: ControlNetConfig) -> Result<usize, Error> {
        let parts = self.text_to_image().ok_or(RequestError::NoControl)?;
        net.check_fits(&parts.unet)?;
        self.controls.push(net);
        Ok(self.controls.len() - 1)
    }

    /// Whether the denoiser takes a mask and a masked picture in beside the latents.
    pub fn fills_masks(&self) -> bool {
        let parts = self.text_to_image();
        parts.is_some_and(TextToImageConfig::fills_masks)
    }

    /// The parts of a text-to-image model, if it is one.
    pub(super) fn text_to_image(&self) -> Option<&TextToImageConfig> {
        match &self.family {
            Family::TextToImage(parts) => Some(parts),
        }
    }

    /// What the denoiser works on.
    pub fn canvas(&self) -> Canvas {
        match &self.family {
            Family::TextToImage(parts) => Canvas {
                channels: parts.vae.latent_channels,
                side: parts.unet.sample_size,
                factor: parts.vae.factor(),
            },
        }
    }

    /// The denoiser's cells and what they cost, for latents of this height and width.
    pub fn blueprint(&self, [height, width]: [usize; 2]) -> Blueprint {
        match &self.family {
            Family::TextToImage(parts) => parts.unet.blueprint(parts.extent([height, width])),
        }
    }
}

impl TextToImageConfig {
    /// Whether the denoiser takes a mask and a masked picture in beside the latents.
    pub fn fills_masks(&self) -> bool {
        self.unet.in_channels == 2 * self.vae.latent_channels + 1
    }

    /// Size of what the denoiser works on, for latents of this height and width.
    pub(super) fn extent(&self, [height, width]: [usize; 2]) -> Extent {
        Extent {
            height,
            width,
            tokens: self.text.tokens(),
        }
    }

    fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let unet = UNetConfig::from_json(&folder.read_json("unet/config.json")?)?;
        let config = Self {
            vae: VaeConfig::new(json::<VaeJson>(folder, "vae", "vae/config.json")?)?,
            text: TextConfig::read(folder, &unet)?,
            unet,
        };
        config.check_widths()?;
        Ok(config)
    }

    /// Parts that do not fit each other would fail deep inside the first step.
    fn check_widths(&self) -> Result<(), Error> {
        if self.unet.in_channels != self.vae.latent_channels && !self.fills_masks() {
            let hint = format!(
                "text to image needs as many as the autoencoder's `latent_channels`, {}; inpainting models have 9",
                self.vae.latent_channels
            );
            return Err(
                ConfigError::unsupported("in_channels", self.unet.in_channels, hint).into(),
            );
        }
        Ok(())
    }
}

pub(super) fn json<T: DeserializeOwned>(
    folder: &ModelFolder,
    part: &str,
    path: &str,
) -> Result<T, Error> {
    let text = folder.read_json(path)?;
    serde_json::from_str(&text).map_err(|source| {
        ConfigError::Json {
            part: part.to_owned(),
            path: path.into(),
            source,
        }
        .into()
    })
}
