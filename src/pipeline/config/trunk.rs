//! What denoises.

use burn::tensor::Device;

use super::visit::{Role, Visitor};
use crate::denoiser::Blueprint;
use crate::doctor::Models;
use crate::error::Error;
use crate::models::dit::{DiTConfig, DiTTransformer2DModel};
use crate::models::flux::{FluxConfig, FluxTransformer2DModel};
use crate::models::mmdit::{MmditConfig, SD3Transformer2DModel};
use crate::models::pixart::{PixArtConfig, PixArtTransformer2DModel};
use crate::models::spatio_temporal::{
    FilmExtent, SpatioTemporalUNetConfig, UNetSpatioTemporalConditionModel,
};
use crate::models::unet::{Extent, Resampling, UNet2DConditionModel, UNetConfig};
use crate::models::unet3d::{UNet3DConditionModel, UNet3dConfig};

/// What denoises.
#[derive(Debug, Clone)]
pub enum TrunkConfig {
    /// A `UNet` with cross-attention, `unet/config.json`.
    UNet(UNetConfig),
    /// A `UNet` that reads nothing, `unet/config.json`.
    UNet2d(UNetConfig),
    /// A diffusion transformer, `transformer/config.json`.
    DiT(DiTConfig),
    /// A diffusion transformer with cross-attention, `transformer/config.json`.
    PixArt(PixArtConfig),
    /// A transformer of two streams and then one, `transformer/config.json`.
    Flux(FluxConfig),
    /// A diffusion transformer whose text is a stream of its own, `transformer/config.json`.
    Mmdit(MmditConfig),
    /// A `UNet` over the frames of a film of a picture, `unet/config.json`.
    SpatioTemporal(SpatioTemporalUNetConfig),
    /// A `UNet` over the frames of a film of a text, `unet/config.json`.
    UNet3d(UNet3dConfig),
}

/// Height and width of latents that the released models of Stable Video Diffusion are shown: 576 x 1024 pixels, as in diffusers. Their
/// files say 96 for both.
const FILM_SIDES: ([usize; 2], [usize; 2]) = ([96, 96], [72, 128]);

/// Frames that models of films of a text were trained on; their files have no word on it.
const FRAMES_OF_TEXT: usize = 16;

impl TrunkConfig {
    /// Where its configuration stands in a folder.
    pub fn file(&self) -> &'static str {
        match self {
            Self::DiT(_) | Self::PixArt(_) | Self::Flux(_) | Self::Mmdit(_) => {
                "transformer/config.json"
            }
            Self::UNet(_) | Self::UNet2d(_) | Self::SpatioTemporal(_) | Self::UNet3d(_) => {
                "unet/config.json"
            }
        }
    }

    /// Whether its blocks can be read as they are needed.
    pub(in crate::pipeline) fn streams(&self) -> bool {
        matches!(self, Self::PixArt(_) | Self::Flux(_) | Self::Mmdit(_))
    }

    /// Channels it takes in.
    pub fn in_channels(&self) -> usize {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => unet.in_channels,
            Self::DiT(dit) => dit.in_channels,
            Self::PixArt(pixart) => pixart.in_channels,
            Self::Flux(flux) => flux.latent_channels,
            Self::Mmdit(mmdit) => mmdit.in_channels,
            Self::SpatioTemporal(unet) => unet.spatial.in_channels,
            Self::UNet3d(unet) => unet.spatial.in_channels,
        }
    }

    /// Height and width that it was trained at.
    pub(super) fn sides(&self) -> [usize; 2] {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => unet.sample_size,
            Self::DiT(dit) => [dit.sample_size; 2],
            Self::PixArt(pixart) => [pixart.sample_size; 2],
            Self::Flux(flux) => flux.sides(),
            Self::Mmdit(mmdit) => [mmdit.sample_size; 2],
            Self::SpatioTemporal(unet) if unet.spatial.sample_size == FILM_SIDES.0 => FILM_SIDES.1,
            Self::SpatioTemporal(unet) => unet.spatial.sample_size,
            Self::UNet3d(unet) => unet.spatial.sample_size,
        }
    }

    /// Sides are multiples of this.
    pub(super) fn patch(&self) -> usize {
        match self {
            Self::UNet(unet) if unet.resampling == Resampling::Resnet => halvings(unet),
            Self::UNet(_) | Self::UNet3d(_) => 1,
            Self::UNet2d(unet) => halvings(unet),
            Self::SpatioTemporal(unet) => halvings(&unet.spatial),
            Self::DiT(dit) => dit.patch,
            Self::PixArt(pixart) => pixart.patch,
            Self::Flux(flux) => flux.patch(),
            Self::Mmdit(mmdit) => mmdit.patch,
        }
    }

    /// Whose shapes its operations have.
    pub(super) fn examined_as(&self) -> Models {
        match self {
            Self::UNet(unet) if unet.added.is_some() => Models::Xl,
            Self::DiT(_) | Self::PixArt(_) | Self::Flux(_) | Self::Mmdit(_) => Models::Dit,
            // Over one frame, films have the shapes of pictures.
            Self::UNet(_) | Self::UNet2d(_) | Self::SpatioTemporal(_) | Self::UNet3d(_) => {
                Models::StableDiffusion
            }
        }
    }

    /// Whether it predicts a variance that its sampler is not told of by a file.
    pub(super) fn learns_variance(&self) -> bool {
        match self {
            Self::DiT(dit) => dit.learns_variance(),
            _ => false,
        }
    }

    /// Whether it was distilled to read a guidance scale.
    pub(in crate::pipeline) fn reads_guidance(&self) -> bool {
        match self {
            Self::Flux(flux) => flux.guided,
            _ => self
                .unet()
                .is_some_and(|unet| unet.guidance_width.is_some()),
        }
    }

    /// Whether what guides it beside that takes calls of its own.
    pub(in crate::pipeline) fn guides_apart(&self) -> bool {
        matches!(self, Self::Flux(_))
    }

    /// Frames of the films it was trained on, where it looks along them.
    pub(super) fn frames(&self) -> Option<usize> {
        match self {
            Self::SpatioTemporal(unet) => Some(unet.frames),
            Self::UNet3d(_) => Some(FRAMES_OF_TEXT),
            Self::UNet(_)
            | Self::UNet2d(_)
            | Self::DiT(_)
            | Self::PixArt(_)
            | Self::Flux(_)
            | Self::Mmdit(_) => None,
        }
    }

    /// The configuration, where it is a `UNet`.
    pub(super) fn unet(&self) -> Option<&UNetConfig> {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => Some(unet),
            Self::DiT(_)
            | Self::PixArt(_)
            | Self::Flux(_)
            | Self::Mmdit(_)
            | Self::SpatioTemporal(_)
            | Self::UNet3d(_) => None,
        }
    }

    /// The most channels that go into a convolution, and that come out of one; none without convolutions.
    pub(in crate::pipeline) fn widest(&self) -> Option<[usize; 2]> {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => Some(unet.widest()),
            Self::SpatioTemporal(unet) => Some(unet.spatial.widest()),
            Self::UNet3d(unet) => Some(unet.spatial.widest()),
            Self::DiT(_) | Self::PixArt(_) | Self::Flux(_) | Self::Mmdit(_) => None,
        }
    }

    /// Layers of which some can be left out for guidance, in models that are guided so.
    pub(in crate::pipeline) fn skippable_layers(&self) -> Option<usize> {
        match self {
            Self::Mmdit(mmdit) => Some(mmdit.layers),
            _ => None,
        }
    }

    /// The longest side of latents that there are positions for, where these are a table.
    pub(in crate::pipeline) fn longest_side(&self) -> Option<usize> {
        match self {
            Self::Mmdit(mmdit) => Some(mmdit.positions * mmdit.patch),
            _ => None,
        }
    }

    /// Elements of positions that are computed once and kept beside the weights.
    pub(in crate::pipeline) fn position_elements(&self) -> u64 {
        match self {
            Self::DiT(dit) => dit.position_elements(),
            Self::PixArt(pixart) => pixart.position_elements(),
            _ => 0,
        }
    }

    /// Cells and what they cost, a frame of `frames`.
    pub(super) fn blueprint(&self, extent: Extent, frames: usize) -> Blueprint {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => unet.blueprint(extent),
            Self::DiT(dit) => dit.blueprint(extent.height, extent.width),
            Self::PixArt(pixart) => pixart.blueprint(extent),
            Self::Flux(flux) => flux.blueprint(extent),
            Self::Mmdit(mmdit) => mmdit.blueprint(extent),
            Self::SpatioTemporal(unet) => unet.blueprint(FilmExtent::of(extent, frames)),
            Self::UNet3d(unet) => unet.blueprint(FilmExtent::of(extent, frames)),
        }
    }

    /// [`blueprint`](Self::blueprint) without attention's two products.
    pub(super) fn blueprint_without_products(&self, extent: Extent, frames: usize) -> Blueprint {
        let film = FilmExtent::of(extent, frames);
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => unet.blueprint_without_products(extent),
            Self::DiT(dit) => dit.blueprint_without_products(extent.height, extent.width),
            Self::PixArt(pixart) => pixart.blueprint_without_products(extent),
            Self::Flux(flux) => flux.blueprint_without_products(extent),
            Self::Mmdit(mmdit) => mmdit.blueprint_without_products(extent),
            Self::SpatioTemporal(unet) => unet.blueprint_without_products(film),
            Self::UNet3d(unet) => unet.blueprint_without_products(film),
        }
    }

    pub(in crate::pipeline) fn visit(
        &self,
        device: &Device,
        visitor: &mut impl Visitor,
    ) -> Result<(), Error> {
        match self {
            Self::UNet(unet) | Self::UNet2d(unet) => {
                let model = UNet2DConditionModel::new(unet, device);
                visitor.part("unet", Role::Denoiser, &model)
            }
            Self::DiT(dit) => {
                let model = DiTTransformer2DModel::new(dit, device);
                visitor.part("transformer", Role::Denoiser, &model)
            }
            Self::PixArt(pixart) => {
                let model = PixArtTransformer2DModel::new(pixart, device);
                visitor.part("transformer", Role::Denoiser, &model)
            }
            Self::Flux(flux) => {
                let model = FluxTransformer2DModel::new(flux, device);
                visitor.part("transformer", Role::Denoiser, &model)
            }
            Self::Mmdit(mmdit) => {
                let model = SD3Transformer2DModel::new(mmdit, device);
                visitor.part("transformer", Role::Denoiser, &model)
            }
            Self::SpatioTemporal(unet) => {
                let model = UNetSpatioTemporalConditionModel::new(unet, device);
                visitor.part("unet", Role::Denoiser, &model)
            }
            Self::UNet3d(unet) => {
                let model = UNet3DConditionModel::new(unet, device);
                visitor.part("unet", Role::Denoiser, &model)
            }
        }
    }
}

/// By how much the levels of a `UNet` divide the sides.
fn halvings(unet: &UNetConfig) -> usize {
    1 << (unet.levels.len() - 1)
}
