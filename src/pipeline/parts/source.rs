//! What a model makes its pictures from.

use std::fmt::Debug;

use burn::tensor::Device;

use super::arrangement::Arrangement;
use crate::catalog::ModelFolder;
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::{Error, RequestError};
use crate::models::vae::Autoencoder;
use crate::pipeline::request::{PromptEmbeds, Request, Resolved, SeededNoise};
use crate::text::Embedding;
use crate::weights::Format;
use crate::weights::adapt::Merge;

/// Turns what a request says into what the run is conditioned on.
pub(in crate::pipeline) trait Source: Debug + Send + Sync {
    /// The conditions of the run, rows in the order of guidance halves, then items; frames of a film share them. What is drawn for them
    /// is the first of `noise`.
    fn conditioning(
        &self,
        asked: &Asked<'_>,
        noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error>;

    /// What the prompts of `request` say, where that can be told before its run: models that read them through T5. What the pictures avoid
    /// may be left out where nothing is `guided` away from it.
    fn embeds(
        &self,
        _request: &Request,
        _guided: bool,
        _observer: &mut dyn Observer,
    ) -> Result<Option<PromptEmbeds>, Error> {
        Ok(None)
    }

    /// Whether it holds networks that can be given up while the denoiser runs.
    fn holds(&self) -> bool {
        false
    }

    /// Gives their memory back until the next request; whether there was any.
    fn release(&self) -> bool {
        false
    }

    /// The same with other adapters, and what the user should know of them.
    fn exchanged(&self, _origin: Origin) -> Result<(Box<dyn Source>, Vec<String>), Error> {
        Err(RequestError::NoAdapters.into())
    }
}

/// What a source is asked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct Asked<'a> {
    pub(in crate::pipeline) request: &'a Request,
    pub(in crate::pipeline) resolved: &'a Resolved,
    /// Height and width of the pictures in pixels.
    pub(in crate::pipeline) size: [usize; 2],
    /// What turns pictures into latents, where the model has that.
    pub(in crate::pipeline) vae: Option<&'a Autoencoder>,
}

/// What the networks of a source are made from.
#[derive(Debug, Clone)]
pub(in crate::pipeline) struct Origin {
    pub(in crate::pipeline) folder: ModelFolder,
    pub(in crate::pipeline) device: Device,
    /// The denoiser's: encoders keep their weights likewise, and compute in f32.
    pub(in crate::pipeline) format: Format,
    /// What of it is in memory at a time.
    pub(in crate::pipeline) arrangement: Arrangement,
    pub(in crate::pipeline) merge: Merge,
    pub(in crate::pipeline) embeddings: Vec<Embedding>,
}
