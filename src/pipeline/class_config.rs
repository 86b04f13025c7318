//! What a class-conditional model folder says of itself.

use super::config::{Canvas, json};
use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error, RequestError};
use crate::models::dit::DiTConfig;
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
}

impl ClassToImageConfig {
    pub(super) fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let dit = DiTConfig::from_json(&folder.read_json("transformer/config.json")?)?;
        let config = Self {
            denoiser: ClassDenoiserConfig::DiT(dit),
            vae: VaeConfig::new(json::<VaeJson>(folder, "vae", "vae/config.json")?)?,
        };
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
        }
    }

    /// Number of classes; labels are 0 to one less.
    pub fn classes(&self) -> usize {
        match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => dit.classes,
        }
    }

    /// The label that stands for no class.
    pub fn null_label(&self) -> usize {
        match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => dit.null_label(),
        }
    }

    /// Channels that are guided where nothing else is said. As in the published program of `DiT`, the fourth of four is
    /// not; diffusers guides all.
    pub fn guidance_channels(&self) -> usize {
        self.in_channels().min(3)
    }

    /// Whether the denoiser predicts a variance.
    pub fn learns_variance(&self) -> bool {
        match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => dit.learns_variance(),
        }
    }

    pub(super) fn canvas(&self) -> Canvas {
        let (side, patch) = match &self.denoiser {
            ClassDenoiserConfig::DiT(dit) => (dit.sample_size, dit.patch),
        };
        Canvas {
            channels: self.vae.latent_channels,
            side,
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
