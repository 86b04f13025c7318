//! What a model folder says of itself, read without its weights.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::class_config::{ClassDenoiserConfig, ClassToImageConfig};
use super::encoders::TextConfig;
use super::repairs;
use crate::catalog::ModelFolder;
use crate::denoiser::Blueprint;
use crate::error::{ConfigError, Error, RequestError};
use crate::models::bounded;
use crate::models::control::ControlNetConfig;
use crate::models::dit::DiTConfig;
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

impl Defaults {
    /// What diffusers' `StableDiffusionPipeline` and `StableDiffusionXLPipeline` use.
    fn texts(parts: &TextToImageConfig) -> Self {
        let silent = Self::default();
        let xl = parts.text.added.is_some();
        Self {
            guidance_scale: if xl { 5.0 } else { silent.guidance_scale },
            ..silent
        }
    }

    /// What diffusers' pipelines without text use, of as many steps.
    fn unconditional(steps: usize) -> Self {
        Self {
            steps,
            guidance_scale: 1.0,
            guidance_channels: None,
        }
    }

    /// What diffusers' `DiTPipeline` uses.
    fn class_to_image() -> Self {
        Self {
            guidance_scale: 4.0,
            ..Self::default()
        }
    }
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
    /// The `ControlNets` put beside the model, in the order they were.
    pub controls: Vec<ControlNetConfig>,
}

/// What a model makes its pictures from.
#[derive(Debug, Clone)]
pub enum Family {
    /// A text.
    TextToImage(TextToImageConfig),
    /// A class.
    ClassToImage(ClassToImageConfig),
    /// Nothing but noise.
    Unconditional(UnconditionalConfig),
}

/// The parts of a model that makes pictures out of noise alone.
#[derive(Debug, Clone)]
pub struct UnconditionalConfig {
    /// `unet/config.json`
    pub unet: UNetConfig,
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
    /// Whether the size of the latents is not that of the file.
    repaired: bool,
}

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

impl ModelConfig {
    /// Reads and checks all of them.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or asks for something that is not built.
    pub fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let scheduler = "scheduler/scheduler_config.json";
        let named = folder.index().class("scheduler");
        let class = named.filter(|_| !folder.amends(scheduler, "_class_name"));
        let keys = folder.read_json(scheduler)?;
        let sampler = SamplerConfig::of_class(class, &keys, scheduler.as_ref())?
            .repaired_for(folder.index().pipeline());
        let mut config = match folder.index().pipeline() {
            "DDPMPipeline" => Self::unconditional(folder, sampler, 1000)?,
            "DDIMPipeline" => Self::unconditional(folder, sampler.with_kind("ddim".parse()?), 50)?,
            "PNDMPipeline" => Self::unconditional(folder, sampler.with_kind("pndm".parse()?), 50)?,
            "DiTPipeline" | "LDMClassToImagePipeline" => Self::class_to_image(folder, sampler)?,
            _ => Self::texts(folder, sampler)?,
        };
        if folder.has("afterimage.json") {
            config.defaults = json(folder, "afterimage.json", "afterimage.json")?;
        }
        Ok(config)
    }

    fn texts(folder: &ModelFolder, sampler: SamplerConfig) -> Result<Self, Error> {
        repairs::check_reads_text(folder.index())?;
        let parts = TextToImageConfig::read(folder)?;
        Ok(Self {
            sampler,
            defaults: Defaults::texts(&parts),
            controls: Vec::new(),
            family: Family::TextToImage(parts),
        })
    }

    /// A model without text, which its pipeline samples in `steps`.
    fn unconditional(
        folder: &ModelFolder,
        sampler: SamplerConfig,
        steps: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            family: Family::Unconditional(UnconditionalConfig::read(folder)?),
            sampler,
            defaults: Defaults::unconditional(steps),
            controls: Vec::new(),
        })
    }

    /// Puts a `ControlNet` beside the model, and gives its number.
    ///
    /// # Errors
    ///
    /// If it is for another model family.
    pub fn add_control(&mut self, net: ControlNetConfig) -> Result<usize, Error> {
        let parts = self.text_to_image().map_err(|_| RequestError::NoControl)?;
        net.check_fits(&parts.unet)?;
        self.controls.push(net);
        Ok(self.controls.len() - 1)
    }

    /// Whether the size is not that of the files, which is too small in conversions of before diffusers 0.9.
    pub fn is_repaired(&self) -> bool {
        let parts = self.text_to_image();
        parts.is_ok_and(|parts| parts.repaired)
    }

    /// Whether the denoiser takes a mask and a masked picture in beside the latents.
    pub fn fills_masks(&self) -> bool {
        let parts = self.text_to_image();
        parts.is_ok_and(TextToImageConfig::fills_masks)
    }

    /// A class-conditional model; its sampler is told of a variance that only the denoiser knows of.
    fn class_to_image(folder: &ModelFolder, sampler: SamplerConfig) -> Result<Self, Error> {
        let parts = ClassToImageConfig::read(folder)?;
        Ok(Self {
            sampler: if parts.learns_variance() {
                sampler.with_learned_variance()
            } else {
                sampler
            },
            family: Family::ClassToImage(parts),
            defaults: Defaults::class_to_image(),
            controls: Vec::new(),
        })
    }

    /// The parts of a text-to-image model.
    ///
    /// # Errors
    ///
    /// If it makes its pictures from something else.
    pub(super) fn text_to_image(&self) -> Result<&TextToImageConfig, ConfigError> {
        match &self.family {
            Family::TextToImage(parts) => Ok(parts),
            Family::ClassToImage(_) | Family::Unconditional(_) => Err(ConfigError::unsupported(
                "_class_name",
                "a pipeline without text",
                "load it as a `Pipeline`",
            )),
        }
    }

    /// Whether a prompt says what the pictures show.
    pub fn reads_text(&self) -> bool {
        matches!(self.family, Family::TextToImage(_))
    }

    /// What a picture's sides in pixels are multiples of.
    pub fn multiple(&self) -> usize {
        let Canvas { factor, patch, .. } = self.canvas();
        factor * patch
    }

    /// What the denoiser works on.
    pub fn canvas(&self) -> Canvas {
        match &self.family {
            Family::TextToImage(parts) => Canvas {
                channels: parts.vae.latent_channels,
                sides: parts.unet.sample_size,
                factor: parts.vae.factor(),
                patch: 1,
            },
            Family::ClassToImage(parts) => parts.canvas(),
            Family::Unconditional(parts) => Canvas {
                channels: parts.unet.in_channels,
                sides: parts.unet.sample_size,
                factor: 1,
                patch: 1 << (parts.unet.levels.len() - 1),
            },
        }
    }

    /// The autoencoder, where there is one.
    pub fn vae(&self) -> Option<&VaeConfig> {
        match &self.family {
            Family::TextToImage(parts) => Some(&parts.vae),
            Family::ClassToImage(parts) => Some(&parts.vae),
            Family::Unconditional(_) => None,
        }
    }

    /// The denoiser, where it is a `UNet`.
    pub fn unet(&self) -> Option<&UNetConfig> {
        match self.trunk([1, 1]) {
            Trunk::UNet(unet, _) => Some(unet),
            Trunk::DiT(_) => None,
        }
    }

    /// The denoiser's cells and what they cost, for latents of this height and width.
    pub fn blueprint(&self, size: [usize; 2]) -> Blueprint {
        match self.trunk(size) {
            Trunk::UNet(unet, extent) => unet.blueprint(extent),
            Trunk::DiT(dit) => dit.blueprint(size[0], size[1]),
        }
    }

    /// [`blueprint`](Self::blueprint) without attention's two products, as `DeepCache` counts.
    pub fn blueprint_without_products(&self, size: [usize; 2]) -> Blueprint {
        match self.trunk(size) {
            Trunk::UNet(unet, extent) => unet.blueprint_without_products(extent),
            Trunk::DiT(dit) => dit.blueprint_without_products(size[0], size[1]),
        }
    }

    fn trunk(&self, [height, width]: [usize; 2]) -> Trunk<'_> {
        let extent = |tokens| Extent {
            height,
            width,
            tokens,
        };
        match &self.family {
            Family::TextToImage(parts) => Trunk::UNet(&parts.unet, extent(parts.text.tokens())),
            Family::Unconditional(parts) => Trunk::UNet(&parts.unet, extent(0)),
            Family::ClassToImage(parts) => match &parts.denoiser {
                ClassDenoiserConfig::DiT(dit) => Trunk::DiT(dit),
                ClassDenoiserConfig::UNet(config) => Trunk::UNet(&config.unet, extent(1)),
            },
        }
    }
}

/// The denoiser's configuration, with what it works on.
enum Trunk<'a> {
    UNet(&'a UNetConfig, Extent),
    DiT(&'a DiTConfig),
}

impl UnconditionalConfig {
    fn read(folder: &ModelFolder) -> Result<Self, Error> {
        let unet = UNetConfig::from_json_2d(&folder.read_json("unet/config.json")?)?;
        let UNetConfig {
            in_channels,
            out_channels,
            ..
        } = unet;
        if ![1, 3].contains(&in_channels) {
            let hint = "pictures have 1 channel or 3";
            return Err(ConfigError::unsupported("in_channels", in_channels, hint).into());
        }
        if ![in_channels, 2 * in_channels].contains(&out_channels) {
            let hint =
                format!("as many as `in_channels`, {in_channels}, or twice that with variances");
            return Err(ConfigError::unsupported("out_channels", out_channels, hint).into());
        }
        if let Some(width) = unet.label_width {
            let hint = "this pipeline has no word for labels";
            let key = "projection_class_embeddings_input_dim";
            return Err(ConfigError::unsupported(key, width, hint).into());
        }
        Ok(Self { unet })
    }
}

/// Refuses an autoencoder whose latents are not what the denoiser works on: it was put beside it by a caller.
pub(super) fn check_latents(
    folder: &ModelFolder,
    denoiser: usize,
    vae: &VaeConfig,
) -> Result<(), ConfigError> {
    let (latent, masked) = (vae.latent_channels, 2 * vae.latent_channels + 1);
    match folder.other_vae() {
        Some(name) if denoiser != latent && denoiser != masked => {
            let hint = format!(
                "the autoencoder `{name}` is for another model family: the denoiser takes {denoiser} channels in"
            );
            Err(ConfigError::unsupported("latent_channels", latent, hint))
        }
        _ => Ok(()),
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
        let text = folder.read_json("unet/config.json")?;
        let mut unet = UNetConfig::from_json(&text)?;
        let written = unet.sample_size;
        if unet.added.is_none() {
            unet.sample_size = repairs::latent_sides(&text, written);
        }
        let config = Self {
            vae: VaeConfig::new(json::<VaeJson>(folder, "vae", "vae/config.json")?)?,
            text: TextConfig::read(folder, &unet)?,
            repaired: unet.sample_size != written,
            unet,
        };
        check_latents(folder, config.unet.in_channels, &config.vae)?;
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

/// `path` of `folder`, the configuration of `part`.
pub(super) fn json<T: DeserializeOwned>(
    folder: &ModelFolder,
    part: &str,
    path: &str,
) -> Result<T, Error> {
    let text = folder.read_json(path)?;
    let value = bounded(&text, path)?;
    let read = value.and_then(|_| serde_json::from_str(&text));
    read.map_err(|source| {
        ConfigError::Json {
            part: part.to_owned(),
            path: path.into(),
            source,
        }
        .into()
    })
}
