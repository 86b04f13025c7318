//! What a model denoises in.

use burn::tensor::Device;

use super::visit::{Role, Visitor};
use crate::error::Error;
use crate::models::vae::{Autoencoder, VaeConfig};

/// What a model denoises in.
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

    pub(super) fn visit(&self, device: &Device, visitor: &mut impl Visitor) -> Result<(), Error> {
        match self {
            Self::Latents(vae) => {
                let model = Autoencoder::new(vae.clone(), device);
                visitor.part("vae", Role::Decoder, &model)
            }
            Self::Pixels => Ok(()),
        }
    }
}
