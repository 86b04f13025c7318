//! Prompts that are read before all else.

use burn::tensor::Device;

use super::adapters::Adapters;
use super::arrangement::Arrangement;
use super::build::{origin, source};
use crate::catalog::ModelFolder;
use crate::denoise::Observer;
use crate::error::Error;
use crate::pipeline::config::ModelConfig;
use crate::pipeline::request::{PromptEmbeds, Request};
use crate::weights::Format;

/// What reads the prompts of a model.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    /// Where its weights are.
    pub folder: &'a ModelFolder,
    /// What the folder says.
    pub config: &'a ModelConfig,
    /// Where it computes.
    pub device: &'a Device,
    /// The denoiser's: encoders keep their weights likewise, and compute in f32.
    pub format: Format,
    /// What is merged into the encoders.
    pub adapters: &'a Adapters,
    /// What of them is in memory at a time.
    pub arrangement: Arrangement,
}

impl Texts<'_> {
    /// What the prompts of `request` say, by encoders that are in memory for that alone, and no longer; `None` where texts and denoiser are
    /// read together.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the device fails.
    pub fn read(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Option<PromptEmbeds>, Error> {
        let Self {
            folder,
            config,
            device,
            format,
            adapters,
            arrangement,
        } = *self;
        if !arrangement.texts_first {
            return Ok(None);
        }
        let (origin, _) = origin(config, folder, (device, format), arrangement, adapters)?;
        let (source, _) = source(&config.source, origin)?()?;
        let embeds = source.embeds(request, is_guided(request, config), observer)?;
        source.release();
        Ok(embeds)
    }
}

/// Whether `request` is guided away from something; where it is another model's of a chain, it may be.
pub(in crate::pipeline) fn is_guided(request: &Request, config: &ModelConfig) -> bool {
    let resolved = request.resolve(config);
    resolved.map_or(true, |resolved| resolved.guidance.is_on())
}

impl PromptEmbeds {
    /// Reads the prompts of `request` through the encoder of the model in `folder`, alone: it is in memory before the denoiser is, and no
    /// longer. `None` where texts and denoiser are read together.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the device fails.
    pub fn read(
        folder: &ModelFolder,
        config: &ModelConfig,
        device: &Device,
        format: impl Into<Format>,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>, Error> {
        let texts = Texts {
            folder,
            config,
            device,
            format: format.into(),
            adapters: &Adapters::default(),
            arrangement: Arrangement::of(config),
        };
        texts.read(request, observer)
    }
}
