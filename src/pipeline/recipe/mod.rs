//! A run as text, and back: what pictures and films keep of how they were made, what makes them again, and what other programs ask
//! with.
//!
//! ```
//! use afterimage::pipeline::Recipe;
//!
//! let recipe = Recipe::from_json(r#"{"version": 1, "prompts": ["a red fox"], "seed": 7, "steps": 20}"#)?;
//! assert_eq!(recipe.steps, Some(20));
//! assert_eq!(Recipe::from_json(&recipe.to_json())?, recipe);
//! # Ok::<(), afterimage::Error>(())
//! ```

mod alone;
mod files;
mod framing;
mod json;
mod kept;
mod of;
mod request;
#[cfg(test)]
mod tests;
mod words;
mod wrong;

use serde::{Deserialize, Serialize};

use super::config::{ModelConfig, SourceConfig};
use super::parts::Streaming;
use super::request::{FilmRequest, Resolved, Seeds, SkipLayers};
use crate::cache::CacheRule;
use crate::device::DtypeChoice;
use crate::models::vae::Tiling;
use crate::noise::Prediction;
use crate::samplers::SamplerKind;
use crate::weights::{ActivationFormat, WeightFormat};

pub use files::RecipeFile;
pub use request::RecipePictures;

/// The schema that this release writes.
const VERSION: u32 = 1;

/// A run as it is asked for; what is silent is the model's default. Names are those of the command line's options where there is one.
///
/// Reading is strict: a key that is not known is an error, and so is a newer version. Files are kept by path and hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Of this schema.
    pub version: u32,
    /// What it was made by and on; this is told, and followed by nobody.
    pub made: Option<RecipeMade>,
    /// The model.
    pub model: RecipeModel,
    /// The refiner that finishes what the model begins.
    pub refiner: Option<RecipeRefiner>,
    /// Models that make the picture larger, one after the other.
    pub upscalers: Vec<RecipeUpscaler>,
    /// A picture or film each.
    pub prompts: Vec<String>,
    /// What they avoid: none, one for all, or one a prompt.
    pub negative_prompts: Vec<String>,
    /// What the second text encoder reads.
    pub second_prompts: Vec<String>,
    /// The same of the negative prompts.
    pub second_negative_prompts: Vec<String>,
    /// What the third text encoder reads, if another text.
    pub third_prompts: Vec<String>,
    /// Likewise of what the pictures avoid.
    pub third_negative_prompts: Vec<String>,
    /// Classes, a picture each.
    pub classes: Vec<usize>,
    /// Pictures or films of each prompt or class.
    pub batch: Option<usize>,
    /// A number, or a list of one an item.
    pub seed: Option<Seeds>,
    /// Solver steps.
    pub steps: Option<usize>,
    /// See [`Request::guidance_scale`](super::Request::guidance_scale).
    pub guidance_scale: Option<f64>,
    /// See [`Request::true_guidance_scale`](super::Request::true_guidance_scale).
    pub true_guidance_scale: Option<f64>,
    /// See [`Request::guidance_rescale`](super::Request::guidance_rescale).
    pub guidance_rescale: Option<f64>,
    /// See [`Request::guidance_until`](super::Request::guidance_until).
    pub guidance_until: Option<f64>,
    /// See [`Request::guidance_channels`](super::Request::guidance_channels).
    pub guidance_channels: Option<usize>,
    /// See [`Request::skip_layers`](super::Request::skip_layers).
    pub skip_layers: SkipLayers,
    /// Last layers of the text encoder left out.
    pub clip_skip: Option<usize>,
    /// See [`Request::text_length`](super::Request::text_length).
    pub text_length: Option<usize>,
    /// Width and height in pixels.
    pub size: Option<[usize; 2]>,
    /// See [`Request::resolution_binning`](super::Request::resolution_binning).
    pub resolution_binning: Option<bool>,
    /// The update rule.
    #[serde(with = "words")]
    pub sampler: Option<SamplerKind>,
    /// Noise of the update rule.
    pub eta: Option<f64>,
    /// What is reused between steps; [`reuse`](Self::reuse) puts another in its place.
    #[serde(with = "words")]
    pub cache: Option<CacheRule>,
    /// The router that it names, where it names one.
    pub router: Option<RecipeFile>,
    /// What films are told.
    pub film: FilmRequest,
    /// What SDXL is told.
    pub framing: RecipeFraming,
    /// The picture to start from.
    pub init_image: Option<RecipeFile>,
    /// See [`Request::noise_level`](super::Request::noise_level).
    pub noise_level: Option<usize>,
    /// How much of it gives way to noise.
    pub strength: Option<f64>,
    /// Which part of it is painted anew.
    pub mask: Option<RecipeFile>,
    /// `ControlNets` and what they follow.
    pub controls: Vec<RecipeControl>,
    /// `LoRA`s and their kin.
    pub loras: Vec<RecipeLora>,
    /// Words that are added to the vocabulary.
    pub embeddings: Vec<RecipeEmbedding>,
    /// Weights of Custom Diffusion.
    pub custom_diffusions: Vec<RecipeFile>,
    /// Latents in place of the seed's noise, in a file.
    pub initial_latents: Option<RecipeFile>,
    /// Whether the autoencoder works in tiles.
    pub tiling: Option<Tiling>,
    /// What the denoiser computes in.
    #[serde(with = "words")]
    pub dtype: Option<DtypeChoice>,
    /// How linear layers keep their weights.
    #[serde(with = "words")]
    pub weights: Option<WeightFormat>,
    /// What the denoiser's layers multiply their weights with.
    #[serde(with = "words")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<ActivationFormat>,
    /// Whether blocks are read from their files as they are needed.
    #[serde(with = "words")]
    pub stream_weights: Option<Streaming>,
}

/// What a picture was made by and on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeMade {
    /// `afterimage 0.2.0`
    pub by: String,
    /// The device.
    pub on: String,
}

/// A model, and what the caller says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecipeModel {
    /// Folder, file or Hub id; the bundled model where it is silent.
    pub name: Option<String>,
    /// [`ModelFolder::weights_hash`](crate::catalog::ModelFolder::weights_hash), which must be the same then; silent ones are not looked at.
    pub hash: Option<String>,
    /// What it predicts, where its files do not say it or say it wrongly.
    #[serde(with = "words")]
    pub prediction: Option<Prediction>,
    /// The autoencoder in place of its own.
    pub vae: Option<String>,
    /// A tiny autoencoder in place of its own.
    pub tiny_vae: Option<String>,
}

/// A refiner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeRefiner {
    /// Folder, file or Hub id.
    pub name: String,
    /// As [`RecipeModel::hash`].
    #[serde(default)]
    pub hash: Option<String>,
    /// Share of the noise that the model takes away before.
    #[serde(default)]
    pub from: Option<f64>,
}

/// A model that makes the picture of the one before larger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeUpscaler {
    /// Folder, file or Hub id.
    pub name: String,
    /// As [`RecipeModel::hash`].
    #[serde(default)]
    pub hash: Option<String>,
    /// See [`Request::noise_level`](super::Request::noise_level).
    #[serde(default)]
    pub noise_level: Option<usize>,
}

/// What SDXL's models are told besides the prompts: sizes as width and height, crops as columns and rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecipeFraming {
    /// See [`Framing::original`](super::Framing::original).
    pub original_size: Option<[usize; 2]>,
    /// See [`Framing::crop`](super::Framing::crop).
    pub crop: Option<[usize; 2]>,
    /// See [`Framing::target`](super::Framing::target).
    pub target_size: Option<[usize; 2]>,
    /// The same of what the picture is not to look like.
    pub negative_original_size: Option<[usize; 2]>,
    /// Likewise.
    pub negative_crop: Option<[usize; 2]>,
    /// Likewise.
    pub negative_target_size: Option<[usize; 2]>,
    /// See [`Added::aesthetic_score`](super::Added::aesthetic_score).
    pub aesthetic_score: Option<f64>,
    /// See [`Added::negative_aesthetic_score`](super::Added::negative_aesthetic_score).
    pub negative_aesthetic_score: Option<f64>,
}

/// A `ControlNet` and what it follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeControl {
    /// Folder of the net.
    pub model: String,
    /// As [`RecipeModel::hash`].
    #[serde(default)]
    pub hash: Option<String>,
    /// A picture, or a folder of them, one a frame.
    pub image: RecipeFile,
    /// Thresholds of the outlines that the picture is turned into first.
    #[serde(default)]
    pub canny: Option<[f32; 2]>,
    /// See [`Control::scale`](super::Control::scale).
    #[serde(default = "one")]
    pub scale: f64,
    /// See [`Control::window`](super::Control::window).
    #[serde(default = "whole")]
    pub window: [f64; 2],
    /// See [`Control::guess`](super::Control::guess).
    #[serde(default)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub guess: bool,
}

/// A `LoRA`, and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeLora {
    /// Its file.
    pub file: RecipeFile,
    /// How much of it.
    #[serde(default = "one")]
    pub scale: f64,
}

/// A textual inversion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeEmbedding {
    /// Its file.
    pub file: RecipeFile,
    /// Its word in prompts; the file's own where it is silent.
    #[serde(default)]
    pub token: Option<String>,
}

fn one() -> f64 {
    1.0
}

fn whole() -> [f64; 2] {
    [0.0, 1.0]
}

impl Default for Recipe {
    /// One picture by the bundled model, of which nothing is said.
    fn default() -> Self {
        Self {
            version: VERSION,
            made: None,
            model: RecipeModel::default(),
            refiner: None,
            upscalers: Vec::new(),
            prompts: Vec::new(),
            negative_prompts: Vec::new(),
            second_prompts: Vec::new(),
            second_negative_prompts: Vec::new(),
            third_prompts: Vec::new(),
            third_negative_prompts: Vec::new(),
            classes: Vec::new(),
            batch: None,
            seed: None,
            steps: None,
            guidance_scale: None,
            true_guidance_scale: None,
            guidance_rescale: None,
            guidance_until: None,
            guidance_channels: None,
            skip_layers: SkipLayers::default(),
            clip_skip: None,
            text_length: None,
            size: None,
            resolution_binning: None,
            sampler: None,
            eta: None,
            cache: None,
            router: None,
            film: FilmRequest::default(),
            framing: RecipeFraming::default(),
            init_image: None,
            noise_level: None,
            strength: None,
            mask: None,
            controls: Vec::new(),
            loras: Vec::new(),
            embeddings: Vec::new(),
            custom_diffusions: Vec::new(),
            initial_latents: None,
            tiling: None,
            dtype: None,
            weights: None,
            activations: None,
            stream_weights: None,
        }
    }
}

impl Recipe {
    /// With what `resolved` has filled in of its request for `model`, so that other defaults change nothing.
    #[must_use]
    pub fn settled(mut self, resolved: &Resolved, model: &ModelConfig) -> Self {
        let [height, width] = resolved.size;
        self.size = Some([width, height]);
        self.steps = Some(resolved.steps);
        // What guides nothing is refused where it is said.
        if !matches!(model.source, SourceConfig::Nothing) {
            self.guidance_scale = Some(resolved.guidance.asked());
        }
        if resolved.rows.frames > 1 {
            self.film.frames = Some(resolved.rows.frames);
        }
        self
    }
}
