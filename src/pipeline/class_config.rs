//! What a class-conditional model folder says of itself.

use super::config::{Canvas, check_latents, json};
use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error, RequestError};
use crate::guidance::Conditioned;
use crate::models::class_embedder::ClassEmbedderConfig;
use crate::models::dit::DiTConfig;
use crate::models::unet::UNetConfig;
use crate::models::vae::{VaeConfig, VaeJson};

/// The parts of a class-to-image model.
#[derive(Debug, Clone)]
pub struct ClassToImageConfig {
    /// The denoiser.
    pub denoiser: ClassDenoiserConfig,
    /// `vae/config.json`
    pub vae: VaeConfig,
}

/// What denoises under the condition of a class.
#[derive(Debug, Clone)]
pub enum ClassDenoiserConfig {
    /// `transformer/config.json`
    DiT(DiTConfig),
    /// Latent diffusion.
    UNet(ClassUNetConfig),
}

/// A `UNet` that reads a class as a text of one token.
#[derive(Debug, Clone)]
pub struct ClassUNetConfig {
    /// `unet/config.json`
    pub unet: UNetConfig,
    /// `class_embedder/config.json`
    pub embedder: ClassEmbedderConfig,
}

impl ClassUNetConfig {
    fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let embedder = folder.read_json("class_embedder/config.json")?;
        let config = Self {
            unet: UNetConfig::from_json(&folder.read_json("unet/config.json")?)?,
            embedder: ClassEmbedderConfig::from_json(&embedder)?,
        };
        config.check_condition()?;
        Ok(config)
    }

    /// What the `UNet` reads must be what the embedder gives, and nothing else.
    fn check_condition(&self) -> Result<(), ConfigError> {
        let (read, given) = (self.unet.context_width, self.embedder.width);
        if read != given {
            let hint = format!("the class embedder's `embedding_dim` is {given}");
            return Err(ConfigError::unsupported("cross_attention_dim", read, hint));
        }
        if self.unet.added.is_some() {
            let hint = "a class-conditional UNet is given its class alone";
            let key = "addition_embed_type";
            return Err(ConfigError::unsupported(key, "text_time", hint));
        }
        Ok(())
    }
}

impl ClassDenoiserConfig {
    fn read(folder: &ModelFolder) -> Result<Self, Error> {
        if folder.has("class_embedder/config.json") {
            return ClassUNetConfig::read(folder).map(Self::UNet);
        }
        let dit = folder.read_json("transformer/config.json")?;
        DiTConfig::from_json(&dit).map(Self::DiT)
    }
}

impl ClassToImageConfig {
    pub(super) fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let config = Self {
            denoiser: ClassDenoiserConfig::read(folder)?,
            vae: VaeConfig::new(json::<VaeJson>(folder, "vae", "vae/config.json")?)?,
        };
        check_latents(folder, config.in_channels(), &config.vae)?;
        config.check_channels()?;
        Ok(config)
    }

    fn check_channels(&self) -> Result<(), ConfigError> {
        let (found, latent) = (self.in_channels(), self.vae.latent_channels);
        if found == latent {
            return Ok(());
        }
        let hint = format!("the autoencoder's `latent_channels` is {latent}");
        Err(ConfigError::unsupported("in_channels", found, hint))
    }

    fn in_channels(&self) -> usize {
        match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => dit.in_channels,
            ClassDenoiserConfig::UNet(config) => config.unet.in_channels,
        }
    }

    /// Number of classes; labels are 0 to one less.
    pub fn classes(&self) -> usize {
        match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => dit.classes,
            ClassDenoiserConfig::UNet(config) => config.embedder.classes(),
        }
    }

    /// The label that stands for no class.
    pub fn null_label(&self) -> usize {
        match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => dit.null_label(),
            ClassDenoiserConfig::UNet(config) => config.embedder.null_label(),
        }
    }

    /// Which half of the rows is the conditioned one, as in the published programs.
    pub fn conditioned(&self) -> Conditioned {
        match &self.denoiser {
            ClassDenoiserConfig::DiT(_) => Conditioned::First,
            ClassDenoiserConfig::UNet(_) => Conditioned::Second,
        }
    }

    /// Channels that are guided where nothing else is said: all, as in diffusers' pipelines. A file in the layout of the published program
    /// of `DiT` has a card that says 3, as the program does.
    pub fn guidance_channels(&self) -> usize {
        self.in_channels()
    }

    /// Whether the denoiser predicts a variance.
    pub fn learns_variance(&self) -> bool {
        match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => dit.learns_variance(),
            ClassDenoiserConfig::UNet(_) => false,
        }
    }

    pub(super) fn canvas(&self) -> Canvas {
        let (sides, patch) = match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => ([dit.sample_size; 2], dit.patch),
            ClassDenoiserConfig::UNet(config) => (config.unet.sample_size, 1),
        };
        Canvas {
            channels: self.vae.latent_channels,
            sides,
            factor: self.vae.factor(),
            patch,
        }
    }

    pub(super) fn check_labels(&self, labels: &[usize]) -> Result<(), RequestError> {
        let classes = self.classes();
        if labels.is_empty() {
            return Err(RequestError::NoClass { classes });
        }
        match labels.iter().find(|&&label| label >= classes) {
            Some(&label) => Err(RequestError::Class { label, classes }),
            None => Ok(()),
        }
    }
}
