//! What denoises.

use burn::tensor::Device;

use super::visit::{Role, Visitor};
use crate::denoiser::Blueprint;
use crate::error::Error;
use crate::models::dit::{DiTConfig, DiTTransformer2DModel};
use crate::models::unet::{Extent, UNet2DConditionModel, UNetConfig};

/// What denoises.
#[derive(Debug, Clone)]
pub enum TrunkConfig {
    /// A `UNet` with cross-attention, `unet/config.json`.
    UNet(UNetConfig),
    /// A `UNet` that reads nothing, `unet/config.json`.
    UNet2d(UNetConfig),
    /// A diffusion transformer, `transformer/config.json`.
    DiT(DiTConfig),
}

impl TrunkConfig {
    /// Channels it takes in.
    pub fn in_channels(&self) -> usize {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => unet.in_channels,
            Self::DiT(dit) => dit.in_channels,
        }
    }

    /// Height and width that it was trained at.
    pub(super) fn sides(&self) -> [usize; 2] {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => unet.sample_size,
            Self::DiT(dit) => [dit.sample_size; 2],
        }
    }

    /// Sides are multiples of this.
    pub(super) fn patch(&self) -> usize {
        match self {
            Self::UNet(_) => 1,
            Self::UNet2d(unet) => 1 << (unet.levels.len() - 1),
            Self::DiT(dit) => dit.patch,
        }
    }

    /// Whether it predicts a variance that its sampler is not told of by a file.
    pub(super) fn learns_variance(&self) -> bool {
        match self {
            Self::UNet(_) | Self::UNet2d(_) => false,
            Self::DiT(dit) => dit.learns_variance(),
        }
    }

    /// The configuration, where it is a `UNet`.
    pub(super) fn unet(&self) -> Option<&UNetConfig> {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => Some(unet),
            Self::DiT(_) => None,
        }
    }

    /// Cells and what they cost.
    pub(super) fn blueprint(&self, extent: Extent) -> Blueprint {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => unet.blueprint(extent),
            Self::DiT(dit) => dit.blueprint(extent.height, extent.width),
        }
    }

    /// [`blueprint`](Self::blueprint) without attention's two products.
    pub(super) fn blueprint_without_products(&self, extent: Extent) -> Blueprint {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => unet.blueprint_without_products(extent),
            Self::DiT(dit) => dit.blueprint_without_products(extent.height, extent.width),
        }
    }

    pub(super) fn visit(&self, device: &Device, visitor: &mut impl Visitor) -> Result<(), Error> {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => {
                let model = UNet2DConditionModel::new(unet, device);
                visitor.part("unet", Role::Denoiser, &model)
            }
            Self::DiT(dit) => {
                let model = DiTTransformer2DModel::new(dit, device);
                visitor.part("transformer", Role::Denoiser, &model)
            }
        }
    }
}
