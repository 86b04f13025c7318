//! The configuration of a model, whatever its family.

use burn::tensor::Device;

use super::bins;
use super::defaults::Defaults;
use super::distilled::Distilled;
use super::encoders::TextConfig;
use super::source::{ClassesConfig, SourceConfig};
use super::space::SpaceConfig;
use super::trunk::TrunkConfig;
use super::upscale::UpscaleConfig;
use super::visit::Visitor;
use crate::catalog::ModelFolder;
use crate::denoiser::Blueprint;
use crate::doctor::Models;
use crate::error::{ConfigError, Error, RequestError};
use crate::models::control::ControlNetConfig;
use crate::models::unet::{Extent, UNetConfig};
use crate::models::vae::VaeConfig;
use crate::samplers::SamplerConfig;

/// The configuration of a model: its three parts, and how they are sampled.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// What it makes its pictures from.
    pub source: SourceConfig,
    /// What denoises.
    pub trunk: TrunkConfig,
    /// What it denoises in.
    pub space: SpaceConfig,
    /// `scheduler/scheduler_config.json`
    pub sampler: SamplerConfig,
    /// How it takes a small picture in, where it makes one larger.
    pub upscale: Option<UpscaleConfig>,
    /// `afterimage.json`, where the folder has one.
    pub defaults: Defaults,
    /// The `ControlNets` put beside the model, in the order they were.
    pub controls: Vec<ControlNetConfig>,
    /// How it is known to be distilled for few steps, if it is.
    pub distilled: Option<Distilled>,
    /// Whether the size of the latents is not that of the file.
    pub(super) repaired: bool,
    /// Where it was read from: calibrated plans lie there.
    pub(super) folder: Option<ModelFolder>,
}

/// Pixels of the largest picture that a request may ask for.
pub(crate) const MOST_PIXELS: usize = 1 << 26;

/// What a denoiser works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    /// Channels of the latents.
    pub channels: usize,
    /// Height and width of the latents where the request is silent.
    pub sides: [usize; 2],
    /// Pixels a side of a latent.
    pub factor: usize,
    /// Sides of the latents are multiples of this.
    pub patch: usize,
}

impl Canvas {
    /// Patches of latents of this height and width.
    pub(in crate::pipeline) fn tokens(&self, size: [usize; 2]) -> usize {
        size.iter().map(|side| side / self.patch).product()
    }
}

/// How a model makes films.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Films {
    /// Its denoiser was trained on films and looks along their frames.
    Trained {
        /// How many they have where the request is silent.
        frames: usize,
    },
    /// It makes pictures, and films by Text2Video-Zero where the request asks for frames.
    ZeroShot,
    /// Not at all.
    Never,
}

impl Films {
    /// What a calibration is made on: pictures, or films where the model makes nothing else.
    pub(crate) fn samples(self) -> &'static str {
        match self {
            Self::Trained { .. } => "films",
            Self::ZeroShot | Self::Never => "pictures",
        }
    }
}

impl ModelConfig {
    /// Refuses a model whose own pictures are larger than any that can be asked for: room for one is made before the request is looked at.
    pub(super) fn check_own_size(&self) -> Result<(), ConfigError> {
        let Canvas { sides, factor, .. } = self.canvas();
        let [height, width] = sides.map(|side| side.saturating_mul(factor));
        if height.saturating_mul(width) <= MOST_PIXELS {
            return Ok(());
        }
        let hint = format!("pictures of {width}x{height} are more than {MOST_PIXELS} pixels");
        Err(ConfigError::unsupported(
            "sample_size",
            format!("{sides:?}"),
            hint,
        ))
    }

    /// Whose shapes its operations have, for [`checks`](crate::doctor::checks).
    pub fn examined_as(&self) -> Vec<Models> {
        vec![self.trunk.examined_as(), Models::Vae, Models::KnownDefects]
    }

    /// How it makes films.
    pub fn films(&self) -> Films {
        let texts = self.texts().filter(|_| self.unet().is_some());
        let zero_shot = texts.is_some_and(|texts| texts.added.is_none());
        match self.trunk.frames() {
            Some(frames) => Films::Trained {
                frames: self.defaults.frames.unwrap_or(frames),
            },
            None if zero_shot && !self.fills_masks() && self.upscale.is_none() => Films::ZeroShot,
            None => Films::Never,
        }
    }

    /// Whether adapters fit it: a `UNet`, a transformer of Stable Diffusion 3 or of FLUX under text encoders of CLIP, and `PixArt`.
    pub(in crate::pipeline) fn takes_adapters(&self) -> bool {
        match self.trunk {
            TrunkConfig::UNet(_) | TrunkConfig::Mmdit(_) | TrunkConfig::Flux(_) => {
                self.texts().is_some()
            }
            TrunkConfig::PixArt(_) => true,
            _ => false,
        }
    }

    /// Puts a `ControlNet` beside the model, and gives its number.
    ///
    /// # Errors
    ///
    /// If it is for another model family.
    pub fn add_control(&mut self, net: ControlNetConfig) -> Result<usize, Error> {
        let follows = self.texts().is_some() && self.upscale.is_none();
        let unet = self.unet().filter(|_| follows);
        net.check_fits(unet.ok_or(RequestError::NoControl)?)?;
        let Canvas {
            channels, factor, ..
        } = self.canvas();
        net.check_reads(channels, factor)?;
        self.controls.push(net);
        Ok(self.controls.len() - 1)
    }

    /// Whether a run can start from a picture: models under text do, but for those of latents that make a picture larger.
    pub(in crate::pipeline) fn starts_from_pictures(&self) -> bool {
        self.sentences().is_some() || self.texts().is_some() && self.upscale.is_none()
    }

    /// What the lesser side of a picture to start from becomes, in pixels, where the model says that: `DeepFloyd` IF's do, others take the
    /// picture's own size.
    pub(in crate::pipeline) fn least_side(&self) -> Option<usize> {
        let [height, width] = self.canvas().sides;
        let pixels = self.sentences().filter(|_| self.vae().is_none());
        pixels.map(|_| height.min(width))
    }

    /// Height and width in pixels that a picture of another is made at, where the model knows a list of sizes (`PixArt`).
    pub(in crate::pipeline) fn binned(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        match &self.trunk {
            TrunkConfig::PixArt(pixart) => bins::nearest(pixart.sample_size, size),
            _ => None,
        }
    }

    /// The folder it was read from.
    pub(in crate::pipeline) fn folder(&self) -> Option<&ModelFolder> {
        self.folder.as_ref()
    }

    /// Whether the size is not that of the files, which is too small in conversions of before diffusers 0.9.
    pub fn is_repaired(&self) -> bool {
        self.repaired
    }

    /// Whether the denoiser takes a mask and a masked picture in beside the latents.
    pub fn fills_masks(&self) -> bool {
        let vae = self.vae().filter(|_| self.reads_text());
        vae.is_some_and(|vae| self.trunk.in_channels() == 2 * vae.latent_channels + 1)
    }

    /// The text encoders, where a prompt says what the pictures show.
    pub fn texts(&self) -> Option<&TextConfig> {
        self.source.texts()
    }

    /// The classes, where one of them says what a picture shows.
    pub fn classes(&self) -> Option<&ClassesConfig> {
        self.source.classes()
    }

    /// Whether a prompt says what the pictures show.
    pub fn reads_text(&self) -> bool {
        let sentences = matches!(self.source, SourceConfig::Sentences(_));
        sentences || self.texts().is_some()
    }

    /// Channels that are guided where the denoiser predicts variances after them.
    pub(in crate::pipeline) fn guided_channels(&self) -> Option<usize> {
        let channels = self.canvas().channels;
        let learns = self.unet().is_some_and(|unet| unet.out_channels > channels);
        learns.then_some(channels)
    }

    /// What a picture's sides in pixels are multiples of.
    pub fn multiple(&self) -> usize {
        let Canvas { factor, patch, .. } = self.canvas();
        factor * patch
    }

    /// What the denoiser works on.
    pub fn canvas(&self) -> Canvas {
        let channels = self.vae().map(|vae| vae.latent_channels);
        // Of pixels, an upscaler takes in as many of the small picture.
        let beside = if self.upscale.is_some() { 2 } else { 1 };
        Canvas {
            channels: channels.unwrap_or(self.trunk.in_channels() / beside),
            sides: self.trunk.sides(),
            factor: self.space.factor(),
            patch: self.trunk.patch(),
        }
    }

    /// The autoencoder, where there is one.
    pub fn vae(&self) -> Option<&VaeConfig> {
        self.space.vae()
    }

    /// The denoiser, where it is a `UNet`.
    pub fn unet(&self) -> Option<&UNetConfig> {
        self.trunk.unet()
    }

    /// Size of what the denoiser works on, for latents of this height and width.
    pub fn extent(&self, [height, width]: [usize; 2]) -> Extent {
        Extent {
            height,
            width,
            tokens: self.source.tokens(None),
        }
    }

    /// The denoiser's cells and what they cost, for latents of this height and width: a picture, or a frame of a film of the model's own
    /// length.
    pub fn blueprint(&self, size: [usize; 2]) -> Blueprint {
        let frames = match self.films() {
            Films::Trained { frames } => frames,
            Films::ZeroShot | Films::Never => 1,
        };
        self.blueprint_of(self.extent(size), frames)
    }

    /// The same of a film of `frames`, a frame.
    pub(in crate::pipeline) fn blueprint_of(&self, extent: Extent, frames: usize) -> Blueprint {
        self.trunk.blueprint(extent, frames)
    }

    /// [`blueprint_of`](Self::blueprint_of) without attention's two products, as `DeepCache` counts.
    pub(in crate::pipeline) fn blueprint_without_products(
        &self,
        extent: Extent,
        frames: usize,
    ) -> Blueprint {
        self.trunk.blueprint_without_products(extent, frames)
    }

    /// Shows every part with weights of its own to `visitor`: source, trunk, space. `device` is where networks would be; nothing is
    /// allocated.
    pub(in crate::pipeline) fn visit(
        &self,
        device: &Device,
        visitor: &mut impl Visitor,
    ) -> Result<(), Error> {
        self.source.visit(device, visitor)?;
        self.trunk.visit(device, visitor)?;
        self.space.visit(device, visitor)
    }
}
