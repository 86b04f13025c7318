//! What a model folder says of itself, read without its weights.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::class_config::ClassToImageConfig;
use crate::catalog::ModelFolder;
use crate::denoiser::Blueprint;
use crate::error::{ConfigError, Error};
use crate::models::clip::{ClipTextConfig, ClipTextJson};
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
    /// Channels of the prediction that are guided, from the first; the family's own number where this is silent.
    #[serde(default)]
    pub guidance_channels: Option<usize>,
}

impl Default for Defaults {
    /// What diffusers' `StableDiffusionPipeline` uses.
    fn default() -> Self {
        Self {
            steps: 50,
            guidance_scale: 7.5,
            guidance_channels: None,
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
}

/// What a model makes its pictures from.
#[derive(Debug, Clone)]
pub enum Family {
    /// A text.
    TextToImage(TextToImageConfig),
    /// A class.
    ClassToImage(ClassToImageConfig),
}

/// The parts of a text-to-image model.
#[derive(Debug, Clone)]
pub struct TextToImageConfig {
    /// `unet/config.json`
    pub unet: UNetConfig,
    /// `vae/config.json`
    pub vae: VaeConfig,
    /// `text_encoder/config.json`
    pub text_encoder: ClipTextConfig,
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
    /// Sides of the latents are multiples of this.
    pub patch: usize,
}

impl ModelConfig {
    /// Reads and checks all of them.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or asks for something that is not built.
    pub fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let scheduler = "scheduler/scheduler_config.json";
        let family = Family::read(folder)?;
        let sampler = SamplerConfig::from_json(&folder.read_json(scheduler)?, scheduler.as_ref())?;
        Ok(Self {
            sampler: family.sampler(sampler),
            family,
            defaults: if folder.has("afterimage.json") {
                json(folder, "afterimage.json", "afterimage.json")?
            } else {
                Defaults::default()
            },
        })
    }

    /// What the denoiser works on.
    pub fn canvas(&self) -> Canvas {
        match &self.family {
            Family::TextToImage(parts) => Canvas {
                channels: parts.vae.latent_channels,
                side: parts.unet.sample_size,
                factor: parts.vae.factor(),
                patch: 1,
            },
            Family::ClassToImage(parts) => parts.canvas(),
        }
    }

    /// The denoiser's cells and what they cost, for latents of this height and width.
    pub fn blueprint(&self, size: [usize; 2]) -> Blueprint {
        let [height, width] = size;
        match &self.family {
            Family::ClassToImage(parts) => parts.blueprint(size),
            Family::TextToImage(parts) => parts.unet.blueprint(Extent {
                height,
                width,
                tokens: parts.text_encoder.positions,
            }),
        }
    }
}

impl Family {
    fn read(folder: &ModelFolder) -> Result<Self, Error> {
        match folder.index().pipeline() {
            "DiTPipeline" | "LDMClassToImagePipeline" => {
                ClassToImageConfig::read(folder).map(Self::ClassToImage)
            }
            _ => TextToImageConfig::read(folder).map(Self::TextToImage),
        }
    }

    /// The sampler's configuration with what only the denoiser knows.
    fn sampler(&self, sampler: SamplerConfig) -> SamplerConfig {
        match self {
            Self::ClassToImage(parts) if parts.learns_variance() => sampler.with_learned_variance(),
            Self::TextToImage(_) | Self::ClassToImage(_) => sampler,
        }
    }
}

impl TextToImageConfig {
    fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let config = Self {
            unet: UNetConfig::from_json(&folder.read_json("unet/config.json")?)?,
            vae: VaeConfig::new(json::<VaeJson>(folder, "vae", "vae/config.json")?)?,
            text_encoder: ClipTextConfig::new(&json::<ClipTextJson>(
                folder,
                "text_encoder",
                "text_encoder/config.json",
            )?)?,
        };
        config.check_widths()?;
        Ok(config)
    }

    /// Parts that do not fit each other would fail deep inside the first step.
    fn check_widths(&self) -> Result<(), Error> {
        if self.unet.context_width != self.text_encoder.width {
            let hint = format!(
                "the text encoder's `hidden_size` is {}",
                self.text_encoder.width
            );
            return Err(ConfigError::unsupported(
                "cross_attention_dim",
                self.unet.context_width,
                hint,
            )
            .into());
        }
        if self.unet.in_channels != self.vae.latent_channels {
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
