//! What a model denoises in.

use burn::tensor::Device;

use super::json::json;
use super::visit::{Role, Visitor};
use crate::catalog::ModelFolder;
use crate::error::{ConfigError, Error};
use crate::models::vae::{Autoencoder, VaeConfig, VaeJson};
use crate::samplers::SamplerConfig;

/// What a model denoises in.
#[expect(
    clippy::large_enum_variant,
    reason = "a model has one, and it is seldom moved"
)]
#[derive(Debug, Clone)]
pub enum SpaceConfig {
    /// Latents of an autoencoder, `vae/config.json`.
    Latents(VaeConfig),
    /// Pictures themselves, -1 to 1, in grey or colour.
    Pixels,
}

impl SpaceConfig {
    /// The autoencoder, where there is one.
    pub(super) fn vae(&self) -> Option<&VaeConfig> {
        match self {
            Self::Latents(vae) => Some(vae),
            Self::Pixels => None,
        }
    }

    /// Pixels a side of what is denoised.
    pub(super) fn factor(&self) -> usize {
        self.vae().map_or(1, VaeConfig::factor)
    }

    pub(in crate::pipeline) fn visit(
        &self,
        device: &Device,
        visitor: &mut impl Visitor,
    ) -> Result<(), Error> {
        match self {
            Self::Latents(vae) => {
                let model = Autoencoder::new(vae.clone(), device);
                visitor.part("vae", Role::Decoder, &model)
            }
            Self::Pixels => Ok(()),
        }
    }
}

/// Refuses a denoiser that gives `found` channels out where there are `latents` of them, or twice as many where its sampler reads variances
/// after them.
pub(super) fn check_given(
    found: usize,
    latents: usize,
    sampler: &SamplerConfig,
) -> Result<(), ConfigError> {
    let variances = sampler.learns_variance();
    if found == latents || variances && found == 2 * latents {
        return Ok(());
    }
    let twice = match (variances, found == 2 * latents) {
        (true, _) => ", or twice that, with variances",
        (false, true) => "; twice that is for a scheduler whose `variance_type` is `learned_range`",
        (false, false) => "",
    };
    let hint = format!("as many come out as the latents have channels, {latents}{twice}");
    Err(ConfigError::unsupported("out_channels", found, hint))
}

/// The autoencoder of a folder.
pub(super) fn autoencoder(folder: &ModelFolder) -> Result<VaeConfig, Error> {
    VaeConfig::new(json::<VaeJson>(folder, "vae", "vae/config.json")?)
}

/// Refuses an autoencoder whose latents are not what the denoiser works on: it was put beside it by a caller.
pub(super) fn check_latents(
    folder: &ModelFolder,
    denoiser: usize,
    latent: usize,
) -> Result<(), ConfigError> {
    match folder.other_vae() {
        Some(name) if denoiser != latent && denoiser != 2 * latent + 1 => {
            let hint = format!(
                "the autoencoder `{name}` is for another model family: the denoiser takes {denoiser} channels in"
            );
            Err(ConfigError::unsupported("latent_channels", latent, hint))
        }
        _ => Ok(()),
    }
}
