//! What a caller asks for, and what that means for a model.

use std::ops::Range;
use std::path::PathBuf;

use burn::tensor::Tensor;

use super::added::Added;
use super::config::{Family, ModelConfig, TextToImageConfig};
use super::control::{Control, switches};
use super::edit::Edit;
use super::noise::Seeds;
use super::stage::Stage;
use crate::cache::{CachePlan, CacheRule, Course, Forecast};
use crate::denoiser::{Blueprint, Rows};
use crate::error::{Error, RequestError};
use crate::guidance::Guidance;
use crate::models::vae::Tiling;
use crate::sampler::Sampler;
use crate::samplers::{SamplerKind, Steps};

/// Pixels of one request beyond which no supported model follows: one picture of 8192x8192.
const MOST_PIXELS: usize = 1 << 26;

/// A request as it is said; `None` takes the model's default.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the pictures show, one entry a prompt; for text-to-image models. An empty prompt is legal.
    pub prompts: Vec<String>,
    /// What they avoid: none, one for all, or one a prompt.
    pub negative_prompts: Vec<String>,
    /// What the pictures show, one entry a class; for class-to-image models.
    pub class_labels: Vec<usize>,
    /// What only some models are told besides (SDXL).
    pub added: Added,
    /// Pictures a prompt or class.
    pub batch: usize,
    /// Where the noise starts.
    pub seeds: Seeds,
    /// Solver steps.
    pub steps: Option<usize>,
    /// Guidance scale; 1 and less is unguided.
    pub guidance_scale: Option<f64>,
    /// 0 to 1, see [`Guidance::rescale`].
    pub guidance_rescale: f64,
    /// Share of the run, 0 to 1, behind which guidance is off and one row a picture is computed; `None` guides to the end.
    pub guidance_until: Option<f64>,
    /// Channels that are guided, see [`Guidance::channels`].
    pub guidance_channels: Option<usize>,
    /// Last layers of the text encoder left out.
    pub clip_skip: usize,
    /// Width and height in pixels.
    pub size: Option<(usize, usize)>,
    /// The update rule.
    pub sampler: Option<SamplerKind>,
    /// Noise added by DDIM (0 none, 1 as much as DDPM) and by TCD, whose gamma it is.
    pub eta: f64,
    /// What is reused between steps.
    pub cache: CacheRule,
    /// Which part of the noise this model takes away.
    pub stage: Stage,
    /// Latents to start from in place of the seed's noise, `[items, channels, height, width]`: standard normal, or what another model
    /// has left ([`Stage::Finish`]).
    pub initial_latents: Option<Tensor<4>>,
    /// A picture to start from, and which part of it is painted anew.
    pub edit: Option<Edit>,
    /// What steers the run beside the prompt.
    pub controls: Vec<Control>,
    /// Whether the autoencoder works in tiles.
    pub tiling: Tiling,
    /// A file for the finished latents, for [`read_latents`](super::read_latents): written before they are decoded if memory is short,
    /// else as soon as decoding fails, and removed
    /// with what was generated ([`Generated::kept`](super::Generated::kept)). `None` loses them with a failure.
    pub rescue: Option<PathBuf>,
    /// Whether launches are recorded and played again, see [`Session::with_step_graphs`](crate::cache::Session::with_step_graphs).
    pub step_graphs: bool,
}

impl Request {
    /// One picture of `prompt`, everything else as the model would have it, from seed 0.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompts: vec![prompt.into()],
            negative_prompts: Vec::new(),
            added: Added::default(),
            class_labels: Vec::new(),
            batch: 1,
            seeds: Seeds::One(0),
            steps: None,
            guidance_scale: None,
            guidance_rescale: 0.0,
            guidance_until: None,
            guidance_channels: None,
            clip_skip: 0,
            size: None,
            sampler: None,
            eta: 0.0,
            cache: CacheRule::none(),
            stage: Stage::Whole,
            initial_latents: None,
            edit: None,
            controls: Vec::new(),
            tiling: Tiling::default(),
            rescue: None,
            step_graphs: false,
        }
    }

    /// One picture of each class, everything else as the model would have it, from seed 0.
    pub fn of_classes(labels: impl Into<Vec<usize>>) -> Self {
        Self {
            prompts: Vec::new(),
            class_labels: labels.into(),
            ..Self::new("")
        }
    }

    /// Pictures in all.
    pub fn items(&self) -> usize {
        let subjects = match self.class_labels.len() {
            0 => self.prompts.len(),
            classes => classes,
        };
        subjects.saturating_mul(self.batch)
    }

    /// Checks the request against a model and makes the tables and the plan of the run. Needs no weights.
    ///
    /// # Errors
    ///
    /// If a number is out of range, the sampler or the rule does not fit, or sizes do not.
    pub fn resolve(&self, model: &ModelConfig) -> Result<Resolved, Error> {
        model.family.accepts(self)?;
        self.check_prompts()?;
        self.check_added(model)?;
        self.check_stage(model)?;
        let steps = self.steps.unwrap_or(model.defaults.steps);
        if steps == 0 {
            return Err(RequestError::ZeroSteps.into());
        }
        let latent_size = self.latent_size(model)?;
        let executed = self.executed(steps, latent_size, model)?;
        let guidance = self.guidance(model)?;
        let sampler_config = match self.sampler {
            Some(kind) => model.sampler.clone().with_kind(kind),
            None => model.sampler.clone(),
        };
        let (sampler, evaluations) = self.stage.sampler(&sampler_config, executed, self.eta)?;
        let rows = guidance.rows(self.items());
        let windows = self.windows(model, latent_size, evaluations)?;
        let blueprint = self.trunk(model, latent_size, rows);
        let course = course(sampler.as_ref(), evaluations)
            .refreshing_at(switches(&windows))
            .guided_until(self.guided_share(guidance)?);
        let plan = self.cache.plan(&course, &blueprint)?;
        Ok(Resolved {
            notes: sampler_config.notes(),
            steps,
            guidance,
            rows,
            windows,
            latent_shape: [
                self.items(),
                model.canvas().channels,
                latent_size[0],
                latent_size[1],
            ],
            sampler,
            blueprint,
            plan,
        })
    }

    fn check_prompts(&self) -> Result<(), RequestError> {
        let (prompts, negative) = (self.prompts.len(), self.negative_prompts.len());
        if self.items() == 0 {
            return Err(RequestError::NoPictures);
        }
        if negative > 1 && negative != prompts {
            return Err(RequestError::NegativePrompts { prompts, negative });
        }
        match &self.seeds {
            Seeds::Each(seeds) if seeds.len() != self.items() => Err(RequestError::Seeds {
                seeds: seeds.len(),
                pictures: self.items(),
            }),
            _ => Ok(()),
        }
    }

    fn check_stage(&self, model: &ModelConfig) -> Result<(), RequestError> {
        let refines = |parts: &TextToImageConfig| parts.text.refines();
        let parts = model.text_to_image().ok();
        match self.stage {
            Stage::Begin { .. } | Stage::Finish { .. } if parts.is_none() => {
                Err(RequestError::NotSdxl { role: "model" })
            }
            // A refiner can also improve a picture that is there.
            Stage::Whole if self.edit.is_some() => Ok(()),
            Stage::Whole | Stage::Begin { .. } if parts.is_some_and(refines) => {
                Err(RequestError::RefinerAlone)
            }
            _ => Ok(()),
        }
    }

    /// Which steps are made: all, or those behind the noise that is put on a picture.
    fn executed(
        &self,
        steps: usize,
        latent_size: [usize; 2],
        model: &ModelConfig,
    ) -> Result<Steps, Error> {
        let fills = model.fills_masks();
        let Some(edit) = &self.edit else {
            if fills {
                return Err(RequestError::NothingToFill { missing: "picture" }.into());
            }
            return Ok(steps.into());
        };
        if model.text_to_image().is_err() {
            return Err(RequestError::NoPictureStart.into());
        }
        if fills && !edit.inpaints() {
            return Err(RequestError::NothingToFill { missing: "mask" }.into());
        }
        edit.check(self.prompts.len(), latent_size, model.canvas().factor)?;
        Ok(edit.steps(steps)?)
    }

    /// Width and height of the picture to start from or to follow, rounded down to multiples.
    fn pictured_size(&self, multiple: usize) -> Result<Option<(usize, usize)>, RequestError> {
        let edit = self.edit.as_ref().and_then(Edit::first);
        let control = self.controls.first();
        let control = || control.map(|one| (&one.picture, one.name.as_str()));
        let Some((picture, name)) = edit.or_else(control) else {
            return Ok(None);
        };
        let (width, height) = (picture.width(), picture.height());
        if width < multiple || height < multiple {
            return Err(RequestError::SmallPicture {
                name: name.to_owned(),
                width,
                height,
                multiple,
            });
        }
        let down = |side: usize| side / multiple * multiple;
        Ok(Some((down(width), down(height))))
    }

    fn check_added(&self, model: &ModelConfig) -> Result<(), RequestError> {
        let Added {
            second_prompts: second,
            second_negative_prompts: negative,
            ..
        } = &self.added;
        let given = !second.is_empty() || !negative.is_empty();
        let text = model.text_to_image().ok().map(|parts| &parts.text);
        let encoders = text.map_or(0, |text| text.encoders.len());
        if given && encoders < 2 {
            return Err(RequestError::NoSecondEncoder);
        }
        let told = text.and_then(|text| text.added);
        self.added.check(told.map(|inputs| inputs.numbers))?;
        let prompts = self.prompts.len();
        if !second.is_empty() && second.len() != prompts {
            let second = second.len();
            return Err(RequestError::SecondPrompts { prompts, second });
        }
        if negative.len() > 1 && negative.len() != prompts {
            let negative = negative.len();
            return Err(RequestError::NegativePrompts { prompts, negative });
        }
        Ok(())
    }

    /// Height and width of the latents.
    fn latent_size(&self, model: &ModelConfig) -> Result<[usize; 2], RequestError> {
        let canvas = model.canvas();
        let multiple = model.multiple();
        let [height, width] = canvas.sides.map(|side| side * canvas.factor);
        let (width, height) = match self.size {
            Some(size) => size,
            None => self.pictured_size(multiple)?.unwrap_or((width, height)),
        };
        if width == 0 || height == 0 || width % multiple != 0 || height % multiple != 0 {
            return Err(RequestError::Size {
                width,
                height,
                multiple,
            });
        }
        let pixels = [width, height]
            .into_iter()
            .try_fold(self.items(), usize::checked_mul);
        if pixels.is_none_or(|pixels| pixels > MOST_PIXELS) {
            return Err(RequestError::TooLarge {
                width,
                height,
                pictures: self.items(),
                most: MOST_PIXELS,
            });
        }
        Ok([height / canvas.factor, width / canvas.factor])
    }

    /// The share of the run behind which guidance that is on goes off.
    fn guided_share(&self, guidance: Guidance) -> Result<Option<f64>, RequestError> {
        match self.guidance_until {
            Some(share) if !(0.0..=1.0).contains(&share) => Err(RequestError::Range {
                name: "guidance_until",
                value: share,
                range: "0 to 1",
            }),
            share => Ok(share.filter(|_| guidance.is_on())),
        }
    }

    fn guidance(&self, model: &ModelConfig) -> Result<Guidance, RequestError> {
        let scale = self.guidance_scale.unwrap_or(model.defaults.guidance_scale);
        let rescale = self.guidance_rescale;
        if !scale.is_finite() {
            return Err(RequestError::Range {
                name: "guidance_scale",
                value: scale,
                range: "a finite number",
            });
        }
        if !(0.0..=1.0).contains(&rescale) {
            return Err(RequestError::Range {
                name: "guidance_rescale",
                value: rescale,
                range: "0 to 1",
            });
        }
        let guidance = Guidance {
            scale,
            rescale,
            ..Guidance::default()
        };
        match &model.family {
            Family::TextToImage(_) | Family::Unconditional(_) => Ok(guidance),
            Family::ClassToImage(parts) => {
                let own = model.defaults.guidance_channels;
                let own = own.unwrap_or(parts.guidance_channels());
                let channels = self.guidance_channels.unwrap_or(own);
                if channels == 0 {
                    return Err(RequestError::Range {
                        name: "guidance_channels",
                        value: 0.0,
                        range: "at least 1",
                    });
                }
                Ok(Guidance {
                    conditioned: parts.conditioned(),
                    channels: Some(channels),
                    ..guidance
                })
            }
        }
    }

    /// Of `texts`, none, one for all or one a prompt, that of every prompt.
    pub(super) fn one_each<'a>(&self, texts: &'a [String]) -> Vec<&'a str> {
        let one = |index: usize| match texts {
            [] => "",
            [one] => one,
            each => &each[index],
        };
        (0..self.prompts.len()).map(one).collect()
    }
}

impl Family {
    /// Whether it makes its pictures from what the request says: nothing is silently left out.
    fn accepts(&self, request: &Request) -> Result<(), RequestError> {
        let texts = [
            ("prompt", &request.prompts),
            ("negative_prompt", &request.negative_prompts),
        ];
        let said = |texts: &[String]| texts.iter().any(|text| !text.is_empty());
        let text = texts.into_iter().find(|(_, texts)| said(texts));
        let text = text.map(|(name, _)| name);
        match self {
            Self::ClassToImage(parts) if text.is_some() => Err(RequestError::NoText {
                classes: parts.classes(),
            }),
            Self::ClassToImage(parts) => parts.check_labels(&request.class_labels),
            _ if !request.class_labels.is_empty() => Err(RequestError::NoClasses),
            Self::TextToImage(_) => Ok(()),
            Self::Unconditional(_) => {
                let guides = request.guidance_scale.is_some_and(|scale| scale > 1.0);
                match text.or(guides.then_some("guidance_scale")) {
                    Some(condition) => Err(RequestError::Unconditional { condition }),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What a plan must know of a sampler's run, of which the first `evaluations` are made.
pub(super) fn course(sampler: &dyn Sampler, evaluations: usize) -> Course {
    Course::grouped((0..evaluations).map(|evaluation| sampler.solver_step(evaluation)))
}

/// A request that fits its model: every value filled in, tables and plan made.
#[derive(Debug)]
pub struct Resolved {
    /// Solver steps.
    pub steps: usize,
    /// How strongly the text guides.
    pub guidance: Guidance,
    /// Rows of one evaluation.
    pub rows: Rows,
    /// `[items, channels, height, width]`
    pub latent_shape: [usize; 4],
    /// The update rule's tables.
    pub sampler: Box<dyn Sampler>,
    /// For each control, the evaluations at which it steers.
    pub windows: Vec<Range<usize>>,
    /// The denoiser's cells and what they cost.
    pub blueprint: Blueprint,
    /// Which evaluations compute what.
    pub plan: CachePlan,
    /// What is read otherwise than the sampler's configuration says, in sentences for the user.
    pub notes: Vec<String>,
}

impl Resolved {
    /// What the plan costs when stored elements have `element_bytes` bytes.
    pub fn forecast(&self, element_bytes: usize) -> Forecast {
        self.plan
            .forecast(&self.blueprint, self.rows, element_bytes)
    }
}
