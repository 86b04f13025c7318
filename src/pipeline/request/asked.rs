//! What a caller asks for.

use burn::tensor::Tensor;

use super::added::Added;
use super::control::Control;
use super::edit::Edit;
use super::embeds::PromptEmbeds;
use super::film::FilmRequest;
use super::low::LowPicture;
use super::noise::Seeds;
use super::rescue::Rescue;
use super::skipped::SkipLayers;
use super::stage::Stage;
use super::subject::Subject;
use crate::cache::CacheRule;
use crate::models::vae::Tiling;
use crate::samplers::SamplerKind;

/// A request as it is said; `None` takes the model's default.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the pictures show.
    pub subject: Subject,
    /// What they avoid: none, one for all, or one a prompt.
    pub negative_prompts: Vec<String>,
    /// What prompts and negative prompts say, encoded before: models that read them through T5 then need no encoder. In a
    /// [`Cascade`](crate::pipeline::Cascade), the first link's go on to the others that read as it does.
    pub prompt_embeds: Option<PromptEmbeds>,
    /// What only some models are told besides (SDXL).
    pub added: Added,
    /// What films are told besides.
    pub film: FilmRequest,
    /// Pictures or films of each prompt or class, or of the picture.
    pub batch: usize,
    /// Where the noise starts.
    pub seeds: Seeds,
    /// Solver steps.
    pub steps: Option<usize>,
    /// Guidance scale; 1 and less is unguided.
    pub guidance_scale: Option<f64>,
    /// The scale of guidance away from the negative prompt, for models that do without it or read `guidance_scale` themselves (FLUX); 1 and
    /// less is unguided.
    pub true_guidance_scale: Option<f64>,
    /// 0 to 1, see [`Guidance::rescale`](crate::guidance::Guidance::rescale).
    pub guidance_rescale: f64,
    /// Share of the run, 0 to 1, behind which guidance is off and one row a picture is computed; `None` guides to the end.
    pub guidance_until: Option<f64>,
    /// Channels that are guided, see [`Guidance::channels`](crate::guidance::Guidance::channels).
    pub guidance_channels: Option<usize>,
    /// Layers of the denoiser whose absence guides besides.
    pub skip_layers: SkipLayers,
    /// Last layers of the text encoder left out.
    pub clip_skip: usize,
    /// Tokens that are read of a prompt, for models that let that be said; `None` for the model's own number.
    pub text_length: Option<usize>,
    /// Width and height in pixels.
    pub size: Option<(usize, usize)>,
    /// Whether models that know a list of sizes (`PixArt`) make pictures at the nearest of it, and bring them to their size afterwards.
    pub resolution_binning: bool,
    /// The update rule.
    pub sampler: Option<SamplerKind>,
    /// Noise added by DDIM (0 none, 1 as much as DDPM) and by TCD, whose gamma it is.
    pub eta: f64,
    /// What is reused between steps.
    pub cache: CacheRule,
    /// Which part of the noise this model takes away.
    pub stage: Stage,
    /// Latents to start from in place of the seed's noise, `[items · frames, channels, height, width]`: standard normal, or what another
    /// model has left ([`Stage::Finish`]). Films of Text2Video-Zero start from one frame, `[items, channels, height, width]`.
    pub initial_latents: Option<Tensor<4>>,
    /// A picture to start from, and which part of it is painted anew.
    pub edit: Option<Edit>,
    /// The picture that an upscaler makes larger: one for all pictures, or one each. In a [`Cascade`](crate::pipeline::Cascade), the link
    /// before makes it.
    pub low: Option<LowPicture>,
    /// The level of the noise that an upscaler puts on it, in training timesteps; more changes more.
    pub noise_level: Option<usize>,
    /// What steers the run beside the prompt.
    pub controls: Vec<Control>,
    /// Whether the autoencoder works in tiles.
    pub tiling: Tiling,
    /// A file for the finished latents, for [`read_latents`](crate::pipeline::read_latents): written before they are decoded if memory is
    /// short, else as soon as decoding fails, and removed with what was generated
    /// ([`Generated::kept`](crate::pipeline::Generated::kept)). `None` loses them with a failure.
    pub rescue: Option<Rescue>,
    /// Whether launches are recorded and played again, see [`Session::with_step_graphs`](crate::cache::Session::with_step_graphs).
    pub step_graphs: bool,
}

impl Request {
    /// One picture of `prompt`, everything else as the model would have it, from seed 0.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            subject: Subject::Prompts(vec![prompt.into()]),
            negative_prompts: Vec::new(),
            prompt_embeds: None,
            added: Added::default(),
            film: FilmRequest::default(),
            batch: 1,
            seeds: Seeds::One(0),
            steps: None,
            guidance_scale: None,
            true_guidance_scale: None,
            guidance_rescale: 0.0,
            guidance_until: None,
            guidance_channels: None,
            skip_layers: SkipLayers::default(),
            clip_skip: 0,
            text_length: None,
            size: None,
            resolution_binning: true,
            sampler: None,
            eta: 0.0,
            cache: CacheRule::none(),
            stage: Stage::Whole,
            initial_latents: None,
            edit: None,
            low: None,
            noise_level: None,
            controls: Vec::new(),
            tiling: Tiling::default(),
            rescue: None,
            step_graphs: false,
        }
    }

    /// One picture of each class, everything else as the model would have it, from seed 0.
    pub fn of_classes(labels: impl Into<Vec<usize>>) -> Self {
        Self::of(Subject::Classes(labels.into()))
    }

    /// One picture or film of each subject, everything else as the model would have it, from seed 0.
    pub fn of(subject: Subject) -> Self {
        Self {
            subject,
            ..Self::new("")
        }
    }

    /// Pictures or films in all.
    pub fn items(&self) -> usize {
        self.subject.count().saturating_mul(self.batch)
    }
}
